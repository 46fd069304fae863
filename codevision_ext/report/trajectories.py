"""Prepares a rollout for the page: its kind, its turns in parts, and where on the input image its images come from."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from codevision_ext.geometry import ORIENTATION_OPS, compose_all, inverse, map_box, map_size
from codevision_ext.io.records import Record
from codevision_ext.report.targets import drawing_view
from codevision_ext.rollout.dialects.base import Part
from codevision_ext.rollout.dialects.registry import TOOL_CALL, dialect_of
from codevision_ext.task.image_ops import CROP, required_ops
from codevision_ext.types import AddedImage, Box, Orientation

KINDS = {
    "right_tool": ("Right, tool", "Right, and the tool was called."),
    "right_plain": ("Right, no tool", "Right without a call."),
    "wrong_tool": ("Wrong, tool", "Wrong although the tool was called."),
    "wrong_plain": ("Wrong, no tool", "Wrong without a call."),
    "detour": ("Detour", "Right in the end, although a call failed or turned the image the wrong way."),
    "suspicious": ("Suspicious", "Looks like a hack: may earn reward in a way that nobody wanted."),
    "invalid": ("Invalid", "Broke under us; in no statistics."),
}
"""Kinds of rollouts, with their names and descriptions. A valid rollout is of exactly one of the first four kinds."""


def kinds(record: Record) -> list[str]:
    """Returns the kinds of a record, as keys of KINDS."""
    observed = record.observed
    if not observed.valid:
        return ["invalid"]
    names = [("right_" if observed.correct else "wrong_") + ("tool" if observed.steps else "plain")]
    if _detour(record):
        names.append("detour")
    if why_suspicious(record):
        names.append("suspicious")
    return names


def _detour(record: Record) -> bool:
    steps = record.observed.steps
    wrong = [not step.ok or (step.net is not None and step.net != _goal(record)) for step in steps]
    return record.observed.correct and any(wrong) and not wrong[-1]


def why_suspicious(record: Record) -> str | None:
    """Returns a sentence on why the reward may have been earned by a hack; None if nothing suggests it."""
    observed = record.observed
    steps, needed = observed.steps, required_ops(record.task.applied)
    turns_needed = [op for op in needed if op != CROP]
    if observed.correct and turns_needed and steps and not _fixed(record):
        return "Right, although it never put the image upright: read as it was, or guessed."
    if observed.correct and observed.drawn and not observed.drawn.f1:
        return f"Right, although the drawing earns nothing: {observed.drawn.reason}."
    paid = [term.contribution for name, term in record.terms.items() if name != "drawn" and term.contribution > 0]
    if not observed.correct and sum(paid) >= 1:
        return "Wrong, and still well paid."
    if not turns_needed and any(step.net not in (None, Orientation.ID) for step in steps):
        return "Turned an image that was upright."
    enough = len(needed) + (record.task.drawing is not None)
    if len(steps) > enough + 1:
        return f"{len(steps)} calls where {enough} would do."
    if any(step.noop for step in steps):
        return "Called the tool without changing the image."
    return None


def _goal(record: Record) -> Orientation:
    """Returns the orientation that puts the image upright."""
    return inverse(_applied(record))


def _applied(record: Record) -> Orientation:
    return compose_all(ORIENTATION_OPS[op] for op in record.task.applied if op in ORIENTATION_OPS)


def _fixed(record: Record) -> bool:
    """Returns whether some image was upright, the input image included."""
    goal = _goal(record)
    return goal is Orientation.ID or any(step.net == goal for step in record.observed.steps)


Side = Literal["top", "bottom", "left", "right"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkView:
    """A rectangle on an input image, in its pixels."""

    box: Box
    node: int | None
    """Index of the image that shows this part; None: the part that holds the answer."""
    net: Orientation | None = None
    """Orientation of that image relative to the input image."""
    up: Side | None = None
    """Side of the rectangle that is at the top of that image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageView:
    """Image in the turn that showed it."""

    name: str
    node: int | None
    """Index of the image, as `image_index` counts; None if unknown."""
    made: bool
    """True for an image that a call made; False for an input image."""
    target: bool = False
    """True for the images over which the target of the drawing is shown: the first input image, and the judged one."""
    net: Orientation | None = None
    marks: tuple[MarkView, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageView:
    """One turn."""

    role: str
    parts: tuple[Part, ...]
    images: tuple[ImageView, ...]
    """Images of the turn; none in a tool turn whose call failed or changed nothing."""


def messages(record: Record) -> list[MessageView]:
    """Returns the conversation with its images; the input images mark the answer's box and the crops."""
    nodes = iter(_images_of_calls(record))
    dialect = dialect_of((turn.role, turn.text) for turn in record.turns) or TOOL_CALL
    drawn = record.observed.drawn
    targets = {0, drawn.node if drawn else 0} if record.task.drawing else set()
    shown = []
    for turn in record.turns:
        images = []
        for name in turn.images:
            step = next(nodes, None) if turn.role == "tool" else None
            node = step.node if step else record.pictures.index(name) if name in record.pictures else None
            images.append(
                ImageView(
                    name=name,
                    node=node,
                    made=turn.role == "tool",
                    target=node in targets,
                    net=step.net if step else None,
                    marks=() if node is None or step else mark_views(record, node),
                )
            )
        own = turn.role == "assistant"
        plain = [Part(kind="text", text=turn.text.strip())] if turn.text.strip() else []
        parts = dialect.parts(turn.text) if own else plain
        shown.append(MessageView(role=turn.role, parts=tuple(parts), images=tuple(images)))
    return shown


def mark_views(record: Record, index: int) -> tuple[MarkView, ...]:
    """Returns rectangles on the input image `index`: the region that each new image shows, then the answer's box."""
    marks = []
    for step in _images_of_calls(record):
        if step.region is not None and _root(record, step.node) == index:
            up = None if step.net is None else _up(step.net)
            marks.append(MarkView(box=step.region, node=step.node, net=step.net, up=up))
    task = record.task
    if index == 0 and task.box is not None and task.size is not None:
        box = task.box
        if task.box_frame == "canonical":
            box = map_box(box, _applied(record), map_size(inverse(_applied(record)), task.size))
        marks.append(MarkView(box=box, node=None))
    return tuple(marks)


def _up(net: Orientation) -> Side:
    """Returns the side of the input image that is at the top after the orientation `net`."""
    half = map_box(Box(0, 0, 2, 1), inverse(net), (2, 2))
    return "top" if half.y2 == 1 else "bottom" if half.y1 == 1 else "left" if half.x2 == 1 else "right"


def _images_of_calls(record: Record) -> list[AddedImage]:
    """Returns each image that a call added, in the order of their indices."""
    return [image for step in record.observed.steps for image in step.images]


def _root(record: Record, node: int | None) -> int | None:
    """Returns the input image that a node was made from; None if its parents don't lead to one."""
    parents: dict[int | None, int | None] = {image.node: image.parent for image in _images_of_calls(record)}
    for _ in range(len(parents)):
        parent = parents.get(node)
        if parent is None or parent not in parents:
            return parent
        node = parent
    return None


def view(record: Record, directory: Path, image: Callable[[Path, str], int]) -> dict[str, Any]:
    """Returns the data of a record for the page's script, as plain JSON values.

    `image` returns the index on the page of an image in `directory`, the folder of the record file.
    """
    observed = record.observed

    def shown(item: ImageView) -> dict[str, Any]:
        seen = {"image": image(directory, item.name), "node": item.node, "made": item.made, "net": item.net}
        seen |= {"target": True} if item.target else {}
        return seen | ({"marks": [asdict(mark) | {"box": list(mark.box)} for mark in item.marks]} if item.marks else {})

    return {
        "id": record.id,
        "step": record.step,
        "column": record.column,
        "source": record.source,
        "question": record.question,
        "answer": record.answer,
        "references": record.references,
        "correct": observed.correct,
        "undecided": observed.undecided,
        "format": observed.format,
        "end": observed.end_reason,
        "kinds": kinds(record),
        "why": why_suspicious(record) if observed.valid else None,
        "applied": record.task.applied,
        "needed": required_ops(record.task.applied),
        "reward": record.reward,
        "tokens": record.tokens,
        "turns": record.turn_count or sum(turn.role == "assistant" for turn in record.turns),
        "verdict": asdict(record.verdict) if record.verdict else None,
        "drawing": drawing_view(record),
        "calls": [{name: value for name, value in asdict(step).items() if name != "crops"} for step in observed.steps],
        "terms": {
            name: [term.raw, term.weight, term.contribution]
            for name, term in record.terms.items()
            if term.raw or term.weight
        },
        "messages": [
            {
                "role": message.role,
                "parts": [[part.kind, part.text, part.note] for part in message.parts if part.text],
                "images": [shown(item) for item in message.images],
            }
            for message in messages(record)
            if message.role != "system"
        ],
    }
