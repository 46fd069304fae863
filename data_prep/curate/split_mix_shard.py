"""Splits, mixes and shards data sets; rows are streamed and copied unchanged."""

import hashlib
import heapq
import io
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from PIL import Image

from codevision_ext import geometry
from codevision_ext.errors import InputError, first_line
from codevision_ext.io.atomic_files import whole_folder
from data_prep.formats import fields
from data_prep.formats.schema import CONVERTED_RL_SCHEMA, CONVERTED_SFT_SCHEMA, applied_orientation
from data_prep.formats.sources import Chunk, Source, chunks, source_parts
from data_prep.formats.writers import ParquetSet, Writer

UNKNOWN: Final = "unknown"


@dataclass(slots=True, kw_only=True)
class CopyStats:
    """Counts and licences of copied rows."""

    rows: Counter[str] = field(default_factory=Counter)
    """Number of rows by output file, or by input file for `mix`."""
    licences: dict[str, str] = field(default_factory=dict)
    """Licence by source."""

    def add_licences(self, batch: pa.RecordBatch) -> None:
        """Add the licences of a batch of rows."""
        extra = batch.column("extra_info") if "extra_info" in batch.schema.names else None
        licences = batch.column("licence") if extra is None else extra.field("licence")
        sources = batch.column("source" if extra is None else "data_source")
        for source, licence in set(zip(sources.to_pylist(), licences.to_pylist(), strict=True)):
            self.licences[source or UNKNOWN] = licence or UNKNOWN


def schema_of(sources: Sequence[Source]) -> pa.Schema:
    """Return the schema of these files, RL or SFT.

    Raises:
        InputError: A file isn't parquet with RL or SFT rows, or the files have both kinds.
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
    """Yield the rows of all files, converted to `schema`.

    Raises:
        InputError: A column has another type than in `schema`.
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
) -> CopyStats:
    """Write a file per part; all rows of one image, in any orientation, go to the same part.

    `shares` has the name and share of each part; the shares sum to 1. The part of a row depends only on its image and
    `seed`. `progress` is called with the number of rows read.

    Raises:
        InputError: The sources don't fit into one schema, or `out` isn't empty without `force`.
    """
    schema, stats, read = schema_of(sources), CopyStats(), 0
    ends = list(accumulate(share for _, share in shares))
    with whole_folder(out, force=force) as folder, ExitStack() as stack:
        writers = [stack.enter_context(closing(ParquetSet(folder / f"{name}.parquet", schema))) for name, _ in shares]
        for chunk, batch in batches(sources, schema):
            draws = np.array([_draw(seed, image_key(record)) for record in chunk.plain()])
            part_of = np.searchsorted(ends[:-1], draws, side="right")
            for number, writer in enumerate(writers):
                rows = batch.take(pa.array(np.flatnonzero(part_of == number)))
                writer.write(rows)
                stats.rows[shares[number][0]] += rows.num_rows
            stats.add_licences(batch)
            read += len(batch)
            progress(read)
    return stats


def image_key(record: dict[str, Any]) -> bytes:
    """Return a key that all rows of one image share: the image's id, or a hash of its pixels before any op."""
    extra = record.get("extra_info") or {}
    if known := extra.get("picture_id"):
        return str(known).encode()
    data = (record["images"] or [{"bytes": b""}])[0]["bytes"] or b""
    if not data and not extra.get("transform"):
        return b""
    ops, _ = fields.applied(extra.get("transform"), "transform")
    image = geometry.apply(geometry.inverse(applied_orientation(ops)), Image.open(io.BytesIO(data))).convert("RGB")
    return hashlib.blake2b(f"{image.size}".encode() + image.tobytes(), digest_size=16).digest()


