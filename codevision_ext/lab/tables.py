"""The laboratory's findings as tables on a terminal."""

from rich.console import Console
from rich.table import Table

from codevision_ext.lab.grid import Grid


def show_grid(grid: Grid, console: Console) -> None:
    """One row a setting."""
    title = f"preset {grid.preset}: {grid.rollouts:,} rollouts in {grid.groups:,} groups"
    table = Table(title=title, title_justify="left", caption="a wrong answer above a right one: in how many groups")
    for name in ("weights", "rank correlation", "sign flips", "wrong above right"):
        table.add_column(name, justify="left" if name == "weights" else "right")
    for effect in grid.effects:
        weights = ", ".join(f"{name} {value:g}" for name, value in effect.weights.items()) or "base"
        correlation = "-" if effect.spearman is None else f"{effect.spearman:.4f}"
        table.add_row(weights, correlation, f"{effect.sign_flips:,}", f"{effect.wrong_above_right:,}")
    console.print(table)
