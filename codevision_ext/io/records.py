"""Reads and writes records of finished rollouts: one JSON line each, with every image stored once beside the file.

Training, validation and evaluation write the same record. Fields that the reward reads have the names of
`types.Rollout`, so a record can be scored again.

    DIR/NAME.jsonl                  one record a line, in the order in which they were written
    DIR/pictures/ab/abcdef....png   the images of all files in DIR, named by the SHA-256 of their pixels
"""

import fcntl
import hashlib
import io
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from PIL import Image

from codevision_ext.errors import InputError
from codevision_ext.io.atomic_files import write_whole
from codevision_ext.io.json_codec import JsonCodec
from codevision_ext.types import Breakdown, Rollout, TermScore, Verdict

Role = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One message of the conversation, as the model wrote or saw it."""

    role: Role
    text: str
    images: tuple[str, ...] = ()
    """Names of the images shown in this turn, in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record(Rollout):
    """A finished rollout; fields that the reward doesn't read may be missing."""

    split: str = ""
    """`train`, `val` or `test`."""
    source: str = ""
    """The data row's `data_source`."""
    column: str | None = None
    """Column of the transformed benchmark (`source`, `rot90`, ...); None outside it."""
    seed: int | None = None
    question: str = ""
    answer: str | None = None
    """Answer of the model; None if it gave none."""
    references: tuple[str, ...] = ()
    """Right answers; one of them is enough."""
    verdict: Verdict | None = None
    """Verdict of the judge, if the judge was asked; None with `valid: false` and an answer: the judge failed."""
    turns: tuple[Turn, ...] = ()
    pictures: tuple[str, ...] = ()
    """Names of the images that `image_index` counts: the task's images, then one per node."""
    tokens: int | None = None
    """Number of tokens of the response, of model and tool."""
    turn_count: int | None = None
    """Number of assistant turns."""
    reward: float | None = None
    """Reward; None before scoring, and for an invalid rollout."""
    terms: dict[str, TermScore] = field(default_factory=dict)
    picture_id: str = ""
    """Id shared by all rows made from one image; empty if it isn't known."""
    numbers: dict[str, float] = field(default_factory=dict)
    """Numbers that an evaluation measured (`score`, `seconds`, `prompt_tokens`), or that training logs."""

    def __post_init__(self) -> None:
        numbers = [self.reward or 0.0, *(t.contribution for t in self.terms.values()), *self.numbers.values()]
        if not all(map(math.isfinite, numbers)):
            raise ValueError(f"rollout {self.id!r}: a reward or another number that isn't finite")


_CODEC: JsonCodec[Record] = JsonCodec(Record)


def scored(record: Record, breakdown: Breakdown) -> Record:
    """Returns the record with this reward; an invalid rollout gets none, so that it isn't mistaken for a wrong one."""
    if not breakdown.valid:
        return replace(record, reward=None, terms={})
    return replace(record, reward=breakdown.reward, terms=dict(breakdown.terms))


def encode_record(record: Record) -> bytes:
    """Returns the record as one JSON line, line break included."""
    return _CODEC.dump(record) + b"\n"


def decode_record(line: bytes, where: str) -> Record:
    """Returns the record in one JSON line; `where` names the line in an error.

    Raises:
        InputError: the line isn't a record; names the field.
    """
    return _CODEC.load(line, where)


def read_records(path: Path) -> Iterator[Record]:
    """Yields the records of a file.

    Raises:
        InputError: there is no such file, or a line isn't a record; names file, line and field.
    """
    with _open(path) as file:
        for number, line in enumerate(file, start=1):
            yield decode_record(line, f"{path}, line {number}")


def read_last(path: Path, max_bytes: int) -> list[Record]:
    """Returns the last records of a file, as many as fit into `max_bytes`; the rest of the file isn't read.

    A line that is still being written is left out.

    Raises:
        InputError: as `read_records`; in a larger file the line is named by its first byte.
    """
    with _open(path) as file:
        size = file.seek(0, os.SEEK_END)
        return list(_read_block(file, path, max(0, size - max_bytes), size))


