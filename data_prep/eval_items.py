"""Reads the items of an evaluation from a file, or generates them."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, Final

from codevision_ext.errors import InputError
from codevision_ext.evaluate.suites.synthetic import REAL
from data_prep.convert.convert import ChunkJob, ConversionTask, Options, Target, jobs, plan_conversion, read_chunk
from data_prep.convert.transform import Transform
from data_prep.convert.validate import ImageLimits, validate_row
from data_prep.curate.split_mix_shard import image_key
from data_prep.formats.readers import READERS, vqa, vtbench
from data_prep.formats.readers.base import Place
from data_prep.formats.record import TrackedRecord
from data_prep.formats.row_errors import ConversionStats, RejectLimit, RowError, RowFault, notes_on
from data_prep.formats.schema import Row, rl_record
from data_prep.formats.sources import find_sources
from data_prep.tasks import real_images, synth
from data_prep.tasks.reading.glyphs import Mix, Writing, draw_test_rows

EvalRow = dict[str, Any]
"""Item: `row` in the RL schema, `raw` record, `where` (file and row), `reference` (image to compare a drawing with)."""

ITEMS: Final = 120
"""Default number of items of a generated data set; each has six columns."""


def read(
    path: Path,
    schema: str | None = None,
    images: Path | None = None,
    *,
    names: Mapping[str, str] | None = None,
    lists: bool = False,
    max_rejected: str = "0",
    rejected: list[str] | None = None,
    notes: list[str] | None = None,
) -> Iterator[EvalRow]:
    """Yield the items of a file or a folder, in order.

    Args:
        path: File or folder, in any schema of `readers.READERS`.
        schema: Name of the schema; None: chosen by the columns.
        images: Folder for relative paths of images; None: the folder of the file.
        names: Column names by field, for columns whose names no reader knows.
        lists: Whether an answer such as `["a", "b"]` is read as a list of answers.
        max_rejected: Maximum of unusable items that are left out: a number, or a share such as `1%`.
        rejected: List to which a sentence is added for each item that is left out.
        notes: List to which sentences about unread columns and about answers that look like lists are added.

    Raises:
        InputError: A file can't be read, or too many items can't be used; names file, row and field.
    """
    limit, stats = RejectLimit(max_rejected), ConversionStats()

    def leave_out(fault: RowFault) -> None:
        if float(max_rejected.removesuffix("%")) == 0:
            raise InputError(f"{fault}; --max-rejected leaves out such rows")
        stats.read += 1
        stats.reject([fault])
        if rejected is not None:
            rejected.append(str(fault))

    tasks = plan_conversion(find_sources([path], images, names), Options(target=Target.RL, reader=schema, lists=lists))
    for job in jobs(tasks):
        records = job.chunk.plain()
        for number, item, faults in read_chunk(job, stats.counts):
            if faults:
                leave_out(faults[0])
            elif isinstance(item, Row):
                raw = records[number - job.chunk.first]
                where = f"{job.chunk.file}, row {number}"
                drawings = _drawings(raw, number, job, leave_out) if job.reader == vtbench.READER.name else ()
                for entry in (_eval_row(item, raw, where), *drawings):
                    stats.read += 1
                    stats.written += 1
                    yield entry
    limit.check(stats)
    if notes is not None:
        notes += notes_on(stats.counts.plain())


def reader_name(path: Path, names: Mapping[str, str] | None = None) -> str:
    """Return the name of a file's schema, chosen by its columns and, if other tables have these columns, by its rows.

    Raises:
        InputError: The file can't be read, no schema fits it, or only some rows are of the benchmark that has its
            columns.
    """
    tasks = _tasks(path, names)
    reader = READERS[tasks[0].reader]
    if reader.published is None:
        return reader.name
    records = (TrackedRecord(record, names) for job in jobs(tasks) for record in job.chunk.plain())
    own = Counter(map(reader.published, records))
    if own[True] and own[False]:
        rows = f"{own[True]:,} rows are of {reader.name} and {own[False]:,} aren't"
        raise InputError(f"{path}: {rows}; name the suite: {reader.name}=PATH or rows=PATH")
    return reader.name if own[True] else vqa.TABLE_READER.name


def benchmark_of(path: Path, names: Mapping[str, str] | None = None) -> tuple[frozenset[str], str]:
    """Return the columns and the benchmark in `extra_info` of the rows of a file.

    A file of another schema than `codevision-rl` has no columns. The benchmark is empty if the rows name none, or
    several.

    Raises:
        InputError: The file can't be read, or no schema fits it.
    """
    columns: set[str] = set()
    benchmarks: set[str] = set()
    for job in jobs(_tasks(path, names)):
        if job.reader == "codevision-rl":
            for record in job.chunk.plain():
                extra = record.get("extra_info") or {}
                columns |= {extra["column"]} if extra.get("column") else set()
                benchmarks.add(extra.get("benchmark") or "")
    return frozenset(columns), benchmarks.pop() if len(benchmarks) == 1 else ""


def _tasks(path: Path, names: Mapping[str, str] | None) -> list[ConversionTask]:
    return plan_conversion(find_sources([path], names=names), Options(target=Target.RL))


def generate_items(name: str, items: int | None, seed: int) -> Iterator[EvalRow]:
    """Yield every column of each item of a generated data set: `glyphs`, `handwriting`, `real` or `synth`.

    `items` is the number of items, None for the default; `real` has a fixed number, of which the first `items` are
    taken.
    """
    count = items or ITEMS
    if name == "real":
        rows = Transform(columns=REAL.columns, seed=seed).rows(islice(real_images.read_rows(), items))
    elif name == "synth":
        upright = synth.draw_tasks(synth.Recipe(seed=seed, source_share=1.0), "test", count=count)
        rows = Transform().rows(upright)
    else:
        rows = draw_test_rows(Mix(seed=seed, writing=Writing(name)), count)
    for number, row in enumerate(rows):
        yield _eval_row(row, {}, f"{name}, row {number}")


def _eval_row(row: Row, raw: Mapping[str, Any], where: str) -> EvalRow:
    known = (raw.get("extra_info") or {}).get("picture_id") if raw else row.picture_id
    record = rl_record(replace(row, picture_id=known or ""))
    record["extra_info"]["picture_id"] = known or image_key(record).hex()
    small = {name: value for name, value in raw.items() if _is_small(value)} | dict(row.rule_fields)
    return {"row": record, "raw": small, "where": where}


def _is_small(value: Any) -> bool:
    """Return whether a field can't be an image."""
    return isinstance(value, bool | int | float | list) or (isinstance(value, str) and len(value) < 10_000)


def _drawings(
    raw: Mapping[str, Any], number: int, job: ChunkJob, leave_out: Callable[[RowFault], None]
) -> Iterator[EvalRow]:
    """Yield the items of a VTBench record that are answered by a drawing."""
    where = f"{job.chunk.file}, row {number}"
    place = Place(name=Path(job.chunk.file).stem, row=number, images=job.chunk.images, turns=False)
    try:
        for row, reference in vtbench.drawings(raw, place):
            validated, errors = validate_row(row, ImageLimits())
            if errors:
                raise errors[0]
            yield _eval_row(validated, raw, where) | {"reference": reference}
    except RowError as error:
        leave_out(error.at(job.chunk.file, number))
