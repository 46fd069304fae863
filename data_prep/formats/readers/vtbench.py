"""Items of VTBench: of the three tasks of each, reasoning has an answer in words and becomes a row.

Perception and instruction are answered by a drawing, which a judge compares with a reference image.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from data_prep.formats import fields
from data_prep.formats.readers.base import Item, Place, Reader
from data_prep.formats.schema import IMAGE_TAG, Row

TASKS = ("perception", "instruction")
"""Of each record those that are answered by a drawing."""


def drawings(record: Mapping[str, Any], place: Place) -> Iterator[tuple[Row, bytes]]:
    """The drawing tasks of a record that has them, each with the image that shows how it should look.

    Raises:
        RowError: An image is missing or can't be found.
    """
    for task in TASKS:
        if not record.get(f"question_{task}"):
            continue
        field = f"annotation_{task}"
        question = fields.text(record[f"question_{task}"], f"question_{task}")
        found = fields.images(fields.need(record, "image"), place.images, "image")
        [(reference, _)] = fields.images(fields.need(record, field), place.images, field)[:1]
        row = Row(
            images=tuple(data for data, _ in found),
            question=question.replace(IMAGE_TAG, "").strip(),
            answers=("a picture",),
            source="VTBench",
            split="test",
            index=place.row,
            size=(0, 0),
            ability=task,
            paths=tuple(path for _, path in found),
        )
        yield row, reference


def _read(record: Mapping[str, Any], place: Place) -> Iterator[Item | str]:
    found = fields.images(fields.need(record, "image"), place.images, "image")
    for task in TASKS:
        if record.get(f"question_{task}"):
            yield f"drawn_{task}"
    yield Row(
        images=tuple(data for data, _ in found),
        question=fields.text(fields.need(record, "question_reasoning"), "question_reasoning")
        .replace(IMAGE_TAG, "")
        .strip(),
        answers=fields.answers(record.get("answer_reasoning"), "answer_reasoning"),
        source="VTBench",
        split="test",
        index=place.row,
        size=(0, 0),
        ability=str(record.get("domain") or "reasoning"),
        paths=tuple(path for _, path in found),
    )


READER = Reader(name="vtbench", columns=(("image",), ("question_reasoning",), ("answer_reasoning",)), read=_read)
