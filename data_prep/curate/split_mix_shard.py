"""How are sets cut and put together? Rows are picked and copied as they are, a few at a time."""

import hashlib
import heapq
import io
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from PIL import Image

from codevision_ext import geometry
from codevision_ext.errors import InputError, first_line
from codevision_ext.io.atomic_files import whole_folder
from data_prep.convert.validate import required_orientation
from data_prep.formats import fields
from data_prep.formats.schema import CONVERTED_RL_SCHEMA, CONVERTED_SFT_SCHEMA
from data_prep.formats.sources import Chunk, Source, chunks, source_parts
from data_prep.formats.writers import ParquetSet, Writer

UNKNOWN: Final = "unknown"


@dataclass(slots=True, kw_only=True)
class Copied:
    """What was copied."""

    rows: Counter[str] = field(default_factory=Counter)
    """By the file that they went to, or came from."""
    licences: dict[str, str] = field(default_factory=dict)
    """By source."""

    def note(self, batch: pa.RecordBatch) -> None:
        """Remember the licences of rows."""
        extra = batch.column("extra_info") if "extra_info" in batch.schema.names else None
        licences = batch.column("licence") if extra is None else extra.field("licence")
        sources = batch.column("source" if extra is None else "data_source")
        for source, licence in set(zip(sources.to_pylist(), licences.to_pylist(), strict=True)):
            self.licences[source or UNKNOWN] = licence or UNKNOWN


def schema_of(sources: Sequence[Source]) -> pa.Schema:
    """The one schema that all of these files fit into.

    Raises:
        InputError: A file isn't a parquet file of ours, or RL and SFT rows are mixed.
    """
    kinds = set()
    for source in sources:
        rl, sft = {"prompt", "images", "extra_info"}, {"messages", "images", "metadata"}
        columns = set(source.columns)
        if source.path.suffix != ".parquet" or not (rl <= columns or sft <= columns):
            raise InputError(f"{source.path}: no RL or SFT rows in parquet; `data_prep convert` makes them")
        kinds.add(rl <= columns)
    if len(kinds) > 1:
        raise InputError(f"{sources[0].path} and others: RL rows and SFT rows can't go into one file")
    return CONVERTED_RL_SCHEMA if kinds.pop() else CONVERTED_SFT_SCHEMA


def batches(sources: Sequence[Source], schema: pa.Schema) -> Iterator[tuple[Chunk, pa.RecordBatch]]:
    """The rows of all files in this schema.

    Raises:
        InputError: A column has another type than the schema says.
    """
    for source in sources:
        for part in source_parts(source):
            for chunk in chunks(part):
                yield chunk, _conform(chunk, schema)


def split(
    sources: Sequence[Source],
    out: Path,
    shares: Sequence[tuple[str, float]],
    *,
    seed: int,
    force: bool,
    progress: Callable[[int], None] = lambda _: None,
) -> Copied:
    """Write a file a part; all rows of one image, however it is turned, go to the same part.

    Args:
        sources: Parquet files of ours.
        out: Folder.
        shares: Name and share of each part; the shares sum to 1. A row's part depends on its image and `seed` only.
        seed: Another seed, another division.
        force: Replace what is in `out`.
        progress: Called with the number of rows read.

    Raises:
        InputError: as `schema_of`; or `out` isn't empty and not `force`.
    """
    schema, copied, read = schema_of(sources), Copied(), 0
    ends = np.cumsum([share for _, share in shares])
    with whole_folder(out, force=force) as folder, ExitStack() as stack:
        writers = []
        for name, _ in shares:
            writer = ParquetSet(folder / f"{name}.parquet", schema)
            stack.callback(writer.close)
            writers.append(writer)
        for chunk, batch in batches(sources, schema):
            draws = np.array([_draw(seed, image_key(record)) for record in chunk.plain()])
            part_of = np.searchsorted(ends[:-1], draws, side="right")
            for number, writer in enumerate(writers):
                chosen = batch.take(pa.array(np.flatnonzero(part_of == number)))
                writer.write(chosen)
                copied.rows[shares[number][0]] += chosen.num_rows
            copied.note(batch)
            read += len(batch)
            progress(read)
    return copied


def image_key(record: dict[str, Any]) -> bytes:
    """What all rows made from one image have in common: its id, else a hash of its pixels as they were before."""
    extra = record.get("extra_info") or {}
    if known := extra.get("picture_id"):
        return str(known).encode()
    data = (record["images"] or [{"bytes": b""}])[0]["bytes"] or b""
    applied = extra.get("transform")
    if not applied:
        return _pixels(Image.open(io.BytesIO(data))) if data else b""
    undo = geometry.inverse(required_orientation(fields.applied(applied, "transform")[0]))
    return _pixels(geometry.apply(undo, Image.open(io.BytesIO(data))))


