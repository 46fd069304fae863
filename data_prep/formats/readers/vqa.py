"""Reads tables with a question, an image and answers: benchmarks, one entry each, and any other such table."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from string import ascii_uppercase
from typing import Any, Final

from data_prep.formats import fields
from data_prep.formats.readers.base import Item, Place, Reader
from data_prep.formats.row_errors import Reason, RowError
from data_prep.formats.schema import Row

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
        images, paths = fields.images(fields.require(record, *_IMAGE), place.images, "image")
        index = fields.first(record, *_INDEX)
        applied, renamed = fields.applied(record.get("transform"), "transform")
        box, was_nan = fields.box(fields.first(record, "bbox", "box"), "bbox")
        answer = fields.first(record, *_ANSWER)
        if name == "chartqapro":
            answer = _texts(answer, "Answer")[-1]
        yield Row(
            images=images,
            question=ask(record).strip(),
            answers=fields.answers(answer, "answer"),
            source=source or record.get("source") or record.get("data_source") or place.name,
            split=str(record.get("split") or ("test" if source else "train")),
            index=int(index) if str(index).isdecimal() else place.row,
            applied=applied,
            box=box,
            ability=str(fields.first(record, "ability", "question_type", "Question Type", "category") or "reading"),
            paths=paths,
            changes=(*(["op_renamed"] if renamed else []), *(["box_nan"] if was_nan else [])),
            licence=str(record.get("licence") or record.get("license") or ""),
        )

    return Reader(name=name, columns=columns, read=read, licence=licence)


def _ask(record: Mapping[str, Any]) -> str:
    """Return the question, with its choices if they stand in columns of their own."""
    question = fields.text(fields.require(record, *_QUESTION), "question")
    letters = [letter for letter in ascii_uppercase[:8] if record.get(letter) not in (None, "")]
    if len(letters) < 2:
        return question
    choices = "\n".join(f"{letter}. {fields.text(record[letter], letter)}" for letter in letters)
    return f"{question}\n{choices}\nAnswer with the letter of the right choice."


def _ask_last(record: Mapping[str, Any]) -> str:
    """Return the last question of a conversation, behind the earlier questions and their answers."""
    questions = _texts(fields.require(record, "Question", "question"), "Question")
    answers = _texts(fields.require(record, "Answer", "answer"), "Answer")
    turns = [f"Question: {question}\nAnswer: {answer}" for question, answer in zip(questions, answers, strict=False)]
    paragraph = str(record.get("Paragraph") or "").strip()
    return "\n".join([*([paragraph] if paragraph else []), *turns[: len(questions) - 1], questions[-1]])


def _texts(value: Any, field: str) -> list[str]:
    value = fields.parse_json(value, field)
    many = isinstance(value, Sequence) and not isinstance(value, str)
    items = [fields.text(item, field) for item in value] if many else [value]
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
