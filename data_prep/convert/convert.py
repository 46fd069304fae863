"""Converts published data sets to rows that train, a chunk at a time: read, validate, drop duplicates, write."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from codevision_ext.rollout.dialects.base import DialectName
from codevision_ext.rollout.dialects.registry import TOOL_CALL, has_call
from data_prep.convert.dialects import in_dialect
from data_prep.convert.failed_calls import mask_failed_calls
from data_prep.convert.id_index import IdIndex, IdState
from data_prep.convert.transform import Transform
from data_prep.convert.unread import check_unread, notes
from data_prep.convert.validate import ImageLimits, validate_demonstration, validate_row
from data_prep.formats import fields
from data_prep.formats.image_tags import demonstration_with_plain_tags
from data_prep.formats.readers import READERS, Place, Reader, choose
from data_prep.formats.record import TrackedRecord
from data_prep.formats.row_errors import ConversionStats, ReadCounts, Reason, RowError, RowFault
from data_prep.formats.schema import (
    CONVERTED_RL_SCHEMA,
    CONVERTED_SFT_SCHEMA,
    IMAGE_TAG,
    CodeTrajectory,
    Demonstration,
    Row,
    rl_record,
    sft_record,
)
from data_prep.formats.sources import Chunk, Source, SourcePart, chunks, source_parts
from data_prep.formats.writers import Writer
from data_prep.parallel.pipeline import in_order
from data_prep.parallel.ray_map import ray_flat_map

RENUMBERED: Final = 1_000_000_000
"""First index for rows whose index is that of another row of their source."""
_UNREADABLE: Final = Row(images=(), question="", answers=(), source="", split="", index=0)


class Target(StrEnum):
    """What a data set is converted to."""

    RL = "rl"
    SFT = "sft"
    SHAREGPT = "sharegpt"

    @property
    def schema(self) -> pa.Schema:
        """Schema of the batches that are written."""
        return CONVERTED_RL_SCHEMA if self is Target.RL else CONVERTED_SFT_SCHEMA


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Target of a conversion, its limits, and values that replace a row's licence, split or box frame."""

    target: Target
    reader: str | None = None
    """Name of the schema of the sources; None: chosen by their columns."""
    lists: bool = False
    """Whether an answer that is the text of a list is a list of answers."""
    licence: str | None = None
    split: str | None = None
    box_frame: str | None = None
    limits: ImageLimits = field(default_factory=ImageLimits)
    mask_failed_calls: bool = True
    """Mark calls that gave no image with `train` false; see `failed_calls`."""
    dialect: DialectName | None = None
    """Dialect in which demonstrations are written; None: their own."""
    run_code: bool = True
    """Run the code of trajectories that were published without their images; see `execution`."""
    transform: Transform | None = None
    """Makes several rows from one; tasks only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversionTask:
    """A part of a file and the way to read it."""

    part: SourcePart
    reader: str
    options: Options


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkJob:
    """A chunk of a file and the way to read it."""

    chunk: Chunk
    reader: str
    options: Options


@dataclass(slots=True, kw_only=True)
class ChunkResult:
    """Rows, faults and counts of a chunk."""

    read: int
    batch: pa.RecordBatch
    keys: list[tuple[bytes, bytes]]
    """Hashes of the id and the content of each row of the batch."""
    places: list[tuple[str, int]]
    """File and row number of each row of the batch."""
    image_numbers: list[int] | None = None
    """Number, in `Chunk.image_files`, of each image of the batch, which lacks its bytes; None if it has the bytes."""
    faults: list[list[RowFault]] = field(default_factory=list)
    """Faults of each rejected row."""
    changed: Counter[str] = field(default_factory=Counter)
    counts: ReadCounts = field(default_factory=ReadCounts)
    licences: dict[str, str] = field(default_factory=dict)


def convert(
    sources: Sequence[Source],
    options: Options,
    writer: Writer,
    *,
    workers: int,
    ray: bool = False,
    progress: Callable[[int], None] = lambda _: None,
    rejected: Callable[[RowFault], None] = lambda _: None,
) -> ConversionStats:
    """Write every usable row of the sources, in their order.

    Args:
        sources: Files, read one after the other; their schemas may differ.
        options: Target and limits.
        writer: Takes the rows.
        workers: Number of processes, or of Ray tasks at a time.
        ray: Convert on a Ray cluster instead.
        progress: Called with the number of records read.
        rejected: Called with each fault of a row, whether the row is rejected or not.

    Raises:
        InputError: A file can't be read, or no reader fits it.
    """
    stats = ConversionStats()
    with IdIndex() as ids:
        tasks = plan_conversion(sources, options)
        results = ray_flat_map(convert_part, tasks, workers) if ray else convert_all(tasks, workers)
        for result in results:
            batch = drop_duplicates(result, ids, stats)
            writer.write(batch)
            stats.read += result.read
            stats.written += batch.num_rows
            stats.changed += result.changed
            stats.counts.merge(result.counts)
            stats.licences |= result.licences
            for fault in result.counts.faults:
                rejected(fault)
            for faults in result.faults:
                stats.reject(faults)
                for fault in faults:
                    rejected(fault)
            progress(stats.read)
    return stats


def plan_conversion(sources: Iterable[Source], options: Options) -> list[ConversionTask]:
    """Return the parts of all sources, each with its reader.

    Raises:
        InputError: No reader fits a file.
    """
    readers = [(source, choose(source, options.reader).name) for source in sources]
    return [
        ConversionTask(part=part, reader=reader, options=options)
        for source, reader in readers
        for part in source_parts(source)
    ]


def jobs(tasks: Iterable[ConversionTask]) -> Iterator[ChunkJob]:
    """Yield the chunks of all parts, in order."""
    for task in tasks:
        for chunk in chunks(task.part):
            yield ChunkJob(chunk=chunk, reader=task.reader, options=task.options)


def convert_part(task: ConversionTask) -> Iterator[ChunkResult]:
    """Yield the result of each chunk of a part."""
    yield from convert_all([task], workers=1)


def convert_all(tasks: Iterable[ConversionTask], workers: int) -> Iterator[ChunkResult]:
    """Yield the result of each chunk of all parts, in order."""
    for job, result in in_order(convert_chunk, jobs(tasks), workers):
        yield with_images(result, job.chunk)


def convert_chunk(job: ChunkJob) -> ChunkResult:
    """Convert a chunk; if no image changes, the result refers to the images of the chunk instead of copying them."""
    raw = job.chunk.plain()
    numbers = {} if job.chunk.image_files() is None else _image_numbers(raw)
    job = replace(job, chunk=replace(job.chunk, records=raw))
    records: list[Mapping[str, Any]] = []
    result = ChunkResult(read=len(job.chunk), batch=None, keys=[], places=[])
    transform = job.options.transform
    for number, item, faults in read_chunk(job, result.counts):
        if faults:
            result.faults.append(faults)
            continue
        for row in transform(item, number) if transform and isinstance(item, Row) else [item]:
            if isinstance(row, str):
                result.counts.skipped[row] += 1
                continue
            records.append(rl_record(row) if isinstance(row, Row) else sft_record(row))
            result.keys.append(key_of(row))
            result.places.append((job.chunk.file, number))
            result.licences[row.source] = row.licence
        result.changed.update(item.changes)
    images = [image for record in records for image in record["images"]]
    if numbers and all(id(image["bytes"]) in numbers for image in images):
        result.image_numbers = [numbers[id(image["bytes"])] for image in images]
        for image in images:
            image["bytes"] = None
    result.batch = pa.RecordBatch.from_pylist(records, schema=job.options.target.schema)
    return result


def _image_numbers(records: Iterable[Mapping[str, Any]]) -> dict[int, int]:
    """Return the number of each image file in the order of `Chunk.image_files`, by the identity of its bytes."""
    images = (image for record in records for image in record["images"] or ())
    return {id(image["bytes"]): number for number, image in enumerate(images) if image and image["bytes"]}


def with_images(result: ChunkResult, chunk: Chunk) -> ChunkResult:
    """Return the result with the images that it refers to."""
    files = chunk.image_files()
    if result.image_numbers is None or files is None:
        return result
    column = result.batch.column("images")
    if result.image_numbers != list(range(len(files))):
        files = files.take(pa.array(result.image_numbers, pa.int64()))
    images = pa.StructArray.from_arrays([files, column.flatten().field("path")], fields=list(column.type.value_type))
    at = result.batch.schema.get_field_index("images")
    whole = pa.ListArray.from_arrays(column.offsets, images)
    return replace(result, image_numbers=None, batch=result.batch.set_column(at, result.batch.schema.field(at), whole))


def read_chunk(job: ChunkJob, counts: ReadCounts) -> Iterator[tuple[int, Row | Demonstration, list[RowFault]]]:
    """Yield the row number, the validated item and the faults of each item; an item with faults may be incomplete.

    What the target has no place for, and columns that aren't used, are added to `counts`.
    """
    reader, chunk, options = READERS[job.reader], job.chunk, job.options
    turns = options.target is not Target.RL
    for number, values in enumerate(chunk.plain(), start=chunk.first):
        place = Place(name=Path(chunk.file).stem, row=number, images=chunk.images, turns=turns, lists=options.lists)
        for item, errors in _read_record(reader, TrackedRecord(values, chunk.names), place, options, counts):
            if isinstance(item, str):
                counts.skipped[item] += 1
                continue
            if isinstance(item, RowError):
                counts.keep(item.at(chunk.file, number))
                continue
            yield number, item, [error.at(chunk.file, number) for error in errors]


def _read_record(
    reader: Reader, record: TrackedRecord, place: Place, options: Options, counts: ReadCounts
) -> Iterator[tuple[Row | Demonstration | RowError | str, Sequence[RowError]]]:
    try:
        items = list(reader.read(record, place))
        unread = record.unused() - reader.repeated
        check_unread(unread, record, reader, place)
    except RowError as error:
        yield _UNREADABLE, [error]
        return
    counts.unread.update(unread)
    for item in items:
        try:
            if isinstance(item, str | RowError):
                yield item, ()
                continue
            if isinstance(item, CodeTrajectory):
                from data_prep.convert.execution import as_published, run_trajectory  # noqa: PLC0415  slow to import

                item, failed = run_trajectory(item) if options.run_code else (as_published(item), [])
                yield from ((error, ()) for error in failed)
            item, errors = _validate(item, reader, place, options)
            if not errors:
                counts.noted.update(notes(item))
            yield item, errors
        except RowError as error:
            yield _UNREADABLE, [error]


def _validate(
    item: Row | Demonstration, reader: Reader, place: Place, options: Options
) -> tuple[Row | Demonstration, list[RowError]]:
    licence = options.licence or item.licence or reader.licence
    if not place.turns:
        row = item if isinstance(item, Row) else row_of(item, place)
        split, box_frame = options.split or row.split, options.box_frame or row.box_frame
        return validate_row(replace(row, licence=licence, split=split, box_frame=box_frame), options.limits)
    if isinstance(item, Row):
        raise RowError(Reason.NO_TRAJECTORY, "messages", "the row is a task; it has no turns to learn from")
    if options.mask_failed_calls:
        item = mask_failed_calls(item)
    item = in_dialect(item, options.dialect)
    return validate_demonstration(replace(item, licence=licence), options.limits)


def row_of(demonstration: Demonstration, place: Place) -> Row:
    """Return the task of a demonstration: its first question and images, and the answer that it ends with.

    Raises:
        RowError: The demonstration ends without an answer, doesn't begin with a question, or asks several ones, or
            has wrong image tags.
    """
    demonstration = demonstration_with_plain_tags(demonstration)
    messages = [message for message in demonstration.messages if message.role != "system"]
    if messages and messages[0].role != "user":
        raise RowError(Reason.BAD_TURNS, "messages", f"turn 0 is {messages[0].role}'s, not user's")
    tags = sum(message.content.count(IMAGE_TAG) for message in messages)
    if tags != len(demonstration.images):
        raise RowError(Reason.BAD_TURNS, "images", f"{tags} <image> tags, but {len(demonstration.images)} images")
    for before, message in pairwise(messages):
        if message.role == "user" and not has_call(before.content):
            raise RowError(Reason.BAD_TURNS, "messages", "the conversation has several questions, a task has one")
    prompt = next((message.content for message in messages if message.role == "user"), "")
    last = messages[-1].content if messages and messages[-1].role == "assistant" else ""
    plain = last if len(messages) == 2 and "<" not in last else None  # a reply that is nothing but the answer
    answer = demonstration.metadata.get("answer") or TOOL_CALL.parse_answer([last]) or plain
    applied, _ = fields.applied(demonstration.metadata.get("applied"), "metadata.applied")
    box, _ = fields.box(demonstration.metadata.get("box"), "metadata.box")
    images = prompt.count(IMAGE_TAG)
    return Row(
        images=demonstration.images[:images],
        question=prompt,
        answers=fields.answers(answer, "metadata.answer"),
        source=demonstration.source or place.name,
        split="train",
        index=place.row,
        applied=applied,
        box=box,
        prompt=prompt,
        paths=demonstration.paths[:images],
        licence=demonstration.licence,
    )


def key_of(item: Row | Demonstration) -> tuple[bytes, bytes]:
    """Return hashes of the item's id and of its content."""
    if isinstance(item, Row):
        content = _hash(
            item.question, item.answers, item.applied, item.column, item.picture_id, item.size, item.drawing
        )
        return _hash(item.source, item.split, item.index, item.column), content
    images = [hashlib.sha256(data).digest() for data in item.images]
    content = _hash([(message.role, message.content) for message in item.messages], images)
    return content, content


