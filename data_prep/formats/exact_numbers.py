"""Converts numbers to text, and reads the numbers of JSON, without losing digits."""

from decimal import Decimal, InvalidOperation
from typing import Any, Final

import numpy as np
import pyarrow as pa

LONG: Final = 40
"""Maximum length of a float in plain digits; a longer float keeps its exponent."""
_SAFE_DIGITS: Final = 15
"""Number of significant digits that any float preserves."""
_INT_DIGITS: Final = 4300
"""Maximum number of digits of an integer that Python reads from a text."""
_NARROW: Final[dict[pa.DataType, type[np.floating[Any]]]] = {pa.float16(): np.float16, pa.float32(): np.float32}
"""Type of a number with fewer digits than a 64-bit float, by its Arrow type."""
_WHOLE: Final = 1 << 24
"""Whole number below which NumPy may write fewer digits of a 16-bit float than the number has."""


class LongFloat(float):
    """Float of a JSON file whose text has more digits than a float preserves."""

    literal: str


def json_float(literal: str) -> float:
    """Return a float of a JSON file, as LongFloat if the float alone would lose digits."""
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
    """Return an integer of a JSON file, or its text if it has too many digits for Python."""
    return int(literal) if len(literal) <= _INT_DIGITS else literal


def exact_records(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    """Return the rows of a batch; a float of 16 or 32 bits keeps its digits: 0.1 rather than 0.10000000149."""
    records: list[dict[str, Any]] = batch.to_pylist()
    for name, kind in zip(batch.schema.names, batch.schema.types, strict=True):
        if _has_narrow_floats(kind):
            for record in records:
                record[name] = _exact(record[name], kind)
    return records


def _has_narrow_floats(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _has_narrow_floats(kind.value_type)
    if pa.types.is_nested(kind):
        return any(_has_narrow_floats(kind.field(number).type) for number in range(kind.num_fields))
    return bool(kind in _NARROW)


def _exact(value: Any, kind: pa.DataType) -> Any:
    """Return a value of an Arrow type with 64-bit floats that have the digits of its narrower floats."""
    if pa.types.is_dictionary(kind):
        return _exact(value, kind.value_type)
    if value is None or not _has_narrow_floats(kind):
        return value
    if kind in _NARROW:
        return _digits(_NARROW[kind](value))
    if pa.types.is_struct(kind):
        return {field.name: _exact(value[field.name], field.type) for field in kind}
    if pa.types.is_map(kind):
        return [(_exact(key, kind.key_type), _exact(item, kind.item_type)) for key, item in value]
    return [_exact(item, kind.field(0).type) for item in value]


def _digits(value: np.floating[Any]) -> float:
    """Return a narrow float as a 64-bit float with the same digits; a whole number keeps all of its digits."""
    number = float(value)
    return number if number.is_integer() and abs(number) < _WHOLE else float(str(value))


def number_text(value: Any) -> str | None:
    """Return a number as decimal text; None for a value that isn't a finite number.

    A whole float has no decimal point: 20240131.0, pandas' form of an integer in a column with nulls, is "20240131".
    """
    if isinstance(value, pa.Scalar):
        value = _exact(value.as_py(), value.type)
    if isinstance(value, bool | np.bool_):
        return None
    if isinstance(value, int | np.integer):
        return f"{Decimal(int(value)):f}"
    if isinstance(value, Decimal):
        return (f"{value:f}" if abs(value.adjusted()) < LONG else str(value)) if value.is_finite() else None
    if isinstance(value, np.float16 | np.float32):
        value = _digits(value)
    if not isinstance(value, float | np.generic):
        return None
    literal = value.literal if isinstance(value, LongFloat) else str(value)
    try:
        number = Decimal(literal)
    except InvalidOperation:  # a NumPy value that is no number
        return None
    if not number.is_finite():
        return None
    text = f"{number:f}" if abs(number.adjusted()) < LONG else literal
    if "." in text and "e" not in text.lower():
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text if len(text) <= LONG or isinstance(value, LongFloat) else literal
