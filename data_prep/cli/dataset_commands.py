"""Defines the commands for existing data sets: convert, transform, check, inspect, split, mix, shard."""

from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Annotated

import typer

from codevision_ext.errors import InputError
from codevision_ext.rollout.dialects.registry import DIALECTS
from codevision_ext.types import BOX_FRAMES
from data_prep.cli.common import (
    AnswerLists,
    ColumnNames,
    Force,
    Images,
    Inputs,
    Licence,
    MaskFailedCalls,
    MaxPixels,
    MaxRejected,
    OutFolder,
    OutParquet,
    Ray,
    Schema,
    Seed,
    Workers,
    fault_log,
    print_error,
    print_json,
    print_summary,
    print_unread,
    progress_bar,
    total_of,
)
from data_prep.convert.convert import Options, Target, convert
from data_prep.convert.transform import Transform, read_columns
from data_prep.convert.validate import ImageLimits
from data_prep.curate.check import check_data
from data_prep.curate.dataset_report import dataset_summary, describe, write_page
from data_prep.curate.split_mix_shard import mix, schema_of, shard, split
from data_prep.formats.image_files import MAX_PIXELS
from data_prep.formats.row_errors import RejectLimit
from data_prep.formats.sources import find_sources, open_source, read_names
from data_prep.formats.writers import Writer, whole_parquet, whole_sharegpt
from data_prep.parallel.pipeline import cores, spare_cores
from data_prep.tasks.reading.glyphs import COLUMNS

SHOWN_FAULTS = 20
"""Maximum number of faults that `check` shows on the screen."""


def convert_command(
    inputs: Inputs,
    out: Annotated[Path, typer.Option("--out", "-o", help="A .parquet file; with --to sharegpt a folder.")],
    to: Annotated[
        Target, typer.Option(help="rl: RL rows for verl; sft: SFT rows for verl; sharegpt: for LLaMA-Factory.")
    ] = Target.RL,
    source: Schema = None,
    names: ColumnNames = None,
    lists: AnswerLists = False,
    images: Images = None,
    licence: Licence = None,
    split: Annotated[str | None, typer.Option(help="Split of the rows; replaces their own.")] = None,
    box_frame: Annotated[
        str | None, typer.Option(help=f"Frame of the boxes, one of {', '.join(BOX_FRAMES)}; replaces their own.")
    ] = None,
    dialect: Annotated[
        str | None, typer.Option(help=f"Write the calls of SFT rows as {' or '.join(DIALECTS)}; default: as they are.")
    ] = None,
    max_pixels: MaxPixels = MAX_PIXELS,
    decode: Annotated[
        bool, typer.Option("--decode", help="Decode images that needn't change, too, as `check` does.")
    ] = False,
    mask_failed_calls: MaskFailedCalls = True,
    run_code: Annotated[
        bool, typer.Option(help="Run the code of V-Interaction in the sandbox, for the images that it makes.")
    ] = True,
    max_rejected: MaxRejected = "1%",
    rejects: Annotated[
        Path | None, typer.Option(help="JSON lines file to write, with file, row and field of every fault.")
    ] = None,
    workers: Workers = None,
    ray: Ray = False,
    force: Force = False,
) -> None:
    """Convert a published data set, in any known schema, to RL rows, SFT rows or sharegpt."""
    if box_frame not in (None, *BOX_FRAMES):
        raise InputError(f"--box-frame must be one of {', '.join(BOX_FRAMES)}; not {box_frame!r}")
    name = next((name for name in DIALECTS if name == dialect), None)
    if dialect is not None and (name is None or to is Target.RL):
        raise InputError(f"--dialect is one of {', '.join(DIALECTS)} and needs --to sft or sharegpt; not {dialect!r}")
    reject_limit, sources = RejectLimit(max_rejected), find_sources(inputs, images, read_names(names))
    options = Options(
        target=to,
        dialect=name,
        reader=source,
        lists=lists,
        licence=licence,
        split=split,
        box_frame=box_frame,
        limits=ImageLimits(max_pixels=max_pixels, decode=decode),
        mask_failed_calls=mask_failed_calls,
        run_code=run_code,
    )
    with ExitStack() as stack:
        log = stack.enter_context(fault_log(rejects))
        whole: AbstractContextManager[Writer] = (
            whole_sharegpt(out, force=force) if to is Target.SHAREGPT else whole_parquet(out, to.schema, force=force)
        )
        writer = stack.enter_context(whole)
        progress = stack.enter_context(progress_bar(f"convert to {to}", total_of(sources)))
        count = workers or (cores() if ray else spare_cores())
        stats = convert(sources, options, writer, workers=count, ray=ray, progress=progress, rejected=log)
        reject_limit.check(stats)
    print_summary({"out": str(out), "to": to, **stats.plain()})


