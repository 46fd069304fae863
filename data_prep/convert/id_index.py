"""Keeps the ids of the rows that were written, to find duplicates."""

import sqlite3
from enum import Enum
from typing import Self


class IdState(Enum):
    """Relation of a row to earlier rows with its id."""

    NEW = "new"
    """No earlier row has the id."""
    SAME = "same"
    """The earlier row has the same content."""
    OTHER = "other"
    """The earlier row has other content."""


class IdIndex:
    """Ids of earlier rows, on disk: memory doesn't grow with the data set."""

    def __init__(self) -> None:
        self._db = sqlite3.connect("", isolation_level=None)  # a file without a name: gone however this process ends
        self._db.executescript("PRAGMA journal_mode=off; PRAGMA synchronous=off; BEGIN")
        self._db.execute("CREATE TABLE ids (id BLOB PRIMARY KEY, content BLOB) WITHOUT ROWID")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def add(self, key: tuple[bytes, bytes]) -> IdState:
        """Add an id with its content, unless the id is known; return how it relates to earlier rows."""
        if self._db.execute("INSERT OR IGNORE INTO ids VALUES (?, ?)", key).rowcount:
            return IdState.NEW
        (content,) = self._db.execute("SELECT content FROM ids WHERE id = ?", key[:1]).fetchone()
        return IdState.SAME if content == key[1] else IdState.OTHER
