"""Reads rows of V-Perception-40K: questions about drawn elements of an image."""

from collections.abc import Iterator, Mapping
from typing import Any

from data_prep.formats import fields
from data_prep.formats.readers.base import Item, Place, Reader, question_of
from data_prep.formats.schema import Row


def _read(record: Mapping[str, Any], place: Place) -> Iterator[Item | str]:
    images, paths = fields.images(fields.require(record, "image"), place.images, "image")
    yield Row(
        images=images,
        question=question_of(record, "question"),
        answers=fields.answers(record.get("answer"), "answer", lists=place.lists),
        source="V-Perception-40K",
        split="train",
        index=place.row,
        ability="perception",
        paths=paths,
    )


# The published name of the last column is misspelt.
READER = Reader(
    name="v-perception",
    columns=(("question",), ("image",), ("python_code",), ("element_arrtibute", "element_attribute")),
    read=_read,
)
