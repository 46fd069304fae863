"""Reads rows of V-Perception-40K: questions about drawn elements of an image.

An answer names places by their coordinates, such as `{'P4': (280, 80)}`. It is a text in Python or JSON, or an object.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from codevision_ext.task.coordinate_answers import read_places
from codevision_ext.types import AnswerKind
from data_prep.formats import fields, image_tags
from data_prep.formats.readers.base import Item, Place, Reader, question_of
from data_prep.formats.record import is_empty
from data_prep.formats.row_errors import Reason, RowError
from data_prep.formats.schema import Demonstration, Message, Row, SampleType

SOURCE = "V-Perception-40K"
ELEMENTS = ("element_arrtibute", "element_attribute")
"""Names of the column of elements; the published one is misspelt."""


def _read(record: Mapping[str, Any], place: Place) -> Iterator[Item | str]:
    images, paths = fields.images(fields.require(record, "image"), place.images, "image")
    question = question_of(record, "question")
    answers, kind = _answers(record.get("answer"), place)
    elements: tuple[str, ...] = ()
    try:
        elements = _elements(record)
    except RowError as error:
        yield error
    if place.turns:
        from data_prep.formats.turn_text import answer_text  # noqa: PLC0415  slow to import, and not needed for tasks

        metadata = {"sample_type": SampleType.NO_TOOL, "answer": answers[0], "elements": list(elements)}
        yield Demonstration(
            messages=(
                Message(role="user", content=image_tags.with_tags(question, len(images))),
                Message(role="assistant", content=answer_text("", answers[0])),
            ),
            images=images,
            sample_type=SampleType.NO_TOOL,
            metadata=metadata | {"id": fields.text(fields.first(record, "id") or place.row, "id")},
            paths=paths,
            source=SOURCE,
        )
        return
    code = record.get("python_code")
    yield Row(
        images=images,
        question=question,
        answers=answers,
        answer_kind=kind,
        source=SOURCE,
        split="train",
        index=place.row,
        ability="perception",
        paths=paths,
        codes=() if is_empty(code) else (fields.text(code, "python_code"),),
        elements=elements,
    )


def _elements(record: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the descriptions of the elements, each as a text; an object becomes JSON. Raises RowError."""
    name = next((name for name in ELEMENTS if not is_empty(record.get(name))), None)
    if name is None:
        return ()
    value = fields.parse_list(record[name], name)
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise RowError(Reason.BAD_TYPE, name, f"must be a list of texts, not {value!r:.40}")
    return tuple(item if isinstance(item, str) else json.dumps(item, default=_plain) for item in value)


def _answers(value: Any, place: Place) -> tuple[tuple[str, ...], AnswerKind]:
    """Return the answers and their kind: coordinates, or text where an answer doesn't open like a dict or a list.

    Raises:
        RowError: There is no answer, or it opens like coordinates and isn't.
    """
    if isinstance(value, Mapping):  # in parquet an object has a null for every name of another row
        value = json.dumps({name: own for name, own in value.items() if not is_empty(own)}, default=_plain)
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes) and not _are_texts(value):
        value = json.dumps(value, default=_plain)
    answers = fields.answers(value, "answer", lists=place.lists and not _opens(value))
    unreadable = [answer for answer in answers if read_places(answer) is None]
    if not unreadable:
        return answers, AnswerKind.COORDINATES
    for answer in filter(_opens, unreadable):
        message = f"can't be read as places such as {{'A': (3, 4)}}: {answer!r:.60}"
        raise RowError(Reason.BAD_JSON, "answer", message)
    return answers, AnswerKind.TEXT


def _plain(value: Any) -> Any:
    return float(value) if isinstance(value, Decimal) else str(value)


def _are_texts(values: Sequence[Any]) -> bool:
    return all(isinstance(value, str) for value in values)


def _opens(value: Any) -> bool:
    return isinstance(value, str) and value.lstrip()[:1] in ("{", "[", "(")


READER = Reader(name="v-perception", columns=(("question",), ("image",), ("python_code",), ELEMENTS), read=_read)
