"""Reads tables with a question, an image and answers: one reader for each benchmark, and one for any other table."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from string import ascii_letters
from typing import Any, Final

from data_prep.formats import fields
from data_prep.formats.exact_numbers import number_text
from data_prep.formats.readers.base import ANSWERS, Item, Place, Reader
from data_prep.formats.readers.choices import is_choice, read_choices
from data_prep.formats.readers.codevision_rl import read_prompt
from data_prep.formats.record import is_empty
from data_prep.formats.row_errors import Reason, RowError
from data_prep.formats.schema import Row
from data_prep.formats.turns import IMAGE_FIELDS, read_images

_IMAGE: Final = ("decoded_image", *IMAGE_FIELDS)
"""Fields that hold the image; MathVista has it in `decoded_image`, and its path in `image`."""
_QUESTION: Final = ("question", "Question", "query", "text", "problem", "instruction", "prompt")
_HINT: Final = ("hint", "context", "passage")
RULE_FIELDS: Final = {
    "chartqapro": ("Question Type", "Year"),
    "hrbench": ("category",),
    "ocrbench": ("dataset", "question_type"),
    "vstar": ("category",),
}
"""Fields of a benchmark's record that its scoring rule, or the column of its suite, reads."""
_INDEX: Final = ("index", "questionId", "question_id", "id", "idx", "qid", "pid")
_NUMBERED_IMAGE: Final = re.compile(r"image[_ -]?(\d{1,3})")
_NUMBERED: Final = tuple(f"image{mark}{number}" for number in (1, 0) for mark in ("_", ""))
"""First of the columns that have an image each."""
_REPLY: Final = re.compile(r"(?:.*</think>)?\s*<answer>(.*)</answer>\s*", re.DOTALL)


def _reader(
    name: str,
    source: str | None,
    columns: tuple[tuple[str, ...], ...],
    ask: Callable[[Mapping[str, Any]], str],
    licence: str = "unknown",
    *,
    lists: bool = False,
    published: Callable[[Mapping[str, Any]], bool] | None = None,
) -> Reader:
    """Return the reader of a table.

    Args:
        name: Name of the reader.
        source: Name of the benchmark; None: the table of any set.
        columns: Columns that a file must have; of each group one is enough.
        ask: Returns the question of a record.
        licence: Licence of the benchmark.
        lists: Whether answers are lists, also where they are stored as texts.
        published: Returns whether a record is the benchmark's; None: all are. Other tables may have the same columns.
    """

    def read(record: Mapping[str, Any], place: Place) -> Iterator[Item | str]:
        benchmark = source if published is None or published(record) else None
        system, question, own = _question(record, ask)
        images, paths = _images(record, own, place)
        applied, renamed = fields.applied(record.get("transform"), "transform")
        box, was_nan = fields.box(fields.first(record, "bbox", "box"), "bbox")
        drawing = fields.drawing(record.get("drawing"), "drawing")
        choices = read_choices(record)
        answer = fields.first(record, *ANSWERS)
        if name == "chartqapro":
            answer = _texts(answer, "Answer")[-1]
        if isinstance(answer, str) and (reply := _REPLY.fullmatch(answer)):  # a solution as a model would write it
            answer = reply[1].strip()
        yield Row(
            images=images,
            question=choices.ask(question).strip(),
            answers=choices.answers(answer, "answer")
            if choices.texts
            else fields.answers(answer, "answer", lists=lists or place.lists, drawing=drawing),
            source=benchmark or _name(fields.first(record, "source", "data_source") or place.name),
            split=_name(record.get("split") or ("test" if benchmark else "train")),
            index=fields.index(record, _INDEX, place.row),
            applied=applied,
            box=box,
            drawing=drawing,
            ability=_name(fields.first(record, "ability", "question_type", "Question Type", "category") or "reading"),
            system=system,
            paths=paths,
            benchmark=name if benchmark else "",
            rule_fields={each: record[each] for each in RULE_FIELDS.get(name, ()) if not is_empty(record.get(each))},
            changes=(*(["op_renamed"] if renamed else []), *(["box_nan"] if was_nan else [])),
            licence=_name(fields.first(record, "licence", "license") or ""),
        )

    return Reader(name=name, columns=columns, read=read, licence=licence, published=published)


def is_field(name: str) -> bool:
    """Return whether a table may have a field of this name, so that `--map` may name its column."""
    return name in _FIELDS or is_choice(name) or name in ascii_letters or bool(_NUMBERED_IMAGE.fullmatch(name))


def _name(value: Any) -> str:
    return number_text(value) or str(value)


