"""Reads raw records in chunks from parquet, JSON, JSON lines, CSV and TSV files, and from folders of such files."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from codevision_ext.errors import InputError, first_line
from data_prep.formats.exact_numbers import exact_records
from data_prep.formats.text_files import read_json, read_table, table_rows

SUFFIXES: Final = (".parquet", ".jsonl", ".json", ".csv", ".tsv")
"""Endings of readable files; all files of a folder must have the same ending."""
CHUNK_BYTES: Final = 8 << 20
"""Approximate size of a chunk of a parquet file, in bytes."""
CHUNK_ROWS: Final = 64
"""Maximum rows of a chunk of a parquet file."""
TEXT_ROWS: Final = 8
"""Number of rows of a chunk of any other file, whose images are often separate files of unknown size."""
_REGISTERS: Final = frozenset({"dataset_info.json", "dataset_infos.json"})
"""Files of LLaMA-Factory and Hugging Face that describe data sets."""
_SEPARATORS: Final = {"\t": "tabs", ";": "semicolons", "|": "bars", ",": "commas"}
_FIRST_ROWS: Final = 100
"""Number of first rows of a JSON or JSON lines file whose keys are its columns; all rows if no reader fits these."""
_IMAGE_SUFFIXES: Final = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One file to read."""

    path: Path
    images: Path
    """Folder for relative paths of images."""
    columns: tuple[str, ...]
    """Columns of a parquet or CSV file; keys of the first items of any other file."""
    rows: int | None
    """Number of rows; None if it is unknown before the file is read."""
    names: Mapping[str, str] = field(default_factory=dict)
    """Columns by field for fields that the user mapped (`--map`)."""

    @property
    def fields(self) -> frozenset[str]:
        """Names of the fields of records: columns, and fields that are mapped to columns."""
        return frozenset(self.columns) | {name for name, column in self.names.items() if column in self.columns}


@dataclass(frozen=True, slots=True, kw_only=True)
class SourcePart:
    """Part of a file that can be read separately: a row group of a parquet file, or any other file as a whole."""

    source: Source
    group: int | None = None
    first: int = 0
    """Number of the first record in the file, from 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Consecutive records of a file."""

    file: str
    first: int
    """Number of the first record, from 0."""
    records: pa.RecordBatch | list[dict[str, Any]]
    images: Path
    names: Mapping[str, str] = field(default_factory=dict)
    """Columns by field for fields that the user mapped."""

    def __len__(self) -> int:
        """Return the number of records."""
        return len(self.records)

    def plain(self) -> list[dict[str, Any]]:
        """Return the records as dicts."""
        return self.records if isinstance(self.records, list) else exact_records(self.records)

    def image_files(self) -> pa.BinaryArray | None:
        """Return the image files of all rows in order; None if column `images` isn't a list of {bytes, ..}."""
        if isinstance(self.records, list) or "images" not in self.records.schema.names:
            return None
        images = self.records.column("images")
        kind = images.type.value_type if pa.types.is_list(images.type) else pa.null()
        if not pa.types.is_struct(kind) or kind.get_field_index("bytes") < 0 or kind.field("bytes").type != pa.binary():
            return None
        return images.flatten().field("bytes")


def find_sources(
    paths: Sequence[Path], images: Path | None = None, names: Mapping[str, str] | None = None
) -> list[Source]:
    """Return the files of these paths; a folder stands for its files with one of SUFFIXES, sorted by name.

    Args:
        paths: Files and folders.
        images: Folder for relative paths of images; None: the folder of each file.
        names: Column names by field, for columns whose names no reader knows.

    Raises:
        InputError: A path doesn't exist, can't be read, or holds no records; or a folder has files of several kinds.
    """
    sources = [open_source(file, images) for path in paths for file in _files(path)]
    return [replace(source, names=names or {}) for source in sources]


def read_names(text: str | None) -> dict[str, str]:
    """Return `question=problem,answer=solution` as columns by field.

    Raises:
        InputError: The text has another form, or names a field twice.
    """
    pairs = [pair.partition("=") for pair in (text or "").split(",") if pair.strip()]
    names = {field.strip(): column.strip() for field, _, column in pairs}
    if len(names) < len(pairs) or not all(names) or not all(names.values()):
        raise InputError(f"--map is a list like question=problem,answer=solution, not {text!r}")
    return names


