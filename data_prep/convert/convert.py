"""How does any published set become one that trains? Read, settle, check for duplicates, write; a chunk at a time."""

import hashlib
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum, StrEnum
from pathlib import Path
from typing import Any, Final, Self

import pyarrow as pa

from codevision_ext.rollout.parsing import parse_answer
from data_prep.convert.transform import Transform
from data_prep.convert.validate import ImageLimits, settle_row, settle_trajectory
from data_prep.formats import fields
from data_prep.formats.readers import READERS, Place, choose
from data_prep.formats.row_errors import ConversionStats, Reason, RowError, RowFault
from data_prep.formats.schema import (
    CONVERTED_RL_SCHEMA,
    CONVERTED_SFT_SCHEMA,
    IMAGE_TAG,
    Demonstration,
    Row,
    rl_record,
    sft_record,
)
from data_prep.formats.sources import Chunk, Source, SourcePart, chunks, source_parts
from data_prep.formats.writers import Writer
from data_prep.parallel.pipeline import in_order, on_ray

RENUMBERED: Final = 1_000_000_000
"""First index given to a row whose index another row of its source has."""


class Target(StrEnum):
    """What a set becomes."""

    RL = "rl"
    SFT = "sft"
    SHAREGPT = "sharegpt"

    @property
    def schema(self) -> pa.Schema:
        """Of the batches that are written."""
        return CONVERTED_RL_SCHEMA if self is Target.RL else CONVERTED_SFT_SCHEMA


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What is wanted, and what is said of rows that don't say it."""

    target: Target
    reader: str | None = None
    licence: str | None = None
    """In place of what the rows and the schema say."""
    split: str | None = None
    box_frame: str | None = None
    limits: ImageLimits = field(default_factory=ImageLimits)
    transform: Transform | None = None
    """Makes several rows of one; tasks only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversionTask:
    """A part of a file, and how it is read."""

    part: SourcePart
    reader: str
    options: Options


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkJob:
    """A chunk, and how it is read."""

    chunk: Chunk
    reader: str
    options: Options


@dataclass(slots=True, kw_only=True)
class ChunkResult:
    """What came of a chunk."""

    read: int
    batch: pa.RecordBatch
    keys: list[tuple[bytes, bytes]]
    """Id and content of each row of the batch, hashed."""
    places: list[tuple[str, int]]
    """File and row of each row of the batch."""
    kept: list[int] | None = None
    """Which of the chunk's image files each image of the batch is, whose bytes it lacks; None: it has them."""
    faults: list[list[RowFault]] = field(default_factory=list)
    """Of each row that isn't used."""
    changed: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
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
    """Write every row of the sources that can be used; the order is theirs.

    Args:
        sources: Read one after the other; their schemas may differ.
        options: What is wanted.
        writer: Gets the rows.
        workers: Processes.
        ray: Over a Ray cluster instead.
        progress: Called with the number of records read.
        rejected: Called with each fault of a row that isn't used.

    Raises:
        InputError: A file can't be read, or no reader fits it.
    """
    tally = ConversionStats()
    with IdIndex() as seen:
        tasks = plan_conversion(sources, options)
        results = on_ray(convert_part, tasks, workers) if ray else convert_all(tasks, workers)
        for made in results:
            batch = drop_duplicates(made, seen, tally)
            writer.write(batch)
            tally.read += made.read
            tally.written += batch.num_rows
            tally.changed += made.changed
            tally.left_out += made.left_out
            tally.licences |= made.licences
            for faults in made.faults:
                tally.reject(faults)
                for fault in faults:
                    rejected(fault)
            progress(tally.read)
    return tally


def plan_conversion(sources: Iterable[Source], options: Options) -> list[ConversionTask]:
    """The parts of all sources, each with its reader.

    Raises:
        InputError: No reader fits a file.
    """
    chosen = [(source, choose(source, options.reader).name) for source in sources]
    return [
        ConversionTask(part=part, reader=reader, options=options)
        for source, reader in chosen
        for part in source_parts(source)
    ]


def jobs(tasks: Iterable[ConversionTask]) -> Iterator[ChunkJob]:
    """The chunks of all parts, in order."""
    for task in tasks:
        for chunk in chunks(task.part):
            yield ChunkJob(chunk=chunk, reader=task.reader, options=task.options)


def convert_part(task: ConversionTask) -> Iterator[ChunkResult]:
    """What comes of each chunk of a part."""
    return convert_all([task], workers=1)


