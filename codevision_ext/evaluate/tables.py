"""What a person sees at the end of an evaluation: accuracies by column, and how the rollouts went."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict

from rich.console import Console
from rich.table import Table

from codevision_ext.evaluate.metrics import Score
from codevision_ext.evaluate.summary import ColumnResult, Evaluation

_SHARES = ("invalid_share", "tool_rate", "call_success", "recovery", "faithful_crop", "truncated", "format")


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of Markdown, its first column to the left and the others to the right; no line break at its end."""
    lines = (header, ("---", *["---:"] * (len(header) - 1)), *rows)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def show_results(evaluation: Evaluation, console: Console) -> None:
    """Prints two tables a suite."""
    for name, result in evaluation.suites.items():
        scores = Table(title=f"{name}, {result.items} items x {evaluation.setup.k}", caption="% right (95 % interval)")
        health = Table(title=f"{name}, how the rollouts went")
        scores.add_column("column")
        health.add_column("")
        for mode in result.modes:
            scores.add_column(mode.replace("_", " "), justify="right")
            health.add_column(mode.replace("_", " "), justify="right")
        if result.benefit:
            scores.add_column("benefit of the tool", justify="right")
        first = next(iter(result.modes.values()))
        for column in (*first.columns, "overall"):
            cells = []
            for each in result.modes.values():
                found = each.overall if column == "overall" else each.columns.get(column)
                cells.append(_cell(found) if found else "")
            if result.benefit:
                told = result.benefit.get(column)
                cells.append(f"{100 * told.value:+.1f} (p {told.p:.2g})" if told else "")
            scores.add_row(column, *cells, end_section=column == list(first.columns)[-1])
        if first.success:
            scores.add_row("success", *[_score(each.success) for each in result.modes.values()])
        for number in asdict(first.health):
            values = [getattr(each.health, number) for each in result.modes.values()]
            health.add_row(number.replace("_", " "), *[_number(number, value) for value in values])
        console.print(scores)
        console.print(health)


def _cell(result: ColumnResult) -> str:
    said = _score(result.score)
    return f"{said}; pass@k {100 * result.pass_k.accuracy:.1f}" if result.pass_k else said


def _score(score: Score | None) -> str:
    return f"{100 * score.accuracy:.1f} ({100 * score.low:.1f} to {100 * score.high:.1f})" if score else ""


def _number(name: str, value: float | None) -> str:
    if value is None:
        return ""
    return f"{100 * value:.1f} %" if name in _SHARES else f"{value:.4g}"
