"""Computes pass@k, intervals, and the significance of differences by the paired bootstrap."""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np

RESAMPLES: Final = 10_000
"""Number of bootstrap resamples; the smallest p-value is 1 / RESAMPLES."""
_CHUNK: Final = 1 << 20
"""Number of draws that are in memory at the same time."""


def pass_at(right: int, tries: int, k: int) -> float:
    """Estimates pass@k, the probability that at least one of `k` tries is right, when `right` of `tries` were right.

    The estimator is 1 - C(n - c, k) / C(n, k), which is unbiased (Chen et al., arXiv 2107.03374, section 2.1).

    Raises:
        ValueError: 0 <= right <= tries or 1 <= k <= tries doesn't hold.
    """
    if not (0 <= right <= tries and 1 <= k <= tries):
        raise ValueError(f"pass@{k} of {right} right out of {tries} isn't known")
    return 1 - math.comb(tries - right, k) / math.comb(tries, k)


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Difference between two results, second minus first, on their common items."""

    value: float
    """Mean difference, in [-1, 1]."""
    low: float
    high: float
    """Bounds of its 95 % bootstrap interval (percentiles)."""
    p: float
    """Two-sided p-value, in (0, 1]: twice the share of resamples whose difference is 0 or has the opposite sign."""
    n: int
    """Number of common items."""


Item = TypeVar("Item", bound=Hashable)


def paired(
    first: Mapping[Item, float], second: Mapping[Item, float], clusters: Mapping[Item, Hashable], seed: int
) -> Difference | None:
    """Compares scores of common items, in [0, 1], by the paired bootstrap; None without a common item.

    Items of one cluster are resampled together, for example the rotated versions of one image, whose errors are
    correlated. Items without a cluster are resampled alone. `seed` is the seed of the resampling.
    """
    common = sorted(first.keys() & second.keys(), key=repr)
    if not common:
        return None
    sums: dict[Hashable, list[float]] = {}
    for item in common:
        total = sums.setdefault(clusters.get(item, ("alone", item)), [0.0, 0.0])
        total[0] += second[item] - first[item]
        total[1] += 1
    parts = np.array(list(sums.values()))
    value = float(parts[:, 0].sum() / parts[:, 1].sum())
    means = _resampled(parts, seed) if len(parts) > 1 else np.array([value])
    low, high = np.quantile(means, [0.025, 0.975])
    worse, better = float((means <= 0).mean()), float((means >= 0).mean())
    return Difference(
        value=value,
        low=min(float(low), value),
        high=max(float(high), value),
        p=min(1.0, max(2 * min(worse, better), 1 / RESAMPLES)),
        n=len(common),
    )


def _resampled(parts: np.ndarray, seed: int) -> np.ndarray:
    """Returns the means of RESAMPLES resamples; `parts` has sum and size of each cluster, shape (n, 2), n >= 2."""
    from scipy.stats import bootstrap  # noqa: PLC0415  slow to import

    def mean(sums: np.ndarray, sizes: np.ndarray, axis: int) -> np.ndarray:
        return np.asarray(sums.sum(axis=axis) / sizes.sum(axis=axis))

    result = bootstrap(
        (parts[:, 0], parts[:, 1]),
        mean,
        paired=True,
        n_resamples=RESAMPLES,
        batch=max(1, _CHUNK // len(parts)),
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    return np.asarray(result.bootstrap_distribution)


def holm(p_values: Sequence[float]) -> list[float]:
    """Returns the p-values adjusted for multiple tests, in the same order (Holm, Scand. J. Statist. 6, 1979)."""
    from statsmodels.stats.multitest import multipletests  # noqa: PLC0415  slow to import

    return [float(p) for p in multipletests(p_values, method="holm")[1]] if p_values else []


def wilson(correct: float, n: int) -> tuple[float, float]:
    """Returns the 95 % Wilson score interval of `correct` out of `n`, in [0, 1].

    `correct` can also be a sum of fractional scores, and `n` their number. The interval is then too wide rather than
    too narrow, because fractional scores vary at most as much as scores of 0 or 1 with the same mean.

    Raises:
        ValueError: `correct` out of `n` is not a share.
    """
    from statsmodels.stats.proportion import proportion_confint  # noqa: PLC0415  slow to import

    if not 0 <= correct <= n or n == 0:
        raise ValueError(f"{correct} right out of {n} is not a share")
    low, high = proportion_confint(correct, n, method="wilson")
    share = correct / n
    return max(0.0, min(float(low), share)), min(1.0, max(float(high), share))  # against rounding
