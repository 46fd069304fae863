"""Reads the task of one data row: question, right answers, and the operations that were applied to its image."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from codevision_ext.errors import InputError
from codevision_ext.sandbox.coordinates import RELATIVE_SIZE, scaled
from codevision_ext.task.image_ops import read_applied
from codevision_ext.types import BOX_FRAMES, Box, CoordinateSystem, Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """The part of a data row that scoring and records read."""

    id: str
    question: str
    references: tuple[str, ...]
    """Right answers, at least one."""
    task: Task
    source: str = ""
    """Name of the data set."""
    column: str | None = None
    """Condition that the row belongs to in an evaluation, such as `rot90`; None: no condition."""


def read_item(row: Mapping[str, Any], size: tuple[int, int]) -> Item:
    """Reads a row of the CodeVision-RL schema.

    `size` is the width and height of the first image, pixels.

    Raises:
        InputError: a field is missing or wrong; the message names it.
    """
    extra = row.get("extra_info") or {}
    ident = f"{row.get('data_source', '')}-{extra.get('index', 0)}"
    truth = (row.get("reward_model") or {}).get("ground_truth", extra.get("answer"))
    references = (truth,) if isinstance(truth, str) else tuple(truth) if isinstance(truth, Iterable) else ()
    if not references or not all(isinstance(reference, str) and reference for reference in references):
        raise InputError(f"row {ident}: reward_model.ground_truth must be a non-empty answer or a list of them")
    box = next((extra[name] for name in ("bbox", "bbox_2d") if extra.get(name) is not None), None)
    if box is not None and len(box) != 4:
        raise InputError(f"row {ident}: extra_info.bbox must have four numbers, it has {len(box)}")
    box = None if box is None else Box(*map(float, box))
    frame = extra.get("box_frame") or "input"
    if frame not in BOX_FRAMES:
        raise InputError(f"row {ident}: extra_info.box_frame is {frame!r}, none of {', '.join(BOX_FRAMES)}")
    if frame == CoordinateSystem.RELATIVE:
        box, frame = box and Box(*scaled(box, RELATIVE_SIZE, size)), "input"
    task = Task(applied=read_applied(extra.get("transform")), box=box, box_frame=frame, size=size)
    return Item(
        id=ident,
        question=extra.get("question") or "",
        references=references,
        task=task,
        source=row.get("data_source") or "",
        column=extra.get("column"),
    )
