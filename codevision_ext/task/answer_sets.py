"""Compares answers with several parts: choices ("A, B, D") and solutions ("x = 1 or x = 2").

An answer with several parts is accepted only if the reference has exactly these parts. So a model gains nothing by
listing candidates.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from codevision_ext.task.maths import same_maths
from codevision_ext.task.normal_form import fold, undecorate
from codevision_ext.task.numbers import is_number, other_number, same_number

_LONGEST: Final = 200
"""Maximum length in characters of a text that is read as choices or solutions."""

_RUN: Final = re.compile(r"[A-J]{2,10}")
_LETTER: Final = r"\(?([A-Za-z])[).]?"
_LISTED: Final = re.compile(rf"{_LETTER}(?:\s*(?:,(?:\s*(?:and\b|&))?|;|&|、|\band\b|和)\s*{_LETTER})+")
_SPACED: Final = re.compile(rf"{_LETTER}(?:\s+{_LETTER})+")
_SINGLE: Final = re.compile(rf"(?<![A-Za-z]){_LETTER}(?![A-Za-z])")
_UNORDERED: Final = re.compile(r"&|\band\b|和|^\{.*\}$")
_BRACKETS: Final = re.compile(r"\{(?P<braces>[^{}]*)\}|\[(?P<square>[^\[\]]*)\]")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Choices:
    """Choice letters of an answer."""

    letters: tuple[str, ...]
    """Lower-case letters in their order; at least two, all different."""
    style: Literal["run", "listed", "spaced"]
    unordered: bool
    """True if the order doesn't count, because the text has an "and" or braces."""


def _choices(text: str) -> _Choices | None:
    """Reads "A, B, D", "A and B", "{A, B}", "A B D" or "ABD"; None for any other text.

    Adjacent letters must be in alphabetical order, as in "ABD"; "BAD" is a word.
    """
    text = undecorate(text)
    if len(text) > _LONGEST:
        return None
    unordered = _UNORDERED.search(text) is not None
    bracket = _BRACKETS.fullmatch(text)
    bare = re.sub("[\"']", "", bracket[bracket.lastgroup or 0]).strip() if bracket else text
    run = _RUN.fullmatch(bare)
    style: Literal["run", "listed", "spaced"]
    if run and list(bare) == sorted(set(bare)):
        letters, style = list(bare), "run"
    elif listed := _LISTED.fullmatch(bare) or _SPACED.fullmatch(bare):
        letters, style = _SINGLE.findall(bare), "listed" if listed.re is _LISTED else "spaced"
    else:
        return None
    lower = tuple(letter.lower() for letter in letters)
    if len(set(lower)) != len(lower) or len(lower) < 2:
        return None
    return _Choices(letters=lower, style=style, unordered=unordered)


def same_choices(answer: str, reference: str) -> bool:
    """Returns whether answer and reference name equal choices, two or more, in equal order.

    The order doesn't count if the reference has an "and" or braces ("A and B", "{A, B}"). Other references may be
    rankings, such as "C, A, B".
    """
    expected = _choices(reference)
    chosen = _choices(answer) if expected else None
    if expected is None or chosen is None or {chosen.style, expected.style} == {"run", "spaced"}:
        return False
    if expected.unordered:
        return set(chosen.letters) == set(expected.letters)
    return chosen.letters == expected.letters


def other_choices(answer: str, references: Sequence[str]) -> bool:
    """Returns whether every reference names several choices, and the answer names other choices or a single choice."""
    expected = [_choices(reference) for reference in references]
    if not all(expected):
        return False
    chosen = _choices(answer)
    single = re.fullmatch(_LETTER, undecorate(answer))
    letters = set(chosen.letters) if chosen else {single[1].lower()} if single else None
    return letters is not None and all(letters != set(each.letters) for each in expected if each)


def names_several(text: str) -> bool:
    """Returns whether a text names several choices or lists several values."""
    return _choices(text) is not None or _solutions(text) is not None


def too_many_choices(answer: str, references: Sequence[str]) -> bool:
    """Returns whether the answer names several choices although every reference is a single letter."""
    return _choices(answer) is not None and all(re.fullmatch(_LETTER, undecorate(each)) for each in references)


