"""Decides by rules whether an answer says the same as a reference.

An answer must *be* the reference, not contain it: a sentence around it, a second candidate ("3 or 4") or a negation
("not 7") is no match. The rules accept an answer, refuse it, or leave it undecided. An undecided answer is wrong unless
a judge accepts it. The rules refuse only what no judge may accept: no answer, a hedge, another whole number, or another
choice letter.
"""

import logging
import re
from collections.abc import Sequence
from fractions import Fraction
from math import prod
from threading import Lock
from typing import Final

from codevision_ext.errors import InputError

RELATIVE_TOLERANCE: Final = Fraction(1, 10**5)
"""Maximum difference of two equal numbers, relative to the reference; two whole numbers must be equal."""

NEAR: Final = Fraction(1, 20)
"""Maximum difference of two numbers that may be roundings of one another, relative to the reference.

Between RELATIVE_TOLERANCE and NEAR no rule decides."""
ANSWER_CHARS: Final = 2000
"""Maximum length in characters of an answer that a judge is asked about; the rules refuse longer ones."""

_QUOTES: Final = " \t\r\n\"'`“”‘’"
_NUMBER: Final = re.compile(
    r"(?P<sign>[-+]?)\s?(?P<money>[$€£¥]?)\s?(?P<digits>(?:\d{1,3}(?:,\d{3}){1,5}|\d{1,40})(?:\.\d{0,40})?|\.\d{1,40})"
    r"(?:e(?P<exponent>[-+]?\d{1,2}))?\s?(?P<percent>%|percent|)",
    re.ASCII | re.IGNORECASE,
)
_CODE: Final = re.compile(r"0\d+", re.ASCII)
_CHOICE: Final = re.compile(
    r"(?:option |choice )?\(?(?P<letter>[A-Za-z])(?P<mark>[).:]{0,2})(?:\s+(?P<text>.+))?", re.DOTALL
)
_HEDGE: Final = re.compile(
    r"\b(?:or|not|either|neither|maybe|perhaps|possibly|unsure)\b"  # a word of doubt
    r"|\b[a-z][).:]|(?<!['’])\b(?:[b-hj-z]\b|a\s*(?:[,;/&]|and\b)|[a-z]\W*$)"  # another letter
    r"|\b(?:both|all|none|any) of\b"  # several choices
)
_UNDECIDED: Final = re.compile(r"\b(?:or|nor|either|neither|maybe|perhaps|possibly|probably|unsure|not sure)\b")
_NEGATION: Final = re.compile(r"(?:it'?s |it is )?not (?:an? |the )?")
_LIST: Final = re.compile(r",\s+|,(?=[a-z])|\s*[;|&]\s*|(?<=[a-z])\s*/\s*(?=[a-z])|\s+and\s+")

_MATHS: Final = re.compile(r"\\[A-Za-z]|[\^*π]|\d\s?/\s?\d|\b[A-Za-z]\s?[+=]|\+\s?[A-Za-z]\b", re.ASCII)
_COMMANDS: Final = frozenset({"frac", "dfrac", "tfrac", "sqrt", "pi", "cdot", "times", "left", "right"})
_COMMAND: Final = re.compile(r"\\([A-Za-z]+)")
_PLAIN_MATHS: Final = re.compile(r"(?:(?<![A-Za-z])[A-Za-z](?![A-Za-z])|[0-9\s+\-*/^(){}.,=π])*")
_POWER: Final = re.compile(r"(?:\^|\*\*)\s*\{?\s*\(?\s*-?\s*(\d{1,2}|[a-z])(?![\d^*])")
_MATHS_LOCK: Final = Lock()  # the parser below math-verify keeps its tables in shared state


def is_correct(answer: str | None, references: Sequence[str]) -> bool:
    """Returns whether the rules accept the answer; see `check_answer`."""
    return check_answer(answer, references) is True