def open_source(path: Path, images: Path | None = None) -> Source:
    """Return a file with its columns.

    Raises:
        InputError: The file can't be read, holds no records, or holds columns instead of rows.
    """
    rows = None
    try:
        if path.suffix == ".parquet":
            file = pq.ParquetFile(path)
            columns, rows = tuple(file.schema_arrow.names), file.metadata.num_rows
        else:
            columns = _columns(path, _FIRST_ROWS)
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        raise InputError(f"{path}: can't be read: {first_line(error)}") from error
    if not columns or rows == 0:
        raise InputError(f"{path}: there are no records in it")
    return Source(path=path, images=images or path.parent, columns=columns, rows=rows)


def with_all_columns(source: Source) -> Source:
    """Return the source with the columns of all rows, not only of the first rows.

    Raises:
        InputError: The file can't be read.
    """
    return source if source.path.suffix == ".parquet" else replace(source, columns=_columns(source.path, None))


def _columns(path: Path, count: int | None) -> tuple[str, ...]:
    """Return the keys of the first `count` rows of a file that isn't parquet."""
    if path.suffix in (".csv", ".tsv"):
        return tuple(next(table_rows(path), {}))
    rows = islice(read_json(path), count)
    first = next(rows, {})
    names = dict.fromkeys(first)
    second = next(rows, None)
    for row in chain([] if second is None else [second], rows):
        names |= dict.fromkeys(row)
    if second is None and _holds_columns(first):
        raise InputError(f"{path}: it holds columns, not rows; write a list with an object for each row")
    return tuple(names)


def layout_advice(source: Source) -> str:
    """Return a sentence about a layout that hides the rows of a file from readers; "" for other layouts."""
    if source.path.suffix in (".csv", ".tsv"):
        own, name = ("tabs" if source.path.suffix == ".tsv" else "commas"), source.columns[0]
        other = next((word for mark, word in _SEPARATORS.items() if mark in name and word != own), None)
        found = len(source.columns) == 1 and other
        return f"its cells are separated by {other}, those of a {source.path.suffix} file by {own}" if found else ""
    if source.path.suffix == ".parquet":
        return ""
    first, *more = islice(read_json(source.path), 2)
    if more:
        return ""
    for key, value in first.items():
        rows = value if isinstance(value, list) else []
        if rows and all(isinstance(row, dict) and not row.keys() & {"role", "from"} for row in rows):
            return f"its rows are in the list {key!r} of an object; write a file with that list alone"
    if all(isinstance(value, dict) for value in first.values()):
        return "its rows are the values of one object; write a list of them"
    return ""


def _holds_columns(record: Mapping[str, Any]) -> bool:
    """Return whether an object is a table stored by columns: its values are lists, or objects by row number."""
    cells = [list(value.values()) if isinstance(value, dict) else value for value in record.values()]
    if len(cells) < 2 or not all(isinstance(value, list) and len(value) == len(cells[0]) > 0 for value in cells):
        return False
    numbered = all(key.isdecimal() for value in record.values() if isinstance(value, dict) for key in value)
    return numbered and not any(isinstance(cell, dict) for value in cells for cell in value)


def source_parts(source: Source) -> list[SourcePart]:
    """Return the parts of a file, in order."""
    if source.path.suffix != ".parquet":
        return [SourcePart(source=source)]
    metadata = pq.read_metadata(source.path)
    rows = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
    return [SourcePart(source=source, group=group, first=sum(rows[:group])) for group in range(len(rows))]


def chunks(part: SourcePart) -> Iterator[Chunk]:
    """Yield the records of a part in chunks; at most one chunk and one decoded page of parquet are in memory.

    Raises:
        InputError: The file breaks off, or a line or an item isn't an object; the message names the place.
    """
    first, source = part.first, part.source
    try:
        for records in _batches(part):
            yield Chunk(file=str(source.path), first=first, records=records, images=source.images, names=source.names)
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
    visible = [file for file in sorted(path.iterdir()) if file.name not in _REGISTERS and file.name[0] != "."]
    files = [file for file in visible if file.suffix in SUFFIXES]
    kinds = sorted({file.suffix for file in files})
    if len(kinds) > 1:
        raise InputError(f"{path}: it has files of several kinds ({', '.join(kinds)}); name the files to read")
    if files:
        yield from files
        return
    if images := sum(file.suffix.lower() in _IMAGE_SUFFIXES for file in path.rglob("*")):
        advice = "put a metadata.jsonl or metadata.csv with file_name, question and answer there"
        raise InputError(f"{path}: {images:,} images and no questions; {advice}")
    raise InputError(f"{path}: no file in it ends in {', '.join(SUFFIXES)}")


def _records(path: Path) -> Iterator[dict[str, Any]]:
    return read_table(path) if path.suffix in (".csv", ".tsv") else read_json(path)
