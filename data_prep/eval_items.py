"""What is measured on a file? Its rows as they would train, each with the record it is from; nothing is left out."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, Final

from codevision_ext.errors import InputError
from data_prep.convert.convert import ChunkJob, ConversionTask, Options, Target, jobs, plan_conversion, settled
from data_prep.convert.transform import Transform
from data_prep.convert.validate import ImageLimits, settle_row
from data_prep.curate.split_mix_shard import image_key
from data_prep.formats.readers import vtbench
from data_prep.formats.readers.base import Place
from data_prep.formats.row_errors import RowError
from data_prep.formats.schema import Row, rl_record
from data_prep.formats.sources import find_sources
from data_prep.tasks import synth
from data_prep.tasks.reading.glyphs import Mix, draw_test_rows

Found = dict[str, Any]
"""`row` in the RL schema, `raw`: its record, `where` it stands; `reference`: the image to compare a drawing with."""

ITEMS: Final = 120
"""Items of a set that is drawn, where nobody says how many; each is shown in six columns."""


def read(path: Path, schema: str | None = None, images: Path | None = None) -> Iterator[Found]:
    """The items of a file or a folder, in order.

    Args:
        path: In any schema of `readers.READERS`.
        schema: Its name; None: told from the columns.
        images: Folder that paths of images start from; None: that of the file.

    Raises:
        InputError: a file can't be read, or a row can't be used; names file, row and field.
    """
    tasks = plan_conversion(find_sources([path], images), Options(target=Target.RL, reader=schema))
    for job in jobs(tasks):
        records = job.chunk.plain()
        for number, item, faults in settled(job, Counter()):
            if faults:
                raise InputError(f"{faults[0]}")
            if isinstance(item, Row):
                raw = records[number - job.chunk.first]
                where = f"{job.chunk.file}, row {number}"
                yield _found(item, raw, where)
                if job.reader == vtbench.READER.name:
                    yield from _drawings(raw, number, job, where)


def reader_name(path: Path) -> str:
    """Name of the schema of a file, told from its columns.

    Raises:
        InputError: the file can't be read, or no schema fits it.
    """
    return _tasks(path)[0].reader


def benchmark_columns(path: Path) -> frozenset[str]:
    """The columns of a transformed benchmark that the rows of a file name; none where it is of another kind.

    Raises:
        InputError: as `reader_name`.
    """
    records = chain.from_iterable(job.chunk.plain() for job in jobs(_tasks(path)) if job.reader == "codevision-rl")
    named = {(record.get("extra_info") or {}).get("column") for record in records}
    return frozenset(name for name in named if name)


def _tasks(path: Path) -> list[ConversionTask]:
    return plan_conversion(find_sources([path]), Options(target=Target.RL))


def draw_items(name: str, items: int | None, seed: int) -> Iterator[Found]:
    """The six rows of each of `items` items of a set that is drawn here, `glyphs` or `synth`."""
    count = items or ITEMS
    if name == "glyphs":
        rows: Iterator[Row] = iter(draw_test_rows(Mix(seed=seed), count))
    else:
        recipe, columns = synth.Recipe(seed=seed, source_share=1.0), Transform()
        upright = chain.from_iterable(map(synth.draw_tasks, synth.orders(recipe, "test", count)))
        rows = (made for row in upright for made in columns(row, row.index) if isinstance(made, Row))
    for number, row in enumerate(rows):
        yield _found(row, {}, f"{name}, row {number}")


def _found(row: Row, raw: Mapping[str, Any], where: str) -> Found:
    known = (raw.get("extra_info") or {}).get("picture_id") if raw else row.picture_id
    record = rl_record(replace(row, picture_id=known or ""))
    record["extra_info"]["picture_id"] = known or image_key(record).hex()
    kept = {name: value for name, value in raw.items() if _small(value)}
    return {"row": record, "raw": kept, "where": where}


def _small(value: Any) -> bool:
    """Whether a field is no image, which the row has already."""
    return isinstance(value, bool | int | float | list) or (isinstance(value, str) and len(value) < 10_000)


def _drawings(raw: Mapping[str, Any], number: int, job: ChunkJob, where: str) -> Iterator[Found]:
    """The items of a VTBench record that are answered by a drawing."""
    place = Place(name=Path(job.chunk.file).stem, row=number, images=job.chunk.images, turns=False)
    try:
        for row, reference in vtbench.drawings(raw, place):
            settled_row, errors = settle_row(row, ImageLimits())
            if errors:
                raise errors[0]
            yield _found(settled_row, raw, where) | {"reference": reference}
    except RowError as error:
        raise InputError(f"{where}: {error.field}: {error.said}") from error
