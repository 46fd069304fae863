"""Suite of every image upright, rotated and flipped: six columns and their mean; `data_prep transform` makes the rows.

Items of a benchmark are scored by the benchmark's rule. For OCRBench-T and ChartQAPro-T, the transformed versions of
two benchmarks, CodeVision (arXiv 2512.03746) reports the six columns and their mean, "Avg".
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
"""Scoring rules, by the benchmark in `extra_info.benchmark` of a row."""


def own_rule(item: EvalItem) -> Scorer | None:
    """Returns the rule of the item's benchmark; None: the rules and the judge of training."""
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
            owner = name or "no benchmark"
            advice = f"`data_prep transform` makes the rows of this suite from the file of {benchmark}"
            raise InputError(f"suite {benchmark}_t: a row belongs to {owner}; {advice}")
        column: str | None = row["extra_info"].get("column")
        return column

    return column


OCRBENCH: Final = _turned(ocrbench.SUITE, "OCRBench-T")
CHARTQAPRO: Final = _turned(chartqapro.SUITE, "ChartQAPro-T")
