"""What each term of the reward measures: one pure function a term.

A term sees the valid rollouts of one prompt and returns a raw value for each, in input order; a term that looks at one
rollout at a time is written for one rollout. Penalties are positive here: their weight is negative.

Three families share a shape and differ in what they believe. `upstream_*` reads the names of what the calls did, failed
calls included, as the released code does. `paper_*` walks the successful calls in order. `verified_*` reads only where
the pixels of each returned image came from.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from math import fsum

from codevision_ext.errors import InputError
from codevision_ext.geometry import ORIENTATION_OPS, compose_all, inverse, iou, map_box, map_size
from codevision_ext.rewards.settings import CuriositySettings
from codevision_ext.rewards.similarity import box_area, containment
from codevision_ext.task.image_ops import CORE_OPS, CROP, required_ops
from codevision_ext.types import Box, Orientation, Rollout, Step, Task

Predicate = Callable[[Rollout], bool]
Similarity = Callable[[Box, Box], float]
"""Of a region and a box, in [0, 1]."""

POOR_CROP = 0.1
"""A crop that overlaps less than this with the box found nothing."""
GOOD_CROP = 0.5
"""A crop that overlaps at least this much with the box found it."""
RARE = 2
"""Fewer correct rollouts without the tool than this: the tool was needed."""


def accuracy(rollout: Rollout) -> float:
    """1 for a correct answer, else 0."""
    return float(rollout.observed.correct)


def format_kept(rollout: Rollout) -> float:
    """How well the reply's format was kept, in [0, 1]."""
    return rollout.observed.format


def executed(rollout: Rollout) -> float:
    """The share of calls that succeeded, in [0, 1]; 0 without a call."""
    steps = rollout.observed.steps
    return sum(step.ok for step in steps) / len(steps) if steps else 0.0


def used_any(rollout: Rollout) -> bool:
    """The tool was called, whatever came of it."""
    return bool(rollout.observed.steps)


def used_optional(rollout: Rollout) -> bool:
    """A successful call did something that no task requires."""
    return any(op not in CORE_OPS for step in _done(rollout) for op in step.ops)


def tool_benefit(group: Sequence[Rollout], used: Predicate) -> float:
    """max(0, accuracy of those that used the tool - accuracy of the others), in [0, 1]; 0 where all used it."""
    with_tool, without = _split(group, used)
    return max(0.0, _mean(with_tool) - _mean(without)) if without else 0.0


# upstream: names, failed calls included


def upstream_must(rollout: Rollout) -> float:
    """The share of the required ops that were named, in [0, 1]; a crop counts by its best overlap with the box."""
    task, names = rollout.task, _named(rollout)
    wanted = set(required_ops(task.applied))
    if not wanted:
        return 0.0
    credit = float(len((wanted - {CROP}) & names))
    if CROP in wanted & names and task.box is not None:
        credit += max((iou(crop, task.box) for step in rollout.observed.steps for crop in step.crops), default=0.0)
    return min(1.0, credit / len(wanted))


def upstream_accuracy(rollout: Rollout) -> float:
    """1 for a correct answer; where a crop was required and hardly anything done, only the share that was done."""
    return accuracy(rollout) * (upstream_must(rollout) if _upstream_gated(rollout) else 1.0)


def upstream_necessity(group: Sequence[Rollout]) -> list[float]:
    """`tool_benefit`, to the correct rollouts that used the tool, while few were correct without it."""
    benefit = tool_benefit(group, used_any) if _rarely_correct_without(group, used_any) else 0.0
    return [benefit * (r.observed.correct and used_any(r) and not _upstream_gated(r)) for r in group]


def upstream_exact(rollout: Rollout) -> float:
    """1 where the core ops named are those required, as sets, and there are any."""
    wanted = CORE_OPS.intersection(required_ops(rollout.task.applied))
    return float(bool(wanted) and wanted == CORE_OPS & _named(rollout))


def upstream_emergent(rollout: Rollout) -> float:
    """1 for a correct answer with an op that no task requires."""
    return float(rollout.observed.correct and bool(_named(rollout) - CORE_OPS))