def _question(record: Mapping[str, Any], ask: Callable[[Mapping[str, Any]], str]) -> tuple[str, str, list[Any]]:
    """Return the system message, the question behind its hint, and the images of a prompt's content parts."""
    name = next((name for name in _QUESTION if not is_empty(record.get(name))), "")
    if name == "prompt":
        return read_prompt(record)
    system = fields.text(record.get("system") or "", "system")
    hints = [fields.text(hint, name) for name in _HINT if not is_empty(hint := record.get(name))]
    return system, "\n".join((*hints, ask(record))), []


def _images(record: Mapping[str, Any], own: list[Any], place: Place) -> fields.ImageFields:
    """Return the images of a record: those of its prompt or of one field, and those of columns image_1, image_2, .."""
    if any(value is not None for value in own):
        return read_images(record, own, place.images)
    names = [name for name in record if _NUMBERED_IMAGE.fullmatch(name)]
    names.sort(key=lambda name: int(_NUMBERED_IMAGE.fullmatch(name)[1]))  # type: ignore[index]
    values = [value for name in names if not is_empty(value := record.get(name))]
    value = fields.first(record, *_IMAGE) if values else fields.require(record, *_IMAGE)
    files = [fields.images(each, place.images, "image") for each in (*([] if is_empty(value) else [value]), *values)]
    return tuple(data for images, _ in files for data in images), tuple(path for _, paths in files for path in paths)


def _ask(record: Mapping[str, Any]) -> str:
    """Return the question; of an instruction with an input, both."""
    question = fields.text(fields.require(record, *_QUESTION), "question")
    more = record.get("input") if record.get("instruction") else None
    return f"{question}\n{fields.text(more, 'input')}" if more else question


def _ask_last(record: Mapping[str, Any]) -> str:
    """Return the last question of a conversation, behind the earlier questions and their answers."""
    questions = _texts(fields.require(record, "Question", "question"), "Question")
    answers = _texts(fields.require(record, "Answer", "answer"), "Answer")
    turns = [f"Question: {question}\nAnswer: {answer}" for question, answer in zip(questions, answers, strict=False)]
    paragraph = str(record.get("Paragraph") or "").strip()
    return "\n".join([*([paragraph] if paragraph else []), *turns[: len(questions) - 1], questions[-1]])


def _texts(value: Any, field: str) -> list[str]:
    value = fields.parse_list(value, field)
    many = isinstance(value, Sequence) and not isinstance(value, str)
    items = [fields.text(item, field) for item in value] if many else [value]
    if not items or items[-1] is None:
        raise RowError(Reason.COLUMN_MISSING, field, "is empty")
    return items


TABLE: Final = {"image": (*_IMAGE, *_NUMBERED), "question": _QUESTION, "answer": (*ANSWERS, "drawing")}
"""Columns of any table: of each group one is enough."""
_FIELDS: Final = frozenset(
    {*_IMAGE, *_QUESTION, *ANSWERS, *_HINT, *_INDEX, "input", "system", "transform", "bbox", "box", "source", "split"}
    | {"data_source", "ability", "question_type", "Question Type", "category", "licence", "license", "dataset", "Year"}
    | {"drawing"}
)
"""Fields that a table is read from, besides choices and numbered images."""
TABLE_READER: Final = _reader("vqa", None, tuple(TABLE.values()), _ask)
"""Reader of any table."""
READERS: Final = (
    _reader("chartqapro", "ChartQAPro", (("Question",), ("Answer",), ("image",), ("Question Type",)), _ask_last),
    _reader(
        *("hrbench", "HRBench", (("question",), ("answer",), ("image",), ("category",), ("A",), ("B",))),
        _ask,
        published=lambda record: record["category"] in ("single", "cross"),
    ),
    _reader("vstar", "V*", (("image",), ("text",), ("label",), ("category",), ("question_id",)), _ask),
    _reader(
        *("ocrbench", "OCRBench", (("dataset",), ("question",), ("question_type",), ("answer",), ("image",))),
        _ask,
        lists=True,
    ),
    _reader(
        *("docvqa", "DocVQA", (("questionId",), ("question",), ("image",), ("answers",))),
        _ask,
        lists=True,
        published=lambda record: bool({"docId", "ucsf_document_id"} & set(record)),
    ),
    _reader(
        *(
            "textvqa",
            "TextVQA",
            (("image_id",), ("image_classes", "set_name"), ("question",), ("image",), ("answers",)),
        ),
        *(_ask, "CC-BY-4.0"),
        lists=True,
    ),
    TABLE_READER,
)
