"""Every image upright, rotated and flipped: six columns and their mean (`data_prep transform` makes the rows).

The items of a benchmark are scored by the benchmark's own rule. OCRBench-T and ChartQAPro-T are the turned versions on
which CodeVision (arXiv 2512.03746) reports the six columns and their mean, "Avg".
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from codevision_ext.errors import InputError
from codevision_ext.evaluate.metrics import COLUMNS
from codevision_ext.evaluate.run import EvalItem, Scorer
from codevision_ext.evaluate.suites import chartqapro, choice, docvqa, ocrbench
from codevision_ext.evaluate.suites.base import Row, Suite

RULES: Final = {
    suite.name: suite.scorer_of
    for suite in (chartqapro.SUITE, choice.HRBENCH, choice.VSTAR, docvqa.SUITE, ocrbench.SUITE)
}
"""Rule by the benchmark that a row names in `extra_info.benchmark`."""


def own_rule(item: EvalItem) -> Scorer | None:
    """Returns the rule of the item's benchmark; None for a row of none, which is scored as in training."""
    scorer_of = RULES.get(item.row["extra_info"].get("benchmark") or "")
    return scorer_of(item) if scorer_of else None


SUITE = Suite(
    name="transformed",
    about="six columns: source, three rotations, two flips; their mean, each weighing the same; a benchmark's own rule",
    column=lambda row, _: row["extra_info"].get("column"),
    columns=COLUMNS,
    overall="columns",
    scorer_of=own_rule,
)


def _turned(benchmark: Suite, title: str) -> Suite:
    return replace(
        SUITE,
        name=f"{benchmark.name}_t",
        about=f"{title}: six columns, and their mean as overall (the published Avg); {benchmark.name}'s rule",
        column=_column_of(benchmark.name),
    )


def _column_of(benchmark: str) -> Callable[[Row, Row], str | None]:
    def column(row: Row, _: Row) -> str | None:
        name = row["extra_info"].get("benchmark")
        if name != benchmark:
            raise InputError(
                f"suite {benchmark}_t: a row of {name or 'no benchmark'}; `data_prep transform` makes its rows from "
                f"the file of {benchmark}"
            )
        column: str | None = row["extra_info"].get("column")
        return column

    return column


OCRBENCH: Final = _turned(ocrbench.SUITE, "OCRBench-T")
CHARTQAPRO: Final = _turned(chartqapro.SUITE, "ChartQAPro-T")
