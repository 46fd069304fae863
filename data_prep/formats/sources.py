"""Where do raw records come from? Parquet, JSON, JSON lines, CSV, folders of them or of images; a chunk at a time."""

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

KINDS: Final = (".parquet", ".jsonl", ".json", ".csv", ".tsv")
"""Kinds of files, in the order in which a folder is searched for them."""
CHUNK_BYTES: Final = 8 << 20
"""About how much of a parquet file goes to a worker at a time."""
CHUNK_ROWS: Final = 64
"""Most rows of a chunk."""
NAMED_ROWS: Final = 8
"""Rows of a chunk whose images are files of their own, of a size that isn't known yet."""
_REGISTER: Final = "dataset_info.json"
"""What LLaMA-Factory keeps beside its sets."""
_JSON_BYTES: Final = 1 << 20
_JSON_ITEM_BYTES: Final = 256 << 20
"""Largest item of a JSON list: what is longer is taken for a list that never closes."""
_IMAGE_SUFFIXES: Final = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One file to read."""

    path: Path
    images: Path
    """Folder that paths of images start from."""
    columns: tuple[str, ...]
    """Columns of a parquet or CSV file; keys of the first item of any other."""
    rows: int | None
    """None: not known before it is read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourcePart:
    """What can be read by itself: a row group of a parquet file, or the whole of another file."""

    source: Source
    group: int | None = None
    first: int = 0
    """Number of its first record in the file, from 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Some records that follow one another in a file."""

    file: str
    first: int
    """Number of the first record, from 0."""
    records: pa.RecordBatch | list[dict[str, Any]]
    images: Path

    def __len__(self) -> int:
        """How many records there are."""
        return len(self.records)

    def plain(self) -> list[dict[str, Any]]:
        """The records as dicts."""
        return self.records if isinstance(self.records, list) else self.records.to_pylist()

    def image_files(self) -> pa.BinaryArray | None:
        """The bytes of the images in the column `images`, one after the other; None where it isn't a list of them."""
        if isinstance(self.records, list) or "images" not in self.records.schema.names:
            return None
        images = self.records.column("images")
        kind = images.type.value_type if pa.types.is_list(images.type) else pa.null()
        if not pa.types.is_struct(kind) or kind.get_field_index("bytes") < 0 or kind.field("bytes").type != pa.binary():
            return None
        return images.flatten().field("bytes")


def find_sources(paths: Sequence[Path], images: Path | None = None) -> list[Source]:
    """The files behind these paths; of a folder all files of the first of KINDS that it has, by name.

    Raises:
        InputError: A path isn't there, can't be read, or holds no records.
    """
    return [open_source(path, images) for given in paths for path in _files(given)]


def open_source(path: Path, images: Path | None = None) -> Source:
    """What can be known of a file before it is read.

    Raises:
        InputError: It can't be read, or is empty.
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
    """The parts of a file, in order."""
    if source.path.suffix != ".parquet":
        return [SourcePart(source=source)]
    metadata = pq.read_metadata(source.path)
    rows = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
    return [SourcePart(source=source, group=group, first=sum(rows[:group])) for group in range(len(rows))]


def chunks(part: SourcePart) -> Iterator[Chunk]:
    """The records of a part, a few at a time; at most one chunk and one decoded page of parquet are in memory.

    Raises:
        InputError: The file breaks off, or a line or an item of it is no object; names it.
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
            rows = _rows_at_a_time(file.metadata.row_group(part.group))
            yield from file.iter_batches(rows, row_groups=[part.group], use_threads=False)
        return
    records = _records(path)
    while group := list(islice(records, NAMED_ROWS)):
        yield group


def _rows_at_a_time(group: pq.RowGroupMetaData) -> int:
    """Rows that come to CHUNK_BYTES on average."""
    size = group.total_byte_size / max(1, group.num_rows)
    return max(1, min(CHUNK_ROWS, int(CHUNK_BYTES / max(1.0, size))))


def _files(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        if path.suffix not in KINDS:
            raise InputError(f"{path}: a file's name must end in {', '.join(KINDS)}")
        if not path.is_file():
            raise InputError(f"{path}: no such file")
        yield path
        return
    for kind in KINDS:
        found = sorted(file for file in path.iterdir() if file.suffix == kind and file.name != _REGISTER)
        if found := [file for file in found if not file.name.startswith(".")]:
            yield from found
            return
    images = sum(file.suffix.lower() in _IMAGE_SUFFIXES for file in path.rglob("*"))
    if images:
        said = "put a metadata.jsonl or metadata.csv with file_name, question and answer there"
        raise InputError(f"{path}: {images:,} images and no questions; {said}")
    raise InputError(f"{path}: no file in it ends in {', '.join(KINDS)}")


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
    """The items of a JSON list, or the one object that a file holds, without reading the whole of it."""
    decoder = json.JSONDecoder()
    with path.open(encoding="utf-8-sig") as file:
        buffer = file.read(_JSON_BYTES).lstrip(" \t\r\n")
        if not buffer:
            return
        is_list = buffer[0] == "["
        buffer, number, ended = buffer[is_list:], 0, False
        while True:
            buffer = buffer.lstrip(" \t\r\n,")
            where = f"{path}, item {number}"
            if is_list and buffer.startswith("]"):
                return
            try:
                item, end = decoder.raw_decode(buffer)
            except ValueError as error:
                more = "" if ended or len(buffer) > _JSON_ITEM_BYTES else file.read(max(_JSON_BYTES, len(buffer)))
                if not more and not ended and len(buffer) <= _JSON_ITEM_BYTES:
                    ended = True
                    if not is_list and not buffer:
                        return
                    if buffer:
                        continue
                if not more:
                    said = "the list never closes" if not buffer else f"not JSON: {error}"
                    raise InputError(f"{where}: {said}") from error
                buffer += more
                continue
            yield where, item
            buffer, number = buffer[end:], number + 1
            if not is_list:
                return
