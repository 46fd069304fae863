"""Compares two trainings over paired seeds, and calibrates repeated looks at a growing number of seeds.

A difference has three sources of variance: the seeds of the trainings, the items of the evaluation, and the rest, which
is alone with its seed and its item. The interval includes all of them, so it holds for other seeds and other items. The
estimate is that of a two-way random-effects model, as in multi-reader studies of diagnostic tests (Obuchowski and
Rockette, Commun. Stat. Simul. Comput. 24, 1995), with the degrees of freedom of the seeds alone.
`benchmarks/study_statistics.py` measures coverage and false positives.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from math import sqrt
from statistics import fmean
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Item = TypeVar("Item", bound=Hashable)

ALPHA: Final = 0.05
"""Probability that a comparison of equal trainings is decided, over all looks together."""
POWER: Final = 0.8
"""Probability with which a difference that can be told is decided."""
_PATHS: Final = 200_000
"""Number of simulated studies that calibrate the looks."""


class Decision(StrEnum):
    """Position of an interval relative to a threshold."""

    ABOVE = "above"
    BELOW = "below"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Variances of the difference between two trainings; scores are in [0, 1]."""

    seeds: float
    """Variance of the difference between seeds, over infinitely many items."""
    items: float
    """Variance of the difference between items, over infinitely many seeds."""
    rest: float
    """Variance of the difference of one item with one seed around the sum of the two."""

    def error(self, seeds: int, items: int) -> float:
        """Returns the standard error of the mean difference over that many seeds and items."""
        return sqrt(self.seeds / seeds + self.items / items + self.rest / (seeds * items))


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedDifference:
    """Difference between two trainings, second minus first, over their common seeds and items."""

    value: float
    """Mean difference, in [-1, 1]."""
    low: float
    high: float
    """Bounds of its interval."""
    confidence: float
    """Confidence of the interval, in (0, 1): 0.95 for a single look, more for one of several looks."""
    seeds: int
    """Number of common seeds. With one seed the interval is over items only, and decides nothing."""
    items: int
    """Number of common clusters of items, for example images with the same text."""
    spread: Spread | None
    """Variances of the difference; None with one seed."""

    def decision(self, threshold: float = 0.0) -> Decision:
        """Returns on which side of `threshold` (in [-1, 1]) the interval is."""
        if self.spread is None:
            return Decision.UNDECIDED
        if self.low > threshold:
            return Decision.ABOVE
        return Decision.BELOW if self.high < threshold else Decision.UNDECIDED


def seed_difference(
    first: Mapping[int, Mapping[Item, float]],
    second: Mapping[int, Mapping[Item, float]],
    clusters: Mapping[Item, Hashable],
    alpha: float = ALPHA,
) -> SeedDifference | None:
    """Compares the scores of two trainings; None without a common seed or item.

    Args:
        first: Score of each item in [0, 1], by seed. An item counts if it has a score with every common seed.
        second: Scores of the other training.
        clusters: Cluster of each item; the errors of the items of one cluster depend on each other.
        alpha: Probability that the interval misses the true difference.
    """
    seeds = sorted(first.keys() & second.keys())
    common = set[Item]().union(*(first[seed] for seed in seeds)) if seeds else set()
    for seed in seeds:
        common &= first[seed].keys() & second[seed].keys()
    if not common:
        return None
    members: dict[Hashable, list[Item]] = {}
    for item in sorted(common, key=repr):
        members.setdefault(clusters.get(item, ("alone", item)), []).append(item)
    sizes = np.array([len(items) for items in members.values()], dtype=float)
    sums = np.array(
        [[sum(second[s][i] - first[s][i] for i in items) for items in members.values()] for s in seeds], dtype=float
    )
    means = sums.sum(axis=1, keepdims=True) / sizes.sum()
    table = means + (sums - means * sizes) / sizes.mean()  # clusters of equal size: the mean of each cluster
    value = float(means.mean())
    margin = float(half_width(table, alpha))
    return SeedDifference(
        value=value,
        low=value - margin,
        high=value + margin,
        confidence=1 - alpha,
        seeds=len(seeds),
        items=len(members),
        spread=_spread(table) if len(seeds) > 1 else None,
    )


