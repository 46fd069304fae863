"""Measures coverage and false positives of the statistics of `codevision study` on simulated studies.

`python benchmarks/study_statistics.py coverage` compares four intervals for the difference of two trainings: the one of
`seed_statistics`, a t interval over the seeds' means, a bootstrap over seeds and items, and a bootstrap over items
with pooled seeds. `python benchmarks/study_statistics.py looks` measures how often a study of two equal trainings
that looks after each seed decides. Both print Markdown and exit 1 if a target is missed. docs/studies.md has the
figures.

A simulated rollout is right or wrong. Its logit is the sum of normal effects of the text, of the image, of the image
with one of the trainings, of the seed, and of the seed with one of the trainings or columns. A training collapses, so
that all of its answers are wrong, with a given probability.
"""

import argparse
import sys
from collections.abc import Iterator
from itertools import product

import numpy as np
from scipy.stats import t

from codevision_ext.experiments.study.seed_statistics import ALPHA, Floats, half_width, look_levels

COLUMNS = 5
MIN_COVERAGE, MAX_FALSE = 0.94, 0.05
"""Targets: coverage of a 95 % interval, and share of studies of equal trainings that are decided."""
RESAMPLES = 400
LOOKS = ((3, 8), (3, 12), (5, 20))
"""Number of seeds at the first and at the last look."""


def simulate(
    studies: int, seeds: int, texts: int, *, spread: float, collapse: float, rng: np.random.Generator
) -> Floats:
    """Returns the differences of two equal trainings, shape (studies, seeds, texts), as means over the columns."""
    images = (studies, 1, texts, COLUMNS)
    shared = rng.normal(0, 1.5, (studies, 1, texts, 1)) + rng.normal(0, 0.7, images)
    shared = shared + rng.normal(0, spread / 2**0.5, (studies, seeds, 1, 1))
    own = rng.normal(0, 0.3, images)
    right = []
    for side in (own, -own):
        logit = shared + side + rng.normal(0, spread, (studies, seeds, 1, 1))
        logit = logit + rng.normal(0, spread / 2, (studies, seeds, 1, COLUMNS))
        fine = rng.random((studies, seeds, 1, 1)) >= collapse
        right.append((rng.random(logit.shape) < fine / (1 + np.exp(-logit))).mean(axis=-1))
    return np.asarray(right[1] - right[0])


def conditions(seeds: tuple[int, ...]) -> Iterator[tuple[float, int, float, int]]:
    """Yields probability of a collapse, number of texts, spread of the seeds as a logit, and number of seeds."""
    return product((0.0, 0.1), (25, 50), (0.0, 0.15, 0.3, 0.6), seeds)


def coverage(studies: int) -> bool:
    """Prints the coverage of each interval; returns whether the target is met."""
    rng = np.random.default_rng(0)
    names = ("ours", "t over seeds", "bootstrap of seeds and items", "bootstrap of items")
    lowest = dict.fromkeys(names, 1.0)
    sys.stdout.write(f"| collapses | texts | SD of seeds, points | seeds | {' | '.join(names)} | width of ours |\n")
    sys.stdout.write("|---|---|---|---|---|---|---|---|---|\n")
    for collapse, texts, spread, seeds in conditions((3, 5, 8)):
        made = simulate(studies, seeds, texts, spread=spread, collapse=collapse, rng=rng)
        value, of_seeds = made.mean(axis=(1, 2)), made.mean(axis=2)
        width = half_width(made, ALPHA)
        error = of_seeds.std(axis=1, ddof=1) / seeds**0.5
        inside = {
            names[0]: np.abs(value) <= width,
            names[1]: np.abs(value) <= t.isf(ALPHA / 2, seeds - 1) * error,
            names[2]: [bootstrap(each, rng) for each in made[: studies // 4]],
            names[3]: [bootstrap(each.mean(axis=0, keepdims=True), rng) for each in made[: studies // 4]],
        }
        shares = {name: float(np.mean(inside[name])) for name in names}
        lowest = {name: min(lowest[name], shares[name]) for name in names}
        cells = " | ".join(f"{100 * shares[name]:.1f}" for name in names)
        sd = 100 * of_seeds.std(axis=1, ddof=1).mean()
        sys.stdout.write(
            f"| {100 * collapse:g} % | {texts} | {sd:.1f} | {seeds} | {cells} | {200 * width.mean():.1f} |\n"
        )
    cells = ", ".join(f"{name} {100 * share:.1f} %" for name, share in lowest.items())
    sys.stdout.write(f"\nLowest coverage of the 95 % interval: {cells}; target for ours: {100 * MIN_COVERAGE:g} %\n")
    return lowest[names[0]] >= MIN_COVERAGE


def bootstrap(table: Floats, rng: np.random.Generator) -> bool:
    """Returns whether the 95 % percentile interval of resampled seeds and items contains 0."""
    seeds, items = (rng.multinomial(n, [1 / n] * n, RESAMPLES) / n for n in table.shape)
    low, high = np.quantile(np.sum((seeds @ table) * items, axis=1), [ALPHA / 2, 1 - ALPHA / 2])
    return bool(low <= 0 <= high)


def looks(studies: int) -> bool:
    """Prints the share of false decisions with and without the correction; returns whether the target is met."""
    rng = np.random.default_rng(0)
    worst = [0.0, 0.0]
    sys.stdout.write("| looks at seeds | collapses | texts | spread of seeds | corrected | every look at 5 % |\n")
    sys.stdout.write("|---|---|---|---|---|---|\n")
    for first, last in LOOKS:
        levels = look_levels(first, last)
        for collapse, texts, spread, _ in conditions((last,)):
            made = simulate(studies, last, texts, spread=spread, collapse=collapse, rng=rng)
            shares = [decided(made, levels), decided(made, dict.fromkeys(levels, ALPHA))]
            worst = [max(pair) for pair in zip(worst, shares, strict=True)]
            cells = " | ".join(f"{100 * share:.1f}" for share in shares)
            sys.stdout.write(f"| {first} to {last} | {100 * collapse:g} % | {texts} | {spread:g} | {cells} |\n")
    sys.stdout.write(
        f"\nMost false decisions: {100 * worst[0]:.1f} % of {studies:,} studies, {100 * worst[1]:.1f} % without the "
        f"correction; target: {100 * MAX_FALSE:g} %\n"
    )
    return worst[0] <= MAX_FALSE


def decided(made: Floats, levels: dict[int, float]) -> float:
    """Returns the share of studies that one of the looks decides."""
    results = [
        np.abs(made[:, :seeds].mean(axis=(1, 2))) > half_width(made[:, :seeds], alpha)
        for seeds, alpha in levels.items()
    ]
    return float(np.any(results, axis=0).mean())


def main() -> int:
    """Runs the simulation; returns 1 if its target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("coverage", "looks"))
    parser.add_argument("--studies", type=int, default=4000, help="number of simulated studies of each kind")
    args = parser.parse_args()
    return int(not {"coverage": coverage, "looks": looks}[args.what](args.studies))


if __name__ == "__main__":
    sys.exit(main())
