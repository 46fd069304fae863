"""What `python -m data_prep` does with sets that are there: each command reads options, runs a function, reports."""

import json
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from codevision_ext.errors import InputError
from codevision_ext.types import BOX_FRAMES
from data_prep.cli.common import (
    NAMED,
    Force,
    Images,
    Inputs,
    Licence,
    MaxRejected,
    Workers,
    fault_log,
    print_summary,
    progress_bar,
    total_of,
)
from data_prep.cli.generate_commands import filter_command, synth_command
from data_prep.convert.convert import Options, Target, convert
from data_prep.convert.transform import Transform, read_columns
from data_prep.convert.validate import ImageLimits
from data_prep.curate.check import check_data
from data_prep.curate.dataset_report import dataset_summary, look, write_page
from data_prep.curate.split_mix_shard import mix, schema_of, shard, split
from data_prep.formats.image_files import MAX_PIXELS
from data_prep.formats.row_errors import RejectLimit
from data_prep.formats.sources import find_sources, open_source
from data_prep.formats.writers import Writer, whole_parquet, whole_sharegpt
from data_prep.parallel.pipeline import cores, spare_cores
from data_prep.tasks.reading.glyphs import COLUMNS


def convert_command(
    inputs: Inputs,
    out: Annotated[Path, typer.Option("--out", "-o", help="A .parquet file; with --to sharegpt a folder.")],
    to: Annotated[
        Target, typer.Option(help="rl: verl's RL rows; sft: its SFT rows; sharegpt: LLaMA-Factory.")
    ] = Target.RL,
    source: Annotated[
        str | None, typer.Option(help="Schema of the inputs; by default told from their columns.")
    ] = None,
    images: Images = None,
    licence: Licence = None,
    split: Annotated[str | None, typer.Option(help="Split of the rows, in place of their own.")] = None,
    box_frame: Annotated[str | None, typer.Option(help=f"{', '.join(BOX_FRAMES)}: what boxes are drawn on.")] = None,
    max_pixels: Annotated[int, typer.Option(min=1, help="Of the largest image that is decoded.")] = MAX_PIXELS,
    decode: Annotated[
        bool, typer.Option("--decode", help="Decode images that needn't change, as `check_data` does.")
    ] = False,
    max_rejected: MaxRejected = "1%",
    rejects: Annotated[Path | None, typer.Option(help="JSON lines to write: every fault, file, row and field.")] = None,
    workers: Workers = None,
    ray: Annotated[
        bool, typer.Option("--ray", help="Over a Ray cluster: RAY_ADDRESS's, else one on this machine.")
    ] = False,
    force: Force = False,
) -> None:
    """Read a published set, in any of the known schemas, and write rows that train."""
    if box_frame not in (None, *BOX_FRAMES):
        raise InputError(f"--box-frame is {', '.join(BOX_FRAMES)}; not {box_frame!r}")
    allowance, sources = RejectLimit(max_rejected), find_sources(inputs, images)
    options = Options(
        target=to,
        reader=source,
        licence=licence,
        split=split,
        box_frame=box_frame,
        limits=ImageLimits(max_pixels=max_pixels, decode=decode),
    )
    with ExitStack() as stack:
        log = stack.enter_context(fault_log(rejects))
        whole: AbstractContextManager[Writer] = (
            whole_sharegpt(out, force=force) if to is Target.SHAREGPT else whole_parquet(out, to.schema, force=force)
        )
        writer = stack.enter_context(whole)
        progress = stack.enter_context(progress_bar(f"convert to {to}", total_of(sources)))
        count = workers or (cores() if ray else spare_cores())
        tally = convert(sources, options, writer, workers=count, ray=ray, progress=progress, rejected=log)
        allowance.check(tally)
    print_summary({"out": str(out), "to": to, **tally.plain()})


def transform_command(
    inputs: Inputs,
    out: Annotated[Path, typer.Option("--out", "-o", help="A .parquet file.")],
    columns: Annotated[str, typer.Option(help="What to make of every image.")] = ",".join(COLUMNS),
    corruptions: Annotated[str, typer.Option(help="NAME or NAME:1+3 (severities), by commas: fog,shot_noise:3.")] = "",
    one: Annotated[
        bool, typer.Option("--one", help="One column a row, all equally frequent, not all of them.")
    ] = False,
    small: Annotated[
        float | None, typer.Option(min=0, max=1, help="A box of up to this share of the image has to be cropped.")
    ] = None,
    only_small: Annotated[
        bool, typer.Option("--only-small", help="Leave out rows whose box is larger, or none.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same bytes.")] = 0,
    source: Annotated[
        str | None, typer.Option(help="Schema of the inputs; by default told from their columns.")
    ] = None,
    images: Images = None,
    licence: Licence = None,
    max_rejected: MaxRejected = "1%",
    workers: Workers = None,
    ray: Annotated[
        bool, typer.Option("--ray", help="Over a Ray cluster: RAY_ADDRESS's, else one on this machine.")
    ] = False,
    force: Force = False,
) -> None:
    """Build a robustness benchmark: every image upright, turned, mirrored, corrupted; boxes go along.

    MVToolBench's kind: --columns rot90,rot180,rot270,flip_h,flip_v --one --small 0.02 --only-small
    """
    if only_small and small is None:
        raise InputError("--only-small wants --small, the share of the image that counts as small")
    made = Transform(columns=read_columns(columns, corruptions), one=one, small=small, only_small=only_small, seed=seed)
    allowance, sources = RejectLimit(max_rejected), find_sources(inputs, images)
    options = Options(target=Target.RL, reader=source, licence=licence, transform=made)
    with ExitStack() as stack:
        writer = stack.enter_context(whole_parquet(out, Target.RL.schema, force=force))
        progress = stack.enter_context(progress_bar("transform", total_of(sources)))
        tally = convert(sources, options, writer, workers=workers or cores(), ray=ray, progress=progress)
        allowance.check(tally)
    print_summary({"out": str(out), "seed": seed, "columns": made.columns, **tally.plain()})