def upstream_usage(rollout: Rollout) -> float:
    """Calls beyond the larger of 2 and the number of required ops."""
    return float(max(0, len(rollout.observed.steps) - max(2, len(set(required_ops(rollout.task.applied))))))


def upstream_spurious(rollout: Rollout) -> float:
    """Different orientation ops named where none was required."""
    if ORIENTATION_OPS.keys() & set(required_ops(rollout.task.applied)):
        return 0.0
    return float(len(ORIENTATION_OPS.keys() & _named(rollout)))


def _named(rollout: Rollout) -> set[str]:
    return {op for step in rollout.observed.steps for op in step.ops}


def _upstream_gated(rollout: Rollout) -> bool:
    return CROP in required_ops(rollout.task.applied) and upstream_must(rollout) < POOR_CROP


# paper: successful calls, in order


def paper_must_by_step(rollout: Rollout) -> list[float]:
    """What each call adds to the share of required ops done; the sum is in [0, 1].

    An op counts the first time, a crop by how much it improves on the best overlap so far; failed calls add nothing.
    """
    task = rollout.task
    wanted = required_ops(task.applied)
    seen, best, gains = {CROP}, 0.0, []
    for step in rollout.observed.steps:
        gain = 0.0
        if step.ok:
            new = {op for op in step.ops if op in wanted} - seen
            seen |= new
            overlap = max(best, _best_crop(task, step))
            gain = (len(new) + overlap - best) / len(wanted) if wanted else 0.0
            best = overlap
        gains.append(gain)
    return gains


def paper_must(rollout: Rollout) -> float:
    """The share of the required ops that were done, in [0, 1]."""
    return min(1.0, fsum(paper_must_by_step(rollout)))


def paper_full(rollout: Rollout) -> float:
    """1 where exactly the required ops were done, in order, in no more calls than ops and without a failure."""
    wanted, steps = required_ops(rollout.task.applied), rollout.observed.steps
    done = tuple(op for step in steps for op in step.ops if op in CORE_OPS)
    return float(bool(wanted) and done == wanted and all(step.ok for step in steps) and len(steps) <= len(wanted))


def necessity(used: Predicate) -> Callable[[Sequence[Rollout]], list[float]]:
    """The term that gives `tool_benefit` to correct rollouts with an optional op, while few were correct without.

    Args:
        used: Which rollouts count as those with the tool.
    """

    def term(group: Sequence[Rollout]) -> list[float]:
        benefit = tool_benefit(group, used) if _rarely_correct_without(group, used) else 0.0
        return [benefit * emergent(rollout) for rollout in group]

    return term


def emergent(rollout: Rollout) -> float:
    """1 for a correct answer with an op that no task requires, done by a successful call."""
    return float(rollout.observed.correct and used_optional(rollout))


def turns(rollout: Rollout) -> float:
    """1 where there were more calls than one above the number of required ops."""
    return float(len(rollout.observed.steps) > len(required_ops(rollout.task.applied)) + 1)


def paper_poor_crop(rollout: Rollout) -> float:
    """1 for a correct answer that didn't look where it should have."""
    best = max((_best_crop(rollout.task, step) for step in _done(rollout)), default=0.0)
    return _poor_crop(rollout, best)


def paper_inappropriate(rollout: Rollout) -> float:
    """1 where nothing was required and the image was turned."""
    turned = any(op in ORIENTATION_OPS for step in _done(rollout) for op in step.ops)
    return float(turned and not required_ops(rollout.task.applied))


def _best_crop(task: Task, step: Step) -> float:
    """The best overlap of the call's crops with the box, numbers as they stand; 0 where no crop is required."""
    if task.box is None or CROP not in required_ops(task.applied) or CROP not in step.ops:
        return 0.0
    return max((iou(crop, task.box) for crop in step.crops), default=0.0)


# verified: where the pixels came from


def verified_must_by_step(rollout: Rollout, sim: Similarity = iou) -> list[float]:
    """What each call adds to the share of the required ops that reached an image; the sum is in [0, 1].

    All orientation ops count at once, when an image stands as they would leave it; a crop counts by how much the
    visible region improves on the best overlap so far.
    """
    steps, task = rollout.observed.steps, rollout.task
    wanted = required_ops(task.applied)
    if not wanted or not steps:
        return [0.0] * len(steps)
    count, net, box = _orientation_count(task), _required_orientation(task), _wanted_box(task)
    upright, best, gains = False, 0.0, []
    for step in steps:
        oriented = upright or (_made_image(step) and step.net is net)
        overlap = max(best, _fit(step, box, sim))
        gains.append((count * (oriented - upright) + overlap - best) / len(wanted))
        upright, best = oriented, overlap
    return gains


