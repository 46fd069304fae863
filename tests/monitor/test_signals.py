"""A run that goes wrong is reported once and in words that help; a healthy run gets no warning."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codevision_ext.config import Settings, WatchSettings, read_settings
from codevision_ext.errors import InputError
from codevision_ext.monitor.rollout_metrics import summarise_step
from codevision_ext.monitor.signals import SIGNALS, WATCHED, check_signals, new_findings

DOCS = Path(__file__).parents[2] / "docs" / "health.md"
BARE: dict[str, Any] = {signal.setting: None for signal in SIGNALS}


def watch(**bounds: Any) -> WatchSettings:
    """Only these bounds."""
    return WatchSettings(**(BARE | bounds))


def series(*values: float, name: str = "rollout/tool_rate", first: int = 1) -> dict[str, dict[int, float]]:
    return {name: dict(enumerate(values, start=first))}


def info(acc: float = 1, *, valid: float = 1, reward: float | None = None, **fields: float) -> dict[str, float]:
    """What is logged of a rollout, as far as a test cares."""
    counts = ("calls", "failed_calls", "noop_calls", "malformed_calls", "repeated_calls", "recoverable_calls")
    known = dict.fromkeys(
        (*counts, "recovered_calls", "tool", "format", "undecided", "drawn", "end_length", "end_turn_cap"), 0.0
    )
    rewards = {"term_accuracy": acc if reward is None else reward, "term_turns": 0.0}
    return known | {"acc": acc, "valid": valid, "turns": 1.0} | rewards | fields


def test_a_bound_that_is_passed_at_enough_steps_in_a_row_is_told_of_in_one_sentence() -> None:
    (found,) = check_signals(series(0.4, 0.04, 0.03, 0.012), watch(min_tool_rate=0.05, steps=3))
    assert str(found) == (
        "rollout/tool_rate is below codevision.watch.min_tool_rate (0.05) since step 2 (0.012 at step 4): the tool is "
        "hardly called; pay for trying it with codevision.reward.weights.curiosity or a higher weight of necessity"
    )
    assert not check_signals(series(0.4, 0.04, 0.03), watch(min_tool_rate=0.05, steps=3))
    assert not check_signals(series(0.05, 0.05, 0.05), watch(min_tool_rate=0.05, steps=3))


def test_a_bound_that_was_passed_and_came_back_says_until_when() -> None:
    (found,) = check_signals(series(0.01, 0.01, 0.5), watch(min_tool_rate=0.05, steps=2))
    assert "rollout/tool_rate was below codevision.watch.min_tool_rate (0.05) from step 1 to 2 (" in str(found)


@pytest.mark.parametrize("signal", SIGNALS, ids=lambda signal: signal.setting)
def test_every_signal_has_a_bound_is_told_of_on_the_bad_side_only_and_can_be_switched_off(signal: Any) -> None:
    bound = getattr(WatchSettings(), signal.setting)
    low, high = ({name: dict.fromkeys(range(1, 4), value) for name in signal.names} for value in (0.0, 1.0))
    bad, good = (low, high) if signal.setting.startswith("min_") else (high, low)
    (found,) = check_signals(bad, WatchSettings())
    assert (found.signal, found.bound) == (signal, bound)
    assert str(found).count("\n") == 0
    assert not check_signals(good, WatchSettings())
    assert not check_signals(bad, WatchSettings(**{signal.setting: None}))


def test_truncation_is_the_sum_of_what_ran_into_either_limit() -> None:
    limits = watch(max_truncation_rate=0.5, steps=1)
    assert check_signals({"rollout/end_length": {1: 0.3}, "rollout/end_turn_cap": {1: 0.3}}, limits)
    assert not check_signals({"rollout/end_length": {1: 0.3}, "rollout/end_turn_cap": {1: 0.1}}, limits)
    assert not check_signals({"rollout/end_length": {1: 0.9}}, limits)


def test_steps_that_lack_the_number_or_have_none_that_is_finite_neither_end_a_stretch_nor_count() -> None:
    found = check_signals({"actor/entropy": {1: 0.0, 5: float("nan"), 9: 0.0}}, watch(min_entropy=0.1, steps=2))
    assert [(f.first, f.last, f.steps) for f in found] == [(1, 9, 2)]
    assert not check_signals({"actor/entropy": {1: 0.0, 5: float("nan")}}, watch(min_entropy=0.1, steps=2))


@given(st.lists(st.sampled_from([0.0, 1.0]), max_size=30), st.integers(1, 4))
def test_step_by_step_each_stretch_is_told_once_and_those_of_the_whole_run_are_the_same(
    values: list[float], steps: int
) -> None:
    limits = watch(min_tool_rate=0.5, steps=steps)
    told = [
        found.first
        for step in range(1, len(values) + 1)
        for found in new_findings(series(*values[:step]), limits, step)
    ]
    assert told == [found.first for found in check_signals(series(*values), limits)]


def test_of_what_was_not_logged_at_the_newest_step_nothing_is_told_again() -> None:
    old = series(0.0, 0.0)
    limits = watch(min_tool_rate=0.5, steps=2)
    assert new_findings(old, limits, 2)
    assert not new_findings(old, limits, 3)


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"min_tool": 0.1}, r"codevision\.watch\.min_tool: unknown setting; known are steps, stop, min_tool_rate"),
        ({"max_truncation_rate": 30}, r"codevision\.watch\.max_truncation_rate: must be less than or equal"),
        ({"steps": 0}, r"codevision\.watch\.steps: must be greater than or equal to 1"),
    ],
)
def test_a_bound_that_is_unknown_or_out_of_range_is_refused_by_name(section: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_settings({"watch": section})


def test_a_bound_can_be_set_and_switched_off_in_a_recipe() -> None:
    made = read_settings({"watch": {"min_entropy": None, "stop": True, "steps": 7}}).watch
    assert (made.min_entropy, made.stop, made.steps) == (None, True, 7)
    assert Settings().watch == WatchSettings()


def test_the_spread_within_groups_is_that_of_rewards_and_leaves_invalid_rollouts_and_lone_ones_out() -> None:
    rewards = {"a": (0.0, 2.0), "b": (1.0, 1.0)}
    rows = [(group, info(reward=reward)) for group, pair in rewards.items() for reward in pair]
    rows += [("a", info(valid=0, reward=99)), ("c", info(reward=5))]
    logged = summarise_step([values for _, values in rows], [group for group, _ in rows])
    assert logged["rollout/group_std"] == pytest.approx((2**0.5 + 0) / 2)
    assert "rollout/group_std" not in summarise_step([info(), info()], ["a", "b"])


def test_a_group_is_all_right_or_all_wrong_by_its_valid_answers() -> None:
    answers = {"right": (1, 1), "wrong": (0, 0), "mixed": (1, 0), "lone": (0,)}
    rows = [(group, info(acc)) for group, given in answers.items() for acc in given]
    rows += [("right", info(0, valid=0)), ("broken", info(0, valid=0))]
    logged = summarise_step([values for _, values in rows], [group for group, _ in rows])
    assert (logged["rollout/all_right_rate"], logged["rollout/all_wrong_rate"]) == (0.25, 0.5)


def test_rates_of_calls_are_shares_of_all_calls_of_the_step() -> None:
    first = info(calls=3, failed_calls=1, malformed_calls=1, repeated_calls=1, recoverable_calls=2, recovered_calls=1)
    logged = summarise_step([first, info(calls=1), info(valid=0, calls=9, repeated_calls=9)], ["g"] * 3)
    assert logged["rollout/invalid_call_rate"] == pytest.approx(2 / 5)
    assert logged["rollout/repeated_call_rate"] == pytest.approx(1 / 4)
    assert logged["rollout/recovery_rate"] == pytest.approx(1 / 2)


def test_a_step_without_an_error_to_recover_from_has_no_recovery_rate() -> None:
    assert "rollout/recovery_rate" not in summarise_step([info(calls=2)], ["g"])
    assert not check_signals({"rollout/recovery_rate": {}}, WatchSettings(steps=1))


def test_a_step_that_broke_as_a_whole_has_numbers_and_is_no_collapse_of_groups() -> None:
    logged = summarise_step([info(0, valid=0)] * 2, ["g", "g"])
    assert logged["rollout/invalid_share"] == 1
    assert not {"rollout/all_wrong_rate", "rollout/group_std", "rollout/recovery_rate"} & logged.keys()


def test_the_docs_name_everything_that_is_logged_and_every_bound_with_its_default() -> None:
    text = DOCS.read_text()
    logged = summarise_step([info(recoverable_calls=1), info()], ["g", "g"])
    own = {name for name in {*logged, *WATCHED} if not name.startswith("reward/")}
    for name in own - {"rollout/turns/max"}:
        assert name in text or f"`{name.removeprefix('rollout/')}`" in text, name
    for signal in SIGNALS:
        line = next(line for line in text.splitlines() if f"`{signal.setting}`" in line)
        assert f"{getattr(WatchSettings(), signal.setting):g}" in line
