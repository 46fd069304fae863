"""Reads the task of one data row: question, right answers, and the operations that were applied to its image."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from codevision_ext.errors import InputError
from codevision_ext.sandbox.coordinates import RELATIVE_SIZE, scaled
from codevision_ext.task.coordinate_answers import read_places, share_right
from codevision_ext.task.drawings import plain_drawing, read_drawing
from codevision_ext.task.image_ops import read_applied
from codevision_ext.types import BOX_FRAMES, AnswerKind, Box, CoordinateSystem, Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """Fields of a data row that scoring and records read."""

    id: str
    question: str
    references: tuple[str, ...]
    """Right answers; empty for a row whose answer is the drawing `task.drawing`."""
    task: Task
    source: str = ""
    """Name of the data set."""
    column: str | None = None
    """Condition of the row in an evaluation, such as `rot90`; None without a condition."""
    answer_kind: AnswerKind = AnswerKind.TEXT

    def answer_share(self, answer: str | None, space: tuple[int, int] | None) -> float | None:
        """Returns the share of the places that an answer names rightly, in [0, 1]; None if they aren't coordinates.

        Args:
            answer: Text of the answer; None without an answer.
            space: Width and height of the first image in the coordinates of the answer; None: the stored pixels.
        """
        if self.answer_kind is not AnswerKind.COORDINATES:
            return None
        return share_right(answer, self.references, self.task.size or (0, 0), space)


def read_item(row: Mapping[str, Any], size: tuple[int, int]) -> Item:
    """Reads a row of the CodeVision-RL schema.

    `size` is the width and height of the first image, pixels.

    Raises:
        InputError: a field is missing or wrong; the message names it.
    """
    extra = row.get("extra_info") or {}
    ident = f"{row.get('data_source', '')}-{extra.get('index', 0)}"
    truth = (row.get("reward_model") or {}).get("ground_truth", extra.get("answer"))
    answers = () if truth is None or truth == "" else truth
    references = tuple(answers) if isinstance(answers, Iterable) and not isinstance(answers, str) else (answers,)
    drawing = read_drawing(extra.get("drawing"), f"row {ident}: extra_info.drawing", size)
    texts = all(isinstance(reference, str) and reference for reference in references)
    if not texts or not (references or drawing):
        raise InputError(f"row {ident}: reward_model.ground_truth must be a non-empty answer or a list of them")
    kind = extra.get("answer_kind") or AnswerKind.TEXT
    if kind not in list(AnswerKind):
        raise InputError(f"row {ident}: extra_info.answer_kind is {kind!r}, none of {', '.join(AnswerKind)}")
    if kind == AnswerKind.COORDINATES:
        for reference in references:
            if read_places(reference) is None:
                raise InputError(
                    f"row {ident}: reward_model.ground_truth must name places such as {{'A': (3, 4)}}, "
                    f"because answer_kind is coordinates; it is {reference!r:.60}"
                )
    box = next((extra[name] for name in ("bbox", "bbox_2d") if extra.get(name) is not None), None)
    if box is not None and len(box) != 4:
        raise InputError(f"row {ident}: extra_info.bbox must have four numbers, it has {len(box)}")
    box = None if box is None else Box(*map(float, box))
    frame = extra.get("box_frame") or "input"
    if frame not in BOX_FRAMES:
        raise InputError(f"row {ident}: extra_info.box_frame is {frame!r}; it must be one of {', '.join(BOX_FRAMES)}")
    if frame == CoordinateSystem.RELATIVE:
        box, frame = box and Box(*scaled(box, RELATIVE_SIZE, size)), "input"
    task = Task(
        applied=read_applied(extra.get("transform")),
        box=box,
        box_frame=frame,
        size=size,
        drawing=plain_drawing(drawing) if drawing else None,
    )
    return Item(
        id=ident,
        question=extra.get("question") or "",
        references=references,
        task=task,
        source=row.get("data_source") or "",
        column=extra.get("column"),
        answer_kind=AnswerKind(kind),
    )