def mix(
    weighted: Sequence[tuple[Source, float]],
    writer: Writer,
    *,
    rows: int | None,
    seed: int,
    progress: Callable[[int], None] = lambda _: None,
) -> CopyStats:
    """Write rows of several files in proportion to positive weights, evenly interleaved.

    Rows are drawn without replacement. If a file has too few rows, its rows are repeated as evenly as possible.
    The order within a file is kept, because trainers shuffle. `rows` is the number of rows to write; None: the maximum
    without repetition. `progress` is called with the number of rows written.

    Raises:
        InputError: The files don't fit into one schema.
    """
    schema, stats = schema_of([source for source, _ in weighted]), CopyStats()
    total = sum(weight for _, weight in weighted)
    sizes = [source.rows or 0 for source, _ in weighted]
    if rows is None:
        rows = int(min(size * total / weight for size, (_, weight) in zip(sizes, weighted, strict=True)))
    counts = _shares(rows, [weight / total for _, weight in weighted])
    streams = []
    for number, ((source, _), size, count) in enumerate(zip(weighted, sizes, counts, strict=True)):
        rng = np.random.default_rng([seed, number])
        times = np.full(size, count // size)
        times[rng.permutation(size)[: count % size]] += 1
        streams.append(_positions(source, schema, times, number))
        stats.rows[str(source.path)] = count
    for written, (_, _, batch) in enumerate(heapq.merge(*streams, key=lambda entry: entry[:2]), start=1):
        stats.add_licences(batch)
        writer.write(batch)
        progress(written)
    return stats


def shard(
    sources: Sequence[Source], out: Path, *, rows: int, force: bool, progress: Callable[[int], None] = lambda _: None
) -> CopyStats:
    """Write files of `rows` rows each, the last with the rest, in order: NAME-00000-of-00012.parquet.

    Raises:
        InputError: The sources don't fit into one schema, or `out` isn't empty without `force`.
    """
    schema, stats, read = schema_of(sources), CopyStats(), 0
    files = -(-sum(source.rows or 0 for source in sources) // rows)
    with whole_folder(out, force=force) as folder, ExitStack() as stack:
        for _, batch in batches(sources, schema):
            stats.add_licences(batch)
            at = 0
            while at < len(batch):
                if read % rows == 0:
                    stack.close()
                    name = f"{out.name}-{read // rows:05d}-of-{files:05d}"
                    writer = stack.enter_context(closing(ParquetSet(folder / f"{name}.parquet", schema)))
                piece = batch.slice(at, rows - read % rows)
                writer.write(piece)
                stats.rows[name] += len(piece)
                at, read = at + len(piece), read + len(piece)
                progress(read)
    return stats


def _conform(chunk: Chunk, schema: pa.Schema) -> pa.RecordBatch:
    batch = chunk.records
    if isinstance(batch, pa.RecordBatch) and batch.schema.remove_metadata() == schema:
        return batch
    try:
        return pa.RecordBatch.from_pylist(chunk.plain(), schema=schema)
    except (pa.ArrowException, TypeError) as error:
        message = f"{chunk.file}: a column has another type; run `data_prep convert` on the file"
        raise InputError(f"{message}: {first_line(error)}") from error


def _draw(seed: int, key: bytes) -> float:
    """Return a pseudo-random number in [0, 1) that depends only on the arguments."""
    digest = hashlib.blake2b(key, digest_size=8, key=str(seed).encode()).digest()
    return int.from_bytes(digest) / 2**64


def _shares(rows: int, shares: Sequence[float]) -> list[int]:
    """Distribute `rows` by shares (largest remainder method)."""
    exact = [rows * share for share in shares]
    counts = [int(value) for value in exact]
    by_remainder = sorted(range(len(shares)), key=lambda number: counts[number] - exact[number])
    for number in by_remainder[: rows - sum(counts)]:
        counts[number] += 1
    return counts


def _positions(
    source: Source, schema: pa.Schema, times: "np.ndarray[Any, np.dtype[Any]]", number: int
) -> Iterator[tuple[float, int, pa.RecordBatch]]:
    """Yield position in the mix, in [0, 1), `number`, and a batch of one row, for each drawn row of a file."""
    count, done = int(times.sum()), 0
    for chunk, batch in batches([source], schema):
        for at in range(len(batch)):
            for _ in range(int(times[chunk.first + at])):
                yield (done + 0.5) / count, number, batch.slice(at, 1)
                done += 1
