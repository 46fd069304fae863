"""Rows of V-Perception-40K: questions about drawn elements of an image."""

from collections.abc import Iterator, Mapping
from typing import Any

from data_prep.formats import fields
from data_prep.formats.readers.base import Item, Place, Reader
from data_prep.formats.schema import IMAGE_TAG, Row


def _read(record: Mapping[str, Any], place: Place) -> Iterator[Item | str]:
    found = fields.images(fields.need(record, "image"), place.images, "image")
    yield Row(
        images=tuple(data for data, _ in found),
        question=fields.text(fields.need(record, "question"), "question").replace(IMAGE_TAG, "").strip(),
        answers=fields.answers(record.get("answer"), "answer"),
        source="V-Perception-40K",
        split="train",
        index=place.row,
        size=(0, 0),
        ability="perception",
        paths=tuple(path for _, path in found),
    )


# The published name of the last column is misspelt.
READER = Reader(
    name="v-perception",
    columns=(("question",), ("image",), ("python_code",), ("element_arrtibute", "element_attribute")),
    read=_read,
)
