"""What does one check of a checkup before training say? A line: what was found, and what to do about it."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from rich.console import Console
from rich.markup import escape
from rich.table import Table


class Level(StrEnum):
    """How bad a finding is."""

    OK = "ok"
    WARNING = "warning"
    """Training runs; what it learns, or what it costs, may not be what was meant."""
    FAILURE = "failure"
    """Training, or a part of it, would fail, or would teach other tokens than the policy sees."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """What one check found."""

    check: str
    """What was checked, in a word or two."""
    level: Level
    said: str
    remedy: str = ""
    """What to do; empty where all is well."""


def ok(check: str, said: str) -> CheckResult:
    return CheckResult(check=check, level=Level.OK, said=said)


def warning(check: str, said: str, remedy: str) -> CheckResult:
    return CheckResult(check=check, level=Level.WARNING, said=said, remedy=remedy)


def failure(check: str, said: str, remedy: str) -> CheckResult:
    return CheckResult(check=check, level=Level.FAILURE, said=said, remedy=remedy)


_COLOURS = {Level.OK: "green", Level.WARNING: "yellow", Level.FAILURE: "red"}


def show_checks(findings: Sequence[CheckResult], console: Console) -> None:
    """A table with a row for each finding, and a last line that counts them."""
    table = Table("check", "what was found", "what to do", title="Before training", title_justify="left")
    for finding in findings:
        table.add_row(finding.check, f"[{_COLOURS[finding.level]}]{escape(finding.said)}[/]", escape(finding.remedy))
    console.print(table)
    counts = {level: sum(finding.level is level for finding in findings) for level in Level}
    console.print(", ".join(f"{count} {level}" for level, count in counts.items()))