def check_command(
    inputs: Inputs,
    source: Annotated[
        str | None, typer.Option(help="Schema of the inputs; by default told from their columns.")
    ] = None,
    images: Images = None,
    max_pixels: Annotated[int, typer.Option(min=1, help="Of the largest image that is decoded.")] = MAX_PIXELS,
    workers: Workers = None,
) -> None:
    """Validate every row: images, boxes, ops, answers, turns, calls, ids; audit which frame boxes are drawn in.

    Exit 1 when a row has a fault; each is named with file, row and field, on stderr and in the JSON.
    """
    sources = find_sources(inputs, images)
    with progress_bar("check", total_of(sources)) as progress:
        limits = ImageLimits(max_pixels=max_pixels, decode=True)
        found = check_data(sources, reader=source, limits=limits, workers=workers or cores(), progress=progress)
    told = Console(stderr=True, soft_wrap=True, highlight=False)
    for fault in found.faults[:NAMED]:
        told.print(f"data_prep: {fault}", markup=False)
    typer.echo(json.dumps(found.plain(), ensure_ascii=False))
    if found.bad:
        raise typer.Exit(1)


def inspect_command(
    inputs: Inputs,
    against: Annotated[list[Path] | None, typer.Option(help="A benchmark: which rows show an image of it?")] = None,
    html: Annotated[Path | None, typer.Option(help="A page to write, with samples.")] = None,
    images: Images = None,
    workers: Workers = None,
) -> None:
    """Count a set by source, transform, box and sample type; sizes, lengths, duplicates, licences."""
    sources, others = find_sources(inputs, images), find_sources(against or [], images)
    count = workers or cores()
    with progress_bar("inspect", total_of(sources)) as progress:
        facts = look(sources, workers=count, draw=html is not None, progress=progress)
    benchmark = None
    if others:
        with progress_bar("against", total_of(others)) as progress:
            benchmark = look(others, workers=count, progress=progress)
    told = dataset_summary(facts, benchmark)
    if html is not None:
        write_page(html, ", ".join(path.name for path in inputs), told, facts)
    typer.echo(json.dumps(told, ensure_ascii=False))


def split_command(
    inputs: Inputs,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder; PART.parquet is written there.")],
    part: Annotated[list[str], typer.Option(help="NAME=SHARE, once a part; the shares sum to 1.")],
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same division.")] = 0,
    force: Force = False,
) -> None:
    """Divide RL or SFT rows into parts; all rows of one image, however it is turned, stay together."""
    shares = [_weight(text, "--part") for text in part]
    if abs(sum(share for _, share in shares) - 1) > 1e-6 or len({name for name, _ in shares}) < len(shares):
        raise InputError(f"--part: the shares of parts with different names must sum to 1, not {', '.join(part)}")
    sources = find_sources(inputs)
    with progress_bar("split", total_of(sources)) as progress:
        copied = split(sources, out, shares, seed=seed, force=force, progress=progress)
    print_summary({"out": str(out), "seed": seed, "rows": dict(copied.rows), "licences": copied.licences})


def mix_command(
    inputs: Annotated[list[str], typer.Argument(help="FILE.parquet=WEIGHT, two or more.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="A .parquet file.")],
    rows: Annotated[
        int | None, typer.Option(min=1, help="How many; as many as there are without repeats by default.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same rows.")] = 0,
    force: Force = False,
) -> None:
    """Mix RL rows, or SFT rows, of several files in the proportion of their weights."""
    weights = [_weight(text, "mix") for text in inputs]
    weighted = [(open_source(Path(name)), weight) for name, weight in weights]
    schema = schema_of([source for source, _ in weighted])
    with whole_parquet(out, schema, force=force) as writer, progress_bar("mix", rows) as progress:
        copied = mix(weighted, writer, rows=rows, seed=seed, progress=progress)
    repeated = {str(source.path): copied.rows[str(source.path)] / (source.rows or 1) for source, _ in weighted}
    summary_of = {
        "out": str(out),
        "seed": seed,
        "rows": dict(copied.rows),
        "epochs": {name: round(times, 3) for name, times in repeated.items()},
        "licences": copied.licences,
    }
    print_summary(summary_of)


def shard_command(
    inputs: Inputs,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder.")],
    rows: Annotated[int, typer.Option(min=1, help="Rows of a file.")],
    force: Force = False,
) -> None:
    """Cut RL or SFT rows into files of equally many rows."""
    sources = find_sources(inputs)
    with progress_bar("shard", total_of(sources)) as progress:
        copied = shard(sources, out, rows=rows, force=force, progress=progress)
    print_summary({"out": str(out), "rows": dict(copied.rows), "licences": copied.licences})


COMMANDS: dict[str, Callable[..., None]] = {
    "convert": convert_command,
    "transform": transform_command,
    "check": check_command,
    "inspect": inspect_command,
    "split": split_command,
    "mix": mix_command,
    "shard": shard_command,
    "synth": synth_command,
    "filter": filter_command,
}


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for name, command in COMMANDS.items():
        app.command(name)(command)


def _weight(text: str, option: str) -> tuple[str, float]:
    """`NAME=NUMBER` as a pair.

    Raises:
        InputError: It isn't, or the number isn't above 0.
    """
    name, _, number = text.rpartition("=")
    try:
        weight = float(number)
    except ValueError:
        weight = 0.0
    if not name or not 0 < weight < float("inf"):
        raise InputError(f"{option} wants NAME=NUMBER with a number above 0, not {text!r}")
    return name, weight