_VARIABLE: Final = re.compile(r"(?P<name>[A-Za-zα-ω])(?:_?\{?\d\}?)?\s*=\s*(?P<value>[^=]+)")
_ELEMENT: Final = re.compile(r"(?P<name>[A-Za-z])\s*(?:∈|\\in\b)\s*(?=\{)")
_PARTS: Final = re.compile(r"\s*(?:[;、或和]|\b(?:or|and)\b|,\s*(?:or|and)\b|,\s+|,(?!\d{3}(?!\d)))\s*", re.IGNORECASE)
_COMMAND: Final = re.compile(r"\\[A-Za-z]+")
_COMMA_IN_NUMBER: Final = re.compile(r"[^,]*\d,\d[^,]*|\d{1,2}(?:,\d{2})+,\d{3}(?:\.\d+)?")
"""A text that may be one number: with a decimal comma, or grouped as in "12,34,567"."""
_IN_BRACES: Final = re.compile(r"\s*[,;]\s*")
_ALTERNATIVES: Final = re.compile(r"\bor\b|或", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Solutions:
    """Numbers or formulas that an answer lists."""

    values: tuple[str, ...]
    """Values in their order; at least two."""
    names: tuple[str, ...]
    """Variable of each value; empty for a value without a variable."""
    unordered: bool
    """True if the order doesn't count, because of braces, an "or", or one variable with several values."""
    alternatives: bool
    """True if values without variables are joined by "or", which may express doubt."""


def _solutions(text: str) -> _Solutions | None:
    """Reads "x = 1 or x = 2", "x = 1, 2", "{1, 2}", "±2", "1 and 2" or "1, 2"; None for any other text."""
    text = undecorate(text).replace("\\pm", "±")
    if len(text) > _LONGEST:
        return None
    element = _ELEMENT.match(text)
    bare = text[element.end() :] if element else text
    braces = bare.startswith("{") and bare.endswith("}")
    parts = (_IN_BRACES if braces else _PARTS).split(bare[1:-1].strip() if braces else bare)
    names: list[str] = []
    values: list[str] = []
    name = element["name"].lower() if element else ""
    for part in parts:
        variable = _VARIABLE.fullmatch(part)
        if variable:
            name = variable["name"].lower()
        value = (variable["value"] if variable else part).strip()
        signed = [sign + value[1:].strip() for sign in ("", "-")] if value.startswith("±") else [value]
        if not re.search(r"\d|π|\\pi", value) or re.search(r"[A-Za-z]{2}", _COMMAND.sub(" ", value)):
            return None
        if any(value.count(opening) != value.count(closing) for opening, closing in ("()", "[]", "{}")):
            return None
        values += signed
        names += [name] * len(signed)
    if len(values) < 2:
        return None
    one_variable = names[0] != "" and len(set(names)) == 1
    alternatives = _ALTERNATIVES.search(text) is not None
    return _Solutions(
        values=tuple(values),
        names=tuple(names),
        unordered=braces or one_variable or alternatives or "±" in text,
        alternatives=alternatives and not one_variable,
    )


def same_solutions(answer: str, reference: str) -> bool:
    """Returns whether answer and reference list equal values, two or more, each exactly once.

    The order counts unless the reference is a set: it has braces, an "or", or one variable with several values. An
    answer that joins values without variables by "or" is accepted only if the reference has an "or" or a variable.
    """
    expected = _solutions(reference)
    listed = _solutions(answer) if expected else None
    if expected is None or listed is None or len(listed.values) != len(expected.values):
        return False
    several_variables = len(set(expected.names)) > 1
    if listed.alternatives and not (expected.alternatives or expected.names[0] or "±" in reference):
        return False
    if not _same_variables(listed, expected):
        return False
    pairs = list(zip(expected.names, expected.values, strict=True))
    for name, value in zip(listed.names, listed.values, strict=True):
        left = pairs if expected.unordered or several_variables else pairs[:1]
        left = [pair for pair in left if not several_variables or pair[0] == name]
        match = next((pair for pair in left if _same(value, pair[1])), None)
        if match is None:
            return False
        pairs.remove(match)
    return True


def _same_variables(listed: _Solutions, expected: _Solutions) -> bool:
    """Returns whether the values belong to the same variables; the name of a single variable may be left out."""
    names, others = set(listed.names), set(expected.names)
    if len(others) > 1:
        return names == others
    return len(names) == 1 and (names == others or "" in names | others)


def _same(value: str, reference: str) -> bool:
    return same_number(value, reference) or same_maths(value, reference) or fold(value) == fold(reference)


def other_solutions(answer: str, references: Sequence[str]) -> bool:
    """Returns whether, for every reference, the answer lists a number that equals none of the reference's values."""
    listed = None if _COMMA_IN_NUMBER.fullmatch(undecorate(answer)) else _solutions(answer)
    expected = [each for each in map(_solutions, references) if each]
    if listed is None or len(expected) != len(references) or _mixes_decimal_marks([answer, *references]):
        return False
    return all(
        any(
            is_number(fold(value)) and all(other_number(value, each) for each in other.values)
            for value in listed.values
        )
        for other in expected
    )


def _mixes_decimal_marks(texts: Sequence[str]) -> bool:
    """Returns whether one text may have decimal commas ("1,5; 2,5") and another decimal points ("1.5; 2.5")."""
    marks = {frozenset(re.findall(r"\d([.,])(?=\d)", text)) for text in texts}
    return {frozenset("."), frozenset(",")} <= marks


def lists_several(answer: str, references: Sequence[str]) -> bool:
    """Returns whether the answer lists several numbers of one quantity, and no reference does."""
    bare = undecorate(answer)
    if (bare[:1], bare[-1:]) in {("(", ")"), ("[", "]")}:
        bare = bare[1:-1]
    elif _COMMA_IN_NUMBER.fullmatch(bare):
        return False
    listed = _solutions(bare)
    return (
        listed is not None
        and len(set(listed.names)) == 1
        and len({fold(value) for value in listed.values}) > 1
        and all(is_number(fold(value)) for value in listed.values)
        and not any(map(names_several, references))
    )
