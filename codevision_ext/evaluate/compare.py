"""Compares evaluations by column, paired by item, and writes tables and a plot."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.table import Table
from rich.text import Text

from codevision_ext.errors import InputError
from codevision_ext.evaluate.metrics import Score, ToolMode
from codevision_ext.evaluate.results import MODEL, ModelResult, ModeResult, SuiteResult, read_evaluation
from codevision_ext.evaluate.statistics import Difference, holm
from codevision_ext.evaluate.suites import SUITES
from codevision_ext.evaluate.suites.base import Suite, held_out
from codevision_ext.evaluate.summary import differences
from codevision_ext.evaluate.tables import latex_table, markdown_table
from codevision_ext.io.records import Record, read_records

SIGNIFICANT: Final = 0.05
"""Significance level of adjusted p-values."""
OVERALL: Final = "overall"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """Score of one run in one column, and its difference from the first run."""

    score: Score
    difference: Difference | None
    """Difference from the first run; None for the first run itself."""
    p: float | None
    """p-value of the difference, adjusted for the number of columns (Holm)."""

    @property
    def significant(self) -> bool:
        """Whether the adjusted p-value is below SIGNIFICANT."""
        return self.p is not None and self.p < SIGNIFICANT


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Table of one suite in one mode: a row per run, a column per column of the suite, and `overall` as last column."""

    suite: str
    mode: ToolMode
    runs: tuple[str, ...]
    columns: tuple[str, ...]
    cells: tuple[tuple[Cell, ...], ...]

    @property
    def title(self) -> str:
        """Suite and mode as text."""
        return f"{self.suite}, {'with' if self.mode == 'tool_on' else 'without'} the tool"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    name: str
    folder: Path
    """Folder of results.json."""
    result: ModelResult


def compare_evaluations(folders: Sequence[Path]) -> list[Comparison]:
    """Compares every model in the folders with the first model, on the suites and modes that all models have.

    Raises:
        InputError: a folder has no results.json, the models have no suite and mode in common, or they were evaluated on
            different items.
    """
    runs = _read_runs(folders)
    comparisons = []
    for name, first in runs[0].result.suites.items():
        for mode in first.modes:
            suites = [run.result.suites.get(name) for run in runs]
            results = [suite.modes.get(mode) if suite else None for suite in suites]
            if None in results:
                continue
            for run, suite in zip(runs, suites, strict=True):
                assert suite is not None
                if not _same_items(first, runs[0], suite, run, mode):
                    raise InputError(f"{run.name}: suite {name} was measured on other items than in {runs[0].name}")
            comparisons.append(_compare(name, mode, runs, [result for result in results if result is not None]))
    if not comparisons:
        raise InputError(
            f"{', '.join(run.name for run in runs)}: no suite was measured in all of them, with or without tool"
        )
    return comparisons


def _read_runs(folders: Sequence[Path]) -> list[_Run]:
    runs = []
    for folder, name in zip(folders, short_names(folders), strict=True):
        for model, result in read_evaluation(folder).models.items():
            own = name if model == MODEL else f"{name} {model}"
            runs.append(_Run(name=own, folder=folder if folder.is_dir() else folder.parent, result=result))
    return runs


def _same_items(first: SuiteResult, first_run: _Run, suite: SuiteResult, run: _Run, mode: ToolMode) -> bool:
    """Returns whether two results have equal items: by their hashes, or by the records if a hash is unknown."""
    if first.sha256 and suite.sha256:
        return first.sha256 == suite.sha256
    questions = [
        {record.group: (record.question, record.references) for record in _records(each, result.modes[mode])}
        for each, result in ((first_run, first), (run, suite))
    ]
    return questions[0] == questions[1]


def _compare(name: str, mode: ToolMode, runs: Sequence[_Run], results: Sequence[ModeResult]) -> Comparison:
    suite = suite_as_run(name)
    records = [_records(run, result) for run, result in zip(runs, results, strict=True)]
    columns = tuple(results[0].columns)
    rows = [tuple(Cell(score=score, difference=None, p=None) for score in _scores(results[0], columns))]
    for result, own in zip(results[1:], records[1:], strict=True):
        by_column = differences(suite, records[0], own, runs[0].result.setup.seed)
        ordered = [by_column.get(column) for column in (*columns, OVERALL)]
        adjusted = iter(holm([difference.p for difference in ordered if difference is not None]))
        rows.append(
            tuple(
                Cell(score=score, difference=difference, p=next(adjusted) if difference is not None else None)
                for score, difference in zip(_scores(result, columns), ordered, strict=True)
            )
        )
    names = tuple(run.name for run in runs)
    return Comparison(suite=name, mode=mode, runs=names, columns=(*columns, OVERALL), cells=tuple(rows))


