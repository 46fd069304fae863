"""Compares numbers by value."""

import re
from fractions import Fraction
from typing import Final

from codevision_ext.task.normal_form import fold

RELATIVE_TOLERANCE: Final = Fraction(1, 10**5)
"""Maximum difference of equal numbers, relative to the reference; whole numbers must be equal exactly."""

NEAR: Final = Fraction(1, 20)
"""Maximum difference that rounding may explain, relative to the reference.

Between RELATIVE_TOLERANCE and NEAR no rule decides."""

_NUMBER: Final = re.compile(
    r"(?P<sign>[-+]?)\s?(?P<money>[$€£¥]?)\s?(?P<digits>(?:\d{1,3}(?:,\d{3}){1,5}|\d{1,40})(?:\.\d{0,40})?|\.\d{1,40})"
    r"(?:e(?P<exponent>[-+]?\d{1,2}))?\s?(?P<percent>%|percent|)",
    re.ASCII | re.IGNORECASE,
)
_POINT_OR_GROUP: Final = re.compile(r"[1-9]\d{0,2}\.\d{3}", re.ASCII)
_CODE: Final = re.compile(r"0\d+", re.ASCII)


def is_number(text: str) -> bool:
    """Returns whether a folded text is a number."""
    return _NUMBER.fullmatch(text) is not None


def other_number(answer: str, reference: str) -> bool:
    """Returns whether answer and reference are numbers with different meanings.

    Such numbers have different currencies, are different whole numbers, or differ by more than rounding. One of the two
    may lack a percent sign.
    """
    numbers = _two_numbers(answer, reference)
    if numbers is None:
        return False
    number, expected = numbers
    if _other_currency(number, expected):
        return True
    scales = (1,) if number["percent"] == expected["percent"] else (1, 100, Fraction(1, 100))
    return all(_differ(a * scale, b, NEAR) for a in _readings(number) for b in _readings(expected) for scale in scales)


def same_number(answer: str, reference: str) -> bool:
    """Returns whether answer and reference are numbers of equal value and of the same currency."""
    numbers = _two_numbers(answer, reference)
    if numbers is None:
        return False
    number, expected = numbers
    return not (_other_currency(number, expected) or _differ(_value(number), _value(expected), RELATIVE_TOLERANCE))


def _other_currency(number: re.Match[str], expected: re.Match[str]) -> bool:
    return len({number["money"], expected["money"]} - {""}) > 1


def _differ(a: Fraction, b: Fraction, tolerance: Fraction) -> bool:
    """Returns whether numbers differ by more than the tolerance relative to `b`; whole numbers have no tolerance."""
    whole = a.denominator == b.denominator == 1
    return a != b if whole else abs(a - b) > tolerance * abs(b)


def _two_numbers(answer: str, reference: str) -> tuple[re.Match[str], re.Match[str]] | None:
    """Returns both as numbers; None if one isn't a number. "007" is a code, not a number."""
    number, expected = _NUMBER.fullmatch(fold(answer)), _NUMBER.fullmatch(fold(reference))
    if number is None or expected is None or _CODE.fullmatch(fold(reference)):
        return None
    return number, expected


def _readings(number: re.Match[str]) -> tuple[Fraction, ...]:
    """Returns the possible values of a number; the point in "1.234" may group digits."""
    value = _value(number)
    return (value, value * 1000) if _POINT_OR_GROUP.fullmatch(number["digits"]) else (value,)


def _value(number: re.Match[str]) -> Fraction:
    value = Fraction(number["sign"] + number["digits"].replace(",", "").removesuffix("."))
    return value * Fraction(10) ** int(number["exponent"] or 0) / (100 if number["percent"] else 1)
