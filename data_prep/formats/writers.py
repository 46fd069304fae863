"""How a set reaches the disk: one parquet file, or a sharegpt folder for LLaMA-Factory; whole, or not at all."""

import io
import json
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path, PurePosixPath
from string import Template
from typing import Any, Final, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from codevision_ext.errors import InputError
from codevision_ext.io.atomic_files import draft_folder, whole_folder
from data_prep.formats.image_files import extension
from data_prep.formats.readers.base import Place
from data_prep.formats.readers.sft import READER
from data_prep.formats.schema import Demonstration
from data_prep.formats.sharegpt import to_sharegpt

GROUP_ROWS: Final = 256
GROUP_BYTES: Final = 64 << 20
"""A row group is written when it has so many rows or bytes."""
_IMAGES: Final = "images.list.element.bytes"
"""The column that is compressed already."""


class Writer(Protocol):
    """Takes record batches of one schema, in order."""

    def write(self, batch: pa.RecordBatch) -> None:
        """Add rows."""


class ParquetSet:
    """A parquet file, written in row groups whose size doesn't depend on who made the batches."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        columns = leaves(schema)
        plain = [column for column in columns if column != _IMAGES]
        self._schema = schema
        self._writer = pq.ParquetWriter(
            path,
            schema,
            compression={column: "NONE" if column == _IMAGES else "ZSTD" for column in columns},
            use_dictionary=plain,  # one of images takes time and never pays
            write_statistics=plain,
        )
        self._batches: list[pa.RecordBatch] = []
        self._rows = self._bytes = 0
        self._thread = ThreadPoolExecutor(1)  # the disk is waited for while the next rows are read
        self._writing: Future[None] | None = None

    def write(self, batch: pa.RecordBatch) -> None:
        """Add rows; those of a whole group reach the disk."""
        if not batch.num_rows:
            return
        self._batches.append(batch)
        self._rows += batch.num_rows
        self._bytes += batch.nbytes
        if self._rows >= GROUP_ROWS or self._bytes >= GROUP_BYTES:
            self._flush()

    def _flush(self) -> None:
        if self._batches:
            self._wait()
            table = pa.Table.from_batches(self._batches, self._schema)
            self._writing = self._thread.submit(self._writer.write_table, table)
        self._batches, self._rows, self._bytes = [], 0, 0

    def _wait(self) -> None:
        if self._writing is not None:
            self._writing.result()

    def close(self) -> None:
        """Write what is left, and the footer."""
        with self._thread:
            self._flush()
            self._wait()
            self._writer.close()


class SharegptSet:
    """NAME.json and the images of its items, as LLaMA-Factory reads them."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._name, self._count = folder, name, 0
        self._names: set[str] = set()
        self._file = (folder / f"{name}.json").open("w", encoding="utf-8")
        self._file.write("[")

    def write(self, batch: pa.RecordBatch) -> None:
        """Add rows of CONVERTED_SFT_SCHEMA."""
        place = Place(name="", row=0, images=self._folder, turns=True)
        for record in batch.to_pylist():
            [trajectory] = READER.read(record, place)
            assert isinstance(trajectory, Demonstration)
            names = [self._image(trajectory, number) for number in range(len(trajectory.images))]
            item = json.dumps(to_sharegpt(trajectory, names), ensure_ascii=False, indent=1)
            self._file.write(("," if self._count else "") + "\n" + item)
            self._count += 1

    def _image(self, trajectory: Demonstration, number: int) -> str:
        """Put an image into the folder, under its own name where that is free and inside; its name."""
        data, own = trajectory.images[number], trajectory.paths[number] if trajectory.paths else None
        name = own if own and _inside(own) else f"images/{self._name}-{self._count:07d}-{number}{extension(data)}"
        path = self._folder / name
        if name in self._names and path.read_bytes() != data:
            name = f"images/{self._name}-{self._count:07d}-{number}{extension(data)}"
            path = self._folder / name
        if name not in self._names:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            self._names.add(name)
        return name

    def close(self) -> None:
        """Close the list, and write how LLaMA-Factory trains on it."""
        self._file.write("\n]\n")
        self._file.close()
        entry = {self._name: dataset_entry(self._name)}
        (self._folder / "dataset_info.json").write_text(json.dumps(entry, indent=2) + "\n", encoding="utf-8")
        template = Template((files("data_prep.formats") / "llama_factory.yaml").read_text(encoding="utf-8"))
        for family, (checkpoint, chat) in FAMILIES.items():
            text = template.substitute(checkpoint=checkpoint, template=chat, name=self._name, family=family)
            (self._folder / f"{family}.yaml").write_text(text, encoding="utf-8")


FAMILIES: Final = {
    "qwen2_5_vl": ("Qwen/Qwen2.5-VL-7B-Instruct", "qwen2_vl"),
    "qwen3_vl": ("Qwen/Qwen3-VL-8B-Thinking", "qwen3_vl"),
}
"""Checkpoint and LLaMA-Factory template, by model family."""


def dataset_entry(name: str) -> dict[str, Any]:
    """The entry of NAME.json in LLaMA-Factory's dataset_info.json."""
    return {
        "file_name": f"{name}.json",
        "formatting": "sharegpt",
        "columns": {"messages": "conversations", "images": "images", "system": "system"},
        "tags": {
            "role_tag": "from",
            "content_tag": "value",
            "user_tag": "human",
            "assistant_tag": "gpt",
            "observation_tag": "tool",
            "system_tag": "system",
        },
    }


@contextmanager
def whole_parquet(path: Path, schema: pa.Schema, *, force: bool) -> Iterator[ParquetSet]:
    """A parquet file that appears at `path` when the block ends, and not at all if it raises.

    Raises:
        InputError: `path` doesn't end in .parquet, is there and not `force`, or can't be written.
    """
    if path.suffix != ".parquet":
        raise InputError(f"--out {path} must end in .parquet")
    if path.exists() and not force:
        raise InputError(f"--out {path} is there; pass --force to replace it")
    with draft_folder(path) as folder:
        writer = ParquetSet(folder / path.name, schema)
        try:
            yield writer
        finally:
            writer.close()
        (folder / path.name).replace(path)


@contextmanager
def whole_sharegpt(out: Path, *, force: bool) -> Iterator[SharegptSet]:
    """A sharegpt folder named as `out`, which appears when the block ends, and not at all if it raises.

    Raises:
        InputError: as `whole_folder`.
    """
    with whole_folder(out, force=force) as folder:
        writer = SharegptSet(folder, out.name)
        try:
            yield writer
        finally:
            writer.close()


def leaves(schema: pa.Schema) -> list[str]:
    """The columns of a parquet file with this schema, by path."""
    buffer = io.BytesIO()
    pq.write_table(schema.empty_table(), buffer)
    columns = pq.ParquetFile(buffer).schema
    return [columns.column(number).path for number in range(len(columns))]


def _inside(name: str) -> bool:
    """Whether a path stays in the folder that it is relative to, and is no file that this writer makes."""
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and path.suffix.lower() not in (".json", ".yaml", "")
