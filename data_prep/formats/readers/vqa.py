"""A question, an image, answers: benchmarks in this shape, one entry each, and any table that has such columns."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from string import ascii_uppercase
from typing import Any, Final

from data_prep.formats import fields
from data_prep.formats.readers.base import Item, Place, Reader
from data_prep.formats.row_errors import Reason, RowError
from data_prep.formats.schema import IMAGE_TAG, Row

_IMAGE: Final = ("image", "images", "image_path", "file_name", "picture")
_QUESTION: Final = ("question", "Question", "query", "text")
_ANSWER: Final = ("answers", "answer", "Answer", "label", "ground_truth", "gt_answer")
_INDEX: Final = ("index", "questionId", "question_id", "id", "idx")


def _reader(
    name: str,
    source: str | None,
    columns: tuple[tuple[str, ...], ...],
    ask: Callable[[Mapping[str, Any]], str],
    licence: str = "unknown",
) -> Reader:
    def read(record: Mapping[str, Any], place: Place) -> Iterator[Item | str]:
        found = fields.images(fields.need(record, *_IMAGE), place.images, "image")
        index = fields.first(record, *_INDEX)
        applied, renamed = fields.applied(record.get("transform"), "transform")
        box, was_nan = fields.box(fields.first(record, "bbox", "box"), "bbox")
        given = fields.first(record, *_ANSWER)
        yield Row(
            images=tuple(data for data, _ in found),
            question=ask(record).replace(IMAGE_TAG, "").strip(),
            answers=_last(given) if name == "chartqapro" else fields.answers(given, "answer"),
            source=source or record.get("source") or record.get("data_source") or place.name,
            split=str(record.get("split") or ("test" if source else "train")),
            index=int(index) if str(index).isdecimal() else place.row,
            size=(0, 0),
            applied=applied,
            box=box,
            ability=str(fields.first(record, "ability", "question_type", "Question Type", "category") or "reading"),
            paths=tuple(path for _, path in found),
            changes=(*(["op_renamed"] if renamed else []), *(["box_nan"] if was_nan else [])),
            licence=str(record.get("licence") or record.get("license") or ""),
        )

    return Reader(name=name, columns=columns, read=read, licence=licence)


def _ask(record: Mapping[str, Any]) -> str:
    """The question, and the choices where they stand in columns of their own."""
    question = fields.text(fields.need(record, *_QUESTION), "question")
    letters = [letter for letter in ascii_uppercase[:8] if record.get(letter) not in (None, "")]
    if len(letters) < 2:
        return question
    choices = "\n".join(f"{letter}. {fields.text(record[letter], letter)}" for letter in letters)
    return f"{question}\n{choices}\nAnswer with the letter of the right choice."


def _ask_last(record: Mapping[str, Any]) -> str:
    """The last question of a conversation, behind what was asked and answered before it."""
    questions = _list(fields.need(record, "Question", "question"), "Question")
    answers = _list(fields.need(record, "Answer", "answer"), "Answer")
    before = [f"Question: {asked}\nAnswer: {said}" for asked, said in zip(questions[:-1], answers, strict=False)]
    paragraph = str(record.get("Paragraph") or "").strip()
    return "\n".join([*([paragraph] if paragraph else []), *before, questions[-1]])


def _last(value: Any) -> tuple[str, ...]:
    return fields.answers(_list(value, "Answer")[-1], "Answer")


def _list(value: Any, field: str) -> list[str]:
    value = fields.parsed(value, field)
    items = (
        [fields.text(each, field) for each in value]
        if isinstance(value, Sequence) and not isinstance(value, str)
        else [value]
    )
    if not items or items[-1] is None:
        raise RowError(Reason.COLUMN_MISSING, field, "is empty")
    return items


READERS: Final = (
    _reader("chartqapro", "ChartQAPro", (("Question",), ("Answer",), ("image",), ("Question Type",)), _ask_last),
    _reader("hrbench", "HRBench", (("question",), ("answer",), ("image",), ("A",), ("B",)), _ask),
    _reader("vstar", "V*", (("image",), ("text",), ("label",), ("category",), ("question_id",)), _ask),
    _reader("ocrbench", "OCRBench", (("dataset",), ("question",), ("question_type",), ("answer",), ("image",)), _ask),
    _reader("docvqa", "DocVQA", (("questionId",), ("question",), ("image",), ("answers",)), _ask),
    _reader("textvqa", "TextVQA", (("image_id",), ("question",), ("image",), ("answers",)), _ask, "CC-BY-4.0"),
    _reader("vqa", None, (_IMAGE, _QUESTION, _ANSWER), _ask),
)