def read_spread(path: Path, max_bytes: int, places: int = 64) -> list[Record]:
    """Returns the records of a file; from a file larger than `max_bytes`, as many as fit, at evenly spread places.

    A last line that is still being written is left out.

    Raises:
        InputError: as `read_records`; in a larger file the line is named by its first byte.
    """
    with _open(path) as file:
        size = file.seek(0, os.SEEK_END)
        starts = [0] if size <= max_bytes else [size * i // places for i in range(places)]
        length = max_bytes // len(starts)
        return [record for start in starts for record in _read_block(file, path, start, start + length)]


def _read_block(file: io.BufferedReader, path: Path, start: int, end: int) -> Iterator[Record]:
    """Yields the records whose lines begin from byte `start` on and before byte `end`."""
    file.seek(max(0, start - 1))
    if start:
        file.readline()
    number = 0
    while (at := file.tell()) < end and (line := file.readline()).endswith((b"\n", b"}")):
        number += 1
        yield decode_record(line, f"{path}, byte {at}" if start else f"{path}, line {number}")


def rollout_order(record: Record) -> tuple[int, str, int, str]:
    """Returns the sort key for the records of a deterministic training, in the order of steps and data.

    The file has the groups in the order in which they were finished.
    """
    return record.step or 0, record.group, len(record.id), record.id


def drop_records(path: Path, repeated: Callable[[Record], bool]) -> None:
    """Removes the records that a resumed training writes again, and a last line that a killed process left unfinished.

    Args:
        path: File of records; it may be missing. Nobody may write to it at the same time.
        repeated: Function that returns whether a record will be written again.

    Raises:
        InputError: As `read_records`.
    """
    if not path.exists():
        return
    with _open(path) as file:
        lines = [(f"{path}, line {number}", line) for number, line in enumerate(file, start=1) if line.endswith(b"\n")]
    write_whole(path, b"".join(line for where, line in lines if not repeated(decode_record(line, where))))


def _open(path: Path) -> io.BufferedReader:
    try:
        return path.open("rb")
    except OSError as error:
        raise InputError(f"{path}: can't be read: {error.strerror}") from error


def image_path(directory: Path, name: str) -> Path:
    """Returns the path of the image `name` of the record files in `directory`."""
    return directory / "pictures" / name[:2] / f"{name}.png"


class RecordWriter:
    """Appends records to DIR/NAME.jsonl; several threads and processes may write to the same folder.

    Lines appear whole: they are written under a lock, and a line that a killed process left unfinished is cut off
    by the next write.
    """

    def __init__(self, directory: Path, name: str = "records") -> None:
        self.directory = directory
        self.path = directory / f"{name}.jsonl"
        directory.mkdir(parents=True, exist_ok=True)

    def image(self, image: Image.Image) -> str:
        """Stores the image as RGB, unless it is already stored, and returns its name."""
        rgb = image if image.mode == "RGB" else image.convert("RGB")
        name = hashlib.sha256(f"RGB {rgb.width}x{rgb.height}\n".encode() + rgb.tobytes()).hexdigest()
        path = image_path(self.directory, name)
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            png = io.BytesIO()
            rgb.save(png, "PNG")
            write_whole(path, png.getvalue())
        return name

    def write(self, *records: Record) -> None:
        """Appends the records, in order, without other writers' lines between them."""
        content = b"".join(encode_record(record) for record in records)
        with self.path.open("a+b", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            end = _cut_unfinished(file)
            written = file.write(content)
            if written != len(content):
                file.truncate(end)
                raise OSError(f"{self.path}: only {written} of {len(content)} bytes could be written")


def _cut_unfinished(file: io.FileIO) -> int:
    """Removes the text after the last line break, and returns the remaining length."""
    end = size = file.seek(0, os.SEEK_END)
    while end > 0:
        start = max(0, end - 65_536)
        file.seek(start)
        at = file.read(end - start).rfind(b"\n")
        if at >= 0:
            end = start + at + 1
            break
        end = start
    if end < size:
        file.truncate(end)
    return end
