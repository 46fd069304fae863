"""What `python -m data_prep` does: a summary as JSON on stdout, talk on stderr, exit code 2 for bad input."""

import json
import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from codevision_ext.errors import CodeVisionError, InputError
from codevision_ext.io.atomic_files import whole_folder, write_whole
from codevision_ext.rollout.code_tool import CodeTool
from codevision_ext.sandbox import Sandbox
from data_prep.cli import dataset_commands
from data_prep.cli.common import Workers, watched
from data_prep.demonstrations.scripted import draw_trajectories, read_aloud
from data_prep.formats.output_files import write_parquet, write_trajectories
from data_prep.formats.schema import RL_SCHEMA, SFT_SCHEMA, rl_record, sft_record
from data_prep.parallel.pipeline import cores, map_chunks
from data_prep.tasks.reading import tokenizer_corpus as tokenizer_corpus
from data_prep.tasks.reading.glyphs import COLUMNS, Mix, draw_reading_rows, draw_rows, draw_test_rows

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)
CORPUS_ROWS = 250
"""Trajectories behind the tokenizer's texts: enough for every op, style, window and mistake to appear."""
PARTS = ("rl", "read", "sft")
"""What can be drawn apart: rows for RL, upright reading, trajectories with the tool."""


@app.callback()
def data_prep() -> None:
    """Draw or convert data for CodeVision."""


dataset_commands.register(app)


@app.command()
def glyphs(
    out: Annotated[Path, typer.Option(help="Folder to write; it appears whole or not at all.")],
    rows: Annotated[int, typer.Option(min=1, help="Rows of train.parquet; val.parquet has a tenth.")] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same bytes.")] = 0,
    parts: Annotated[str, typer.Option(help="Which files to write.")] = ",".join(PARTS),
    test_items: Annotated[int, typer.Option(min=1, help="Items of test.parquet, six rows each.")] = 120,
    read_rows: Annotated[
        int | None, typer.Option(min=1, help="Rows of letters.parquet and of read.parquet; default 4 x --rows.")
    ] = None,
    sft_rows: Annotated[int | None, typer.Option(min=1, help="Trajectories; default half of --rows.")] = None,
    wrong_first: Annotated[
        float, typer.Option(min=0, max=1, help="Share of turned rows whose demonstration turns wrong, then recovers.")
    ] = 0.4,
    words_share: Annotated[float, typer.Option(help="Share of words, the rest are numbers; in [0, 1].")] = 0.1,
    source_share: Annotated[float, typer.Option(help="Share of rows that need no tool; in [0, 1].")] = 1 / 6,
    crop_share: Annotated[float, typer.Option(help="Share of rows that need a crop; in [0, 1].")] = 0.15,
    sizes: Annotated[str, typer.Option(help="Sizes of upright images, pixels.")] = "84x28,90x30,96x32",
    workers: Workers = None,
    force: Annotated[bool, typer.Option("--force", help="Replace what is in --out.")] = False,
) -> None:
    """Draw the small reading task: characters to read in images that are turned, mirrored or too large."""
    mix = Mix(
        seed=seed,
        sizes=parse_sizes(sizes),
        words_share=words_share,
        source_share=source_share,
        crop_share=crop_share,
    )
    wanted = parse_parts(parts)
    workers = workers or cores()
    read_rows, sft_rows = read_rows or 4 * rows, sft_rows or max(1, rows // 2)
    counts: dict[str, int] = {}
    types: dict[str, dict[str, int]] = {}
    with whole_folder(out, force=force) as folder:
        if "rl" in wanted:
            for name, count, drawn in (
                ("train", rows, map_chunks(partial(draw_rows, mix, split="train", stream="train"), rows, workers)),
                ("val", _held_out(rows), draw_rows(mix, _held_out(rows), "val", "val")),
                ("test", test_items * len(COLUMNS), draw_test_rows(mix, test_items)),
            ):
                shown = watched(map(rl_record, drawn), count, name)
                counts[name] = write_parquet(folder / f"{name}.parquet", RL_SCHEMA, shown)
        if "read" in wanted:
            for name, count in (("letters", read_rows), ("read", read_rows), ("read_val", _held_out(read_rows))):
                drawn = map_chunks(partial(draw_reading_rows, mix, stream=name), count, workers)
                shown = watched(map(sft_record, map(read_aloud, drawn)), count, name)
                counts[name] = write_parquet(folder / f"{name}.parquet", SFT_SCHEMA, shown)
        if "sft" in wanted:
            with Sandbox() as sandbox:
                tool = CodeTool(sandbox)
                for name, split, count in (("sft", "train", sft_rows), ("sft_val", "val", _held_out(sft_rows))):
                    made = watched(draw_trajectories(mix, count, split, tool, wrong_first), count, name)
                    counts[name], types[name] = write_trajectories(folder, name, made)
    typer.echo(json.dumps({"out": str(out), "seed": seed, "rows": counts, "sample_types": types}))


@app.command(name="corpus")
def write_corpus(
    out: Annotated[Path, typer.Option(help="Text file to write: one JSON string a line.")],
) -> None:
    """Write the texts that the tokenizer of a tiny model is trained on."""
    with Sandbox() as sandbox:
        mix = Mix(source_share=0.0, crop_share=0.4)
        trajectories = draw_trajectories(mix, CORPUS_ROWS, "train", CodeTool(sandbox), wrong_first=0.5)
        lines = [json.dumps(text) + "\n" for text in tokenizer_corpus.texts(trajectories)]
    write_whole(out, "".join(lines).encode())
    typer.echo(json.dumps({"out": str(out), "texts": len(lines)}))


def parse_parts(text: str) -> set[str]:
    """`read,rl` as a set.

    Raises:
        InputError: A part that there is none of; the message lists them.
    """
    parts = {part.strip() for part in text.split(",")}
    if unknown := sorted(parts - set(PARTS)):
        raise InputError(f"--parts knows {', '.join(PARTS)}; not {unknown[0]!r}")
    return parts


def parse_sizes(text: str) -> tuple[tuple[int, int], ...]:
    """`84x28,90x30,96x32` as pairs of width and height.

    Raises:
        InputError: Something in the list isn't WIDTHxHEIGHT.
    """
    sizes = []
    for item in text.split(","):
        width, _, height = item.strip().partition("x")
        if not (width.isdecimal() and height.isdecimal()):
            raise InputError(f"--sizes is a list like 84x28,90x30,96x32; {item!r} isn't WIDTHxHEIGHT")
        sizes.append((int(width), int(height)))
    return tuple(sizes)


def _held_out(rows: int) -> int:
    """Rows to validate on: a tenth, and enough for a percentage to mean something."""
    return max(120, rows // 10)


def main() -> None:
    """Run the command; an error of ours or of the input ends it with one sentence."""
    try:
        app()
    except CodeVisionError as error:
        typer.echo(f"data_prep: {error}", err=True)
        sys.exit(2)
    except OSError as error:
        typer.echo(f"data_prep: can't read or write: {error}", err=True)
        sys.exit(2)
