"""Prints the results of an evaluation: accuracies by column, and the behaviour of the rollouts."""

from collections.abc import Iterable, Sequence
from dataclasses import fields

from rich.console import Console
from rich.table import Table

from codevision_ext.evaluate.results import MODEL, ColumnResult, Evaluation, Health, SuiteResult

_SHARES = ("invalid_share", "tool_rate", "call_success", "recovery", "faithful_crop", "truncated", "format")


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Returns a Markdown table with the first column aligned left, and the others right; no final line break."""
    lines = (header, ("---", *["---:"] * (len(header) - 1)), *rows)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def latex_table(title: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Writes a table in LaTeX, with booktabs; the title becomes a comment."""
    body = " \\\\\n".join(_latex_row(row) for row in rows)
    return "\n".join(
        [
            f"% {title}",
            f"\\begin{{tabular}}{{l{'r' * (len(header) - 1)}}}",
            "\\toprule",
            f"{_latex_row(header)} \\\\",
            "\\midrule",
            f"{body} \\\\",
            "\\bottomrule",
            "\\end{tabular}",
        ]
    )


def _latex_row(cells: Sequence[str]) -> str:
    """Joins cells, and escapes the special characters in them."""
    row = " & ".join(cells)
    for character in "%#$_":
        row = row.replace(character, f"\\{character}")
    return row


def show_results(evaluation: Evaluation, console: Console) -> None:
    """Prints two tables per suite (accuracies, behaviour of the rollouts), and notes about undecided answers."""
    for name, model in evaluation.models.items():
        for suite, result in model.suites.items():
            _show_suite(suite if name == MODEL else f"{name}: {suite}", result, model.setup.k, console)
    for note in verifier_notes(evaluation):
        console.print(note, markup=False, soft_wrap=True)
    for note in undecided_notes(evaluation):
        console.print(note, style="bold yellow", markup=False, soft_wrap=True)


def _show_suite(title: str, result: SuiteResult, k: int, console: Console) -> None:
    left_out = f" ({len(result.rejected)} left out)" if result.rejected else ""
    scores = Table(title=f"{title}, {result.items} items x {k}{left_out}", caption="% right (95 % interval)")
    health = Table(title=f"{title}, behaviour of the rollouts")
    scores.add_column("column")
    health.add_column("")
    for mode in result.modes:
        scores.add_column(mode.replace("_", " "), justify="right")
        health.add_column(mode.replace("_", " "), justify="right")
    if result.benefit:
        scores.add_column("benefit of the tool", justify="right")
    modes = list(result.modes.values())
    columns = list(modes[0].columns)
    for column in (*columns, "overall"):
        cells = [mode.overall if column == "overall" else mode.columns.get(column) for mode in modes]
        texts = [_cell(cell) if cell else "" for cell in cells]
        if result.benefit:
            gain = result.benefit.get(column)
            texts.append(f"{100 * gain.value:+.1f} (p {gain.p:.2g})" if gain else "")
        scores.add_row(column, *texts, end_section=column == columns[-1])
    if modes[0].success:
        scores.add_row("success", *[str(mode.success or "") for mode in modes])
    console.print(scores)
    known = [mode.health for mode in modes if mode.health]
    if len(known) == len(modes):
        for field in fields(Health):
            values = [_number(field.name, getattr(each, field.name)) for each in known]
            health.add_row(field.name.replace("_", " "), *values)
        console.print(health)


def _cell(result: ColumnResult) -> str:
    return f"{result.score}; pass@k {100 * result.pass_k.accuracy:.1f}" if result.pass_k else str(result.score)


def undecided_notes(evaluation: Evaluation) -> list[str]:
    """Returns one sentence for each model, suite and mode that has undecided answers."""
    return [
        f"{suite if name == MODEL else f'{name}: {suite}'}, {mode.replace('_', ' ')}: {health.undecided} of "
        f"{health.rollouts} answers are undecided: no rule decides them, and no judge was asked. Accuracy lies between "
        f"{100 * score.accuracy:.1f} % (all of them wrong) and {100 * score.upper:.1f} % (all of them right). A judge "
        "decides them: --set judge.base_url=URL --set judge.model=ID"
        for name, model in evaluation.models.items()
        for suite, result in model.suites.items()
        for mode, each in result.modes.items()
        if (health := each.health) and health.undecided and (score := each.overall.score)
    ]


def verifier_notes(evaluation: Evaluation) -> list[str]:
    """Returns one sentence for each model, suite and mode whose drawings were checked by judge and verifier."""
    notes = []
    for name, model in evaluation.models.items():
        for suite, result in model.suites.items():
            for mode, each in result.modes.items():
                if (found := each.verifier) is None:
                    continue
                where = f"{suite if name == MODEL else f'{name}: {suite}'}, {mode.replace('_', ' ')}"
                kappa = "isn't defined"
                if found.kappa is not None:
                    kappa = f"is {found.kappa:.2f} (95 % interval {found.low:.2f} to {found.high:.2f})"
                notes.append(
                    f"{where}: kappa of judge and drawing verifier {kappa}; of {found.drawings} drawings, the judge "
                    f"calls {found.judge_right} right, the verifier {found.verifier_right}; the verifier can't decide "
                    f"{found.unknown}"
                )
    return notes


def _number(name: str, value: float | None) -> str:
    if value is None:
        return ""
    return f"{100 * value:.1f} %" if name in _SHARES else f"{value:.4g}"