def suite_as_run(name: str) -> Suite:
    """Returns the suite under its name in results.json.

    Raises:
        InputError: no suite has this name.
    """
    base, _, op = name.partition("-holdout-")
    if base not in SUITES:
        raise InputError(f"results.json: suite {name!r} is unknown; known suites are {', '.join(SUITES)}")
    return held_out(SUITES[base], op) if op else SUITES[base]


def _scores(result: ModeResult, columns: Sequence[str]) -> list[Score]:
    return [result.columns[column].score for column in columns] + [result.overall.score]


def _records(run: _Run, result: ModeResult) -> list[Record]:
    return list(read_records(run.folder / result.rows))


def short_names(folders: Sequence[Path]) -> list[str]:
    """Returns the shortest ends of the paths that differ from each other; equal paths have equal names."""
    parts = [folder.resolve().parts for folder in folders]
    for depth in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-depth:]) for part in parts]
        if len(set(names)) == len(set(parts)):
            break
    return names


def comparison_table(comparison: Comparison) -> Table:
    """Returns a table for a terminal: accuracy in percent, its interval, and the difference from the first run."""
    table = Table(title=comparison.title, caption=CAPTION, caption_justify="left")
    table.add_column("run")
    for column in comparison.columns:
        table.add_column(column, justify="right")
    for name, cells in zip(comparison.runs, comparison.cells, strict=True):
        table.add_row(Text(name), *[_rich(cell) for cell in cells])
    return table


CAPTION: Final = (
    "% right with its 95 % interval (Wilson); below: difference from the first run, paired bootstrap over items; "
    f"*: p < {SIGNIFICANT:g}, adjusted for the columns (Holm); undecided answers count as wrong in differences; "
    "another seed of a training may differ more"
)


def _rich(cell: Cell) -> Text:
    text = Text(f"{cell.score.readings}\n")
    text.append(cell.score.interval, style="dim")
    if cell.difference is not None:
        style = ("green" if cell.difference.value > 0 else "red") if cell.significant else "dim"
        text.append(f"\n{_change(cell)}", style=style)
    return text


def comparison_markdown(comparison: Comparison) -> str:
    """Writes a table in Markdown."""
    named = zip(comparison.runs, comparison.cells, strict=True)
    rows = [(name, *map(_plain, cells)) for name, cells in named]
    return f"**{comparison.title}**\n\n{markdown_table(('run', *comparison.columns), rows)}\n\n{CAPTION}"


def comparison_latex(comparison: Comparison) -> str:
    """Writes a table in LaTeX, with booktabs."""
    rows = [
        [name, *[_plain(cell) for cell in cells]] for name, cells in zip(comparison.runs, comparison.cells, strict=True)
    ]
    return latex_table(f"{comparison.title}: {CAPTION}", ("run", *comparison.columns), rows)


def _plain(cell: Cell) -> str:
    return f"{cell.score} {_change(cell)}" if cell.difference is not None else str(cell.score)


def _change(cell: Cell) -> str:
    assert cell.difference is not None
    return f"{100 * cell.difference.value:+.1f}{'*' if cell.significant else ''}"


def draw_comparison(comparisons: Sequence[Comparison], path: Path) -> None:
    """Plots accuracies with their intervals, one panel per comparison; `path` ends in .png, .svg or .pdf.

    Raises:
        InputError: matplotlib isn't installed, or the file can't be written in that format.
    """
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415  optional, and slow to import
    except ImportError as error:
        raise InputError(f"--plot needs matplotlib: pip install matplotlib ({error})") from error
    widest = max(len(each.columns) for each in comparisons)
    figure = Figure(figsize=(max(6.0, 1.2 * widest), 3.2 * len(comparisons)), layout="constrained")
    panels = figure.subplots(len(comparisons), squeeze=False)[:, 0]
    for axes, comparison in zip(panels, comparisons, strict=True):
        width = 0.8 / len(comparison.runs)
        for number, (name, cells) in enumerate(zip(comparison.runs, comparison.cells, strict=True)):
            places = [at + (number - (len(comparison.runs) - 1) / 2) * width for at in range(len(cells))]
            heights = [100 * cell.score.accuracy for cell in cells]
            lows = [100 * (cell.score.accuracy - cell.score.low) for cell in cells]
            highs = [100 * (cell.score.high - cell.score.accuracy) for cell in cells]
            axes.bar(places, heights, width, yerr=[lows, highs], capsize=2, label=name, error_kw={"linewidth": 0.8})
            for place, height, high, cell in zip(places, heights, highs, cells, strict=True):
                if cell.significant:
                    axes.annotate("*", (place, height + high), ha="center")
        axes.set_xticks(range(len(comparison.columns)), comparison.columns)
        axes.set(title=comparison.title, ylabel="% right", ylim=(0, 105))
        axes.legend(fontsize="small")
    try:
        figure.savefig(path, dpi=150)
    except (OSError, ValueError) as error:
        raise InputError(f"--plot {path}: {error}") from error
