"""Group statistics and advantages equal those computed by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codevision_ext.rewards.advantages import (
    component_advantages,
    group_advantages,
    neutral_rewards,
    participation,
    turn_advantages,
)

FLAGS = {"none": (1, 1), "mask_loss": (1, 0), "mask_loss_and_baseline": (0, 0)}
rewards = st.lists(st.floats(-3, 3), min_size=1, max_size=12)


def info(*, valid: bool = True, end: str = "answer") -> dict[str, float]:
    return {"valid": float(valid)} | {f"end_{name}": float(name == end) for name in ("answer", "turn_cap", "length")}


@pytest.mark.parametrize("overturn", FLAGS)
@pytest.mark.parametrize("end", ["turn_cap", "length"])
def test_overturn_decides_what_a_rollout_that_ran_into_a_limit_takes_part_in(overturn: str, end: str) -> None:
    who = participation([info(), info(end=end), info(valid=False, end=end), info(valid=False), None], overturn)
    counted, learns = FLAGS[overturn]
    assert who.counted.tolist() == [1, counted, 0, 0, 0]
    assert who.learns.tolist() == [1, learns, 0, 0, 0]


def test_advantages_are_measured_in_deviations_of_the_own_group() -> None:
    given = group_advantages(np.array([1.0, 10, 3, 20, 5, 30]), ["a", "b", "a", "b", "a", "b"])
    assert given == pytest.approx([-1, -1, 0, 0, 1, 1], abs=1e-5)
    assert group_advantages(np.array([1.0, 3]), ["a", "a"], by_std=False).tolist() == [-1, 1]


def test_who_is_not_counted_changes_neither_mean_nor_spread_and_has_no_advantage() -> None:
    alone = group_advantages(np.array([1.0, 3, 5]), ["a"] * 3)
    beside = group_advantages(np.array([1.0, 100, 3, 5]), ["a"] * 4, np.array([True, False, True, True]))
    assert beside.tolist() == [alone[0], 0, *alone[1:]]


def test_an_invalid_rollout_gets_the_mean_of_the_others_and_moves_no_baseline() -> None:
    assert neutral_rewards([1.0, None, 4.0, None]) == [1.0, 2.5, 4.0, 2.5]
    assert neutral_rewards([None, None]) == [0.0, 0.0]
    assert neutral_rewards([0.0, None]) == [0.0, 0.0]
    alone = group_advantages(np.array([1.0, 4.0]), ["a"] * 2, by_std=False)
    beside = group_advantages(np.array(neutral_rewards([1.0, None, 4.0])), ["a"] * 3, by_std=False)
    assert beside.tolist() == [alone[0], 0, alone[1]]


def test_a_rollout_without_another_to_compare_has_no_advantage() -> None:
    assert group_advantages(np.array([2.0, 1, 5]), ["a", "b", "b"], np.array([True, True, False])).tolist() == [0, 0, 0]


@given(rewards, st.integers(1, 3), st.floats(-5, 5))
def test_advantages_sum_to_0_and_do_not_feel_where_the_reward_s_zero_is(
    values: list[float], groups: int, shift: float
) -> None:
    names = [str(i % groups) for i in range(len(values))]
    given = group_advantages(np.array(values), names)
    moved = group_advantages(np.array(values) + shift, names)
    assert moved == pytest.approx(given, abs=1e-6)
    for name in set(names):
        assert sum(a for a, n in zip(given, names, strict=True) if n == name) == pytest.approx(0, abs=1e-6)


def test_each_component_counts_by_its_weight_whatever_its_spread() -> None:
    big, small = np.array([0.0, 10, 0, 10]), np.array([0.0, 0, 0.01, 0.01])
    even = component_advantages(np.stack([big, small], axis=1), (1.0, 1.0), ["a"] * 4)
    assert even[1] == pytest.approx(even[2], abs=1e-3)
    assert even[3] == pytest.approx(-even[0])
    assert even[3] > 0
    tilted = component_advantages(np.stack([big, small], axis=1), (0.1, 1.0), ["a"] * 4)
    assert tilted[2] > tilted[1]


def test_a_penalty_lowers_the_advantage_of_who_pays_it() -> None:
    penalty = np.array([[0.0], [-0.5], [0.0]])
    given = component_advantages(penalty, (-0.5,), ["a"] * 3)
    assert given[1] < 0 < given[0] == given[2]


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1), st.booleans()), min_size=2, max_size=12))
def test_components_of_the_counted_have_mean_0_and_the_others_none(rows: list[tuple[float, float, bool]]) -> None:
    values = np.array([row[:2] for row in rows])
    counted = np.array([row[2] for row in rows])
    given = component_advantages(values, (1.0, 0.2), [str(i % 2) for i in range(len(rows))], counted)
    assert not given[~counted].any()
    assert given.sum() == pytest.approx(0, abs=1e-6)
    other = np.where(counted[:, None], values, 99.0)
    assert component_advantages(other, (1.0, 0.2), [str(i % 2) for i in range(len(rows))], counted) == pytest.approx(
        given
    )


def test_a_turn_gets_no_credit_for_what_an_earlier_turn_earned() -> None:
    """Two rollouts: one earns 1 by its call, then answers; the other answers at once. Both answers are right."""
    called, direct = turn_advantages(np.array([2.0, 1.0]), [[1.0, 0.0], [0.0]], ["a", "a"], by_std=False)
    assert called == pytest.approx([0.5, 0.0])
    assert direct == pytest.approx([-0.5])


def test_a_turn_that_repairs_an_earlier_one_is_credited() -> None:
    repaired, failed = turn_advantages(np.array([2.0, 0.0]), [[0.0, 1.0, 0.0], [0.0, 0.0]], ["a", "a"], by_std=False)
    assert repaired == pytest.approx([1.0, 1.0, 0.5])
    assert failed == pytest.approx([-1.0, -1.0])


turn_gains = st.lists(st.floats(0, 1), min_size=1, max_size=4)


@given(st.lists(st.tuples(turn_gains, st.floats(-1, 2), st.booleans()), min_size=1, max_size=8), st.booleans())
def test_the_first_turn_has_the_advantage_of_the_rollout_and_no_later_one_more(
    rollouts: list[tuple[list[float], float, bool]], by_std: bool
) -> None:
    gains = [own for own, _, _ in rollouts]
    values = np.array([sum(own) + rest for own, rest, _ in rollouts])
    counted = np.array([valid for _, _, valid in rollouts])
    names = [str(i % 2) for i in range(len(rollouts))]
    whole = group_advantages(values, names, counted, by_std=by_std)
    by_turn = turn_advantages(values, gains, names, counted, by_std=by_std)
    for own, advantage, turns, valid in zip(gains, whole, by_turn, counted, strict=True):
        assert len(turns) == len(own)
        assert turns[0] == advantage
        assert all(np.diff(turns) <= 1e-12)
        assert valid or not turns.any()


def test_without_gains_every_turn_has_the_advantage_of_the_rollout() -> None:
    by_turn = turn_advantages(np.array([1.0, 0.0]), [[0.0, 0.0], []], ["a", "a"])
    assert by_turn[0] == pytest.approx([2**-0.5] * 2, abs=1e-5)
    assert by_turn[1].tolist() == []