def convert_all(tasks: Iterable[ConversionTask], workers: int) -> Iterator[ChunkResult]:
    """What comes of each chunk of all parts, in order."""
    for job, made in in_order(convert_chunk, jobs(tasks), workers):
        yield with_images(made, job.chunk)


def convert_chunk(job: ChunkJob) -> ChunkResult:
    """The rows of a chunk in the target's schema; if no image changes, they are left where they are."""
    given = job.chunk.plain()
    files = {} if job.chunk.image_files() is None else _numbered(given)
    job = replace(job, chunk=replace(job.chunk, records=given))
    records: list[Mapping[str, Any]] = []
    made = ChunkResult(read=len(job.chunk), batch=None, keys=[], places=[])
    for row, item, faults in settled(job, made.left_out):
        if faults:
            made.faults.append(faults)
            continue
        for finished in _finished(item, row, job.options.transform):
            if isinstance(finished, str):
                made.left_out[finished] += 1
                continue
            records.append(rl_record(finished) if isinstance(finished, Row) else sft_record(finished))
            made.keys.append(key_of(finished))
            made.places.append((job.chunk.file, row))
            made.licences[finished.source] = finished.licence
        made.changed.update(item.changes)
    images = [image for record in records for image in record["images"]]
    if files and all(id(image["bytes"]) in files for image in images):
        made.kept = [files[id(image["bytes"])] for image in images]
        for image in images:
            image["bytes"] = None
    made.batch = pa.RecordBatch.from_pylist(records, schema=job.options.target.schema)
    return made


def _numbered(records: Iterable[Mapping[str, Any]]) -> dict[int, int]:
    """The number of each image file in the order of `Chunk.image_files`, by the identity of its bytes."""
    images = (image for record in records for image in record["images"] or ())
    return {id(image["bytes"]): number for number, image in enumerate(images) if image and image["bytes"]}


def with_images(made: ChunkResult, chunk: Chunk) -> ChunkResult:
    """The same with the images that were left in the chunk."""
    files = chunk.image_files()
    if made.kept is None or files is None:
        return made
    column = made.batch.column("images")
    if made.kept != list(range(len(files))):
        files = files.take(pa.array(made.kept, pa.int64()))
    images = pa.StructArray.from_arrays([files, column.flatten().field("path")], fields=list(column.type.value_type))
    at = made.batch.schema.get_field_index("images")
    whole = pa.ListArray.from_arrays(column.offsets, images)
    return replace(made, kept=None, batch=made.batch.set_column(at, made.batch.schema.field(at), whole))


def _finished(
    item: Row | Demonstration, number: int, transform: Transform | None
) -> Iterable[Row | Demonstration | str]:
    return transform(item, number) if transform and isinstance(item, Row) else [item]


def settled(job: ChunkJob, left_out: Counter[str]) -> Iterator[tuple[int, Row | Demonstration, list[RowFault]]]:
    """Row number, item as it will be written, and faults of it; an item with a fault may be half read."""
    reader, options, chunk = READERS[job.reader], job.options, job.chunk
    turns = options.target is not Target.RL
    for number, record in enumerate(chunk.plain(), start=chunk.first):
        place = Place(name=Path(chunk.file).stem, row=number, images=chunk.images, turns=turns)
        errors: list[RowError]
        try:
            items = list(reader.read(record, place))
        except RowError as error:
            yield number, _NOTHING, _faults(chunk, number, [error])
            continue
        for item in items:
            if isinstance(item, str):
                left_out[item] += 1
                continue
            licence = options.licence or item.licence or reader.licence
            try:
                if turns:
                    if isinstance(item, Row):
                        raise RowError(
                            Reason.NO_TRAJECTORY, "messages", "the row is a task; it has no turns to learn from"
                        )
                    settled_item, errors = settle_trajectory(replace(item, licence=licence), options.limits)
                    yield number, settled_item, _faults(chunk, number, errors)
                else:
                    task = item if isinstance(item, Row) else row_of(item, place)
                    task = replace(
                        task,
                        licence=licence,
                        split=options.split or task.split,
                        box_frame=options.box_frame or task.box_frame,
                    )
                    settled_row, errors = settle_row(task, options.limits)
                    yield number, settled_row, _faults(chunk, number, errors)
            except RowError as error:
                yield number, _NOTHING, _faults(chunk, number, [error])


_NOTHING: Final = Row(images=(), question="", answers=(), source="", split="", index=0, size=(0, 0))


def _faults(chunk: Chunk, number: int, errors: Iterable[RowError]) -> list[RowFault]:
    return [
        RowFault(file=chunk.file, row=number, field=error.field, reason=error.reason, said=error.said)
        for error in errors
    ]


