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
from data_prep.glyphs import Mix, draw_reading_rows
from data_prep.schema import SFT_SCHEMA, sft_record
from data_prep.trajectories import read_aloud

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)
T = TypeVar("T")


@app.callback()
def data_prep() -> None:
    """Draw or convert data for CodeVision."""


@app.command()
def glyphs(
    out: Annotated[Path, typer.Option(help="Folder to write; it appears whole or not at all.")],
    rows: Annotated[int, typer.Option(min=1, help="Rows of train.parquet.")] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same bytes.")] = 0,
    read_rows: Annotated[int | None, typer.Option(min=1, help="Rows of read.parquet; default 4 times --rows.")] = None,
    words_share: Annotated[float, typer.Option(help="Share of words, the rest are numbers; in [0, 1].")] = 0.3,
    sizes: Annotated[str, typer.Option(help="Sizes of upright pictures, pixels.")] = "84x56,112x56,84x84",
    parts: Annotated[str, typer.Option(help="Which files to draw, of: read.")] = "read",
    force: Annotated[bool, typer.Option(help="Replace what is in --out.")] = False,
) -> None:
    """Draw the small reading task: characters to read in pictures that are turned, mirrored or too large."""
    mix = Mix(seed=seed, sizes=parse_sizes(sizes), words_share=words_share)
    read_rows = read_rows or 4 * rows
    summary: dict[str, int] = {}
    with whole_folder(out, force=force) as folder:
        for split, count in (("train", read_rows), ("val", max(120, read_rows // 20))):
            name = "read.parquet" if split == "train" else f"read_{split}.parquet"
            drawn = _shown((sft_record(read_aloud(row)) for row in draw_reading_rows(mix, count, split)), count, name)
            summary[name] = write_parquet(folder / name, SFT_SCHEMA, drawn)
    typer.echo(json.dumps({"out": str(out), "seed": seed, "parts": parts, "rows": summary}))


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