def half_width(table: Floats, alpha: float) -> Floats:
    """Returns half of the width of the interval of the mean; `table` has the differences, shape (.., seeds, items).

    With one seed the interval is over items only; with one item it is over seeds only.
    """
    from scipy.stats import t  # noqa: PLC0415  slow to import

    seeds, items = table.shape[-2:]
    if seeds == 1 and items == 1:
        return np.zeros(table.shape[:-2])
    between_seeds, between_items, rest = _mean_squares(table)
    if seeds == 1:
        return np.asarray(t.isf(alpha / 2, items - 1) * np.sqrt(between_items / items))
    error = np.sqrt((between_seeds + np.maximum(between_items - rest, 0)) / (seeds * items))
    return np.asarray(t.isf(alpha / 2, seeds - 1) * error)


def _mean_squares(table: Floats) -> tuple[Floats, Floats, Floats]:
    """Returns the mean squares of seeds, items and rest of a two-way layout, shape (..); 0 where there is no pair."""
    seeds, items = table.shape[-2:]
    by_seed, by_item = table.mean(axis=-1, keepdims=True), table.mean(axis=-2, keepdims=True)
    mean = by_seed.mean(axis=-2, keepdims=True)
    rest = table - by_seed - by_item + mean
    return (
        items * ((by_seed - mean) ** 2).sum(axis=(-2, -1)) / max(1, seeds - 1),
        seeds * ((by_item - mean) ** 2).sum(axis=(-2, -1)) / max(1, items - 1),
        (rest**2).sum(axis=(-2, -1)) / max(1, (seeds - 1) * (items - 1)),
    )


def _spread(table: Floats) -> Spread:
    seeds, items = table.shape
    of_seeds, of_items, rest = map(float, _mean_squares(table))
    return Spread(seeds=max(0.0, of_seeds - rest) / items, items=max(0.0, of_items - rest) / seeds, rest=rest)


def mean_spread(differences: Sequence[SeedDifference]) -> Spread | None:
    """Returns the mean variances of several differences; None if none of them has more than one seed."""
    spreads = [difference.spread for difference in differences if difference.spread]
    if not spreads:
        return None
    names = ("seeds", "items", "rest")
    return Spread(**{name: fmean(getattr(spread, name) for spread in spreads) for name in names})


def tellable(spread: Spread, seeds: int, items: int, alpha: float = ALPHA) -> float:
    """Returns the smallest difference that a study decides with probability POWER, in [0, 1]; at least two seeds."""
    from statsmodels.stats.power import TTestPower  # noqa: PLC0415  slow to import

    effect = TTestPower().solve_power(nobs=seeds, alpha=alpha, power=POWER, alternative="two-sided")
    return min(1.0, float(effect) * sqrt(seeds) * spread.error(seeds, items))


@cache
def look_levels(first: int, last: int, alpha: float = ALPHA) -> Mapping[int, float]:
    """Returns the level of each look of a study that looks after `first`, `first` + 1, .. `last` seeds.

    The levels grow in proportion to the number of seeds. They are chosen so that a t-test at each look rejects a true
    difference of 0 in `alpha` of all studies, where the differences of the seeds are normal with any variance. So a
    study may stop at the first look that decides, or for want of time. The calibration is a simulation with a fixed
    seed; its standard error is 1 % of `alpha`.

    Args:
        first: Number of seeds at the first look, at least 2.
        last: Number of seeds at the last look.
        alpha: Probability of a false decision over all looks, in (0, 1).
    """
    from scipy.stats import t  # noqa: PLC0415  slow to import

    counts = np.arange(first, last + 1)
    draws = np.random.default_rng(0).standard_normal((_PATHS, last))
    every = np.arange(1, last + 1)
    means = np.cumsum(draws, axis=1) / every
    squares = np.cumsum(draws**2, axis=1) - every * means**2
    means, squares = means[:, first - 1 :], squares[:, first - 1 :]
    p_values = 2 * t.sf(np.abs(means) / np.sqrt(squares / (counts * (counts - 1))), counts - 1)
    share = min(alpha, float(np.quantile((p_values * last / counts).min(axis=1), alpha)))
    return {count: share * (count / last) for count in range(first, last + 1)}
