"""Records are scored again exactly and in order; a bad line is named and the good ones are kept."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rollouts import BOX, MISSED, made, rollout

from codevision_ext.errors import InputError
from codevision_ext.experiments.rescore.options import read_axes, read_reward
from codevision_ext.experiments.rescore.rescore import rescore
from codevision_ext.experiments.rescore.weight_grid import compare_weights
from codevision_ext.io.records import Record, encode_record, scored
from codevision_ext.rewards.rubric import score_group
from codevision_ext.rewards.settings import RewardSettings
from codevision_ext.types import Rollout


def group(name: str) -> list[Rollout]:
    both = ("crop", "rotate_90")
    made_up = [
        rollout(both, made(1, "rotate_270", "crop", region=BOX)),
        rollout(both, made(1, "resize", region=MISSED), correct=False),
        rollout(both, valid=False),
        rollout(both),
    ]
    return [replace(one, group=name, id=f"{name}-{i}") for i, one in enumerate(made_up)]


def record(one: Rollout) -> Record:
    return Record(group=one.group, id=one.id, task=one.task, observed=one.observed, question="?", step=3)


def write(path: Path, rollouts: Sequence[Rollout]) -> Path:
    path.write_bytes(b"".join(encode_record(record(one)) for one in rollouts))
    return path


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


@pytest.mark.parametrize("preset", ["upstream", "paper", "verified"])
def test_what_comes_out_is_what_training_would_have_written(tmp_path: Path, preset: str) -> None:
    source = write(tmp_path / "in.jsonl", [*group("a"), *group("b")])
    assert rescore(source, tmp_path / "out.jsonl", RewardSettings(preset=preset)) == 8
    expected = []
    for name in "ab":
        records = [record(one) for one in group(name)]
        expected += [scored(r, b) for r, b in zip(records, score_group(records, preset), strict=True)]
    assert lines(tmp_path / "out.jsonl") == [json.loads(encode_record(one)) for one in expected]
    again = tmp_path / "again.jsonl"
    rescore(tmp_path / "out.jsonl", again, RewardSettings(preset=preset))
    assert lines(again) == lines(tmp_path / "out.jsonl")


def test_interleaved_groups_are_scored_as_groups_and_written_in_order(tmp_path: Path) -> None:
    mixed = [one for pair in zip(group("a"), group("b"), strict=True) for one in pair]
    source = write(tmp_path / "mixed.jsonl", mixed)
    rescore(source, tmp_path / "out.jsonl", RewardSettings(), window=7)
    rescore(write(tmp_path / "in.jsonl", [*group("a"), *group("b")]), tmp_path / "sorted.jsonl", RewardSettings())
    assert [line["id"] for line in lines(tmp_path / "out.jsonl")] == [one.id for one in mixed]
    assert sorted(lines(tmp_path / "out.jsonl"), key=lambda line: line["id"]) == lines(tmp_path / "sorted.jsonl")


def test_a_group_that_goes_on_beyond_the_window_is_refused_and_what_stands_before_is_kept(tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", [*group("a")[:2], *group("b")[:2], group("a")[3]])
    with pytest.raises(InputError, match=r"in\.jsonl, line 5: field group: 'a' began more than 4 lines before"):
        rescore(source, tmp_path / "out.jsonl", RewardSettings(), window=4)
    assert [line["id"] for line in lines(tmp_path / "out.jsonl")] == ["a-0", "a-1", "b-0", "b-1"]


def test_fields_that_are_not_ours_are_kept_byte_for_byte(tmp_path: Path) -> None:
    line = json.loads(encode_record(record(group("a")[0]))) | {"note": {"b": 1, "a": [1e-7, "ü"]}}
    for name in ("reward", "terms"):
        del line[name]
    source = tmp_path / "in.jsonl"
    source.write_text(json.dumps(line, ensure_ascii=False) + "\n")
    rescore(source, tmp_path / "out.jsonl", RewardSettings())
    assert (tmp_path / "out.jsonl").read_text().startswith(source.read_text().rstrip()[:-1])
    assert lines(tmp_path / "out.jsonl")[0]["reward"] == pytest.approx(2.2)


MINIMAL = {
    "group": "g",
    "id": "g-0",
    "task": {"applied": ["crop"], "box": [100, 100, 200, 200]},
    "observed": {
        "correct": True,
        "format": 1.0,
        "steps": [{"ok": True, "ops": ["crop"], "crops": [[100, 100, 200, 200]]}],
    },
}


def changed(path: str, value: Any) -> dict[str, Any]:
    """MINIMAL with another value at a path; None takes the field away."""
    line: Any = json.loads(json.dumps(MINIMAL))
    *parts, last = path.split(".")
    place = line
    for part in parts:
        place = place[int(part) if part.isdigit() else part]
    if value is None:
        del place[last]
    else:
        place[int(last) if last.isdigit() else last] = value
    return line


@pytest.mark.parametrize(
    ("path", "value", "preset", "said"),
    [
        ("observed.correct", None, "paper", "field observed.correct: is missing"),
        ("observed.steps", None, "paper", "field observed.steps: is missing"),
        ("task.applied", None, "paper", "field task.applied: is missing"),
        ("task.box", None, "paper", "field task.box: is missing"),
        ("observed.steps.0.ops", None, "paper", "field observed.steps.0.ops: is missing, preset paper needs it"),
        ("observed.steps.0.crops", None, "upstream", "field observed.steps.0.crops: is missing"),
        ("id", "g-0", "verified", "field observed.steps.0.node: is missing, preset verified needs it"),
        ("observed.steps.0.ops", ["crop", "enhance"], "paper", "field observed.steps.0.ops.1: unknown op 'enhance'"),
        ("observed.format", float("nan"), "paper", "field observed.format: must be a finite number"),
        ("observed.format", 1.5, "paper", "field observed.format: 1.5 isn't in [0, 1]"),
        ("task.box", [1, 2, 3], "paper", "field task.box.3: is missing"),
        ("task.box", [5, 5, 5, 9], "paper", "field task.box: [5.0, 5.0, 5.0, 9.0] isn't left, top, right, bottom"),
        ("task.box_frame", "seen", "paper", "field task.box_frame: 'seen' is neither input nor canonical"),
        ("task.size", [-84, 28], "paper", "field task.size: [-84, 28] isn't width, height"),
        ("task.applied", ["crop", "zoom_crop"], "paper", "field task.applied.1: unknown op 'zoom_crop'"),
        ("observed.steps.0.crops", [[1, 2, 3, "4"]], "paper", "field observed.steps.0.crops.0.3: must be"),
        ("observed.steps.0.okay", True, "paper", "field observed.steps.0.okay: isn't known"),
        ("group", 7, "paper", "field group: must be a valid string"),
    ],
)
def test_a_bad_record_is_named_by_line_and_field_and_the_good_ones_before_it_are_kept(
    tmp_path: Path, path: str, value: Any, preset: str, said: str
) -> None:
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    good = [json.loads(encode_record(record(one))) for one in group("a")]
    source.write_text("".join(json.dumps(line) + "\n" for line in [*good, changed(path, value), *good]))
    with pytest.raises(InputError) as caught:
        rescore(source, out, RewardSettings(preset=preset))
    assert str(caught.value).startswith(f"{source}, line 5: {said}")
    assert [line["id"] for line in lines(out)] == ["a-0", "a-1", "a-2", "a-3"]
    assert all("reward" in line for line in lines(out))


def test_a_blank_line_is_named(tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text(json.dumps(MINIMAL) + "\n\n")
    with pytest.raises(InputError, match=r"in\.jsonl, line 2: is a blank line"):
        rescore(source, tmp_path / "out.jsonl", RewardSettings(preset="paper"))


def test_fields_that_the_preset_does_not_read_may_be_missing(tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text(json.dumps(MINIMAL) + "\n")
    for preset in ("upstream", "paper"):
        rescore(source, tmp_path / "out.jsonl", RewardSettings(preset=preset))
        assert lines(tmp_path / "out.jsonl")[0]["reward"] == pytest.approx(2.2)
    step = {"ok": True, "node": 1, "net": "id", "region": [100, 100, 200, 200]}
    source.write_text(json.dumps(changed("observed.steps.0", step)) + "\n")
    rescore(source, tmp_path / "out.jsonl", RewardSettings())
    assert lines(tmp_path / "out.jsonl")[0]["reward"] == pytest.approx(2.2)


def test_a_task_that_cannot_be_scored_is_named_by_its_line(tmp_path: Path) -> None:
    homeless = rollout(("crop", "rotate_90"), made(1, "crop", region=BOX), size=None, box_frame="canonical", name="x")
    source = write(tmp_path / "in.jsonl", [*group("a"), homeless])
    with pytest.raises(InputError, match=r"in\.jsonl, line 5: field task\.size is missing"):
        rescore(source, tmp_path / "out.jsonl", RewardSettings())
    assert len(lines(tmp_path / "out.jsonl")) == 4


def test_the_file_to_read_is_not_written_over(tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", group("a"))
    before = source.read_bytes()
    with pytest.raises(InputError, match="name another one"):
        rescore(source, source, RewardSettings())
    assert source.read_bytes() == before


# the grid


def test_a_grid_tells_what_other_weights_would_change(tmp_path: Path) -> None:
    worker = made(1, "rotate_270")
    pair = [
        rollout(("rotate_90",), worker, correct=False, name="wrong"),
        rollout(("rotate_90",), name="right"),
    ]
    source = write(tmp_path / "in.jsonl", [replace(one, group=g) for g in "ab" for one in pair])
    found = compare_weights(source, RewardSettings(), {"alpha": [0.0, 0.5, 1.0, 2.0]})
    assert (found.groups, found.rollouts, found.preset) == (2, 4, "verified")
    assert [effect.weights for effect in found.effects] == [{}, *({"alpha": v} for v in (0.0, 0.5, 1.0, 2.0))]
    assert [effect.wrong_above_right for effect in found.effects] == [2, 0, 0, 2, 2]
    assert [effect.sign_flips for effect in found.effects] == [0, 4, 4, 0, 0]
    assert [effect.spearman for effect in found.effects] == pytest.approx([1, -1, -1, 1, 1])


def test_a_grid_takes_all_combinations_and_leaves_out_groups_without_two_valid_rollouts(tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", [*group("a"), group("b")[0], group("b")[2]])
    found = compare_weights(source, RewardSettings(), {"alpha": [0.0, 1.0], "turns": [-1.0, 0.0, -0.5]})
    assert len(found.effects) == 7
    assert found.effects[1].weights == {"alpha": 0.0, "turns": -1.0}
    assert (found.groups, found.rollouts) == (1, 3)
    alone = compare_weights(write(tmp_path / "one.jsonl", group("a")[:1]), RewardSettings(), {"alpha": [0.0]})
    assert [effect.spearman for effect in alone.effects] == [None, None]


def test_a_capped_or_gated_reward_is_compared_as_such(tmp_path: Path) -> None:
    pair = [rollout(("rotate_90",), made(1, "rotate_270"), correct=False), rollout(("rotate_90",), name="right")]
    source = write(tmp_path / "in.jsonl", pair)
    for settings in (RewardSettings(gate_strategy_on_correct=True), RewardSettings(cap_total=1.0)):
        assert compare_weights(source, settings, {"alpha": [1.0]}).effects[0].wrong_above_right == 0


# names and values


def test_published_names_weigh_the_terms_that_they_stand_for() -> None:
    scored_one = rollout(("rotate_90",), made(1, "rotate_270"), made(2, "blur"), made(3, "blur"))
    terms = score_group([scored_one], "paper", weights={"b1": 0.5, "b2": 2.0})[0].terms
    assert {name: term.weight for name, term in terms.items()} == {
        "accuracy": 1.0,
        "format": 0.1,
        "must": 0.5,
        "full": 0.05,
        "necessity": 0.1,
        "emergent": 0.1,
        "turns": -2.0,
        "poor_crop": -2.0,
        "inappropriate": -2.0,
    }
    upstream = score_group([scored_one], "upstream", weights={"alpha": 2, "beta": 3, "gamma": 4, "w_fmt": 5})[0].terms
    assert [upstream[name].weight for name in ("must", "necessity", "usage", "spurious", "format")] == [2, 3, -4, -4, 5]


@pytest.mark.parametrize(
    ("weights", "switches", "said"),
    [
        (["delta=1"], [], "unknown reward term 'delta'; preset 'verified' has: accuracy, .* alpha, beta, gamma"),
        (["gamma=-1"], [], "weight of reward term 'gamma' is -1.0; a penalty's weight is taken off, so at least 0"),
        (["alpha=1", "must=2"], [], "reward terms 'alpha' and 'must' set the same weights; leave one out"),
        (["must=1"], ["weights=3"], "--set weights: wants names"),
        (["must"], [], "--weight must: must be NAME=VALUE"),
        (["must=much"], [], "--weight must=much: 'much' isn't a finite number"),
        (["must=nan"], [], "--weight must=nan: 'nan' isn't a finite number"),
        ([], ["sim=dice"], r"codevision\.reward\.sim: must be"),
        ([], ["simm=iou"], r"codevision\.reward\.simm: unknown setting; known are"),
        ([], ["sim.x=1", "sim.y=1"], r"codevision\.reward\.sim"),
    ],
)
def test_a_wrong_word_on_the_command_line_is_named(weights: list[str], switches: list[str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_reward("verified", weights, switches)


def test_words_become_settings() -> None:
    words = ["sim=giou", "cap_total=2", "gate_strategy_on_correct=true", "curiosity.target=0.5"]
    settings = read_reward("verified", ["curiosity=.1", "must=2"], words)
    assert (settings.sim, settings.cap_total, settings.gate_strategy_on_correct) == ("giou", 2.0, True)
    assert (settings.curiosity.target, settings.weights) == (0.5, {"curiosity": 0.1, "must": 2.0})
    assert read_axes(["alpha=0,.5,1", "beta=0,.2"]) == {"alpha": [0, 0.5, 1], "beta": [0, 0.2]}
    with pytest.raises(InputError, match="--grid alpha=1: alpha occurs twice"):
        read_axes(["alpha=0", "alpha=1"])
