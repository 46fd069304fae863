"""Writes data sets: one parquet file, a sharegpt folder for LLaMA-Factory, or demonstrations in both forms."""

import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from importlib.resources import files
from itertools import islice
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
from data_prep.formats.schema import SFT_SCHEMA, Demonstration, sft_record
from data_prep.formats.sharegpt import check_turns, to_sharegpt

GROUP_ROWS: Final = 256
"""Number of rows from which a row group is written."""
GROUP_BYTES: Final = 64 << 20
"""Number of bytes from which a row group is written."""
BATCH_ROWS: Final = 16
"""Number of rows of a record batch in `write_records`."""
_IMAGES: Final = "images.list.element.bytes"
"""Column of image files, which are already compressed."""


class Writer(Protocol):
    """Writer of record batches of one schema, in order."""

    def write(self, batch: pa.RecordBatch) -> None:
        """Add rows."""


class ParquetSet:
    """Parquet file whose row groups have a size that doesn't depend on the batches."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        columns = leaves(schema)
        plain = [column for column in columns if column != _IMAGES]
        self._schema = schema
        self._writer = pq.ParquetWriter(
            path,
            schema,
            compression={column: "NONE" if column == _IMAGES else "ZSTD" for column in columns},
            use_dictionary=plain,  # a dictionary of images takes time and saves no space
            write_statistics=plain,
        )
        self._batches: list[pa.RecordBatch] = []
        self._rows = self._bytes = 0
        self._thread = ThreadPoolExecutor(1)  # writes to the disk while the next rows are read
        self._writing: Future[None] | None = None

    def write(self, batch: pa.RecordBatch) -> None:
        """Add rows, and write a full row group."""
        if not batch.num_rows:
            return
        self._batches.append(batch)
        self._rows += batch.num_rows
        self._bytes += batch.nbytes
        if self._rows >= GROUP_ROWS or self._bytes >= GROUP_BYTES:
            self._flush()

    def write_records(self, records: Iterable[Mapping[str, Any]]) -> int:
        """Add records and return their number."""
        stream, count = iter(records), 0
        while batch := list(islice(stream, BATCH_ROWS)):
            self.write(pa.RecordBatch.from_pylist(batch, schema=self._schema))
            count += len(batch)
        return count

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
        """Write the last row group and the footer."""
        with self._thread:
            self._flush()
            self._wait()
            self._writer.close()


class SharegptSet:
    """Folder for LLaMA-Factory with NAME.json and the images of its items."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._name, self._count = folder, name, 0
        self._names: set[str] = set()
        self._file = (folder / f"{name}.json").open("w", encoding="utf-8")
        self._file.write("[")

    def write(self, batch: pa.RecordBatch) -> None:
        """Add rows of CONVERTED_SFT_SCHEMA."""
        place = Place(name="", row=0, images=self._folder, turns=True)
        for record in batch.to_pylist():
            [demonstration] = READER.read(record, place)
            assert isinstance(demonstration, Demonstration)
            names = [self._write_image(demonstration, number) for number in range(len(demonstration.images))]
            item = json.dumps(to_sharegpt(demonstration, names), ensure_ascii=False, indent=1)
            self._file.write(("," if self._count else "") + "\n" + item)
            self._count += 1

    def _write_image(self, demonstration: Demonstration, number: int) -> str:
        """Write an image and return its name: its own path, unless the path leaves the folder or is another image's."""
        data, own = demonstration.images[number], demonstration.paths[number] if demonstration.paths else None
        name = f"images/{self._name}-{self._count:07d}-{number}{extension(data)}"
        if own and _inside(own) and (own not in self._names or (self._folder / own).read_bytes() == data):
            name = own
        path = self._folder / name
        if name not in self._names:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            self._names.add(name)
        return name

    def close(self) -> None:
        """Close the list, and write LLaMA-Factory's entry of the data set and its training settings."""
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
"""Checkpoint and chat template of LLaMA-Factory by model family."""


def dataset_entry(name: str) -> dict[str, Any]:
    """Return the entry of NAME.json in LLaMA-Factory's dataset_info.json."""
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
    """Open a parquet file that appears at `path` when the block ends without an error.

    Raises:
        InputError: `path` doesn't end in .parquet, exists without `force`, or can't be written.
    """
    if path.suffix != ".parquet":
        raise InputError(f"--out {path} must end in .parquet")
    if path.exists() and not force:
        raise InputError(f"--out {path} exists; pass --force to replace it")
    with draft_folder(path) as folder:
        with closing(ParquetSet(folder / path.name, schema)) as writer:
            yield writer
        (folder / path.name).replace(path)


@contextmanager
def whole_sharegpt(out: Path, *, force: bool) -> Iterator[SharegptSet]:
    """Open a sharegpt folder that appears at `out` when the block ends without an error.

    Raises:
        InputError: `out` is a file, or a folder that isn't empty without `force`, or can't be written.
    """
    with whole_folder(out, force=force) as folder, closing(SharegptSet(folder, out.name)) as writer:
        yield writer


def write_parquet(path: Path, schema: pa.Schema, records: Iterable[Mapping[str, Any]]) -> int:
    """Write records as a parquet file and return their number."""
    with closing(ParquetSet(path, schema)) as writer:
        return writer.write_records(records)


def write_demonstrations(folder: Path, name: str, demonstrations: Iterable[Demonstration]) -> dict[str, int]:
    """Write NAME.parquet for verl, and NAME.json with the images of its items under images/ (CodeVision-SFT).

    Returns:
        Number of demonstrations by sample type.

    Raises:
        RowError: Turns of a demonstration don't alternate.
    """
    items: list[dict[str, Any]] = []
    types: Counter[str] = Counter()
    (folder / "images").mkdir(exist_ok=True)

    def records() -> Iterator[dict[str, Any]]:
        for index, demonstration in enumerate(demonstrations):
            check_turns(demonstration)
            names = [f"images/{name}-{index:06d}-{number}.png" for number in range(len(demonstration.images))]
            for data, file in zip(demonstration.images, names, strict=True):
                (folder / file).write_bytes(data)
            items.append(to_sharegpt(demonstration, names))
            types[demonstration.sample_type] += 1
            yield sft_record(demonstration)

    write_parquet(folder / f"{name}.parquet", SFT_SCHEMA, records())
    text = json.dumps(items, ensure_ascii=False, indent=1) + "\n"
    (folder / f"{name}.json").write_text(text, encoding="utf-8")
    return dict(sorted(types.items()))


def leaves(schema: pa.Schema) -> list[str]:
    """Return the paths of the leaf columns of a parquet file with this schema."""
    buffer = io.BytesIO()
    pq.write_table(schema.empty_table(), buffer)
    columns = pq.ParquetFile(buffer).schema
    return [columns.column(number).path for number in range(len(columns))]


def _inside(name: str) -> bool:
    """Return whether a path stays in the folder and doesn't collide with other files of the writer."""
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and path.suffix.lower() not in (".json", ".yaml", "")
