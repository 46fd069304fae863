"""Items of VTBench: of the three tasks of each, reasoning has an answer in words and becomes a row.

Perception and instruction are answered by a drawing, which a judge compares with a reference picture.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from data_prep import fields
from data_prep.readers.base import Item, Place, Reader
from data_prep.schema import IMAGE_TAG, Row


def _read(record: Mapping[str, Any], place: Place) -> Iterator[Item | str]:
    found = fields.pictures(fields.need(record, "image"), place.pictures, "image")
    for task in ("perception", "instruction"):
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
