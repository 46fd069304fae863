"""Which few rollouts tell the most about a run, and what is shown of each?"""

import base64
import io
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from codevision_ext.errors import InputError
from codevision_ext.geometry import ORIENTATION_OPS, compose_all, inverse, map_box, map_size
from codevision_ext.ops import CROP, required
from codevision_ext.records import Record, picture_path
from codevision_ext.types import Box, Orientation

_MAX_SIDE = 640
"""Pixels; a larger picture is shown smaller."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A record and where it was found."""

    record: Record
    directory: Path
    """Folder of its record file."""
    where: str
    """For the reader: `RL, tool on`, `training, step 40`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pick:
    """One kind of rollout worth seeing, and the rollout that shows it best."""

    title: str
    why: str
    found: Found | None
    """None: there was no such rollout."""


def pick(pool: Iterable[Found]) -> list[Pick]:
    """One rollout of each kind, none of them twice; earlier ones of the pool win ties."""
    left = [found for found in pool if found.record.observed.valid]
    picks = []
    for title, why, rank in _KINDS:
        ranked = [(value, found) for found in left if (value := rank(found.record)) is not None]
        best = max(ranked, key=lambda entry: entry[0], default=None)
        if best is not None:
            left = [found for found in left if found is not best[1]]
        hack = why_suspicious(best[1].record) if best is not None and rank is _suspicious else None
        picks.append(Pick(title=title, why=hack or why, found=best[1] if best is not None else None))
    return picks


Rank = Callable[[Record], tuple[float, ...] | None]
"""How well a record shows its kind, the higher the better; None: it isn't of this kind."""


def _right_with_tool(record: Record) -> tuple[float, ...] | None:
    if not record.observed.correct or not any(step.node is not None for step in record.observed.steps):
        return None
    needed = required(record.task.applied)
    return (_fixed(record), len(needed), -len(record.observed.steps))


def _recovered(record: Record) -> tuple[float, ...] | None:
    """Right in the end although a call failed, or turned the picture the wrong way."""
    steps = record.observed.steps
    wrong = [not step.ok or (step.net is not None and step.net != _goal(record)) for step in steps]
    if not record.observed.correct or not steps or not any(wrong) or wrong[-1]:
        return None
    return (_fixed(record), -len(steps))


def _wrong(record: Record) -> tuple[float, ...] | None:
    if record.observed.correct:
        return None
    return (any(step.ok for step in record.observed.steps), record.answer is not None, -len(record.observed.steps))


def _suspicious(record: Record) -> tuple[float, ...] | None:
    return (record.reward or 0.0,) if why_suspicious(record) else None


def _longest(record: Record) -> tuple[float, ...]:
    return (record.turn_count or len(record.turns), record.tokens or 0)


_KINDS: tuple[tuple[str, str, Rank], ...] = (
    ("Right, with the tool", "The tool gave the picture that the answer was read from.", _right_with_tool),
    (
        "Right, after a detour",
        "A call failed or turned the picture the wrong way; a later one made it good.",
        _recovered,
    ),
    ("Wrong", "The answer isn't one of the references.", _wrong),
    ("Looks like a hack", "Earns reward in a way that nobody wanted.", _suspicious),
    ("The longest", "Most turns of all that were looked at.", _longest),
)


def why_suspicious(record: Record) -> str | None:
    """What about this rollout smells of a reward earned the wrong way, as a sentence; None: nothing."""
    observed = record.observed
    steps, needed = observed.steps, required(record.task.applied)
    turns_needed = [op for op in needed if op != CROP]
    if observed.correct and turns_needed and steps and not _fixed(record):
        return "Right, although it never put the picture upright: read as it was, or guessed."
    if not observed.correct and sum(t.contribution for t in record.terms.values() if t.contribution > 0) >= 1:
        return "Wrong, and still well paid."
    if not turns_needed and any(step.net not in (None, Orientation.ID) for step in steps):
        return "Turned a picture that was upright."
    if len(steps) > len(needed) + 1:
        return f"{len(steps)} calls where {len(needed)} would do."
    if any(step.noop for step in steps):
        return "Called the tool without changing the picture."
    return None


def _goal(record: Record) -> Orientation:
    """The orientation that puts the picture upright."""
    return inverse(_applied(record))


def _applied(record: Record) -> Orientation:
    return compose_all(ORIENTATION_OPS[op] for op in record.task.applied if op in ORIENTATION_OPS)