def verified_must(rollout: Rollout, sim: Similarity = iou) -> float:
    """The share of the required ops that reached an image, in [0, 1]."""
    return min(1.0, fsum(verified_must_by_step(rollout, sim)))


def verified_full(rollout: Rollout, sim: Similarity = iou) -> float:
    """1 where everything required reached an image, in no more calls than ops, none of them failed or idle."""
    task, steps = rollout.task, rollout.observed.steps
    wanted = required_ops(task.applied)
    if not steps or len(steps) > len(wanted) or not all(step.ok and not step.noop for step in steps):
        return 0.0
    net = _required_orientation(task)
    upright = not _orientation_count(task) or any(_made_image(step) and step.net is net for step in steps)
    return float(upright and (CROP not in wanted or _best_fit(rollout, sim) >= GOOD_CROP))


def verified_poor_crop(rollout: Rollout, sim: Similarity = iou) -> float:
    """1 for a correct answer that didn't look where it should have."""
    return _poor_crop(rollout, _best_fit(rollout, sim))


def verified_inappropriate(rollout: Rollout) -> float:
    """1 where no turning was required and the last image used is turned; an unknown orientation isn't punished."""
    done = _done(rollout)
    if not done or _orientation_count(rollout.task):
        return 0.0
    turned = {step.node: step.net not in (None, Orientation.ID) for step in done if step.node is not None}
    last = done[-1].parent if done[-1].node is None else done[-1].node
    return float(last is not None and turned.get(last, False))


def area_shown(rollout: Rollout, sim: Similarity = iou) -> float:
    """The share of the input image that the best-fitting crop still shows, in [0, 1]; of equals, the smallest.

    0 where no crop is required or nothing was cropped.

    Raises:
        InputError: the task doesn't say how large its image is.
    """
    box = _wanted_box(rollout.task)
    regions = [step.region for step in rollout.observed.steps if _made_image(step) and step.region is not None]
    if box is None or not regions:
        return 0.0
    if rollout.task.size is None:
        raise InputError("task.size is missing; the term 'area' needs it.")
    shown = min((-sim(region, box), box_area(region)) for region in regions)[1]
    return min(1.0, shown / max(1.0, float(rollout.task.size[0] * rollout.task.size[1])))


def faithful_crop(rollout: Rollout) -> bool | None:
    """Whether a crop shows at least GOOD_CROP of the box; None where nothing was cropped, or there is no box to find.

    A crop is a call whose image shows less than the whole input image.

    Raises:
        InputError: the task doesn't say enough to map its box.
    """
    box, size = _input_box(rollout.task), rollout.task.size
    if box is None or size is None:
        return None
    regions = [step.region for step in rollout.observed.steps if _made_image(step) and step.region is not None]
    crops = [region for region in regions if box_area(region) < size[0] * size[1]]
    return any(containment(crop, box) >= GOOD_CROP for crop in crops) if crops else None


def redundancy(rollout: Rollout) -> float:
    """How much the crops repeat each other, in [0, 1]: the mean over all but the first of the best IoU with one before.

    A crop is a call whose image shows another part than the image that it was made from. Zooming in, step by step,
    repeats little.
    """
    size = rollout.task.size
    whole = None if size is None else Box(0, 0, *size)
    shown: dict[int | None, Box] = {}
    crops: list[Box] = []
    again: list[float] = []
    for step in rollout.observed.steps:
        if not _made_image(step) or step.region is None:
            continue
        if step.region != shown.get(step.parent, whole):
            if crops:
                again.append(max(iou(step.region, crop) for crop in crops))
            crops.append(step.region)
        shown[step.node] = step.region
    return fsum(again) / len(again) if again else 0.0


