"""Measures the difficulty of each row and the benefit of the tool, with k rollouts with the tool and k without it.

In place of the tool, the published edited image can be measured: k rollouts on it and k on the original image, all
without the tool. `with_tool` then counts the rollouts on the edited image.

No judge is asked, so an answer that no rule decides is undecided. It counts as wrong in accuracies. It decides nothing
else: an interval covers both readings of such answers, and a row whose file depends on them goes to `rl`. Where each
answer has a single spelling (`exact`), an answer that no rule accepts is wrong.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import islice, product
from typing import Any, NamedTuple

from codevision_ext.rollout.code_tool import CodeTool
from data_prep.demonstrations.model_client import Attempt, ModelClient, attempt_row
from data_prep.formats.schema import Row
from data_prep.parallel.pipeline import map_threads


class Route(StrEnum):
    """Output file of a row."""

    RL = "rl"
    """All other rows, and rows whose file depends on undecided answers."""
    SFT = "sft"
    """Rows that are seldom solved with the tool, and need demonstrations."""
    EASY = "easy"
    """Rows that are always solved with the tool."""
    HOPELESS = "hopeless"
    """Rows that are never solved, with or without the tool."""


class Benefit(NamedTuple):
    """Accuracy with the tool minus accuracy without it, in [-1, 1], and its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RowDifficulty:
    """A row and a model's results on the row."""

    row: Row
    with_tool: int
    """Number of right answers with the tool, of k."""
    without: int
    """Number of right answers without the tool, of k."""
    k: int
    calls: int
    """Number of calls in all rollouts with the tool."""
    edited: bool = False
    """True if the edited image was measured in place of the tool."""
    undecided_with_tool: int = 0
    """Number of undecided answers with the tool, of k."""
    undecided_without: int = 0
    """Number of undecided answers without the tool, of k."""

    @property
    def counts(self) -> Counter[str]:
        """Counts of this row, as `accuracy_summary` reads them."""
        return Counter(
            rows=1,
            with_tool=self.with_tool,
            without=self.without,
            undecided_with_tool=self.undecided_with_tool,
            undecided_without=self.undecided_without,
        )

    @property
    def benefit(self) -> Benefit:
        return benefit_of(self.counts, self.k)

    def route(self, hard: float) -> Route:
        """Return the file for the row; `hard` is the highest accuracy with the tool, in [0, 1), that goes to SFT.

        With the edited image, RL gets the rows that are solved on it, and on the original in at most `hard`. A row
        whose file depends on undecided answers goes to RL.
        """
        readings = product(
            (self.with_tool, self.with_tool + self.undecided_with_tool),
            (self.without, self.without + self.undecided_without),
        )
        routes = {self._route(with_tool, without, hard) for with_tool, without in readings}
        return routes.pop() if len(routes) == 1 else Route.RL

    def _route(self, with_tool: int, without: int, hard: float) -> Route:
        if not with_tool and not without:
            return Route.HOPELESS
        if self.edited and with_tool / self.k > hard:
            return Route.RL if without / self.k <= hard else Route.EASY
        if with_tool == self.k:
            return Route.EASY
        return Route.SFT if with_tool / self.k <= hard else Route.RL

    def plain(self, hard: float) -> dict[str, Any]:
        """Return the line of difficulty.jsonl."""
        place = {"source": self.row.source, "index": self.row.index, "column": self.row.column}
        accuracies = accuracy_summary(self.counts, self.k)
        return place | {"route": self.route(hard), "k": self.k, **accuracies, "calls": self.calls}


def benefit_interval(with_tool: tuple[int, int], without: tuple[int, int]) -> Benefit:
    """Return the benefit of the tool, from pairs (number of right answers, number of rollouts).

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
    edited: bool = False,
    exact: bool = False,
    progress: Callable[[int], None] = lambda _: None,
) -> Iterator[RowDifficulty]:
    """Yield every row with its results, in order; `concurrency` rollouts run at the same time.

    With `edited`, every row must have an edited image, which is measured in place of the tool.

    Raises:
        EngineError: The endpoint gave no reply; earlier replies stay in the cache, if there is one.
        SandboxError: The sandbox is broken.
    """

    def run(rollout: tuple[Row, bool, int]) -> tuple[Row, bool, Attempt]:
        row, with_tool, seed = rollout
        shown = replace(row, images=(row.edited_image, *row.images[1:]), paths=()) if edited and with_tool else row
        return row, with_tool, attempt_row(model, shown, tool if with_tool and not edited else None, seed=seed)

    rollouts = ((row, with_tool, seed) for row in rows for with_tool in (True, False) for seed in range(k))
    attempts, done = map_threads(run, rollouts, concurrency), 0
    while batch := list(islice(attempts, 2 * k)):
        row = batch[0][0]
        verdicts = Counter[tuple[bool, bool | None]]()
        for _, with_tool, attempt in batch:
            verdicts[with_tool, False if attempt.correct is None and exact else attempt.correct] += 1
        calls = sum(attempt.calls for _, with_tool, attempt in batch if with_tool)
        done += 1
        progress(done)
        yield RowDifficulty(
            row=row,
            with_tool=verdicts[True, True],
            without=verdicts[False, True],
            k=k,
            calls=calls,
            undecided_with_tool=verdicts[True, None],
            undecided_without=verdicts[False, None],
            edited=edited,
        )


def benefit_of(counts: Counter[str], n: int) -> Benefit:
    """Return the benefit over n rollouts with the tool and n without it; the interval covers both readings.

    Args:
        counts: Right answers (`with_tool`, `without`) and undecided ones (`undecided_with_tool`, `undecided_without`).
        n: Number of rollouts.
    """
    with_tool, without = counts["with_tool"], counts["without"]
    least = benefit_interval((with_tool, n), (without + counts["undecided_without"], n))
    most = benefit_interval((with_tool + counts["undecided_with_tool"], n), (without, n))
    return Benefit(value=(with_tool - without) / n, low=least.low, high=most.high)


def accuracy_summary(counts: Counter[str], k: int) -> dict[str, Any]:
    """Return accuracies, shares of undecided answers, and benefit, from the sum of `RowDifficulty.counts` over rows."""
    n = counts["rows"] * k
    benefit = benefit_of(counts, n)
    return {
        "acc_tool": counts["with_tool"] / n,
        "acc_no_tool": counts["without"] / n,
        "undecided_tool": counts["undecided_with_tool"] / n,
        "undecided_no_tool": counts["undecided_without"] / n,
        "benefit": benefit.value,
        "benefit_interval": benefit[1:],
    }
