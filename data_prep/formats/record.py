"""Wraps a record of a file, and tracks the columns that a reader uses."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

BEYOND: Final = "cells beyond the header"
"""Name of cells in a table's row that have no column."""


class TrackedRecord(Mapping[str, Any]):
    """Record by field names; NaN, which pandas writes for null, is None.

    A column counts as used once a reader has read it. Columns of objects inside a record are tracked too if a reader
    gets these objects by `part` or `parts`.
    """

    def __init__(self, values: Mapping[str, Any], columns: Mapping[str, str] | None = None) -> None:
        """Wrap `values`; `columns` maps fields to columns with other names."""
        self._values, self._columns = values, columns or {}
        self._used: set[str] = set()
        self._parts: dict[str, list[TrackedRecord]] = {}

    def __getitem__(self, name: str) -> Any:
        """Return the value of a field."""
        column = self._columns.get(name, name)
        value = self._values[column]
        self._used.add(column)
        return None if isinstance(value, float) and math.isnan(value) else value

    def __iter__(self) -> Iterator[str]:
        """Yield the names of the fields."""
        fields = {column: name for name, column in self._columns.items()}
        names = (fields.get(column, column) for column in self._values if column not in self._columns)
        yield from dict.fromkeys(names)

    def __len__(self) -> int:
        """Return the number of fields."""
        return sum(1 for _ in self)

    def release(self, name: str) -> None:
        """Count a column as unused again, because the reader can't use its value."""
        self._used.discard(self._columns.get(name, name))

    def part(self, name: str, values: Mapping[str, Any]) -> "TrackedRecord":
        """Return an object of field `name` as a record whose columns are tracked as `name.column`."""
        record = TrackedRecord(values)
        self._parts.setdefault(self._columns.get(name, name), []).append(record)
        return record

    def unused(self) -> set[str]:
        """Return the columns with a value that no reader has read."""
        names = set()
        for column, value in self._values.items():
            if column not in self._used:
                names |= set() if is_empty(value) else {column}
            for part in self._parts.get(column, ()):
                names |= {f"{column}.{inner}" for inner in part.unused()}
        return names


def is_empty(value: Any) -> bool:
    """Return whether a value is empty: null, NaN, "", or a list or object of empty values."""
    if isinstance(value, float):
        return math.isnan(value)
    if isinstance(value, Mapping):
        return all(map(is_empty, value.values()))
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return all(map(is_empty, value))
    return value is None or value in ("", b"")