def transform_command(
    inputs: Inputs,
    out: OutParquet,
    columns: Annotated[str, typer.Option(help="Columns of the benchmark; every image becomes one row per column.")] = (
        ",".join(COLUMNS)
    ),
    corruptions: Annotated[
        str, typer.Option(help="More columns: corruptions as NAME or NAME:SEVERITIES, such as fog,shot_noise:1+3.")
    ] = "",
    one: Annotated[
        bool, typer.Option("--one", help="Make only one row from each input row; all columns are equally frequent.")
    ] = False,
    small: Annotated[
        float | None, typer.Option(min=0, max=1, help="Maximum share of the image that a cropped box covers.")
    ] = None,
    only_small: Annotated[
        bool, typer.Option("--only-small", help="Leave out rows with a larger box, or without a box.")
    ] = False,
    seed: Seed = 0,
    source: Schema = None,
    names: ColumnNames = None,
    lists: AnswerLists = False,
    images: Images = None,
    licence: Licence = None,
    max_rejected: MaxRejected = "1%",
    workers: Workers = None,
    ray: Ray = False,
    force: Force = False,
) -> None:
    """Build a robustness benchmark: every image upright, turned, mirrored or corrupted, with its boxes.

    As MVToolBench: --columns rot90,rot180,rot270,flip_h,flip_v --one --small 0.02 --only-small
    """
    if only_small and small is None:
        raise InputError("--only-small needs --small, the share of the image that counts as small")
    made = read_columns(columns, corruptions)
    transform = Transform(columns=made, one=one, small=small, only_small=only_small, seed=seed)
    reject_limit, sources = RejectLimit(max_rejected), find_sources(inputs, images, read_names(names))
    options = Options(target=Target.RL, reader=source, lists=lists, licence=licence, transform=transform)
    with ExitStack() as stack:
        writer = stack.enter_context(whole_parquet(out, Target.RL.schema, force=force))
        progress = stack.enter_context(progress_bar("transform", total_of(sources)))
        stats = convert(sources, options, writer, workers=workers or cores(), ray=ray, progress=progress)
        reject_limit.check(stats)
    print_summary({"out": str(out), "seed": seed, "columns": made, **stats.plain()})


def check_command(
    inputs: Inputs,
    source: Schema = None,
    names: ColumnNames = None,
    lists: AnswerLists = False,
    images: Images = None,
    max_pixels: MaxPixels = MAX_PIXELS,
    workers: Workers = None,
) -> None:
    """Check every row: images, boxes, ops, answers, turns, calls, ids; and find the frame in which boxes are drawn.

    Each fault is printed with file, row and field, on stderr and in the JSON. The exit code is 1 if there are faults.
    """
    sources = find_sources(inputs, images, read_names(names))
    with progress_bar("check", total_of(sources)) as progress:
        limits = ImageLimits(max_pixels=max_pixels, decode=True)
        result = check_data(
            sources, reader=source, lists=lists, limits=limits, workers=workers or cores(), progress=progress
        )
    for fault in result.faults[:SHOWN_FAULTS]:
        print_error(str(fault))
    summary = result.plain()
    print_unread(summary)
    print_json(summary)
    if result.bad:
        raise typer.Exit(1)


