"""Reads the choices of a question, and finds the letter of the right choice."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from string import ascii_lowercase, ascii_uppercase
from typing import Any, Final

from data_prep.formats import fields
from data_prep.formats.exact_numbers import number_text
from data_prep.formats.record import is_empty
from data_prep.formats.row_errors import Reason, RowError

_FIELD: Final = re.compile(
    r"(?:(?:answer|multi(?:ple)?[_ -]?choice|multi(?:ple)?|mc)[_ -]?)?(?:choice|option|candidate|opt)s?(?:[_ -]?list)?",
    re.IGNORECASE,
)
"""Name of a field that holds all choices of a question."""
_COLUMN: Final = re.compile(
    r"(?P<begin>(?i:(?:answer[_ -]?)?(?:choice|option|candidate|opt)[_ -]?)?)"
    r"(?:(?P<upper>[A-Z])|(?P<lower>[a-z])|(?P<number>\d{1,2}))"
)
"""Name of a column with one choice: a beginning that all such columns share, and a letter or a number."""
_LABEL: Final = ("label", "key", "letter", "id")
_TEXT: Final = ("text", "value", "content", "choice", "option")
_LETTERED: Final = re.compile(r"\s*\(?([A-Z])(?:[.):]\s*|\s+-\s+)(.*\S)\s*", re.DOTALL)
_LETTERS: Final = re.compile(r"[A-Za-z](?:[\s,;&/]*[A-Za-z])+")
_PLACES: Final = frozenset(map(str, range(len(ascii_uppercase))))
_IMAGE_TAG: Final = re.compile(r"<\|?image", re.IGNORECASE)
_BARE_LETTER: Final = re.compile(r"\(?([A-Za-z])[.):]?\)?")


def is_choice(column: str) -> bool:
    """Return whether a column, by its name, holds choices or one choice."""
    match = _COLUMN.fullmatch(column)
    return bool(_FIELD.fullmatch(column) or (match and match["begin"]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """Choices of a question."""

    texts: Mapping[str, str]
    """Text of each choice by its letter; empty for a question without choices."""
    in_columns: bool = False
    """True if each choice has its own column; answers are then letters, whatever the texts of the choices are."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Letter of each choice by its label in the record; an answer that is a label means the choice of that label."""
    numbers: bool = False
    """True if the choices are numbers; an answer that is a number can then be a choice instead of an index."""
    typed: bool = True
    """True if the record has the choices as a list, not as text; "2" is then the choice "2" rather than an index."""

    def ask(self, question: str) -> str:
        """Return the question followed by its choices; unchanged if the question contains them already."""
        if not self.texts:
            return question
        marks = (rf"(?:^|[\s(\[]){letter}[.):\]]+\s*{re.escape(text)}" for letter, text in self.texts.items())
        if all(re.search(mark, question) for mark in marks):
            return question
        listed = "\n".join(f"{letter}. {text}" for letter, text in self.texts.items())
        return f"{question}\n{listed}\nAnswer with the letter of the right choice."

    def answers(self, value: Any, field: str) -> tuple[str, ...]:
        """Return the right answers: letters, each with the text of its choice.

        An answer is a letter, the text of a choice, or the index of a choice, from 0.

        Raises:
            RowError: An answer is none of the choices, or can mean two of them.
        """
        items = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
        answers = [answer for item in items if not is_empty(item) for answer in self._answer(item, field)]
        if not answers:
            raise RowError(Reason.NO_ANSWER, field, "no answer, or a blank one")
        return tuple(dict.fromkeys(answers))

    def _answer(self, value: Any, field: str) -> tuple[str, ...]:
        text = fields.text(value, field).strip()
        readings = self._readings(value, text)
        if len(readings) > 1:
            message = f"{text!r:.60} can mean choice {' and choice '.join(sorted(readings))}"
            raise RowError(Reason.NO_ANSWER, field, message)
        if not readings:
            letters = re.findall("[A-Za-z]", text.upper())
            if _LETTERS.fullmatch(text) and len(set(letters)) == len(letters) and self.texts.keys() >= set(letters):
                return (text,)  # several choices are right together
            message = f"{text!r:.60} is none of the choices {', '.join(self.texts)}, neither their text nor their place"
            raise RowError(Reason.NO_ANSWER, field, message)
        [letter] = readings
        own = self.texts[letter]
        # The text isn't a reference if it is the letter or the text of another choice, or an image.
        others = {*self.texts, *(text for other, text in self.texts.items() if other != letter)}
        ambiguous = own.strip("().").upper() in self.texts or own in others or _IMAGE_TAG.search(own)
        return (letter,) if ambiguous else (letter, own)

    def _readings(self, value: Any, text: str) -> set[str]:
        """Return the letters that an answer can mean."""
        place = text if isinstance(value, str) else number_text(value)
        by_text = {letter for letter, own in self.texts.items() if _same(own, text)}
        if place is not None and place in self.labels:
            return {self.labels[place], *(by_text if self.in_columns else ())}
        full = _LETTERED.fullmatch(text)
        if full and _same(self.texts.get(full[1]), full[2]):
            return {full[1]}
        by_place = {*ascii_uppercase[int(place)]} if place in _PLACES else set()
        by_place &= self.texts.keys()
        bare = _BARE_LETTER.fullmatch(text)
        by_letter = {bare[1].upper()} & self.texts.keys() if bare else set()
        if self.in_columns:
            return by_letter or by_text or (set() if self.labels else by_place)
        if isinstance(value, str):
            named = by_letter | by_text
            return named or by_place if self.typed else named | by_place
        return by_place | by_text if self.numbers else by_place or by_text