def faithful(rollout: Rollout) -> float:
    """The mean of what a step judge gave the calls, in [0, 1]; 0 without a call.

    Raises:
        InputError: a call was never judged.
    """
    scores = [step.faithful for step in rollout.observed.steps]
    missing = next((i for i, score in enumerate(scores) if score is None), None)
    if missing is not None:
        raise InputError(
            f"observed.steps.{missing}.faithful is missing; the term 'faithful' can't be measured without it."
        )
    return fsum(score for score in scores if score is not None) / len(scores) if scores else 0.0


def benefit(group: Sequence[Rollout]) -> list[float]:
    """Accuracy with the tool less accuracy without, in [-1, 1], to every rollout that called it.

    0 where one side is empty. Other than `necessity` it also takes: where the tool misleads, calling it costs.
    """
    with_tool, without = _split(group, used_any)
    value = _mean(with_tool) - _mean(without) if with_tool and without else 0.0
    return [value * used_any(rollout) for rollout in group]


def curiosity(settings: CuriositySettings) -> Callable[[Sequence[Rollout]], list[float]]:
    """The term that pays for trying the tool where a group hardly does (Pixel Reasoner, arXiv 2505.15966).

    max(0, target - share of the group with a successful call), to those rollouts, times what the schedule leaves.
    """

    def term(group: Sequence[Rollout]) -> list[float]:
        tried = [bool(_done(rollout)) for rollout in group]
        short = max(0.0, settings.target - sum(tried) / len(tried)) if tried else 0.0
        return [short * t * settings.share(r.step) for r, t in zip(group, tried, strict=True)]

    return term


def _orientation_count(task: Task) -> int:
    return sum(op in ORIENTATION_OPS for op in required_ops(task.applied))


def _required_orientation(task: Task) -> Orientation:
    return _undo(required_ops(task.applied))


@lru_cache(maxsize=1024)
def _undo(wanted: tuple[str, ...]) -> Orientation:
    return compose_all(ORIENTATION_OPS[op] for op in wanted if op in ORIENTATION_OPS)


def _made_image(step: Step) -> bool:
    return step.ok and step.node is not None


def _fit(step: Step, box: Box | None, sim: Similarity) -> float:
    """How well the image that the call added fits the box, in [0, 1]; 0 without a box."""
    return 0.0 if box is None or step.region is None or not _made_image(step) else sim(step.region, box)


def _best_fit(rollout: Rollout, sim: Similarity) -> float:
    box = _wanted_box(rollout.task)
    return max((_fit(step, box, sim) for step in rollout.observed.steps), default=0.0)


def _wanted_box(task: Task) -> Box | None:
    """The box to crop, in pixels of the input image; None where no crop is required or no box is given.

    Raises:
        InputError: the task doesn't say enough to map it.
    """
    return _input_box(task) if CROP in required_ops(task.applied) else None


def _input_box(task: Task) -> Box | None:
    """The box in pixels of the input image; None where no box is given. Raises as `_wanted_box`."""
    if task.box_frame not in ("input", "canonical"):
        raise InputError(f"task.box_frame is {task.box_frame!r}; it must be 'input' or 'canonical'.")
    if task.box is None:
        return None
    applied = inverse(_required_orientation(task))
    if task.box_frame == "input" or applied is Orientation.ID:
        return task.box
    if task.size is None:
        raise InputError("task.size is missing; a box in the canonical frame can't be mapped without it.")
    canonical_size = map_size(inverse(applied), task.size)
    return map_box(task.box, applied, canonical_size)


# shared


def _done(rollout: Rollout) -> list[Step]:
    return [step for step in rollout.observed.steps if step.ok]


def _poor_crop(rollout: Rollout, best: float) -> float:
    return float(rollout.observed.correct and CROP in required_ops(rollout.task.applied) and best < POOR_CROP)


def _split(group: Sequence[Rollout], used: Predicate) -> tuple[list[Rollout], list[Rollout]]:
    return [r for r in group if used(r)], [r for r in group if not used(r)]


def _mean(rollouts: Sequence[Rollout]) -> float:
    return sum(r.observed.correct for r in rollouts) / len(rollouts) if rollouts else 0.0


def _rarely_correct_without(group: Sequence[Rollout], used: Predicate) -> bool:
    return sum(r.observed.correct for r in group if not used(r)) < RARE
