"""Keeps the results of every stage on disk, so that a run that was killed goes on and a repeated run computes nothing.

A store is a folder with one SQLite file in WAL mode. Results are appended and never changed. A result that `put` has
returned for survives the death of the process (SIGKILL). If the machine itself loses power, the last results may be
lost, and are computed again.
"""

import fcntl
import hashlib
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from codevision_ext.errors import InfraError, InputError

STORE_VERSION: Final = 1
"""Version of the table; a store of another version is refused."""
APPLICATION: Final = 0x65764C70
"""Number that marks a SQLite file as a store of the flywheel."""
FILE: Final = "results.sqlite"
LOCK: Final = "lock"
_BUSY_S: Final = 5.0
_TABLE: Final = (
    "CREATE TABLE IF NOT EXISTS results (number INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, stage TEXT NOT NULL,"
    " backend TEXT NOT NULL, seed INTEGER NOT NULL, value BLOB NOT NULL)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultKey:
    """All that a result depends on; equal keys have equal results."""

    stage: str
    content: str
    """Hash of the stage's input."""
    backend: str
    """Name of the back end, or of the model."""
    prompt: str = ""
    """Hash of the prompt, or of the program that takes its place."""
    seed: int = 0

    @property
    def digest(self) -> bytes:
        """Hash of the key, 20 bytes."""
        parts = (self.stage, self.content, self.backend, self.prompt, str(self.seed))
        return hashlib.blake2b(repr(parts).encode("utf-8", "surrogatepass"), digest_size=20).digest()


def content_hash(*parts: bytes | str) -> str:
    """Return the hash of some parts in order, 40 hexadecimal digits; where a part ends matters."""
    digest = hashlib.blake2b(digest_size=20)
    for part in parts:
        raw = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        digest.update(len(raw).to_bytes(8))
        digest.update(raw)
    return digest.hexdigest()


class ResultStore:
    """Results by key in a folder, which one process uses at a time; its methods may be called from any thread.

    Raises:
        InputError: The folder can't be made, another run uses it, or its file is no store or one of another version.
        InfraError: The disk is full or can't be written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._threads = threading.Lock()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise InputError(f"--store {folder}: can't be used: {error.strerror}") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._lock)
            raise InputError(
                f"--store {folder}: another run uses it; wait for its end or name another folder"
            ) from error
        except OSError:
            pass  # the file system has no locks: SQLite's own have to do
        try:
            self._connection = self._open()
        except BaseException:
            os.close(self._lock)
            raise

    def _open(self) -> sqlite3.Connection:
        path = self._folder / FILE
        new = not path.exists() or path.stat().st_size == 0
        try:
            connection = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
        except sqlite3.Error as error:
            raise InputError(f"--store {self._folder}: {FILE} can't be opened: {error}") from error
        try:
            if new:
                connection.execute(f"PRAGMA application_id={APPLICATION}")
            (application,) = connection.execute("PRAGMA application_id").fetchone()
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            if application != APPLICATION:
                raise InputError(f"--store {self._folder}: {FILE} is no store of `evolve`; name another folder")
            if version != STORE_VERSION and tables:
                raise InputError(
                    f"--store {self._folder}: it has version {version}, this program reads {STORE_VERSION};"
                    " name another folder"
                )
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(_TABLE)
            connection.execute(f"PRAGMA user_version={STORE_VERSION}")
            connection.execute("COMMIT")
        except BaseException as error:
            connection.close()
            if isinstance(error, sqlite3.OperationalError):
                raise self._unwritable(error) from error
            if isinstance(error, sqlite3.DatabaseError):
                raise InputError(f"--store {self._folder}: {FILE} is no store of `evolve`: {error}") from error
            raise
        return connection

    def get(self, key: ResultKey) -> bytes | None:
        """Return the result of a key; None if there is none. Raises InfraError."""
        try:
            with self._threads:
                row = self._connection.execute("SELECT value FROM results WHERE key = ?", (key.digest,)).fetchone()
        except sqlite3.DatabaseError as error:
            raise InfraError(f"--store {self._folder}: can't be read: {error}") from error
        return None if row is None else bytes(row[0])

    def put(self, key: ResultKey, value: bytes) -> None:
        """Append a result, and return when it is safe from the death of the process; the first of a key stays.

        Raises:
            InfraError: The disk is full or can't be written; earlier results stay.
        """
        row = (key.digest, key.stage, key.backend, key.seed, value)
        try:
            with self._threads:
                self._connection.execute(
                    "INSERT OR IGNORE INTO results (key, stage, backend, seed, value) VALUES (?, ?, ?, ?, ?)", row
                )
        except sqlite3.DatabaseError as error:
            raise self._unwritable(error) from error

    def heads(self, stages: Sequence[str], size: int) -> Iterator[tuple[str, bytes]]:
        """Yield stage and first bytes, at most `size`, of every result of some stages, before other threads use it.

        Raises:
            InfraError: The store can't be read.
        """
        marks = ", ".join("?" * len(stages))
        query = f"SELECT stage, substr(value, 1, ?) FROM results WHERE stage IN ({marks})"
        try:
            for stage, head in self._connection.execute(query, (size, *stages)):
                yield stage, bytes(head)
        except sqlite3.DatabaseError as error:
            raise InfraError(f"--store {self._folder}: can't be read: {error}") from error

    def __len__(self) -> int:
        """Return the number of results."""
        with self._threads:
            (count,) = self._connection.execute("SELECT count(*) FROM results").fetchone()
        return int(count)

    def _unwritable(self, error: sqlite3.DatabaseError) -> InfraError:
        full = error.sqlite_errorcode == sqlite3.SQLITE_FULL
        text = "its disk is full; free space and give the same command again" if full else f"can't be written: {error}"
        return InfraError(f"--store {self._folder}: {text}; the results so far are kept")

    def close(self) -> None:
        """Close the file, and let other runs use the folder."""
        with self._threads, closing(self._connection), suppress(sqlite3.Error):
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        os.close(self._lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
