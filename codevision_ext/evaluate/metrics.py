"""Defines the scores of an evaluation, and the names of columns, checkpoints and modes."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean
from typing import Literal, get_args

from codevision_ext.evaluate.statistics import wilson

Column = Literal["source", "rot90", "rot180", "rot270", "flip_h", "flip_v"]
Checkpoint = Literal["base", "sft", "rl"]
ToolMode = Literal["tool_on", "tool_off"]

COLUMNS: tuple[Column, ...] = get_args(Column)
"""Columns of the transformed benchmark."""
TRANSFORMED: tuple[Column, ...] = COLUMNS[1:]
"""Columns whose images were rotated or flipped."""
CHECKPOINTS: tuple[Checkpoint, ...] = get_args(Checkpoint)
"""Checkpoints of one training, in training order."""
TOOL_MODES: tuple[ToolMode, ...] = get_args(ToolMode)


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """Accuracy over `n` items with the bounds of its 95 % interval, all in [0, 1].

    Undecided answers count as wrong in `accuracy` and `low`, and as right in `upper` and `high`.
    """

    accuracy: float
    low: float
    high: float
    n: int
    undecided: float = 0.0
    """Share of answers that no rule decides and no judge scored, in [0, 1]."""

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.accuracy <= self.high <= 1:
            raise ValueError(f"low {self.low} <= accuracy {self.accuracy} <= high {self.high} doesn't hold in [0, 1]")
        if not 0 <= self.undecided <= 1 - self.accuracy + 1e-9:
            raise ValueError(
                f"undecided is {self.undecided}; with accuracy {self.accuracy} it can't exceed {1 - self.accuracy}"
            )
        if self.n < 1:
            raise ValueError(f"n is {self.n}, a score needs at least one item")

    @property
    def upper(self) -> float:
        """Accuracy if every undecided answer were right."""
        return min(1.0, self.accuracy + self.undecided)

    @property
    def readings(self) -> str:
        """Accuracy in percent: `72.3`; with undecided answers its lower and upper value, `60.0 to 72.3`."""
        return f"{100 * self.accuracy:.1f}" + (f" to {100 * self.upper:.1f}" if self.undecided else "")

    @property
    def interval(self) -> str:
        """Bounds of the interval in percent: `68.1 to 76.2`."""
        return f"{100 * self.low:.1f} to {100 * self.high:.1f}"

    def __str__(self) -> str:
        """Returns accuracy and interval in percent: `72.3 (68.1 to 76.2)`."""
        return f"{self.readings} ({self.interval})"

    @classmethod
    def of(cls, outcomes: Iterable[float], undecided: Iterable[float] = ()) -> "Score":
        """Returns the score of one or more items.

        Args:
            outcomes: Score of each item, in [0, 1]; undecided answers count as wrong.
            undecided: Share of undecided answers of each item, in [0, 1].
        """
        right = list(outcomes)
        n, total = len(right), math.fsum(right)
        best = min(float(n), total + math.fsum(undecided))
        return cls(
            accuracy=total / n,
            low=wilson(total, n)[0],
            high=wilson(best, n)[1],
            n=n,
            undecided=(best - total) / n,
        )

    @classmethod
    def mean(cls, scores: Iterable["Score"]) -> "Score":
        """Returns the unweighted mean of several columns, and the means of their bounds.

        The columns show the same items, so their errors are correlated. An interval for independent items would be too
        narrow; the mean of the bounds is wide enough.
        """
        columns = list(scores)
        return cls(
            accuracy=fmean(score.accuracy for score in columns),
            low=fmean(score.low for score in columns),
            high=fmean(score.high for score in columns),
            n=sum(score.n for score in columns),
            undecided=fmean(score.undecided for score in columns),
        )
