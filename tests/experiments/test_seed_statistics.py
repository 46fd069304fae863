"""A difference over seeds includes the spread of seeds and of items, and repeated looks are paid for."""

import numpy as np
import pytest

from codevision_ext.experiments.study.seed_statistics import (
    Decision,
    Spread,
    half_width,
    look_levels,
    seed_difference,
    tellable,
)

Scores = dict[int, dict[str, float]]


def scores(table: np.ndarray) -> Scores:
    """Scores of items by seed, from an array of seeds and items."""
    return {seed: {f"item {i}": float(value) for i, value in enumerate(row)} for seed, row in enumerate(table)}


def studies(count: int, seeds: int, items: int, of_seeds: float, of_items: float, seed: int = 0) -> np.ndarray:
    """Differences without an effect, with these standard deviations; shape (studies, seeds, items)."""
    rng = np.random.default_rng(seed)
    rest = rng.normal(0, 0.4, (count, seeds, items))
    return rng.normal(0, of_seeds, (count, seeds, 1)) + rng.normal(0, of_items, (count, 1, items)) + rest


def test_the_mean_is_that_of_the_common_seeds_and_items() -> None:
    first = {0: {"a": 0.0, "b": 1.0}, 1: {"a": 0.0, "b": 0.0}, 2: {"a": 1.0, "b": 1.0}}
    second = {0: {"a": 1.0, "b": 1.0, "c": 1.0}, 1: {"a": 1.0, "b": 0.0, "c": 1.0}}
    difference = seed_difference(first, second, {})
    assert difference is not None
    assert (difference.value, difference.seeds, difference.items) == (0.5, 2, 2)
    assert seed_difference(first, {7: {"a": 1.0}}, {}) is None


def test_an_item_that_misses_with_one_seed_is_left_out_with_every_seed() -> None:
    first = {0: {"a": 0.0, "b": 0.0}, 1: {"a": 0.0}}
    second = {0: {"a": 1.0, "b": 0.0}, 1: {"a": 1.0, "b": 0.0}}
    difference = seed_difference(first, second, {})
    assert difference is not None
    assert difference.value == 1.0


def test_trainings_whose_gain_depends_on_the_seed_are_undecided_however_many_items_there_are() -> None:
    gains = np.repeat([[0.0], [0.1], [0.3]], 400, axis=1)
    difference = seed_difference(scores(np.zeros((3, 400))), scores(gains), {})
    assert difference is not None
    assert difference.low < 0 < difference.value < difference.high
    assert difference.decision() is Decision.UNDECIDED


def test_the_interval_is_the_t_interval_of_the_seeds_where_all_items_agree() -> None:
    difference = seed_difference(scores(np.zeros((3, 9))), scores(np.repeat([[0.1], [0.2], [0.3]], 9, axis=1)), {})
    assert difference is not None
    assert difference.high - difference.value == pytest.approx(4.302653 * 0.1 / 3**0.5)


def test_items_of_one_cluster_count_as_one() -> None:
    rng = np.random.default_rng(0)
    gains = np.repeat(rng.choice([0.0, 1.0], (4, 20)), 5, axis=1)  # five copies of each item
    clusters = {f"item {i}": i // 5 for i in range(100)}
    together = seed_difference(scores(np.zeros((4, 100))), scores(gains), clusters)
    single = seed_difference(scores(np.zeros((4, 20))), scores(gains[:, ::5]), {})
    assert together is not None
    assert single is not None
    assert together.items == 20
    assert (together.low, together.high) == pytest.approx((single.low, single.high))


def test_the_decision_is_about_the_threshold() -> None:
    difference = seed_difference(scores(np.zeros((3, 4))), scores(np.full((3, 4), -0.02)), {})
    assert difference is not None
    assert difference.decision() is Decision.BELOW
    assert difference.decision(-0.03) is Decision.ABOVE


@pytest.mark.parametrize(("seeds", "items", "of_seeds"), [(3, 25, 0.0), (3, 25, 0.1), (6, 50, 0.1), (3, 50, 0.3)])
def test_at_least_95_percent_of_the_intervals_contain_the_true_difference(
    seeds: int, items: int, of_seeds: float
) -> None:
    made = studies(4000, seeds, items, of_seeds, 0.2)
    covered = np.abs(made.mean(axis=(1, 2))) <= half_width(made, 0.05)
    assert covered.mean() > 0.945  # 4,000 studies have a standard error of 0.3 %


def test_looking_after_every_seed_decides_for_equal_trainings_in_at_most_5_percent() -> None:
    levels = look_levels(3, 10)
    assert list(levels) == [*range(3, 11)]
    assert sorted(levels.values()) == list(levels.values())
    made = studies(4000, 10, 25, 0.2, 0.05)

    def false_positives(alphas: dict[int, float]) -> float:
        decided = [np.abs(made[:, :n].mean(axis=(1, 2))) > half_width(made[:, :n], a) for n, a in alphas.items()]
        return float(np.any(decided, axis=0).mean())

    assert false_positives(dict(levels)) < 0.055
    assert false_positives(dict.fromkeys(levels, 0.05)) > 0.08  # without the correction


def test_a_single_look_has_the_whole_level() -> None:
    assert look_levels(3, 3) == {3: 0.05}


def test_a_difference_that_can_be_told_is_decided_in_four_of_five_studies() -> None:
    spread = Spread(seeds=0.1**2, items=0.2**2, rest=0.4**2)
    effect = tellable(spread, 5, 40)
    made = studies(4000, 5, 40, 0.1, 0.2) + effect
    decided = made.mean(axis=(1, 2)) - half_width(made, 0.05) > 0
    assert decided.mean() == pytest.approx(0.8, abs=0.03)
    assert tellable(spread, 20, 40) < effect
