"""What is a reader? A name, the columns that tell its files from others, a licence, and one function."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_prep.formats.schema import Demonstration, Row

Item = Row | Demonstration


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a record stands, and what is wanted of it."""

    name: str
    """Of the file, without its ending."""
    row: int
    """From 0."""
    images: Path
    """Folder that paths of images start from."""
    turns: bool
    """Wanted are trajectories where the record can be either."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """Reads the records of one published schema."""

    name: str
    columns: tuple[tuple[str, ...], ...]
    """Columns that a file must have to be read by it; of each group one is enough."""
    read: Callable[[Mapping[str, Any], Place], Iterator[Item | str]]
    """The items of a record, images as they were found, sizes (0, 0); raises RowError. A text in place of an item
    says what has no place in the target."""
    licence: str = "unknown"
    turns: bool = False
    """Whether its items are trajectories."""

    def missing(self, columns: Iterable[str]) -> list[str]:
        """What a file with these columns lacks."""
        there = set(columns)
        return [group[0] for group in self.columns if not there & set(group)]
