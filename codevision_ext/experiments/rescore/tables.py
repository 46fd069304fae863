"""The laboratory's findings as tables on a terminal."""

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from codevision_ext.experiments.rescore.reward_hacks import HackResult
from codevision_ext.experiments.rescore.weight_grid import Grid


def show_grid(grid: Grid, console: Console) -> None:
    """Prints a table with one row for each setting."""
    title = f"preset {grid.preset}: {grid.rollouts:,} rollouts in {grid.groups:,} groups"
    table = Table(title=title, title_justify="left", caption="a wrong answer above a right one: in how many groups")
    for name in ("weights", "rank correlation", "sign flips", "wrong above right"):
        table.add_column(name, justify="left" if name == "weights" else "right")
    for effect in grid.effects:
        weights = ", ".join(f"{name} {value:g}" for name, value in effect.weights.items()) or "base"
        correlation = "-" if effect.spearman is None else f"{effect.spearman:.4f}"
        table.add_row(weights, correlation, f"{effect.sign_flips:,}", f"{effect.wrong_above_right:,}")
    console.print(table)


def show_findings(findings: Sequence[HackResult], console: Console) -> None:
    """Prints a row for each hack: its reward under each preset, its counterpart's in brackets; red if the hack pays."""
    presets = list(findings[0].earned) if findings else []
    table = Table(
        caption="earned, and in brackets the most that it should", title=f"{len(findings)} hacks", title_justify="left"
    )
    for name in ("hack", "task", *presets, f"honest, {presets[-1]}"):
        text = name in ("hack", "task")
        table.add_column(name, justify="left" if text else "right", no_wrap=name != "hack")
    for finding in findings:
        cells = []
        for earned in finding.earned.values():
            colour = "red" if earned.pays else "green"
            cells.append(f"[{colour}]{earned.hack:.2f}[/] ({earned.counterpart:.2f})")
        name = escape(finding.name) + (f" (gap: {finding.gap})" if finding.gap else "")
        table.add_row(name, finding.task, *cells, f"{finding.earned[presets[-1]].honest:.2f}")
    for preset in presets:
        paid = sum(finding.earned[preset].pays for finding in findings)
        table.caption = f"{table.caption}; {preset}: {paid} pay"
    console.print(table)
