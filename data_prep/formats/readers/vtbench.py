"""Reads records of VTBench. Each record has three tasks.

The reasoning task has an answer in words and becomes a row. The perception task and the instruction task are answered
by a drawing, which a judge compares with a reference image.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from data_prep.formats import fields
from data_prep.formats.readers.base import Item, Place, Reader, question_of
from data_prep.formats.schema import Row

DRAWING_TASKS = ("perception", "instruction")
"""Tasks of a record that are answered by a drawing."""


def drawings(record: Mapping[str, Any], place: Place) -> Iterator[tuple[Row, bytes]]:
    """Yield the drawing tasks of a record, each with its reference image.

    Raises:
        RowError: An image is missing or can't be read.
    """
    for task in _drawing_tasks(record):
        field = f"annotation_{task}"
        references, _ = fields.images(fields.require(record, field), place.images, field)
        yield _row(record, place, question_of(record, f"question_{task}"), ("a picture",), task), references[0]


def _read(record: Mapping[str, Any], place: Place) -> Iterator[Item | str]:
    yield from (f"drawn_{task}" for task in _drawing_tasks(record))
    answers = fields.answers(record.get("answer_reasoning"), "answer_reasoning", lists=place.lists)
    ability = str(record.get("domain") or "reasoning")
    yield _row(record, place, question_of(record, "question_reasoning"), answers, ability)


def _drawing_tasks(record: Mapping[str, Any]) -> list[str]:
    return [task for task in DRAWING_TASKS if record.get(f"question_{task}")]


def _row(record: Mapping[str, Any], place: Place, question: str, answers: tuple[str, ...], ability: str) -> Row:
    images, paths = fields.images(fields.require(record, "image"), place.images, "image")
    return Row(
        images=images,
        question=question,
        answers=answers,
        source="VTBench",
        split="test",
        index=place.row,
        ability=ability,
        paths=paths,
    )


READER = Reader(
    name="vtbench",
    columns=(("image",), ("question_reasoning",), ("answer_reasoning",)),
    read=_read,
    repeated=frozenset({"annotation_perception", "annotation_instruction", "answer_instruction"}),  # of drawing tasks
)