def check_answer(answer: str | None, references: Sequence[str]) -> bool | None:
    """Returns True where the answer equals a reference, False where it can't mean any reference, else None.

    Texts are compared without regard to case, white space, quotes around them and a full stop after them. Numbers are
    compared by value, and formulas by math-verify. A choice letter may stand alone, in brackets, or before the text of
    its option.

    Raises:
        InputError: there is no reference.
        TypeError: `references` is a string instead of a list.
    """
    if isinstance(references, str):
        raise TypeError(f"references must be a list of strings, not the string {references!r}")
    if not references:
        raise InputError("reward_model.ground_truth is empty; an answer needs at least one reference.")
    if answer is None or not _fold(answer):
        return False
    if _accepts(answer, references):
        return True
    refused = (
        len(answer) > ANSWER_CHARS
        or _is_hedge(answer, references)
        or _other_choice(answer, references)
        or all(_other_number(answer, reference) for reference in references)
    )
    return False if refused else None


def _accepts(answer: str, references: Sequence[str]) -> bool:
    return any(
        _same_text(answer, r) or _same_number(answer, r) or _same_maths(answer, r) for r in references
    ) or _same_choice(answer, references)


def _is_hedge(answer: str, references: Sequence[str]) -> bool:
    """Returns whether the answer avoids a decision.

    It does so by a word of doubt that no reference has, by denying a reference, or by listing several numbers or
    letters where the reference is a single one.
    """
    folded, expected = _fold(answer), [_fold(reference) for reference in references]
    if _UNDECIDED.search(folded) and not any(map(_UNDECIDED.search, expected)):
        return True
    negation = _NEGATION.match(folded)
    if negation and _accepts(folded[negation.end() :], references):
        return True
    candidates = {part for part in _LIST.split(folded) if part}
    bare = all(_NUMBER.fullmatch(part) or len(part) == 1 for part in candidates)
    return len(candidates) > 1 and bare and not any(map(_LIST.search, expected))


def _other_choice(answer: str, references: Sequence[str]) -> bool:
    """Returns whether the answer is a choice letter that no reference names."""
    choice = _CHOICE.fullmatch(_fold(answer))
    letters = {match["letter"] for match in _choices(references)}
    return choice is not None and _is_choice(choice) and bool(letters) and choice["letter"] not in letters


def _other_number(answer: str, reference: str) -> bool:
    """Returns whether both are numbers that can't mean the same.

    They have different currencies, are different whole numbers, or are further apart than roundings. One of the two may
    lack a percent sign.
    """
    numbers = _two_numbers(answer, reference)
    if numbers is None:
        return False
    number, expected = numbers
    if len({number["money"], expected["money"]} - {""}) > 1:
        return True
    a, b = _value(number), _value(expected)
    scales = (1,) if number["percent"] == expected["percent"] else (1, 100, Fraction(1, 100))
    return all(_far(a * scale, b) for scale in scales)


def _far(a: Fraction, b: Fraction) -> bool:
    whole = a.denominator == b.denominator == 1
    return a != b if whole else abs(a - b) > NEAR * abs(b)


def _fold(text: str) -> str:
    """Returns the text in lower case, without extra white space, quotes around it, and a full stop after it."""
    bare = " ".join(text.replace("\u2212", "-").split()).strip(_QUOTES)
    return (bare.removesuffix(".") if not bare.endswith("..") else bare).strip(_QUOTES).casefold()


def _same_text(answer: str, reference: str) -> bool:
    return _fold(answer) == _fold(reference)


def _same_number(answer: str, reference: str) -> bool:
    """Returns whether both are numbers of equal value and of one currency."""
    numbers = _two_numbers(answer, reference)
    if numbers is None:
        return False
    number, expected = numbers
    if len({number["money"], expected["money"]} - {""}) > 1:
        return False
    a, b = _value(number), _value(expected)
    whole = a.denominator == b.denominator == 1
    return a == b if whole else abs(a - b) <= RELATIVE_TOLERANCE * abs(b)


