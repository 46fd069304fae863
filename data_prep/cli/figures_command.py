"""Defines the command that draws the pages of the drawing task: `python -m data_prep figures`."""

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import Annotated

import typer

from codevision_ext.io.atomic_files import whole_folder, write_whole
from codevision_ext.rollout.code_tool import CodeTool
from codevision_ext.rollout.dialects.base import DialectName
from codevision_ext.sandbox import Sandbox
from data_prep.cli.common import (
    Force,
    MaskFailedCalls,
    OutFolder,
    Seed,
    Workers,
    names_among,
    print_json,
    with_progress,
)
from data_prep.convert.dialects import in_dialect
from data_prep.convert.failed_calls import train_failed_calls
from data_prep.formats.schema import CONVERTED_RL_SCHEMA, SFT_SCHEMA, Demonstration, rl_record, sft_record
from data_prep.formats.writers import write_demonstrations, write_parquet
from data_prep.parallel.pipeline import cores, map_chunks
from data_prep.tasks.figures.rows import FigureMix, Views, demonstrations, drawing_rows, place_rows, where_rows
from data_prep.tasks.figures.tasks import DRAWINGS
from data_prep.tasks.reading import tokenizer_corpus

CORPUS_ROWS = 100
"""Demonstrations, and rows of either file of places, behind the tokenizer's texts."""


def figures_command(
    out: OutFolder,
    rows: Annotated[int, typer.Option(min=1, help="Rows of train.parquet; val.parquet has a tenth.")] = 2000,
    cell_rows: Annotated[int, typer.Option(min=1, help="Rows of cells.parquet: one shape, one image token.")] = 8000,
    strip_rows: Annotated[int, typer.Option(min=1, help="Rows of strips.parquet: three image tokens.")] = 12000,
    place_rows_: Annotated[
        int, typer.Option("--place-rows", min=1, help="Rows of places.parquet: what stands where on a page.")
    ] = 16000,
    sft_rows: Annotated[int, typer.Option(min=1, help="Demonstrations that draw.")] = 1600,
    test_rows: Annotated[
        int, typer.Option(min=1, help="Rows of test.parquet to draw on; a fourth as many ask for places.")
    ] = 400,
    sft_places: Annotated[
        float,
        typer.Option(
            min=0, help="Rows of places.parquet in sft.parquet, per demonstration: what is practised isn't forgotten."
        ),
    ] = 0.0,
    kinds: Annotated[str, typer.Option(help="Kinds of drawings.")] = ",".join(DRAWINGS),
    wrong_first: Annotated[
        float, typer.Option(min=0, max=1, help="Share of demonstrations that draw at a wrong place first.")
    ] = 0.4,
    dialect: Annotated[DialectName, typer.Option(help="Dialect of the demonstrations.")] = "code_tags",
    system_message: Annotated[
        bool,
        typer.Option(
            help="Begin demonstrations with the dialect's system message; a tiny model learns sooner without it."
        ),
    ] = True,
    mask_failed_calls: MaskFailedCalls = True,
    seed: Seed = 0,
    workers: Workers = None,
    force: Force = False,
) -> None:
    """Generate the small drawing task: shapes to name, to mark, to connect and to box on a page of 84x84 pixels.

    cells, strips and places.parquet ask where shapes stand; sft.parquet has demonstrations that draw, each executed and
    verified by its pixels; train, val and test.parquet have pages to draw on, with targets; corpus.jsonl has the texts
    for the tokenizer of a tiny model. In test.parquet colours, places and pairs of shapes are held out, and rows
    of the column `where` ask for the places themselves.
    """
    mix = FigureMix(seed=seed, wrong_first=wrong_first, kinds=names_among(kinds, DRAWINGS, "--kinds"))
    workers = workers or cores()
    counts: dict[str, int] = {}
    with whole_folder(out, force=force) as folder, Sandbox() as sandbox:
        views: tuple[tuple[Views, int], ...] = (("cells", cell_rows), ("strips", strip_rows), ("places", place_rows_))
        for view, count in views:
            named = map_chunks(partial(place_rows, mix, stream=view), count, workers)
            records = with_progress(map(sft_record, named), count, view)
            counts[view] = write_parquet(folder / f"{view}.parquet", SFT_SCHEMA, records)
        tool = CodeTool(sandbox)
        written = partial(_written, mask=mask_failed_calls, dialect=dialect, system=system_message)
        for name, split, count in (("sft", "train", sft_rows), ("sft_val", "val", max(60, sft_rows // 10))):
            places = round(count * sft_places)
            made = chain(written(demonstrations(mix, count, split, tool)), place_rows(mix, places, "places"))
            shown = with_progress(made, count + places, name)
            counts[name] = sum(write_demonstrations(folder, name, shown).values())
        for name, count, places in (
            ("train", rows, 0),
            ("val", max(60, rows // 10), 0),
            ("test", test_rows, test_rows // 4),
        ):
            asked = chain(map_chunks(partial(drawing_rows, mix, split=name), count, workers), where_rows(mix, places))
            records = with_progress(map(rl_record, asked), count + places, name)
            counts[name] = write_parquet(folder / f"{name}.parquet", CONVERTED_RL_SCHEMA, records)
        write_whole(folder / "corpus.jsonl", "".join(_corpus(mix, tool, dialect, system_message)).encode())
    print_json({"out": str(out), "seed": seed, "rows": counts})


def _written(
    made: Iterator[Demonstration], *, mask: bool, dialect: DialectName, system: bool
) -> Iterator[Demonstration]:
    """Yield demonstrations in a dialect, with or without its system message and loss on calls at a wrong place."""
    for demonstration in made:
        written = in_dialect(demonstration if mask else train_failed_calls(demonstration), dialect)
        kept = tuple(message for message in written.messages if system or message.role != "system")
        yield replace(written, messages=kept)


def _corpus(mix: FigureMix, tool: CodeTool, dialect: DialectName, system: bool) -> Iterator[str]:
    """Yield the texts that the tokenizer of a tiny model is trained on, a JSON string a line."""
    made = [
        *place_rows(mix, CORPUS_ROWS, "places"),
        *_written(demonstrations(mix, CORPUS_ROWS, "train", tool), mask=True, dialect=dialect, system=system),
    ]
    return (json.dumps(text) + "\n" for text in tokenizer_corpus.texts(made))