def read_choices(record: Mapping[str, Any]) -> Choices:
    """Return the choices of a record: a list, an object by letter, or columns A, B, and so on; empty cells are none.

    Raises:
        RowError: The choices have another form.
    """
    for columns in _columns(record):
        cells = {letter: record.get(name) for letter, name in columns.items()}
        texts = {
            letter: fields.text(cell, columns[letter]).strip() for letter, cell in cells.items() if not _blank(cell)
        }
        if len(texts) == 1:
            raise RowError(Reason.BAD_TYPE, columns[next(iter(texts))], "is the only choice of its question")
        if texts:
            labels = {mark[0]: letter for letter, name in columns.items() if (mark := re.findall(r"\d+$", name))}
            return Choices(texts=texts, in_columns=True, labels=labels)
    for name in filter(_FIELD.fullmatch, record):
        if not is_empty(value := record.get(name)) and not isinstance(value, bool):
            return replace(_listed(fields.parse_list(value, name), name), typed=not isinstance(value, str))
    return Choices(texts={})


def _columns(record: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    """Yield the columns of choices by letter, for each spelling of the names that has a first and a second column."""
    spellings: dict[tuple[str, str | None], dict[str, str]] = {}
    for name in record:
        if (match := _COLUMN.fullmatch(name)) and (match["begin"] or match.lastgroup != "number"):
            spellings.setdefault((match["begin"], match.lastgroup), {})[match[match.lastgroup or 0]] = name
    for (_, marked), names in spellings.items():
        first = 0 if "0" in names else 1
        numbers = map(str, range(first, first + len(ascii_uppercase)))
        marks = {"upper": ascii_uppercase, "lower": ascii_lowercase}.get(str(marked), numbers)
        columns = {letter: names[mark] for letter, mark in zip(ascii_uppercase, marks, strict=True) if mark in names}
        if {"A", "B"} <= columns.keys():
            yield columns


def _listed(value: Any, field: str) -> Choices:
    if isinstance(value, str):  # a line for each choice
        value = [line for line in value.splitlines() if line.strip()]
        if len(value) < 2 or not all(map(_LETTERED.fullmatch, value)):
            raise RowError(Reason.BAD_TYPE, field, "must be a list of choices, or lines like `A. text`")
    if isinstance(value, Mapping):
        labels, texts = fields.first(value, *_LABEL), fields.first(value, *_TEXT)
        if isinstance(labels, Sequence) and isinstance(texts, Sequence) and len(labels) == len(texts):
            value = dict(zip(labels, texts, strict=True))
        pairs = [(str(label), text) for label, text in value.items() if not _blank(text)]
    elif isinstance(value, Sequence) and all(isinstance(item, Mapping) for item in value):
        pairs = [(str(fields.first(item, *_LABEL) or ""), fields.first(item, *_TEXT)) for item in value]
    elif isinstance(value, Sequence):
        pairs = [("", item) for item in value]
        marks = [_LETTERED.fullmatch(item) if isinstance(item, str) else None for item in value]
        if all(mark and mark[1] == letter for mark, letter in zip(marks, ascii_uppercase, strict=False)):
            pairs = [("", mark[2]) for mark in marks if mark]
    else:
        raise RowError(Reason.BAD_TYPE, field, f"must be a list of choices, not {type(value).__name__}")
    if len(pairs) > len(ascii_uppercase):
        raise RowError(Reason.BAD_TYPE, field, f"{len(pairs)} choices, more than there are letters")
    named = all(len(label) == 1 and label.upper() in ascii_uppercase for label, _ in pairs)
    names = [label.upper() for label, _ in pairs] if named else [*ascii_uppercase[: len(pairs)]]
    texts = {name: text for name, (_, text) in zip(names, pairs, strict=True) if not _blank(text)}
    return Choices(
        texts={name: fields.text(text, field).strip() for name, text in texts.items()},
        labels={label: name for name, (label, _) in zip(names, pairs, strict=True) if label and name in texts},
        numbers=any(not isinstance(text, str) for text in texts.values()),
    )


def _blank(value: Any) -> bool:
    return is_empty(value) or (isinstance(value, str) and not value.strip())


def _same(own: str | None, text: str) -> bool:
    return own is not None and " ".join(own.split()).casefold() == " ".join(text.split()).casefold()
