"""What all commands share: options, progress on stderr, a summary on stdout, an end that leaves nothing by halves."""

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from data_prep.formats.row_errors import RowFault
from data_prep.formats.sources import Source

T = TypeVar("T")
NAMED = 20
"""Faults that are shown on the screen."""
Inputs = Annotated[list[Path], typer.Argument(help="Parquet, JSON, JSON lines, CSV or TSV files, or folders.")]
Images = Annotated[
    Path | None, typer.Option("--pictures", help="Where paths of images start; the file's folder by default.")
]
Force = Annotated[bool, typer.Option("--force", help="Replace what is there.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Processes; by default one a core, for convert one less.")]
MaxRejected = Annotated[str, typer.Option(help="Rows that may be unusable, 10 or 1%; with more nothing is written.")]
Licence = Annotated[str | None, typer.Option(help="Licence of the rows, in place of what they and their schema say.")]


def print_summary(summary: dict[str, Any]) -> None:
    """The summary on stdout; what a person should know of it on stderr."""
    told = Console(stderr=True, soft_wrap=True, highlight=False)
    for source, licence in summary.get("licences", {}).items():
        if non_commercial(licence):
            told.print(f"data_prep: {source} is {licence}: the result may not be used commercially", markup=False)
    summary["non_commercial"] = any(map(non_commercial, summary.get("licences", {}).values()))
    typer.echo(json.dumps(summary, ensure_ascii=False))


def non_commercial(licence: str) -> bool:
    """Whether a licence forbids commercial use, by its name (SPDX)."""
    return "NC" in licence.upper().split("-")


def total_of(sources: list[Source]) -> int | None:
    """Rows of all sources; None where it isn't known."""
    return sum(source.rows or 0 for source in sources) if all(source.rows is not None for source in sources) else None


@contextmanager
def progress_bar(name: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A progress bar on stderr; call what this gives with the number of rows done."""
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


def watched(items: Iterable[T], total: int, name: str) -> Iterator[T]:
    """The items, with a progress bar on stderr while they are taken."""
    with progress_bar(name, total) as progress:
        for done, item in enumerate(items, start=1):
            yield item
            progress(done)


@contextmanager
def fault_log(path: Path | None) -> Iterator[Callable[[RowFault], None]]:
    """Where faults are written, a JSON object a line; this file is there even if the run refuses to write its rows."""
    if path is None:
        yield lambda _: None
        return
    with path.open("w", encoding="utf-8") as file:
        yield lambda fault: print(json.dumps(asdict(fault), ensure_ascii=False), file=file)
