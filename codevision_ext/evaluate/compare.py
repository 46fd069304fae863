"""Which of several evaluations is better, column by column, and is it more than chance? A table and a drawing."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.table import Table
from rich.text import Text

from codevision_ext.errors import InputError
from codevision_ext.evaluate.metrics import Score, ToolMode
from codevision_ext.evaluate.statistics import Difference, holm
from codevision_ext.evaluate.suites import SUITES
from codevision_ext.evaluate.suites.base import Suite, held_out
from codevision_ext.evaluate.summary import Evaluation, ModeResult, differences, read_evaluation
from codevision_ext.evaluate.tables import markdown_table
from codevision_ext.io.records import Record, read_records

SIGNIFICANT: Final = 0.05
OVERALL: Final = "overall"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One run's score in one column, and what it is more than the first run's."""

    score: Score
    difference: Difference | None
    """None: it is the first run."""
    p: float | None
    """Of the difference, adjusted for the number of columns (Holm)."""

    @property
    def significant(self) -> bool:
        """Whether the difference is more than chance, at the level of 5 %."""
        return self.p is not None and self.p < SIGNIFICANT


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One suite in one mode: a row a run, a column a column, the last one `overall`."""

    suite: str
    mode: ToolMode
    runs: tuple[str, ...]
    columns: tuple[str, ...]
    cells: tuple[tuple[Cell, ...], ...]

    @property
    def title(self) -> str:
        """Suite and mode, in words."""
        return f"{self.suite}, {'with' if self.mode == 'tool_on' else 'without'} the tool"


def compare_evaluations(folders: Sequence[Path]) -> list[Comparison]:
    """What the first evaluation has in common with all others; each is compared with the first, item by item.

    Raises:
        InputError: a folder holds no evaluation, they have no suite and mode in common, or one played other items.
    """
    runs = [(folder, read_evaluation(folder)) for folder in folders]
    names = tuple(_names(folders))
    found = []
    for suite, result in runs[0][1].suites.items():
        for mode in result.modes:
            if not all(suite in each.suites and mode in each.suites[suite].modes for _, each in runs):
                continue
            for folder, each in runs:
                if each.suites[suite].sha256 != result.sha256:
                    raise InputError(f"{folder}: suite {suite} was measured on other items than in {folders[0]}")
            found.append(_compare(suite, mode, names, runs))
    if not found:
        raise InputError(f"{', '.join(map(str, folders))}: no suite was measured in all of them, with or without tool")
    return found


def _compare(name: str, mode: ToolMode, names: tuple[str, ...], runs: Sequence[tuple[Path, Evaluation]]) -> Comparison:
    suite = suite_as_run(name)
    results = [each.suites[name].modes[mode] for _, each in runs]
    records = [_records(folder, result) for (folder, _), result in zip(runs, results, strict=True)]
    columns = tuple(results[0].columns)
    rows = [tuple(Cell(score=score, difference=None, p=None) for score in _scores(results[0], columns))]
    for result, own in zip(results[1:], records[1:], strict=True):
        told = differences(suite, records[0], own, runs[0][1].setup.seed)
        given = [told.get(column) for column in (*columns, OVERALL)]
        adjusted = iter(holm([each.p for each in given if each is not None]))
        rows.append(
            tuple(
                Cell(score=score, difference=each, p=next(adjusted) if each is not None else None)
                for score, each in zip(_scores(result, columns), given, strict=True)
            )
        )
    return Comparison(suite=name, mode=mode, runs=names, columns=(*columns, OVERALL), cells=tuple(rows))


def suite_as_run(name: str) -> Suite:
    """The suite under the name that results.json has it by.

    Raises:
        InputError: there is none.
    """
    base, _, op = name.partition("-holdout-")
    if base not in SUITES:
        raise InputError(f"results.json: suite {name!r} isn't known; known are {', '.join(SUITES)}")
    return held_out(SUITES[base], op) if op else SUITES[base]


def _scores(result: ModeResult, columns: Sequence[str]) -> list[Score]:
    return [result.columns[column].score for column in columns] + [result.overall.score]


def _records(folder: Path, result: ModeResult) -> list[Record]:
    return list(read_records((folder if folder.is_dir() else folder.parent) / result.rows))


def _names(folders: Sequence[Path]) -> list[str]:
    """The last parts of the paths, as many as it takes to tell them apart."""
    parts = [folder.resolve().parts for folder in folders]
    for depth in range(1, max(map(len, parts))):
        names = ["/".join(part[-depth:]) for part in parts]
        if len(set(names)) == len(set(parts)):
            return names
    return [str(folder) for folder in folders]


def comparison_table(comparison: Comparison) -> Table:
    """For a terminal: accuracy in percent, its interval, and the difference from the first run below it."""
    shown = Table(title=comparison.title, caption=CAPTION, caption_justify="left")
    shown.add_column("run")
    for column in comparison.columns:
        shown.add_column(column, justify="right")
    for name, cells in zip(comparison.runs, comparison.cells, strict=True):
        shown.add_row(Text(name), *[_rich(cell) for cell in cells])
    return shown


CAPTION: Final = (
    "% right with its 95 % interval (Wilson); below: difference from the first run, paired bootstrap; "
    f"*: p < {SIGNIFICANT:g}, adjusted for the columns (Holm)"
)


def _rich(cell: Cell) -> Text:
    text = Text(f"{_percent(cell.score.accuracy)}\n")
    text.append(f"{_percent(cell.score.low)} to {_percent(cell.score.high)}", style="dim")
    if cell.difference is not None:
        style = ("green" if cell.difference.value > 0 else "red") if cell.significant else "dim"
        text.append(f"\n{_change(cell)}", style=style)
    return text


def comparison_markdown(comparison: Comparison) -> str:
    """A table for a README."""
    named = zip(comparison.runs, comparison.cells, strict=True)
    rows = [(name, *map(_plain, cells)) for name, cells in named]
    return f"**{comparison.title}**\n\n{markdown_table(('run', *comparison.columns), rows)}\n\n{CAPTION}"


def comparison_latex(comparison: Comparison) -> str:
    """A table for a paper, with booktabs."""
    header = " & ".join(["run", *comparison.columns])
    rows = [
        " & ".join([name, *[_plain(cell) for cell in cells]])
        for name, cells in zip(comparison.runs, comparison.cells, strict=True)
    ]
    body = " \\\\\n".join(_escaped(row) for row in rows)
    return "\n".join(
        [
            f"% {comparison.title}: {CAPTION}",
            f"\\begin{{tabular}}{{l{'r' * len(comparison.columns)}}}",
            "\\toprule",
            f"{_escaped(header)} \\\\",
            "\\midrule",
            f"{body} \\\\",
            "\\bottomrule",
            "\\end{tabular}",
        ]
    )


def _escaped(row: str) -> str:
    """A row of LaTeX whose words may have an underscore or another special character; `&` is ours."""
    for character in "%#$_":
        row = row.replace(character, f"\\{character}")
    return row


def _plain(cell: Cell) -> str:
    score = cell.score
    words = [_percent(score.accuracy), f"({_percent(score.low)} to {_percent(score.high)})"]
    return " ".join([*words, _change(cell)] if cell.difference is not None else words)


def _change(cell: Cell) -> str:
    assert cell.difference is not None
    return f"{100 * cell.difference.value:+.1f}{'*' if cell.significant else ''}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def draw_comparison(comparisons: Sequence[Comparison], path: Path) -> None:
    """Draws accuracies with their intervals, a panel a comparison; `path` ends in .png, .svg or .pdf.

    Raises:
        InputError: matplotlib isn't installed, or the file can't be written in that format.
    """
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415  optional, and slow to import
    except ImportError as error:
        raise InputError(f"--plot wants matplotlib: pip install matplotlib ({error})") from error
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
