"""Keeps the records of the latest answers in a folder, each with its images, until newer ones replace them."""

import re
import shutil
from collections import OrderedDict
from pathlib import Path
from threading import Lock
from typing import Final

from codevision_ext.io.records import Record, RecordWriter, image_path

_NAME: Final = "record"
_IMAGE: Final = re.compile(r"[0-9a-f]{64}")


class Trajectories:
    """The latest `keep` records in `folder`; safe to use from several threads.

    FOLDER/ID/record.jsonl      the record that an evaluation writes
    FOLDER/ID/pictures/         its images (`io.records`)
    """

    def __init__(self, folder: Path, keep: int) -> None:
        self._folder, self._keep = folder, keep
        self._known: OrderedDict[str, None] = OrderedDict()
        self._lock = Lock()

    def open(self, ident: str) -> RecordWriter:
        """Returns the writer of a new trajectory; the oldest one is removed if there are too many."""
        writer = RecordWriter(self._folder / ident, _NAME)
        with self._lock:
            self._known[ident] = None
            stale = [self._known.popitem(last=False)[0] for _ in range(len(self._known) - self._keep)]
        for each in stale:
            shutil.rmtree(self._folder / each, ignore_errors=True)
        return writer

    def drop(self, ident: str) -> None:
        """Removes a trajectory that has no end."""
        with self._lock:
            self._known.pop(ident, None)
        shutil.rmtree(self._folder / ident, ignore_errors=True)

    def write(self, writer: RecordWriter, record: Record) -> None:
        """Writes the record of a trajectory, unless the trajectory was removed meanwhile."""
        if writer.directory.is_dir():
            writer.write(record)

    def record(self, ident: str) -> bytes | None:
        """Returns a record as JSON; None if there is no such trajectory, or if it has no end yet."""
        path = self._folder / ident / f"{_NAME}.jsonl"
        return path.read_bytes() if ident in self._known and path.is_file() else None

    def image(self, ident: str, name: str) -> Path | None:
        """Returns the file of an image of a trajectory; None if there is none."""
        if ident not in self._known or not _IMAGE.fullmatch(name):
            return None
        path = image_path(self._folder / ident, name)
        return path if path.is_file() else None