def _hash(*values: object) -> bytes:
    return hashlib.blake2b(repr(values).encode(errors="surrogatepass"), digest_size=16).digest()


def drop_duplicates(result: ChunkResult, ids: IdIndex, stats: ConversionStats) -> pa.RecordBatch:
    """Return the batch without duplicates of earlier rows; a different row with a known id gets a new index.

    Adds a fault to `result` for each duplicate, and counts new indexes in `stats`.
    """
    keep: list[int] = []
    renumbered: dict[int, int] = {}
    for number, key in enumerate(result.keys):
        state = ids.add(key)
        if state is IdState.SAME:
            file, row = result.places[number]
            message = "an earlier row has this id and this content"
            fault = RowFault(file=file, row=row, field="index", reason=Reason.DUPLICATE_ID, message=message)
            result.faults.append([fault])
            continue
        if state is IdState.OTHER:
            renumbered[number] = RENUMBERED + stats.changed["renumbered"]
            stats.changed["renumbered"] += 1
        keep.append(number)
    batch = _with_index(result.batch, renumbered) if renumbered else result.batch
    return batch if len(keep) == batch.num_rows else batch.take(pa.array(keep, pa.int64()))


def _with_index(batch: pa.RecordBatch, renumbered: Mapping[int, int]) -> pa.RecordBatch:
    """Return the batch with new values of extra_info.index, given by row."""
    at = batch.schema.get_field_index("extra_info")
    extra = batch.column(at)
    index = extra.field("index").to_pylist()
    for number, value in renumbered.items():
        index[number] = value
    types = list(extra.type)
    columns = [pa.array(index, pa.int64()) if kind.name == "index" else extra.field(kind.name) for kind in types]
    return batch.set_column(at, batch.schema.field(at), pa.StructArray.from_arrays(columns, fields=types))
