"""Writes numbers as text, digit for digit, and reads the numbers of JSON without losing digits."""

from decimal import Decimal, InvalidOperation
from typing import Any, Final

import numpy as np
import pyarrow as pa

LONG: Final = 40
"""Maximum length of a float in plain digits; a longer one keeps its exponent."""
_SAFE_DIGITS: Final = 15
"""Significant digits that any float keeps."""
_INT_DIGITS: Final = 4300
"""Digits of the longest integer that Python reads from a text."""


class LongFloat(float):
    """A float of a JSON file whose text has more digits than a float keeps."""

    literal: str


def json_float(literal: str) -> float:
    """Return a float of a JSON file; it remembers its text if the float alone would lose digits."""
    value = float(literal)
    if len(literal) <= _SAFE_DIGITS and "e" not in literal.lower():
        return value
    try:
        if Decimal(literal) == Decimal(repr(value)):
            return value
    except InvalidOperation:  # an exponent beyond those of Decimal
        return value
    value = LongFloat(value)
    value.literal = literal
    return value


def json_int(literal: str) -> int | str:
    """Return an integer of a JSON file, or its text if it is longer than Python reads."""
    return int(literal) if len(literal) <= _INT_DIGITS else literal


def number_text(value: Any) -> str | None:
    """Return a number in the digits that a person would write; None for a value that isn't a finite number.

    A float that is whole has no point: 20240131.0, as pandas writes an integer of a column with nulls, is "20240131".
    """
    if isinstance(value, pa.Scalar):
        floating = pa.types.is_floating(value.type) and value.is_valid
        value = Decimal(value.cast(pa.string()).as_py()).normalize() if floating else value.as_py()
    if isinstance(value, bool | np.bool_):
        return None
    if isinstance(value, int | np.integer):
        return f"{Decimal(int(value)):f}"
    if isinstance(value, Decimal):
        return (f"{value:f}" if abs(value.adjusted()) < LONG else str(value)) if value.is_finite() else None
    if not isinstance(value, float | np.floating):
        return None
    literal = value.literal if isinstance(value, LongFloat) else str(value)
    number = Decimal(literal)
    if not number.is_finite():
        return None
    text = f"{number:f}" if abs(number.adjusted()) < LONG else literal
    if "." in text and "e" not in text.lower():
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text if len(text) <= LONG or isinstance(value, LongFloat) else literal
