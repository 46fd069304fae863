"""Reads the items of an evaluation from a file: rows as in training, each with its record.

A row that can't be used ends the evaluation, unless a number of such rows may be left out.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from codevision_ext.errors import InputError
from data_prep.convert.convert import ChunkJob, ConversionTask, Options, Target, jobs, plan_conversion, read_chunk
from data_prep.convert.transform import Transform
from data_prep.convert.validate import ImageLimits, validate_row
from data_prep.curate.split_mix_shard import image_key
from data_prep.formats.readers import vtbench
from data_prep.formats.readers.base import Place
from data_prep.formats.row_errors import ConversionStats, RejectLimit, RowError, RowFault, notes_on
from data_prep.formats.schema import Row, rl_record
from data_prep.formats.sources import find_sources
from data_prep.tasks import synth
from data_prep.tasks.reading.glyphs import Mix, draw_test_rows

EvalRow = dict[str, Any]
"""Item: `row` in the RL schema, `raw` record, `where` it stands; `reference`: image to compare a drawing with."""

ITEMS: Final = 120
"""Default number of items of a drawn data set; each has six columns."""


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
        images: Folder that paths of images start from; None: the folder of the file.
        names: Column by the name of a field, for columns whose names no reader knows.
        lists: Whether an answer that is the text of a list is a list of answers.
        max_rejected: Items that may be left out because they can't be used: a number, or a share such as `1%`.
        rejected: List that gets a sentence for each item that is left out.
        notes: List that gets a sentence about columns that nothing reads, and about answers that look like lists.

    Raises:
        InputError: A file can't be read, or more items than allowed can't be used; the message names file, row and
            field.
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
    """Return the name of a file's schema, chosen by its columns.

    Raises:
        InputError: The file can't be read, or no schema fits it.
    """
    return _tasks(path, names)[0].reader


def benchmark_of(path: Path, names: Mapping[str, str] | None = None) -> tuple[frozenset[str], str]:
    """Return the columns that the rows of a file name, and the benchmark whose rule scores them.

    There are no columns in a file of another schema; the benchmark is empty if the rows name none, or several.

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


def draw_items(name: str, items: int | None, seed: int) -> Iterator[EvalRow]:
    """Yield the six rows of each item of a drawn data set, `glyphs` or `synth`."""
    count = items or ITEMS
    if name == "glyphs":
        rows: Iterator[Row] = iter(draw_test_rows(Mix(seed=seed), count))
    else:
        transform = Transform()
        upright = synth.draw_tasks(synth.Recipe(seed=seed, source_share=1.0), "test", count=count)
        rows = (row for task in upright for row in transform(task, task.index) if isinstance(row, Row))
    for number, row in enumerate(rows):
        yield _eval_row(row, {}, f"{name}, row {number}")


def _eval_row(row: Row, raw: Mapping[str, Any], where: str) -> EvalRow:
    known = (raw.get("extra_info") or {}).get("picture_id") if raw else row.picture_id
    record = rl_record(replace(row, picture_id=known or ""))
    record["extra_info"]["picture_id"] = known or image_key(record).hex()
    small = {name: value for name, value in raw.items() if _is_small(value)} | dict(row.rule_fields)
    return {"row": record, "raw": small, "where": where}


def _is_small(value: Any) -> bool:
    """Return whether a field isn't an image, which the row already has."""
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
