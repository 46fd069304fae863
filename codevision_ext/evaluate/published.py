"""Reads the published results of benchmarks, for tables beside our own; `published.json` holds them with their sources.

Results of different releases of a benchmark stand in different tables, because their items and judges differ.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from rich.table import Table

from codevision_ext.evaluate.tables import latex_table, markdown_table
from codevision_ext.io.json_codec import JsonCodec


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedTable:
    """Results of one release of a benchmark, accuracies in percent."""

    suites: tuple[str, ...]
    """Suites of the same benchmark."""
    release: str
    source: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str | float, ...], ...]
    """Name of a model, then its accuracy in each column."""

    def __post_init__(self) -> None:
        wrong = [row[0] for row in self.rows if len(row) != len(self.columns) + 1]
        if wrong:
            raise ValueError(f"release {self.release}: {wrong[0]} has another number of values than columns")

    @property
    def title(self) -> str:
        """Benchmark and release, in words."""
        return f"{self.suites[0]}, as published ({self.release})"

    @property
    def caption(self) -> str:
        """Source, and which of our suites follows the same protocol."""
        return f"% right; {self.source}; only {self.suites[-1]} follows the published protocol"

    def texts(self) -> list[list[str]]:
        """Returns the rows as texts, accuracies with one decimal."""
        return [[cell if isinstance(cell, str) else f"{cell:.1f}" for cell in row] for row in self.rows]


_TABLES: JsonCodec[tuple[PublishedTable, ...]] = JsonCodec(tuple[PublishedTable, ...])


@cache
def _all() -> tuple[PublishedTable, ...]:
    return _TABLES.load((files("codevision_ext.evaluate") / "published.json").read_bytes(), "published.json")


def published_tables(suites: Iterable[str]) -> tuple[PublishedTable, ...]:
    """Returns the published tables of the benchmarks behind these suites, each once."""
    names = set(suites)
    return tuple(table for table in _all() if names & set(table.suites))


def terminal_table(published: PublishedTable) -> Table:
    """Makes a table for a terminal."""
    table = Table(title=published.title, caption=published.caption, caption_justify="left")
    table.add_column("model")
    for column in published.columns:
        table.add_column(column, justify="right")
    for row in published.texts():
        table.add_row(*row)
    return table


def published_markdown(published: PublishedTable) -> str:
    """Writes a table in Markdown."""
    table = markdown_table(("model", *published.columns), published.texts())
    return f"**{published.title}**\n\n{table}\n\n{published.caption}"


def published_latex(published: PublishedTable) -> str:
    """Writes a table in LaTeX, with booktabs."""
    return latex_table(f"{published.title}: {published.caption}", ("model", *published.columns), published.texts())