def mix(
    weighted: Sequence[tuple[Source, float]],
    writer: Writer,
    *,
    rows: int | None,
    seed: int,
    progress: Callable[[int], None] = lambda _: None,
) -> Copied:
    """Write rows of several files in the proportion of their weights, evenly interleaved.

    Which rows is drawn with `seed`, without replacement; where a file has too few, all of its rows come equally often.
    The order within a file stays: trainers shuffle.

    Args:
        weighted: Files and weights above 0.
        writer: Gets the rows.
        rows: How many; None: as many as can be had without a row coming twice.
        seed: Another seed, other rows.
        progress: Called with the number of rows written.

    Raises:
        InputError: as `schema_of`.
    """
    schema, copied = schema_of([source for source, _ in weighted]), Copied()
    total = sum(weight for _, weight in weighted)
    sizes = [source.rows or 0 for source, _ in weighted]
    if rows is None:
        rows = int(min(size * total / weight for size, (_, weight) in zip(sizes, weighted, strict=True)))
    wanted = _shares(rows, [weight / total for _, weight in weighted])
    streams = []
    for number, ((source, _), size, count) in enumerate(zip(weighted, sizes, wanted, strict=True)):
        rng = np.random.default_rng([seed, number])
        times = np.full(size, count // size)
        times[rng.permutation(size)[: count % size]] += 1
        streams.append(_positions(source, schema, times, number))
        copied.rows[str(source.path)] = count
    for written, (_, _, batch) in enumerate(heapq.merge(*streams, key=lambda each: each[:2]), start=1):
        copied.note(batch)
        writer.write(batch)
        progress(written)
    return copied


def shard(
    sources: Sequence[Source],
    out: Path,
    *,
    rows: int,
    force: bool,
    progress: Callable[[int], None] = lambda _: None,
) -> Copied:
    """Write files of `rows` rows each, the last perhaps fewer, in order: NAME-00000-of-00012.parquet.

    Raises:
        InputError: as `schema_of`; or `out` isn't empty and not `force`.
    """
    schema, copied, read = schema_of(sources), Copied(), 0
    total = sum(source.rows or 0 for source in sources)
    files = -(-total // rows)
    with whole_folder(out, force=force) as folder:
        writer: ParquetSet | None = None
        try:
            for _, batch in batches(sources, schema):
                copied.note(batch)
                at = 0
                while at < len(batch):
                    if read % rows == 0:
                        if writer:
                            writer.close()
                        name = f"{out.name}-{read // rows:05d}-of-{files:05d}"
                        writer = ParquetSet(folder / f"{name}.parquet", schema)
                    assert writer is not None
                    piece = batch.slice(at, rows - read % rows)
                    writer.write(piece)
                    copied.rows[name] += len(piece)
                    at, read = at + len(piece), read + len(piece)
                    progress(read)
        finally:
            if writer:
                writer.close()
    return copied


def _conform(chunk: Chunk, schema: pa.Schema) -> pa.RecordBatch:
    batch = chunk.records
    if isinstance(batch, pa.RecordBatch) and batch.schema.remove_metadata() == schema:
        return batch
    try:
        return pa.RecordBatch.from_pylist(chunk.plain(), schema=schema)
    except (pa.ArrowException, TypeError) as error:
        message = f"not as the schema has it, run `data_prep convert` on it: {first_line(error)}"
        raise InputError(f"{chunk.file}: {message}") from error


def _draw(seed: int, key: bytes) -> float:
    """A number in [0, 1) that depends on these only."""
    digest = hashlib.blake2b(key, digest_size=8, key=str(seed).encode()).digest()
    return int.from_bytes(digest) / 2**64


def _pixels(image: Image.Image) -> bytes:
    rgb = image.convert("RGB")
    return hashlib.blake2b(f"{rgb.size}".encode() + rgb.tobytes(), digest_size=16).digest()


def _shares(rows: int, shares: Sequence[float]) -> list[int]:
    """Whole numbers that sum to `rows`, each as near to its share as can be (largest remainder)."""
    exact = [rows * share for share in shares]
    counts = [int(value) for value in exact]
    by_remainder = sorted(range(len(shares)), key=lambda number: counts[number] - exact[number])
    for number in by_remainder[: rows - sum(counts)]:
        counts[number] += 1
    return counts


def _positions(
    source: Source, schema: pa.Schema, times: "np.ndarray[Any, np.dtype[Any]]", number: int
) -> Iterator[tuple[float, int, pa.RecordBatch]]:
    """The chosen rows of a file, one a batch, each with its place in [0, 1) of the whole."""
    count, done = int(times.sum()), 0
    for chunk, batch in batches([source], schema):
        for at in range(len(batch)):
            for _ in range(int(times[chunk.first + at])):
                yield (done + 0.5) / count, number, batch.slice(at, 1)
                done += 1
