"""Defines the result of one check before a training: a level, a message and a remedy."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

_PUBLISHED = {"message": "said", "problems": "faults", "results": "findings"}
"""Keys of the JSON that `codevision doctor` prints, by attribute, where they differ."""


class Level(StrEnum):
    """Severity of a result."""

    OK = "ok"
    WARNING = "warning"
    """The training runs, but what it learns or costs may differ from what is intended."""
    FAILURE = "failure"
    """The training or a part of it fails, or its tokens differ from those that the policy sees."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """The result of one check."""

    check: str
    """Name of the check, in one or two words."""
    level: Level
    message: str
    remedy: str = ""
    """Advice on what to change; empty if nothing is wrong."""


def ok(check: str, message: str) -> CheckResult:
    """Returns a result of level OK."""
    return CheckResult(check=check, level=Level.OK, message=message)


def warning(check: str, message: str, remedy: str) -> CheckResult:
    """Returns a result of level WARNING."""
    return CheckResult(check=check, level=Level.WARNING, message=message, remedy=remedy)


def failure(check: str, message: str, remedy: str) -> CheckResult:
    """Returns a result of level FAILURE."""
    return CheckResult(check=check, level=Level.FAILURE, message=message, remedy=remedy)


def published(value: Any) -> dict[str, Any]:
    """Returns the fields of a dataclass, nested ones included, under the keys of the printed JSON."""
    return asdict(value, dict_factory=lambda fields: {_PUBLISHED.get(name, name): field for name, field in fields})


_COLOURS = {Level.OK: "green", Level.WARNING: "yellow", Level.FAILURE: "red"}


def show_checks(results: Sequence[CheckResult], console: Console) -> None:
    """Prints a table with a row for each result, and a last line that counts the levels."""
    table = Table("check", "result", "what to do", title="Before training", title_justify="left")
    for result in results:
        table.add_row(result.check, f"[{_COLOURS[result.level]}]{escape(result.message)}[/]", escape(result.remedy))
    console.print(table)
    counts = {level: sum(result.level is level for result in results) for level in Level}
    console.print(", ".join(f"{count} {level}" for level, count in counts.items()))
