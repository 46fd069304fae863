"""Intervals and p-values have the coverage that they claim."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codevision_ext.evaluate.metrics import Score
from codevision_ext.evaluate.statistics import holm, paired, pass_at, wilson

SCORES = st.dictionaries(st.integers(0, 20), st.floats(0, 1), min_size=1, max_size=8)


@given(st.integers(1, 7).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n), st.integers(1, n))))
def test_pass_at_k_is_the_share_of_draws_with_a_right_try(case: tuple[int, int, int]) -> None:
    right, tries, k = case
    draws = list(itertools.combinations([True] * right + [False] * (tries - right), k))
    assert pass_at(right, tries, k) == pytest.approx(sum(map(any, draws)) / len(draws))


@pytest.mark.parametrize(("right", "tries", "k"), [(3, 2, 1), (-1, 2, 1), (1, 2, 3), (1, 2, 0)])
def test_pass_at_k_of_too_few_tries_is_refused(right: int, tries: int, k: int) -> None:
    with pytest.raises(ValueError, match="isn't known"):
        pass_at(right, tries, k)


@settings(max_examples=25)
@given(SCORES, SCORES)
def test_a_difference_is_that_of_the_common_items_and_turns_its_sign_with_the_order(
    first: dict[int, float], second: dict[int, float]
) -> None:
    there, back = paired(first, second, {}, 0), paired(second, first, {}, 0)
    common = first.keys() & second.keys()
    if not common:
        assert there is None
        return
    assert there is not None
    assert back is not None
    assert there.n == len(common)
    assert there.value == pytest.approx(np.mean([second[item] - first[item] for item in common]))
    assert there.low <= there.value <= there.high
    assert (back.value, back.low, back.high) == pytest.approx((-there.value, -there.high, -there.low))
    assert back.p == pytest.approx(there.p)


def test_equal_results_differ_by_nothing_and_an_outright_winner_by_more_than_chance() -> None:
    worse, better = dict.fromkeys(range(40), 0.0), dict.fromkeys(range(40), 1.0)
    same, won = paired(worse, worse, {}, 0), paired(worse, better, {}, 0)
    assert same is not None
    assert won is not None
    assert (same.value, same.p) == (0, 1)
    assert (won.value, won.p) == (1, 1e-4)


def test_items_of_one_image_count_as_one() -> None:
    rng = np.random.default_rng(0)
    gains = rng.normal(0.05, 0.2, 30).clip(-0.5, 0.5)
    first = {(image, column): 0.5 for image in range(30) for column in range(6)}
    second = {(image, column): 0.5 + gains[image] for image, column in first}
    apart, together = (paired(first, second, clusters, 0) for clusters in ({}, {item: item[0] for item in first}))
    assert apart is not None
    assert together is not None
    assert together.value == pytest.approx(apart.value)
    assert together.high - together.low > 2 * (apart.high - apart.low)


def test_about_five_in_a_hundred_equal_runs_look_different() -> None:
    rng = np.random.default_rng(1)
    p_values = []
    for seed in range(100):
        first, second = (dict(enumerate((rng.random(40) < 0.6).astype(float))) for _ in range(2))
        found = paired(first, second, {}, seed)
        assert found is not None
        p_values.append(found.p)
    assert 1 <= sum(p < 0.05 for p in p_values) <= 12


def test_holm_adjusts_as_in_a_worked_example() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    assert holm([0.9, 0.8]) == [1, 1]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_a_score_of_fractions_lies_in_an_interval_that_is_no_narrower_than_a_coin_s(points: list[float]) -> None:
    score = Score.of(points)
    low, high = wilson(sum(points), len(points))
    assert (score.low, score.high) == pytest.approx((low, high))
    assert 0 <= score.low <= score.accuracy <= score.high <= 1
