"""Measures how hard each task is for a model, and whether the tool helps: k rollouts with it and k without it."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import islice
from typing import Any, NamedTuple

from codevision_ext.rollout.code_tool import CodeTool
from codevision_ext.task.answers import is_correct
from data_prep.demonstrations.model_client import Attempt, ModelClient, attempt_row
from data_prep.formats.schema import Row
from data_prep.parallel.pipeline import map_threads


class Route(StrEnum):
    """File that a row goes to."""

    RL = "rl"
    SFT = "sft"
    """Rows that are seldom solved with the tool; they should be learned from demonstrations first."""
    EASY = "easy"
    """Rows that are always solved with the tool: there is nothing to learn."""
    HOPELESS = "hopeless"
    """Rows that are never solved, with or without the tool."""


class Benefit(NamedTuple):
    """Accuracy with the tool minus accuracy without it, in [-1, 1], and its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RowDifficulty:
    """A row, and the results of a model on it."""

    row: Row
    with_tool: int
    """Number of right answers with the tool, of k."""
    without: int
    """Number of right answers without the tool, of k."""
    k: int
    calls: int
    """Number of calls in all rollouts with the tool."""

    @property
    def benefit(self) -> Benefit:
        """Benefit of the tool on this row."""
        return tool_benefit((self.with_tool, self.k), (self.without, self.k))

    def route(self, hard: float) -> Route:
        """Return the file for the row; SFT up to `hard`, an accuracy with the tool in [0, 1)."""
        if not self.with_tool and not self.without:
            return Route.HOPELESS
        if self.with_tool == self.k:
            return Route.EASY
        return Route.SFT if self.with_tool / self.k <= hard else Route.RL

    def plain(self, hard: float) -> dict[str, Any]:
        """Return the line of difficulty.jsonl."""
        place = {"source": self.row.source, "index": self.row.index, "column": self.row.column}
        counts = Counter(rows=1, with_tool=self.with_tool, without=self.without)
        return place | {"route": self.route(hard), "k": self.k, **accuracy_summary(counts, self.k), "calls": self.calls}


def tool_benefit(with_tool: tuple[int, int], without: tuple[int, int]) -> Benefit:
    """Return the difference of two proportions, given as right answers and rollouts with and without the tool.

    The interval is Newcombe's hybrid score interval (Statistics in Medicine 17, 1998, method 10).
    """
    from statsmodels.stats.proportion import confint_proportions_2indep  # noqa: PLC0415  slow to import

    low, high = confint_proportions_2indep(*with_tool, *without, compare="diff", method="newcomb")
    value = with_tool[0] / with_tool[1] - without[0] / without[1]
    return Benefit(value=value, low=max(-1.0, float(low)), high=min(1.0, float(high)))  # against rounding


def measure_difficulty(
    rows: Iterable[Row],
    model: ModelClient,
    tool: CodeTool,
    *,
    k: int,
    concurrency: int,
    progress: Callable[[int], None] = lambda _: None,
) -> Iterator[RowDifficulty]:
    """Yield every row with its results, in order; `concurrency` conversations run at a time.

    Raises:
        EngineError: The endpoint gave no reply; earlier replies are in the cache, if there is one.
        SandboxError: The sandbox is broken.
    """

    def run(rollout: tuple[Row, bool, int]) -> tuple[Row, bool, Attempt]:
        row, with_tool, seed = rollout
        return row, with_tool, attempt_row(model, row, tool if with_tool else None, seed=seed)

    rollouts = ((row, with_tool, seed) for row in rows for with_tool in (True, False) for seed in range(k))
    attempts, done = map_threads(run, rollouts, concurrency), 0
    while batch := list(islice(attempts, 2 * k)):
        row = batch[0][0]
        right = Counter(with_tool for _, with_tool, attempt in batch if is_correct(attempt.answer, row.answers))
        calls = sum(attempt.calls for _, with_tool, attempt in batch if with_tool)
        done += 1
        progress(done)
        yield RowDifficulty(row=row, with_tool=right[True], without=right[False], k=k, calls=calls)


def accuracy_summary(counts: Counter[str], k: int) -> dict[str, Any]:
    """Return accuracies and benefit over rows, from the counts `rows`, `with_tool` and `without`."""
    n = counts["rows"] * k
    benefit = tool_benefit((counts["with_tool"], n), (counts["without"], n))
    return {
        "acc_tool": counts["with_tool"] / n,
        "acc_no_tool": counts["without"] / n,
        "benefit": benefit.value,
        "benefit_interval": benefit[1:],
    }


def with_benefit(difficulty: RowDifficulty) -> Row:
    """Return the row with its benefit."""
    return replace(difficulty.row, benefit=difficulty.benefit)
