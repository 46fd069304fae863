"""Is results.json what it says, and does its interval mean what it says?"""

import json
import math
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up_run import make_run, results

from codevision_ext.errors import InputError
from codevision_ext.evaluate.metrics import COLUMNS, Score, by_column, read_results, write_results
from codevision_ext.evaluate.statistics import wilson
from codevision_ext.io.records import Record
from codevision_ext.types import Outcome, Task


def answered(column: str | None, correct: bool, valid: bool = True) -> Record:
    observed = Outcome(correct=correct, format=1.0, valid=valid)
    return Record(group="g", id="g-0", task=Task(), observed=observed, column=column)


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_holds_the_share_and_stays_in_range(case: tuple[int, int]) -> None:
    correct, n = case
    low, high = wilson(correct, n)
    assert 0 <= low <= correct / n <= high <= 1
    assert wilson(n - correct, n) == pytest.approx((1 - high, 1 - low))


@pytest.mark.parametrize(
    ("correct", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_the_interval_is_the_published_one(correct: int, n: int, low: float, high: float) -> None:
    """Newcombe, Statistics in Medicine 17 (1998), table I, method 3."""
    assert wilson(correct, n) == pytest.approx((low, high), abs=5e-5)


def test_the_interval_covers_the_truth_about_95_times_in_100() -> None:
    n, truth = 120, 0.85
    chances = [math.comb(n, k) * truth**k * (1 - truth) ** (n - k) for k in range(n + 1)]
    covered = sum(chance for k, chance in enumerate(chances) if wilson(k, n)[0] <= truth <= wilson(k, n)[1])
    assert 0.93 < covered < 0.97


@pytest.mark.parametrize(("correct", "n"), [(0, 0), (3, 2), (-1, 2)])
def test_a_share_of_nothing_is_refused(correct: int, n: int) -> None:
    with pytest.raises(ValueError, match="not a share"):
        wilson(correct, n)


def test_a_column_counts_its_own_valid_rollouts_only() -> None:
    rows = [answered(column, correct) for column in COLUMNS for correct in (True, False)]
    rows += [answered("rot90", True), answered("rot90", False, valid=False)]
    scores = by_column(rows)
    assert tuple(scores) == COLUMNS
    assert (scores["rot90"].n, scores["rot90"].accuracy) == (3, 2 / 3)
    assert (scores["flip_v"].n, scores["flip_v"].accuracy) == (2, 0.5)


def test_a_column_without_a_valid_rollout_is_named_instead_of_left_out() -> None:
    rows = [answered(column, True, valid=column != "flip_h") for column in COLUMNS]
    with pytest.raises(InputError, match="no valid rollout in column flip_h"):
        by_column(rows)


def test_a_rollout_of_no_known_column_is_named() -> None:
    with pytest.raises(InputError, match="rollout 'g-0': column 'rot45' is none of source, rot90"):
        by_column([answered("rot45", True)])


def test_the_mean_of_columns_weighs_them_the_same_however_many_items_they_have() -> None:
    mean = Score.mean([Score.of([True] * 10), Score.of([False] * 1000)])
    assert (mean.accuracy, mean.n) == (0.5, 1010)
    assert mean.low < 0.5 < mean.high


def test_results_have_exactly_the_published_shape_and_come_back_the_same(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    written = results(random.Random(0), 120)
    write_results(path, written)
    plain = json.loads(path.read_text())
    assert set(plain) == {"checkpoints", "minutes", "peak_rss_gb", "step_s", "seed", "versions"}
    assert set(plain["checkpoints"]) == {"base", "sft", "rl"}
    assert all(set(modes) == {"tool_on", "tool_off"} for modes in plain["checkpoints"].values())
    assert tuple(plain["checkpoints"]["rl"]["tool_on"]) == COLUMNS
    assert set(plain["checkpoints"]["rl"]["tool_on"]["rot90"]) == {"accuracy", "low", "high", "n"}
    assert read_results(path) == written
    assert [p.name for p in tmp_path.iterdir()] == ["results.json"]


def drop_column(plain: dict[str, Any]) -> None:
    del plain["checkpoints"]["sft"]["tool_off"]["rot270"]


def percent(plain: dict[str, Any]) -> None:
    plain["checkpoints"]["rl"]["tool_on"]["rot90"] |= {"accuracy": 88.0, "high": 91.0}


def bare_interval(plain: dict[str, Any]) -> None:
    plain["checkpoints"]["rl"]["tool_on"]["rot90"]["low"] = 0.999


def new_checkpoint(plain: dict[str, Any]) -> None:
    plain["checkpoints"]["dpo"] = plain["checkpoints"]["rl"]


def new_column(plain: dict[str, Any]) -> None:
    plain["checkpoints"]["rl"]["tool_on"]["rot45"] = plain["checkpoints"]["rl"]["tool_on"]["rot90"]


def no_seed(plain: dict[str, Any]) -> None:
    del plain["seed"]


def no_items(plain: dict[str, Any]) -> None:
    plain["checkpoints"]["rl"]["tool_on"]["rot90"]["n"] = 0


def nothing(plain: dict[str, Any]) -> None:
    plain["checkpoints"] = {}


def before_it_began(plain: dict[str, Any]) -> None:
    plain["minutes"] = -1.0


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (drop_column, "checkpoints.sft.tool_off lacks the column rot270"),
        (percent, "field checkpoints.rl.tool_on.rot90: low"),
        (bare_interval, "field checkpoints.rl.tool_on.rot90: low"),
        (new_checkpoint, "field checkpoints.dpo"),
        (new_column, "field checkpoints.rl.tool_on.rot45"),
        (no_seed, "field seed: is missing"),
        (no_items, "at least one item"),
        (nothing, "checkpoints holds no evaluation"),
        (before_it_began, "minutes is -1.0"),
    ],
)
def test_results_that_cannot_be_are_refused_by_name(tmp_path: Path, damage: Any, said: str) -> None:
    path = make_run(tmp_path / "run") / "results.json"
    plain = json.loads(path.read_text())
    damage(plain)
    path.write_text(json.dumps(plain))
    with pytest.raises(InputError) as caught:
        read_results(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert said in str(caught.value)


def test_results_that_are_not_there_are_said_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"results\.json: can't be read: No such file"):
        read_results(tmp_path / "results.json")


def test_an_invalid_rollout_is_not_a_wrong_one() -> None:
    bad = [answered(column, True) for column in COLUMNS] + [answered("source", False, valid=False)]
    assert by_column(bad)["source"].accuracy == 1.0
