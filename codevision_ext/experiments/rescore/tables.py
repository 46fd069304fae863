"""Prints the results of `codevision score --grid` and `codevision hacks` as tables."""

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from codevision_ext.experiments.rescore.hack_search import Found, SearchResult
from codevision_ext.experiments.rescore.reward_hacks import HackResult
from codevision_ext.experiments.rescore.weight_grid import Grid


def show_grid(grid: Grid, console: Console) -> None:
    """Prints a table with one row for each setting."""
    title = f"preset {grid.preset}: {grid.rollouts:,} rollouts in {grid.groups:,} groups"
    table = Table(
        title=title, title_justify="left", caption="wrong above right: groups in which a wrong answer earns more"
    )
    for name in ("weights", "rank correlation", "sign flips", "wrong above right"):
        table.add_column(name, justify="left" if name == "weights" else "right")
    for effect in grid.effects:
        weights = ", ".join(f"{name} {value:g}" for name, value in effect.weights.items()) or "base"
        correlation = "-" if effect.spearman is None else f"{effect.spearman:.4f}"
        table.add_row(weights, correlation, f"{effect.sign_flips:,}", f"{effect.wrong_above_right:,}")
    console.print(table)


def show_findings(findings: Sequence[HackResult], console: Console, preset: str = "verified") -> None:
    """Prints a row for each hack: its reward under each preset, its counterpart's in brackets; red if the hack pays.

    The last column has the reward of the honest solution under `preset`.
    """
    presets = list(findings[0].earned) if findings else []
    table = Table(
        caption="earned, and in brackets the most that it should", title=f"{len(findings)} hacks", title_justify="left"
    )
    for name in ("hack", "task", *presets, f"honest, {preset}"):
        text = name in ("hack", "task")
        table.add_column(name, justify="left" if text else "right", no_wrap=name != "hack")
    for finding in findings:
        cells = []
        for earned in finding.earned.values():
            colour = "red" if earned.pays else "green"
            cells.append(f"[{colour}]{earned.hack:.2f}[/] ({earned.counterpart:.2f})")
        name = escape(finding.name) + (f" (gap: {finding.gap})" if finding.gap else "")
        table.add_row(name, finding.task, *cells, f"{finding.earned[preset].honest:.2f}")
    for name in presets:
        paid = sum(finding.earned[name].pays for finding in findings)
        table.caption = f"{table.caption}; {name}: {paid} pay"
    console.print(table)


def show_search(results: Sequence[SearchResult], console: Console, preset: str) -> None:
    """Prints the extremes of each task, a row for each; red if a behaviour is overpaid, or a wrong answer leads."""
    table = Table(
        title=f"preset {preset}: {sum(result.scored for result in results):,} behaviours",
        title_justify="left",
        caption="reward, and in brackets that of the honest behaviour with the same answer that gets as far",
        show_lines=True,
    )
    for name in ("task", "extreme", "reward", "behaviour"):
        table.add_column(name, justify="right" if name == "reward" else "left", no_wrap=name != "behaviour")
    for result in results:
        leads = result.best_wrong.reward > result.worst_right.reward
        rows = {
            "best paid, dishonest": (result.best_paid, _overpaid(result.best_paid)),
            "most overpaid": (result.most_overpaid, _overpaid(result.most_overpaid)),
            "best wrong answer": (result.best_wrong, leads),
            "worst right answer": (result.worst_right, leads),
        }
        for name, (found, bad) in rows.items():
            colour = "red" if bad else "green"
            rewards = f"[{colour}]{found.reward:.2f}[/] ({found.fair:.2f})"
            table.add_row(result.task, name, rewards, escape("; ".join(found.behaviour)))
    console.print(table)


def _overpaid(found: Found) -> bool:
    return found.reward > found.fair + 1e-9