def row_of(trajectory: Demonstration, place: Place) -> Row:
    """The task behind a trajectory: its first question and images, and the answer that it ends with.

    Raises:
        RowError: It ends without an answer, or doesn't begin with a question.
    """
    said = next((message.content for message in trajectory.messages if message.role == "user"), "")
    answer = trajectory.metadata.get("answer") or parse_answer([trajectory.messages[-1].content])
    applied, _ = fields.applied(trajectory.metadata.get("applied"), "metadata.applied")
    box, _ = fields.box(trajectory.metadata.get("box"), "metadata.box")
    shown = said.count(IMAGE_TAG)
    return Row(
        images=trajectory.images[:shown],
        question=said.replace(IMAGE_TAG, "").strip(),
        answers=fields.answers(answer, "metadata.answer"),
        source=trajectory.source or place.name,
        split="train",
        index=place.row,
        size=(0, 0),
        applied=applied,
        box=box,
        prompt=said,
        paths=trajectory.paths[:shown],
        licence=trajectory.licence,
    )


def key_of(item: Row | Demonstration) -> tuple[bytes, bytes]:
    """Hashes of the item's id and of its content."""
    if isinstance(item, Row):
        content = _hash(item.question, item.answers, item.applied, item.column, item.picture_id, item.size)
        return _hash(item.source, item.split, item.index, item.column), content
    images = [hashlib.sha256(data).digest() for data in item.images]
    content = _hash([(message.role, message.content) for message in item.messages], images)
    return content, content


def _hash(*values: object) -> bytes:
    return hashlib.blake2b(repr(values).encode(errors="surrogatepass"), digest_size=16).digest()


class IdState(Enum):
    """What is known of an id."""

    NEW = "new"
    SAME = "same"
    """It came before, with the same content."""
    OTHER = "other"
    """It came before, with other content."""


class IdIndex:
    """Ids that came before, on disk: memory doesn't grow with the set."""

    def __init__(self) -> None:
        self._db = sqlite3.connect("", isolation_level=None)  # a file without a name: gone however this process ends
        self._db.executescript("PRAGMA journal_mode=off; PRAGMA synchronous=off; BEGIN")
        self._db.execute("CREATE TABLE ids (id BLOB PRIMARY KEY, content BLOB) WITHOUT ROWID")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def add(self, key: tuple[bytes, bytes]) -> IdState:
        """Remember an id and its content, unless the id is known."""
        if self._db.execute("INSERT OR IGNORE INTO ids VALUES (?, ?)", key).rowcount:
            return IdState.NEW
        (content,) = self._db.execute("SELECT content FROM ids WHERE id = ?", key[:1]).fetchone()
        return IdState.SAME if content == key[1] else IdState.OTHER


def drop_duplicates(made: ChunkResult, seen: IdIndex, tally: ConversionStats) -> pa.RecordBatch:
    """The batch without rows that came before; another row with the same id gets a new index."""
    keep: list[int] = []
    renumbered: dict[int, int] = {}
    for number, key in enumerate(made.keys):
        verdict = seen.add(key)
        if verdict is IdState.SAME:
            file, row = made.places[number]
            said = "a row with the same id and the same content came before"
            made.faults.append([RowFault(file=file, row=row, field="index", reason=Reason.DUPLICATE_ID, said=said)])
            continue
        if verdict is IdState.OTHER:
            renumbered[number] = RENUMBERED + tally.changed["renumbered"]
            tally.changed["renumbered"] += 1
        keep.append(number)
    batch = _with_index(made.batch, renumbered) if renumbered else made.batch
    return batch if len(keep) == batch.num_rows else batch.take(pa.array(keep, pa.int64()))


def _with_index(batch: pa.RecordBatch, renumbered: Mapping[int, int]) -> pa.RecordBatch:
    """The batch with other values of extra_info.index at these rows."""
    at = batch.schema.get_field_index("extra_info")
    extra = batch.column(at)
    names = [extra.type.field(number).name for number in range(extra.type.num_fields)]
    index = extra.field("index").to_pylist()
    for number, value in renumbered.items():
        index[number] = value
    columns = [pa.array(index, pa.int64()) if name == "index" else extra.field(name) for name in names]
    fields_of = [extra.type.field(number) for number in range(extra.type.num_fields)]
    return batch.set_column(at, batch.schema.field(at), pa.StructArray.from_arrays(columns, fields=fields_of))
