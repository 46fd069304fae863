"""Defines the commands that draw the reading task, and the texts of its tokenizer."""

import json
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from codevision_ext.errors import InputError
from codevision_ext.io.atomic_files import whole_folder, write_whole
from codevision_ext.rollout.code_tool import CodeTool
from codevision_ext.sandbox import Sandbox
from data_prep.cli.common import (
    Force,
    MaskFailedCalls,
    Seed,
    Workers,
    held_out,
    left_out,
    names_among,
    print_json,
    with_progress,
)
from data_prep.cli.generate_commands import Parts, SourceShare, TestItems, Without, WrongFirst
from data_prep.convert.failed_calls import train_failed_calls
from data_prep.demonstrations.scripted import draw_demonstrations, read_aloud
from data_prep.formats.schema import RL_SCHEMA, SFT_SCHEMA, rl_record, sft_record
from data_prep.formats.writers import write_demonstrations, write_parquet
from data_prep.parallel.pipeline import cores, map_chunks
from data_prep.tasks.reading import tokenizer_corpus
from data_prep.tasks.reading.glyphs import COLUMNS, Mix, Writing, draw_reading_rows, draw_rows, draw_test_rows

CORPUS_ROWS = 250
"""Demonstrations behind the tokenizer's texts: enough for every op, style, window and mistake to appear."""
GLYPHS_PARTS = ("rl", "read", "sft")
"""Parts of `glyphs`: rows for RL, rows for reading upright images, demonstrations with the tool."""


def glyphs_command(
    out: Annotated[Path, typer.Option(help="Folder to write; it appears complete at the end, or not at all.")],
    rows: Annotated[int, typer.Option(min=1, help="Rows of train.parquet; val.parquet has a tenth.")] = 2000,
    seed: Seed = 0,
    parts: Parts = "rl,read,sft",
    test_items: TestItems = 120,
    read_rows: Annotated[
        int | None, typer.Option(min=1, help="Rows of letters.parquet and of read.parquet; default: 4 x --rows.")
    ] = None,
    sft_rows: Annotated[int | None, typer.Option(min=1, help="Demonstrations; default: half of --rows.")] = None,
    wrong_first: WrongFirst = 0.4,
    mask_failed_calls: MaskFailedCalls = True,
    without: Without = "",
    writing: Annotated[
        Writing, typer.Option(help="Characters in fonts (glyphs), or digits written by people (handwriting).")
    ] = Writing.PRINT,
    words_share: Annotated[
        float | None,
        typer.Option(help="Share of words among the texts, by default 0.1; 0 for handwriting. The others are numbers."),
    ] = None,
    source_share: SourceShare = 1 / 6,
    crop_share: Annotated[float, typer.Option(help="Share of rows that need a crop, in [0, 1].")] = 0.15,
    sizes: Annotated[str, typer.Option(help="Sizes of upright images, in pixels.")] = "84x28,90x30,96x32",
    workers: Workers = None,
    force: Force = False,
) -> None:
    """Generate the small reading task: characters to read in images that are turned, mirrored or too large."""
    mix = Mix(
        seed=seed,
        sizes=parse_sizes(sizes),
        writing=writing,
        words_share=words_share,
        source_share=source_share,
        crop_share=crop_share,
        without=left_out(without, "glyphs", chosen=False),
    )
    selected = names_among(parts, GLYPHS_PARTS, "--parts")
    workers = workers or cores()
    read_rows, sft_rows = read_rows or 4 * rows, sft_rows or max(1, rows // 2)
    counts: dict[str, int] = {}
    types: dict[str, dict[str, int]] = {}
    with whole_folder(out, force=force) as folder:
        if "rl" in selected:
            for name, count, drawn in (
                ("train", rows, map_chunks(partial(draw_rows, mix, split="train", stream="train"), rows, workers)),
                ("val", held_out(rows), draw_rows(mix, held_out(rows), "val", "val")),
                ("test", test_items * len(COLUMNS), draw_test_rows(mix, test_items)),
            ):
                records = with_progress(map(rl_record, drawn), count, name)
                counts[name] = write_parquet(folder / f"{name}.parquet", RL_SCHEMA, records)
        if "read" in selected:
            for name, count in (("letters", read_rows), ("read", read_rows), ("read_val", held_out(read_rows))):
                drawn = map_chunks(partial(draw_reading_rows, mix, stream=name), count, workers)
                records = with_progress(map(sft_record, map(read_aloud, drawn)), count, name)
                counts[name] = write_parquet(folder / f"{name}.parquet", SFT_SCHEMA, records)
        if "sft" in selected:
            with Sandbox() as sandbox:
                tool = CodeTool(sandbox)
                for name, split, count in (("sft", "train", sft_rows), ("sft_val", "val", held_out(sft_rows))):
                    demonstrations = draw_demonstrations(mix, count, split, tool, wrong_first)
                    if not mask_failed_calls:
                        demonstrations = map(train_failed_calls, demonstrations)
                    types[name] = write_demonstrations(folder, name, with_progress(demonstrations, count, name))
                    counts[name] = sum(types[name].values())
    print_json({"out": str(out), "seed": seed, "rows": counts, "sample_types": types})


def corpus_command(
    out: Annotated[Path, typer.Option(help="Text file to write, one JSON string per line.")],
) -> None:
    """Write the texts that the tokenizer of a tiny model is trained on."""
    with Sandbox() as sandbox:
        mix = Mix(source_share=0.0, crop_share=0.4)
        demonstrations = draw_demonstrations(mix, CORPUS_ROWS, "train", CodeTool(sandbox), wrong_first=0.5)
        lines = [json.dumps(text) + "\n" for text in tokenizer_corpus.texts(demonstrations)]
    write_whole(out, "".join(lines).encode())
    print_json({"out": str(out), "texts": len(lines)})


def parse_sizes(text: str) -> tuple[tuple[int, int], ...]:
    """Return `84x28,90x30,96x32` as pairs of width and height.

    Raises:
        InputError: An item of the list isn't WIDTHxHEIGHT.
    """
    sizes = []
    for item in text.split(","):
        width, _, height = item.strip().partition("x")
        if not (width.isdecimal() and height.isdecimal()):
            raise InputError(f"--sizes is a list like 84x28,90x30,96x32; {item!r} isn't WIDTHxHEIGHT")
        sizes.append((int(width), int(height)))
    return tuple(sizes)