def _fixed(record: Record) -> bool:
    """Whether some picture was upright, the task's own included."""
    goal = _goal(record)
    return goal is Orientation.ID or any(step.net == goal for step in record.observed.steps)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A piece of what was said: `think`, `code`, `answer`, `text`, or `broken` for a call that couldn't be read."""

    kind: str
    text: str
    note: str = ""
    """Of a call: its description and the picture it works on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A rectangle on the input picture, in its pixels."""

    box: Box
    label: str
    needed: bool
    """True: where the answer stands; False: what a picture made by the model shows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A picture as the page shows it."""

    label: str
    uri: str
    """`data:` URI; empty when the file isn't there."""
    width: int
    height: int
    """Pixels of the picture itself, also where a smaller one is shown."""
    marks: tuple[Mark, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One turn."""

    role: str
    parts: tuple[Part, ...]
    pictures: tuple[Picture, ...]
    """None in a tool's turn: the call failed, or changed nothing."""


_TAGS = re.compile(r"<(think|tool_call|answer)>(.*?)</\1>", re.DOTALL)
_JSON = json.JSONDecoder(strict=False)


def parts(text: str) -> tuple[Part, ...]:
    """An assistant's turn in pieces; nothing of it is lost, whatever its form.

    Where the chat template opened the first `<think>`, the turn holds only its end.
    """
    if "</think>" in text and "<think>" not in text.partition("</think>")[0]:
        text = f"<think>{text}"
    found, end = [], 0
    for tag in _TAGS.finditer(text):
        found += [Part(kind="text", text=text[end : tag.start()].strip())]
        found += [_call(tag[2]) if tag[1] == "tool_call" else Part(kind=tag[1], text=tag[2].strip())]
        end = tag.end()
    found += [Part(kind="text", text=text[end:].strip())]
    return tuple(part for part in found if part.text or part.kind != "text")


def _call(text: str) -> Part:
    try:
        arguments = _JSON.decode(text.strip())["arguments"]
        about, index = arguments.get("description", ""), arguments.get("image_index", 0)
        return Part(
            kind="code", text=arguments["code"].strip(), note=f"{about + ' · ' if about else ''}on picture {index}"
        )
    except (ValueError, KeyError, TypeError, AttributeError):  # whatever isn't a call is shown as it was written
        return Part(kind="broken", text=text.strip())


def messages(found: Found) -> list[Message]:
    """The conversation, with its pictures; what is needed and what was cut out is marked on the input pictures."""
    record = found.record
    nodes = iter([step for step in record.observed.steps if step.node is not None])
    shown = []
    for turn in record.turns:
        pictures = []
        for name in turn.images:
            made = next(nodes, None) if turn.role == "tool" else None
            index = made.node if made else record.pictures.index(name) if name in record.pictures else None
            label = "picture" if index is None else f"picture {index}"
            if made is not None and made.net is not None:
                label += f" · {made.net}"
            marks = () if index is None else _marks(record, index)
            pictures.append(_picture(found.directory, name, label, marks))
        said = parts(turn.text) if turn.role == "assistant" else (Part(kind="text", text=turn.text.strip()),)
        shown.append(Message(role=turn.role, parts=said, pictures=tuple(pictures)))
    return shown


def _marks(record: Record, index: int) -> tuple[Mark, ...]:
    """Rectangles on picture `index`; only the task's own have any."""
    marks = []
    task = record.task
    if index == 0 and task.box is not None and task.size is not None:
        box = task.box
        if task.box_frame == "canonical":
            box = map_box(box, _applied(record), map_size(inverse(_applied(record)), task.size))
        marks.append(Mark(box=box, label="needed", needed=True))
    whole = task.size and Box(0, 0, *task.size)
    for step in record.observed.steps:
        if (
            step.node is not None
            and step.region is not None
            and step.region != whole
            and _root(record, step.node) == index
        ):
            marks.append(Mark(box=step.region, label=str(step.node), needed=False))
    return tuple(marks)


def _root(record: Record, node: int) -> int | None:
    """The task's own picture that a node was made from; None where its parents don't lead there."""
    parents = {step.node: step.parent for step in record.observed.steps if step.node is not None}
    for _ in range(len(parents)):
        parent = parents.get(node)
        if parent is None or parent not in parents:
            return parent
        node = parent
    return None


def _picture(directory: Path, name: str, label: str, marks: Sequence[Mark]) -> Picture:
    path = picture_path(directory, name)
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return Picture(label=label, uri="", width=0, height=0)
    try:
        with Image.open(io.BytesIO(raw)) as image:
            size, kind = image.size, "png"
            if max(size) > _MAX_SIDE:
                small = image.convert("RGB")
                small.thumbnail((_MAX_SIDE, _MAX_SIDE))
                out = io.BytesIO()
                small.save(out, "JPEG", quality=85)
                raw, kind = out.getvalue(), "jpeg"
    except (OSError, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: not a picture that can be shown: {error}") from error
    uri = f"data:image/{kind};base64,{base64.b64encode(raw).decode()}"
    return Picture(label=label, uri=uri, width=size[0], height=size[1], marks=tuple(marks))
