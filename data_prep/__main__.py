"""What `python -m data_prep` does: a summary as JSON on stdout, talk on stderr, exit code 2 for bad input."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from rich.console import Console
from rich.progress import track

from codevision_ext.errors import InputError
from data_prep.files import whole_folder, write_parquet
from data_prep.glyphs import COLUMNS, Mix, draw_reading_rows, draw_rows, draw_test_rows
from data_prep.schema import RL_SCHEMA, SFT_SCHEMA, rl_record, sft_record
from data_prep.trajectories import read_aloud

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)
T = TypeVar("T")
PARTS = ("rl", "read")
"""What can be drawn apart: the rows for RL, and upright reading."""


@app.callback()
def data_prep() -> None:
    """Draw or convert data for CodeVision."""


@app.command()
def glyphs(
    out: Annotated[Path, typer.Option(help="Folder to write; it appears whole or not at all.")],
    rows: Annotated[int, typer.Option(min=1, help="Rows of train.parquet; val.parquet has a tenth.")] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same bytes.")] = 0,
    parts: Annotated[str, typer.Option(help="Which files to write.")] = ",".join(PARTS),
    test_items: Annotated[int, typer.Option(min=1, help="Items of test.parquet, six rows each.")] = 120,
    read_rows: Annotated[int | None, typer.Option(min=1, help="Rows of read.parquet; default 4 x --rows.")] = None,
    words_share: Annotated[float, typer.Option(help="Share of words, the rest are numbers; in [0, 1].")] = 0.3,
    source_share: Annotated[float, typer.Option(help="Share of rows that need no tool; in [0, 1].")] = 1 / 6,
    crop_share: Annotated[float, typer.Option(help="Share of rows that need a crop; in [0, 1].")] = 0.15,
    sizes: Annotated[str, typer.Option(help="Sizes of upright pictures, pixels.")] = "84x56,112x56,84x84",
    force: Annotated[bool, typer.Option("--force", help="Replace what is in --out.")] = False,
) -> None:
    """Draw the small reading task: characters to read in pictures that are turned, mirrored or too large."""
    mix = Mix(
        seed=seed,
        sizes=parse_sizes(sizes),
        words_share=words_share,
        source_share=source_share,
        crop_share=crop_share,
    )
    wanted = parse_parts(parts)
    read_rows = read_rows or 4 * rows
    counts: dict[str, int] = {}
    with whole_folder(out, force=force) as folder:
        if "rl" in wanted:
            for name, count, drawn in (
                ("train", rows, draw_rows(mix, rows, "train", "train")),
                ("val", _held_out(rows), draw_rows(mix, _held_out(rows), "val", "val")),
                ("test", test_items * len(COLUMNS), draw_test_rows(mix, test_items)),
            ):
                shown = _shown(map(rl_record, drawn), count, name)
                counts[name] = write_parquet(folder / f"{name}.parquet", RL_SCHEMA, shown)
        if "read" in wanted:
            for name, split, count in (("read", "train", read_rows), ("read_val", "val", _held_out(read_rows))):
                shown = _shown(map(sft_record, map(read_aloud, draw_reading_rows(mix, count, split))), count, name)
                counts[name] = write_parquet(folder / f"{name}.parquet", SFT_SCHEMA, shown)
    typer.echo(json.dumps({"out": str(out), "seed": seed, "rows": counts}))


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
    """`84x56,112x56` as pairs of width and height.

    Raises:
        InputError: Something in the list isn't WIDTHxHEIGHT.
    """
    sizes = []
    for item in text.split(","):
        width, _, height = item.strip().partition("x")
        if not (width.isdecimal() and height.isdecimal()):
            raise InputError(f"--sizes is a list like 84x56,112x56; {item!r} isn't WIDTHxHEIGHT")
        sizes.append((int(width), int(height)))
    return tuple(sizes)


def _held_out(rows: int) -> int:
    """Rows to validate on: a tenth, and enough for a percentage to mean something."""
    return max(120, rows // 10)


def _shown(items: Iterable[T], total: int, name: str) -> Iterator[T]:
    yield from track(items, description=name, total=total, console=Console(stderr=True))


def main(run: Callable[[], object] = app) -> None:
    """Run the command; bad input ends it with one sentence."""
    try:
        run()
    except InputError as error:
        typer.echo(f"data_prep: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
