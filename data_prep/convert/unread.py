"""Checks what a reader has left unread: columns that a question or a conversation needs reject the row."""

import re
from collections.abc import Iterable
from typing import Final

from data_prep.formats import fields
from data_prep.formats.readers import Place, Reader
from data_prep.formats.readers.choices import is_choice
from data_prep.formats.record import BEYOND, TrackedRecord, is_empty
from data_prep.formats.row_errors import Reason, RowError
from data_prep.formats.schema import Demonstration, Row
from data_prep.formats.turns import IMAGE_FIELDS, OTHER_MEDIA, TOKEN_MASKS, TURN_FIELDS

_QUESTION_PARTS: Final = re.compile(r"hint|history|image[_ -]?\d{1,3}")
"""Regular expression of columns that a question needs."""
_PLACE_TAG: Final = re.compile(r"<(?:bbox|ref-object)>")
"""Tag of ms-swift for a place or a name that the column `objects` holds."""


def notes(item: Row | Demonstration) -> list[str]:
    """Return the keys of NOTES that apply to an item."""
    if isinstance(item, Row):
        return ["answer_like_a_list"] if any(map(fields.looks_like_list, item.answers)) else []
    others = any(message.train and message.role != "assistant" for message in item.messages)
    return ["not_an_assistant_s"] if others else []


def check_unread(unread: Iterable[str], record: TrackedRecord, reader: Reader, place: Place) -> None:
    """Check that no column is unread that the question or the conversation needs.

    Raises:
        RowError: There is one; the message names it.
    """
    for name in sorted(unread):
        field, _, inner = name.partition(".")
        of_message = inner if field in TURN_FIELDS else ""
        if (medium := of_message or name) in OTHER_MEDIA:
            raise RowError(Reason.NOT_SUPPORTED, name, f"{medium[:5]} isn't supported, only images are")
        if of_message in IMAGE_FIELDS:
            raise RowError(Reason.NOT_SUPPORTED, name, "a message has images in two fields")
        if name in TOKEN_MASKS and place.turns:
            message = "a mark for each token; mark the messages that have no loss (train: false) and drop this column"
            raise RowError(Reason.NOT_SUPPORTED, name, message)
        if name == "objects" and any(_PLACE_TAG.search(text) for text in _texts(record)):
            raise RowError(Reason.NOT_SUPPORTED, name, "the places in it aren't written into the texts for their tags")
        if name == BEYOND:
            raise RowError(Reason.NOT_SUPPORTED, name, "the row has more cells than the header has names")
        if name in ("image", "images") and not _same_images(record):
            raise RowError(
                Reason.NOT_SUPPORTED, name, "columns image and images hold different images; --map names one"
            )
        if (_QUESTION_PARTS.fullmatch(name) or is_choice(name)) and not reader.whole_prompt:
            raise RowError(
                Reason.NOT_SUPPORTED, name, f"the question needs it, and reader {reader.name} doesn't use it"
            )


def _texts(record: TrackedRecord) -> list[str]:
    """Return the texts of a record's conversation and question, as they are stored."""
    return [str(record.get(name)) for name in (*TURN_FIELDS, "question", "query", "problem")]


def _same_images(record: TrackedRecord) -> bool:
    """Return whether one of the columns `image` and `images` holds all images of the other one."""
    values = [value for name in ("image", "images") if not is_empty(value := record.get(name))]
    one, many = (value if isinstance(value, list) else [value] for value in (values[0], values[-1]))
    return all(image in many for image in one)
