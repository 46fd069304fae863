"""Reads records group by group, and checks that they have all fields that the reward needs, and no unknown fields."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pydantic import ConfigDict
from pydantic_core import from_json

from codevision_ext.errors import InputError
from codevision_ext.io.json_codec import JsonCodec
from codevision_ext.task.drawings import read_drawing
from codevision_ext.task.image_ops import CORE_OPS, CROP, OPTIONAL_OPS
from codevision_ext.types import DrawingScore, Outcome, Rollout, Step, Task

WINDOW: Final = 4096
"""Number of lines within which all records of a group must be; also the maximum number of lines in memory."""

_NAMES: Final = CORE_OPS | OPTIONAL_OPS


_STRICT: Final = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Task(Task):
    __pydantic_config__ = _STRICT


@dataclass(frozen=True, slots=True, kw_only=True)
class _Step(Step):
    __pydantic_config__ = _STRICT


@dataclass(frozen=True, slots=True, kw_only=True)
class _Drawn(DrawingScore):
    __pydantic_config__ = _STRICT


@dataclass(frozen=True, slots=True, kw_only=True)
class _Observed(Outcome):
    __pydantic_config__ = _STRICT
    steps: tuple[_Step, ...] = ()
    drawn: _Drawn | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scorable(Rollout):
    """Fields of a record that the reward reads; the line may have further fields, but not inside of these fields."""

    __pydantic_config__ = _STRICT | ConfigDict(extra="ignore")
    task: _Task
    observed: _Observed


_CODEC: JsonCodec[_Scorable] = JsonCodec(_Scorable)


@dataclass(slots=True, kw_only=True)
class RecordLine:
    """One record of a file."""

    number: int
    """Number of the line, from 1."""
    content: bytes
    """Unchanged line without its line break."""
    rollout: Rollout


@dataclass(slots=True)
class _Group:
    first: int
    lines: list[RecordLine] = field(default_factory=list)


def read_line(content: bytes, where: str, preset: str) -> Rollout:
    """Returns the record in a line of JSON.

    Raises:
        InputError: it isn't a record that `preset` can score; `where` and the field are named.
    """
    if not content:
        raise InputError(f"{where}: is a blank line")
    rollout = _CODEC.load(content, where)
    seen = rollout.observed
    shares = {"format": seen.format, "consistent": seen.consistent, "drawn.f1": seen.drawn.f1 if seen.drawn else None}
    for name, share in shares.items():
        if share is not None and not 0 <= share <= 1:
            raise InputError(f"{where}: field observed.{name}: {share} isn't in [0, 1]")
    _check_task(rollout.task, where)
    if not seen.valid:
        return rollout
    for index, step in enumerate(seen.steps):
        for at, op in enumerate(step.ops):
            if op not in _NAMES:
                raise InputError(f"{where}: field observed.steps.{index}.ops.{at}: unknown op {op!r}")
    missing = _missing(rollout, content, preset)
    if missing:
        raise InputError(f"{where}: field {missing}: is missing, preset {preset} needs it")
    return rollout


def _check_task(task: Task, where: str) -> None:
    if task.box_frame not in ("input", "canonical"):
        raise InputError(f"{where}: field task.box_frame: {task.box_frame!r} is neither input nor canonical")
    for at, op in enumerate(task.applied):
        if op not in _NAMES:
            raise InputError(f"{where}: field task.applied.{at}: unknown op {op!r}")
    if task.box is not None and not (task.box[0] < task.box[2] and task.box[1] < task.box[3]):
        raise InputError(f"{where}: field task.box: {list(task.box)} isn't left, top, right, bottom")
    if task.size is not None and min(task.size) < 1:
        raise InputError(f"{where}: field task.size: {list(task.size)} isn't width, height")
    read_drawing(task.drawing, f"{where}: field task.drawing", task.size)


def _missing(rollout: Rollout, content: bytes, preset: str) -> str | None:
    """Returns the first field that the preset reads and that the line lacks; null and empty values are allowed."""
    task, steps = rollout.task, rollout.observed.steps
    by_name, by_pixels = preset in ("upstream", "paper"), preset in ("verified", "ordered")
    cropped = CROP in task.applied
    doubts: list[tuple[str, str]] = []
    if by_name or by_pixels:
        doubts += [("applied", "task")] if not task.applied else []
        doubts += [("box", "task")] if cropped and task.box is None else []
    doubts += [("steps", "observed")] if not steps else []
    for index, step in enumerate(steps):
        if not step.ok:
            continue
        at = f"observed.steps.{index}"
        if by_pixels or preset == "vthinker":
            doubts += [("node", at)] if step.node is None and not step.noop else []
        if by_pixels:
            doubts += [("net", at)] if step.net is None and not step.noop else []
            doubts += [("region", at)] if step.region is None and not step.noop and cropped else []
        if by_name:
            doubts += [("ops", at)] if not step.ops else []
            doubts += [("crops", at)] if not step.crops and cropped and CROP in step.ops else []
    if not doubts:
        return None
    raw = from_json(content)
    for name, path in doubts:
        place: Any = raw
        for part in path.split("."):
            place = place[int(part) if part.isdigit() else part]
        if name not in place:
            return f"{path}.{name}"
    return None


def read_groups(path: Path, preset: str, window: int = WINDOW) -> Iterator[list[RecordLine]]:
    """Yields the groups of a file in the order of their first lines; holds at most `window` lines.

    After a bad line, the groups that began before it are still yielded.

    Raises:
        InputError: there is no such file; a line isn't a record that `preset` can score; or records of a group stand
            further apart than the window. File, line and field are named.
    """
    open_groups: dict[str, _Group] = {}
    try:
        file = path.open("rb")
    except OSError as error:
        raise InputError(f"{path}: can't be read: {error.strerror}") from error
    # on disk, so that the memory doesn't grow with the file
    with file, closing(sqlite3.connect("", isolation_level=None)) as closed:
        closed.execute("PRAGMA journal_mode=OFF")
        closed.execute("CREATE TABLE closed (name TEXT PRIMARY KEY) WITHOUT ROWID")
        fault: InputError | None = None
        for number, line in enumerate(file, start=1):
            where = f"{path}, line {number}"
            while open_groups and next(iter(open_groups.values())).first <= number - window:
                name = next(iter(open_groups))
                closed.execute("INSERT INTO closed VALUES (?)", (name,))
                yield open_groups.pop(name).lines
            try:
                content = line.strip()
                rollout = read_line(content, where, preset)
                if rollout.group not in open_groups:
                    if closed.execute("SELECT 1 FROM closed WHERE name = ?", (rollout.group,)).fetchone():
                        raise InputError(
                            f"{where}: field group: {rollout.group!r} began more than {window} lines before; "
                            "sort the file by group, or raise --window"
                        )
                    open_groups[rollout.group] = _Group(number)
            except InputError as error:
                fault = error
                break
            open_groups[rollout.group].lines.append(RecordLine(number=number, content=content, rollout=rollout))
        for group in open_groups.values():
            yield group.lines
        if fault:
            raise fault
