"""Holds what several commands need: options, the summary on stdout, messages and progress on stderr."""

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from codevision_ext.errors import InputError
from codevision_ext.task.image_ops import CORE_OPS, OPTIONAL_OPS
from data_prep.formats.row_errors import RowFault, notes_on
from data_prep.formats.sources import Source

T = TypeVar("T")
Inputs = Annotated[list[Path], typer.Argument(help="Parquet, JSON, JSON lines, CSV or TSV files, or folders.")]
OutFolder = Annotated[
    Path, typer.Option("--out", "-o", help="Folder to write; it appears complete at the end, or not at all.")
]
OutParquet = Annotated[Path, typer.Option("--out", "-o", help="A .parquet file.")]
Schema = Annotated[str | None, typer.Option(help="Schema of the inputs; by default chosen by their columns.")]
Images = Annotated[
    Path | None, typer.Option("--pictures", help="Folder that paths of images start from; default: the file's folder.")
]
ColumnNames = Annotated[
    str | None,
    typer.Option("--map", help="FIELD=COLUMN for columns with unknown names: question=problem,answer=solution."),
]
AnswerLists = Annotated[
    bool,
    typer.Option(
        "--answers-are-lists", help='Read an answer like "[3, 4]" as a list of right answers, not as one answer.'
    ),
]
Licence = Annotated[str | None, typer.Option(help="Licence of the rows; replaces the licence of rows and schema.")]
MaxPixels = Annotated[int, typer.Option(min=1, help="Maximum size of an image, in pixels.")]
MaxRejected = Annotated[str, typer.Option(help="Maximum of unusable rows, as 10 or 1%; with more, nothing is written.")]
Seed = Annotated[int, typer.Option(min=0, help="Random seed; the same seed gives the same bytes.")]
Workers = Annotated[
    int | None, typer.Option(min=1, help="Number of processes; default: one per core, for convert one fewer.")
]
Ray = Annotated[
    bool, typer.Option("--ray", help="Run on the Ray cluster of RAY_ADDRESS, else on one started on this machine.")
]
MaskFailedCalls = Annotated[
    bool,
    typer.Option(help="Leave failed calls, and generated calls that are wrong on purpose, out of the loss of SFT."),
]
Force = Annotated[bool, typer.Option("--force", help="Replace the output if it exists.")]


def print_summary(summary: dict[str, Any]) -> None:
    """Print the summary on stdout as JSON, and a warning about each non-commercial licence on stderr."""
    restricted = {name: licence for name, licence in summary.get("licences", {}).items() if non_commercial(licence)}
    for source, licence in restricted.items():
        print_error(f"{source} is {licence}: the result may not be used commercially")
    print_unread(summary)
    print_json(summary | {"non_commercial": bool(restricted)})


def print_unread(summary: dict[str, Any]) -> None:
    """Print on stderr which columns weren't read, and which rows may be meant in another way."""
    for sentence in notes_on(summary):
        print_error(sentence)


def print_json(value: dict[str, Any]) -> None:
    """Print an object on stdout as one line of JSON."""
    typer.echo(json.dumps(value, ensure_ascii=False))


def print_error(message: str) -> None:
    """Print a message on stderr."""
    Console(stderr=True, soft_wrap=True, highlight=False).print(f"data_prep: {message}", markup=False)


def non_commercial(licence: str) -> bool:
    """Return whether a licence forbids commercial use, by its SPDX name."""
    return "NC" in licence.upper().split("-")


def names_among(text: str, known: Iterable[str], option: str) -> tuple[str, ...]:
    """Return a comma-separated list of known names as a tuple, each name once.

    Raises:
        InputError: A name isn't known; the message lists the known names.
    """
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if unknown := [name for name in names if name not in known]:
        raise InputError(f"{option} must be among {', '.join(known)}; not {unknown[0]!r}")
    return names


def left_out(text: str, command: str, *, chosen: bool) -> tuple[str, ...]:
    """Return the operations of --without; stderr names those that `command` never uses.

    Args:
        text: Names, separated by commas.
        command: Name of the command.
        chosen: Whether a model chooses the operations of demonstrations.

    Raises:
        InputError: An operation isn't known.
    """
    names = names_among(text, sorted(CORE_OPS | OPTIONAL_OPS), "--without")
    if unused := [name for name in names if name not in CORE_OPS and not chosen]:
        print_error(
            f"--without {','.join(unused)} changes nothing: no row of {command} requires it and no call does it"
        )
    return names


def total_of(sources: list[Source]) -> int | None:
    """Return the number of rows of all sources; None if a source doesn't know its own."""
    rows = [source.rows for source in sources]
    return None if None in rows else sum(filter(None, rows))


@contextmanager
def progress_bar(name: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Show a progress bar on stderr; the block gets a function that takes the number of finished rows."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(name, total=total)
        yield lambda done: bar.update(task, completed=done)


def with_progress(items: Iterable[T], total: int, name: str) -> Iterator[T]:
    """Yield the items, and show a progress bar on stderr."""
    with progress_bar(name, total) as progress:
        for done, item in enumerate(items, start=1):
            yield item
            progress(done)


@contextmanager
def fault_log(path: Path | None) -> Iterator[Callable[[RowFault], None]]:
    """Open a log of faults, one JSON object per line; it stays if the run ends without writing its rows."""
    if path is None:
        yield lambda _: None
        return
    with path.open("w", encoding="utf-8") as file:
        yield lambda fault: print(json.dumps(fault.plain(), ensure_ascii=False), file=file)


def held_out(rows: int) -> int:
    """Return the number of validation rows: a tenth, but enough for a meaningful percentage."""
    return max(120, rows // 10)
