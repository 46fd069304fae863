"""Reads raw records, a chunk at a time, from parquet, JSON, JSON lines, CSV, TSV, and folders of such files."""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from codevision_ext.errors import InputError, first_line

SUFFIXES: Final = (".parquet", ".jsonl", ".json", ".csv", ".tsv")
"""Endings of files that are read, in the order in which a folder is searched for them."""
CHUNK_BYTES: Final = 8 << 20
"""Approximate size of a chunk of a parquet file, in bytes."""
CHUNK_ROWS: Final = 64
"""Maximum rows of a chunk of a parquet file."""
TEXT_ROWS: Final = 8
"""Rows of a chunk of any other file; its images are often files of their own, of unknown size."""
_REGISTER: Final = "dataset_info.json"
"""File that LLaMA-Factory keeps beside its data sets."""
_JSON_BYTES: Final = 1 << 20
_JSON_ITEM_BYTES: Final = 256 << 20
"""Maximum length of an item of a JSON list; a longer one counts as a list that never closes."""
_IMAGE_SUFFIXES: Final = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One file to read."""

    path: Path
    images: Path
    """Folder that paths of images start from."""
    columns: tuple[str, ...]
    """Columns of a parquet or CSV file; keys of the first item of any other file."""
    rows: int | None
    """Number of rows; None if only reading the file would tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourcePart:
    """Part of a file that can be read on its own: a row group of a parquet file, else the whole file."""

    source: Source
    group: int | None = None
    first: int = 0
    """Number of its first record in the file, from 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Some consecutive records of a file."""

    file: str
    first: int
    """Number of the first record, from 0."""
    records: pa.RecordBatch | list[dict[str, Any]]
    images: Path

    def __len__(self) -> int:
        """Return the number of records."""
        return len(self.records)

    def plain(self) -> list[dict[str, Any]]:
        """Return the records as dicts."""
        return self.records if isinstance(self.records, list) else self.records.to_pylist()

    def image_files(self) -> pa.BinaryArray | None:
        """Return the image files of all rows, one after the other; None if column `images` isn't {bytes, ..} lists."""
        if isinstance(self.records, list) or "images" not in self.records.schema.names:
            return None
        images = self.records.column("images")
        kind = images.type.value_type if pa.types.is_list(images.type) else pa.null()
        if not pa.types.is_struct(kind) or kind.get_field_index("bytes") < 0 or kind.field("bytes").type != pa.binary():
            return None
        return images.flatten().field("bytes")


def find_sources(paths: Sequence[Path], images: Path | None = None) -> list[Source]:
    """Return the files behind these paths; of a folder all files with the first of SUFFIXES that it has, by name.

    Raises:
        InputError: A path doesn't exist, can't be read, or holds no records.
    """
    return [open_source(file, images) for path in paths for file in _files(path)]


def open_source(path: Path, images: Path | None = None) -> Source:
    """Return a file with its columns.

    Raises:
        InputError: The file can't be read, or holds no records.
    """
    rows = None
    try:
        if path.suffix == ".parquet":
            file = pq.ParquetFile(path)
            columns, rows = tuple(file.schema_arrow.names), file.metadata.num_rows
        else:
            columns = tuple(next(iter(_records(path)), {}))
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        raise InputError(f"{path}: can't be read: {first_line(error)}") from error
    if not columns or rows == 0:
        raise InputError(f"{path}: there are no records in it")
    return Source(path=path, images=images or path.parent, columns=columns, rows=rows)


def source_parts(source: Source) -> list[SourcePart]:
    """Return the parts of a file, in order."""
    if source.path.suffix != ".parquet":
        return [SourcePart(source=source)]
    metadata = pq.read_metadata(source.path)
    rows = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
    return [SourcePart(source=source, group=group, first=sum(rows[:group])) for group in range(len(rows))]


def chunks(part: SourcePart) -> Iterator[Chunk]:
    """Yield the records of a part, a few at a time; at most one chunk and one decoded page of parquet are in memory.

    Raises:
        InputError: The file breaks off, or a line or an item isn't an object; the message names the place.
    """
    first, source = part.first, part.source
    try:
        for records in _batches(part):
            yield Chunk(file=str(source.path), first=first, records=records, images=source.images)
            first += len(records)
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        raise InputError(f"{source.path}, after row {first}: can't be read: {first_line(error)}") from error


def _batches(part: SourcePart) -> Iterator[pa.RecordBatch | list[dict[str, Any]]]:
    path = part.source.path
    if path.suffix == ".parquet":
        with pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20) as file:
            group = file.metadata.row_group(part.group)
            row_bytes = max(1.0, group.total_byte_size / max(1, group.num_rows))
            rows = max(1, min(CHUNK_ROWS, int(CHUNK_BYTES / row_bytes)))
            yield from file.iter_batches(rows, row_groups=[part.group], use_threads=False)
        return
    records = _records(path)
    while batch := list(islice(records, TEXT_ROWS)):
        yield batch


def _files(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        if path.suffix not in SUFFIXES:
            raise InputError(f"{path}: a file's name must end in {', '.join(SUFFIXES)}")
        if not path.is_file():
            raise InputError(f"{path}: no such file")
        yield path
        return
    visible = [file for file in sorted(path.iterdir()) if file.name != _REGISTER and file.name[0] != "."]
    for suffix in SUFFIXES:
        if files := [file for file in visible if file.suffix == suffix]:
            yield from files
            return
    if images := sum(file.suffix.lower() in _IMAGE_SUFFIXES for file in path.rglob("*")):
        advice = "put a metadata.jsonl or metadata.csv with file_name, question and answer there"
        raise InputError(f"{path}: {images:,} images and no questions; {advice}")
    raise InputError(f"{path}: no file in it ends in {', '.join(SUFFIXES)}")


def _records(path: Path) -> Iterator[dict[str, Any]]:
    if path.suffix in (".csv", ".tsv"):
        with path.open(encoding="utf-8-sig", newline="") as file:
            csv.field_size_limit(_JSON_ITEM_BYTES)
            yield from csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ",")
        return
    items = _json_lines(path) if path.suffix == ".jsonl" else _json_items(path)
    for where, item in items:
        if not isinstance(item, Mapping):
            raise InputError(f"{where}: must be an object, not {type(item).__name__}")
        yield dict(item)


def _json_lines(path: Path) -> Iterator[tuple[str, Any]]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                where = f"{path}, line {number}"
                try:
                    yield where, json.loads(line)
                except ValueError as error:
                    raise InputError(f"{where}: not JSON: {error}") from error


def _json_items(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield the place and value of each item of a JSON list, or of the one object in a file; reads a bit at a time."""
    decoder = json.JSONDecoder()
    with path.open(encoding="utf-8-sig") as file:
        buffer = file.read(_JSON_BYTES).lstrip(" \t\r\n")
        if not buffer:
            return
        is_list = buffer[0] == "["
        buffer, number = buffer[is_list:], 0
        while True:
            buffer = buffer.lstrip(" \t\r\n,")
            where = f"{path}, item {number}"
            if is_list and buffer.startswith("]"):
                return
            try:
                item, end = decoder.raw_decode(buffer)
            except ValueError as error:
                more = "" if len(buffer) > _JSON_ITEM_BYTES else file.read(max(_JSON_BYTES, len(buffer)))
                if not more:
                    message = f"not JSON: {error}" if buffer else "the list never closes"
                    raise InputError(f"{where}: {message}") from error
                buffer += more
                continue
            yield where, item
            buffer, number = buffer[end:], number + 1
            if not is_list:
                return
