"""How hard is each task for a model, and does the tool help? k rollouts with and k without it; then rows are routed."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import islice
from typing import Any

from codevision_ext.evaluate.statistics import wilson
from codevision_ext.rollout.code_tool import CodeTool
from codevision_ext.task.answers import is_correct
from data_prep.demonstrations.model_client import Attempt, ModelClient, attempt_row
from data_prep.formats.schema import Row


class Route(StrEnum):
    """Where a row goes."""

    RL = "rl"
    SFT = "sft"
    """Solved too seldom with the tool: the model should see how it is done first."""
    EASY = "easy"
    """Always solved with the tool; nothing to learn from."""
    HOPELESS = "hopeless"
    """Never solved, with or without."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Benefit:
    """What the tool adds: accuracy with it less accuracy without, in [-1, 1], and its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A row and how it went."""

    row: Row
    with_tool: int
    """Right answers of k."""
    without: int
    k: int
    calls: int

    @property
    def benefit(self) -> Benefit:
        """Of the tool, on this row."""
        return row_benefit((self.with_tool, self.k), (self.without, self.k))

    def route(self, hard: float) -> Route:
        """Where the row goes; up to `hard`, a share of right answers with the tool in [0, 1), it goes to SFT."""
        if not self.with_tool and not self.without:
            return Route.HOPELESS
        if self.with_tool == self.k:
            return Route.EASY
        return Route.SFT if self.with_tool / self.k <= hard else Route.RL

    def plain(self, hard: float) -> dict[str, Any]:
        """One line of difficulty.jsonl."""
        found = self.benefit
        return {
            "source": self.row.source,
            "index": self.row.index,
            "column": self.row.column,
            "route": self.route(hard),
            "k": self.k,
            "acc_tool": self.with_tool / self.k,
            "acc_no_tool": self.without / self.k,
            "benefit": found.value,
            "benefit_interval": [found.low, found.high],
            "calls": self.calls,
        }


def row_benefit(with_tool: tuple[int, int], without: tuple[int, int]) -> Benefit:
    """From right answers and tries, with the tool and without: the difference of the two proportions.

    The interval is Newcombe's hybrid score interval (Statistics in Medicine 17, 1998, method 10).
    """
    p, q = with_tool[0] / with_tool[1], without[0] / without[1]
    (low_p, high_p), (low_q, high_q) = wilson(*with_tool), wilson(*without)
    low = p - q - math.hypot(p - low_p, high_q - q)
    high = p - q + math.hypot(high_p - p, q - low_q)
    return Benefit(value=p - q, low=max(-1.0, low), high=min(1.0, high))


def measure_difficulty(
    rows: Iterable[Row],
    chat: ModelClient,
    tool: CodeTool,
    *,
    k: int,
    concurrency: int,
    progress: Callable[[int], None] = lambda _: None,
) -> Iterator[Measured]:
    """Every row with its rollouts, in order; `concurrency` dialogues are under way at a time.

    Raises:
        EngineError: The endpoint gave no reply; what it gave before is in the cache, if there is one.
        SandboxError: The sandbox is broken.
    """

    def one(job: tuple[Row, bool, int]) -> Attempt:
        row, on, number = job
        return attempt_row(chat, row, tool if on else None, seed=number)

    stream, done = iter(rows), 0
    with ThreadPoolExecutor(concurrency) as pool:
        while batch := list(islice(stream, max(1, concurrency // k))):
            jobs = [(row, on, number) for row in batch for on in (True, False) for number in range(k)]
            played = iter(list(pool.map(one, jobs)))
            for row in batch:
                tries = {on: list(islice(played, k)) for on in (True, False)}
                right = {on: sum(_right(each, row) for each in tries[on]) for on in tries}
                calls = sum(each.calls for each in tries[True])
                done += 1
                progress(done)
                yield Measured(row=row, with_tool=right[True], without=right[False], k=k, calls=calls)


def overall(measured: Counter[str], k: int) -> dict[str, Any]:
    """The benefit over all rows, from the counts `rows`, `with_tool` and `without`."""
    n = measured["rows"] * k
    found = row_benefit((measured["with_tool"], n), (measured["without"], n))
    return {
        "acc_tool": measured["with_tool"] / n,
        "acc_no_tool": measured["without"] / n,
        "benefit": found.value,
        "benefit_interval": [found.low, found.high],
    }


def with_benefit(measured: Measured) -> Row:
    """The row with its benefit."""
    found = measured.benefit
    return replace(measured.row, benefit=(found.value, found.low, found.high))


def _right(attempt: Attempt, row: Row) -> bool:
    return attempt.answer is not None and is_correct(attempt.answer, row.answers)
