"""Short ways to write a rollout down, for the tests of the reward."""

from collections.abc import Sequence

from codevision_ext.geometry import ORIENTATION_OPS, compose_all
from codevision_ext.types import Box, Orientation, Outcome, Rollout, Step, Task

BOX = Box(100, 100, 200, 200)
SIZE = (1000, 800)
WHOLE = Box(0, 0, *SIZE)
MISSED = Box(400, 400, 500, 500)


def did(*ops: str, crops: Sequence[Box] = (), ok: bool = True) -> Step:
    """A call as the presets that read names see it."""
    return Step(ok=ok, ops=ops, crops=tuple(crops))


def made(node: int, *ops: str, parent: int | None = None, net: Orientation | None = None, region: Box = WHOLE) -> Step:
    """A call as the verified preset sees it: it added an image; without `net`, from an upright parent."""
    turned = compose_all(ORIENTATION_OPS[op] for op in ops if op in ORIENTATION_OPS)
    return Step(
        ok=True, ops=ops, node=node, parent=node - 1 if parent is None else parent, net=net or turned, region=region
    )


def rollout(
    applied: Sequence[str] = (),
    *steps: Step,
    correct: bool = True,
    box: Box | None = BOX,
    box_frame: str = "input",
    size: tuple[int, int] | None = SIZE,
    valid: bool = True,
    format_kept: float = 1.0,
    name: str = "r",
) -> Rollout:
    """A rollout of group g."""
    task = Task(applied=tuple(applied), box=box, box_frame=box_frame, size=size)
    return Rollout(
        group="g", id=name, task=task, observed=Outcome(correct=correct, format=format_kept, valid=valid, steps=steps)
    )