def inspect_command(
    inputs: Inputs,
    against: Annotated[
        list[Path] | None, typer.Option(help="Benchmark; count the rows that show one of its images.")
    ] = None,
    html: Annotated[Path | None, typer.Option(help="HTML page to write, with samples.")] = None,
    names: ColumnNames = None,
    images: Images = None,
    workers: Workers = None,
) -> None:
    """Count rows by source, transform, box and sample type; show sizes, lengths, duplicates and licences."""
    sources, others = find_sources(inputs, images, read_names(names)), find_sources(against or [], images)
    count = workers or cores()
    with progress_bar("inspect", total_of(sources)) as progress:
        facts = describe(sources, workers=count, thumbnails=html is not None, progress=progress)
    benchmark = None
    if others:
        with progress_bar("against", total_of(others)) as progress:
            benchmark = describe(others, workers=count, progress=progress)
    summary = dataset_summary(facts, benchmark)
    if html is not None:
        write_page(html, ", ".join(path.name for path in inputs), summary, facts)
    print_unread(summary)
    print_json(summary)


def split_command(
    inputs: Inputs,
    out: OutFolder,
    part: Annotated[list[str], typer.Option(help="NAME=SHARE of a part, written as NAME.parquet; shares sum to 1.")],
    seed: Seed = 0,
    force: Force = False,
) -> None:
    """Divide RL or SFT rows into parts; all rows of one image, however it is turned, stay together."""
    shares = [_weight(text, "--part") for text in part]
    if abs(sum(share for _, share in shares) - 1) > 1e-6 or len({name for name, _ in shares}) < len(shares):
        raise InputError(f"--part: the shares of parts with different names must sum to 1, not {', '.join(part)}")
    sources = find_sources(inputs)
    with progress_bar("split", total_of(sources)) as progress:
        stats = split(sources, out, shares, seed=seed, force=force, progress=progress)
    print_summary({"out": str(out), "seed": seed, "rows": dict(stats.rows), "licences": stats.licences})


def mix_command(
    inputs: Annotated[list[str], typer.Argument(help="FILE.parquet=WEIGHT, two or more.")],
    out: OutParquet,
    rows: Annotated[
        int | None, typer.Option(min=1, help="Number of rows; default: as many as possible without repeated rows.")
    ] = None,
    seed: Seed = 0,
    force: Force = False,
) -> None:
    """Mix RL rows, or SFT rows, of several files in the proportion of their weights."""
    weighted = [(open_source(Path(name)), weight) for name, weight in (_weight(text, "mix") for text in inputs)]
    schema = schema_of([source for source, _ in weighted])
    with whole_parquet(out, schema, force=force) as writer, progress_bar("mix", rows) as progress:
        stats = mix(weighted, writer, rows=rows, seed=seed, progress=progress)
    names = {str(source.path): source.rows or 1 for source, _ in weighted}
    print_summary(
        {
            "out": str(out),
            "seed": seed,
            "rows": dict(stats.rows),
            "epochs": {name: round(stats.rows[name] / total, 3) for name, total in names.items()},
            "licences": stats.licences,
        }
    )


def shard_command(
    inputs: Inputs,
    out: OutFolder,
    rows: Annotated[int, typer.Option(min=1, help="Rows per file.")],
    force: Force = False,
) -> None:
    """Cut RL or SFT rows into files with equally many rows."""
    sources = find_sources(inputs)
    with progress_bar("shard", total_of(sources)) as progress:
        stats = shard(sources, out, rows=rows, force=force, progress=progress)
    print_summary({"out": str(out), "rows": dict(stats.rows), "licences": stats.licences})


def _weight(text: str, option: str) -> tuple[str, float]:
    """Return `NAME=NUMBER` as a pair.

    Raises:
        InputError: The text has another form, or the number isn't above 0.
    """
    name, _, number = text.rpartition("=")
    try:
        weight = float(number)
    except ValueError:
        weight = 0.0
    if not name or not 0 < weight < float("inf"):
        raise InputError(f"{option} needs NAME=NUMBER with a number above 0, not {text!r}")
    return name, weight