def _two_numbers(answer: str, reference: str) -> tuple[re.Match[str], re.Match[str]] | None:
    """Returns both as numbers; None where one isn't a number. "007" is a code, so it is text and not a number."""
    number, expected = _NUMBER.fullmatch(_fold(answer)), _NUMBER.fullmatch(_fold(reference))
    if number is None or expected is None or _CODE.fullmatch(_fold(reference)):
        return None
    return number, expected


def _value(number: re.Match[str]) -> Fraction:
    value = Fraction(number["sign"] + number["digits"].replace(",", "").removesuffix("."))
    return value * Fraction(10) ** int(number["exponent"] or 0) / (100 if number["percent"] else 1)


def _same_choice(answer: str, references: Sequence[str]) -> bool:
    """Returns whether the answer is the reference's letter, alone or followed by the text of its option.

    The text of the option is known where a reference reads "B. text", or where another reference is longer than a
    letter. Where it isn't known, any text is accepted that doesn't hedge.
    """
    choice = _CHOICE.fullmatch(_fold(answer))
    if choice is None:
        return False
    expected = _choices(references)
    if choice["letter"] not in {match["letter"] for match in expected} or not _is_choice(choice):
        return False
    if not choice["text"]:
        return True
    texts = {_fold(match["text"]) for match in expected if match["text"]}
    texts |= {_fold(reference) for reference in references if not _CHOICE.fullmatch(_fold(reference))}
    return _fold(choice["text"]) in texts if texts else _HEDGE.search(choice["text"]) is None


def _choices(references: Sequence[str]) -> list[re.Match[str]]:
    return [match for match in map(_CHOICE.fullmatch, map(_fold, references)) if match and _is_choice(match)]


def _is_choice(match: re.Match[str]) -> bool:
    """Returns whether a letter stands alone, or has a mark between it and the text; "a park" is no choice."""
    return not match["text"] or bool(match["mark"])


def _same_maths(answer: str, reference: str) -> bool:
    """Returns whether both are formulas that math-verify calls equal; at least one must have a mathematical sign."""
    formula, expected = _maths(answer), _maths(reference)
    if formula is None or expected is None or not (_MATHS.search(formula) or _MATHS.search(expected)):
        return False
    from math_verify import parse, verify  # noqa: PLC0415 - the import takes a second, and most answers are no formulas

    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns on every call without a timer
    with _MATHS_LOCK:
        # The timer of math-verify needs the main thread. `_maths` only lets formulas through that are evaluated fast.
        parsed = [parse(f"${text}$", parsing_timeout=None, fallback_mode="no_fallback") for text in (expected, formula)]
        return all(parsed) and bool(verify(*parsed, timeout_seconds=None))


def _maths(text: str) -> str | None:
    """Returns the text as a formula where it is one that is evaluated fast, else None.

    Such a formula is short and has no words, at most two one-letter variables, few commands, and small whole exponents
    that aren't nested. So a model can't stall the reward with a tower of powers or a factorial.
    """
    formula = text.strip().removeprefix("$").removesuffix("$").strip().removesuffix(".").replace("\u2212", "-")
    if (
        len(formula) > 80
        or _CODE.fullmatch(formula)
        or not re.search(r"[0-9π]|\\pi", formula)
        or re.search(r"\d\s+\d", formula)
    ):
        return None
    commands = _COMMAND.findall(formula)
    plain = _COMMAND.sub(" ", formula)
    powers = _POWER.findall(plain)
    towers = len(powers) != len(re.findall(r"\^|\*\*", plain)) or plain.count("=") > 1
    variables = set(re.findall("[A-Za-z]", plain))
    size = prod(int(power) if power.isdigit() else 1 for power in powers)
    if towers or not _COMMANDS.issuperset(commands) or not _PLAIN_MATHS.fullmatch(plain):
        return None
    return formula if size <= (8 if variables else 100) and len(variables) <= 2 else None
