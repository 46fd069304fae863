"""Properties that the composite reward keeps for any rollout."""

import math
import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from rollouts import BOX, MISSED, SIZE, did, made, rollout

from codevision_ext.errors import InputError
from codevision_ext.geometry import ORIENTATION_OPS, iou
from codevision_ext.rewards import terms
from codevision_ext.rewards.rubric import PRESETS, Rubric, score_group
from codevision_ext.rewards.settings import RewardSettings
from codevision_ext.task.image_ops import CROP
from codevision_ext.types import Box, EndReason, ExecStatus, Orientation, Outcome, Rollout, Step, Task

CORE = [*ORIENTATION_OPS, CROP]
presets = st.sampled_from(sorted(PRESETS))


@st.composite
def boxes(draw: st.DrawFn) -> Box:
    x1, y1 = draw(st.integers(0, 990)), draw(st.integers(0, 790))
    return Box(x1, y1, draw(st.integers(x1 + 1, 1000)), draw(st.integers(y1 + 1, 800)))


tasks = st.builds(
    Task,
    applied=st.lists(st.sampled_from([*CORE, "rotate_0", "rotate_x", "blur"]), max_size=4).map(tuple),
    box=st.none() | boxes(),
    box_frame=st.sampled_from(["input", "canonical"]),
    size=st.just(SIZE),
)
steps = st.builds(
    Step,
    ok=st.booleans(),
    ops=st.lists(st.sampled_from([*CORE, "contrast_up"]), max_size=4).map(tuple),
    crops=st.lists(boxes(), max_size=3).map(tuple),
    node=st.none() | st.integers(1, 5),
    parent=st.none() | st.integers(0, 5),
    net=st.none() | st.sampled_from(Orientation),
    region=st.none() | boxes(),
    noop=st.booleans(),
    status=st.sampled_from(ExecStatus),
)
observations = st.builds(
    Outcome,
    correct=st.booleans(),
    format=st.sampled_from([0.0, 0.5, 1.0]),
    valid=st.integers(0, 4).map(bool),
    end_reason=st.sampled_from(EndReason),
    steps=st.lists(steps, max_size=5).map(tuple),
    consistent=st.sampled_from([0.0, 1.0]),
)


@st.composite
def groups(draw: st.DrawFn) -> list[Rollout]:
    task = draw(tasks)
    observed = draw(st.lists(observations, min_size=1, max_size=6))
    return [Rollout(group="g", id=f"g-{i}", task=task, observed=o) for i, o in enumerate(observed)]


def valid(group: Sequence[Rollout]) -> list[Rollout]:
    return [r for r in group if r.observed.valid]


@given(groups(), presets)
def test_the_contributions_sum_to_the_reward_and_none_is_above_its_weight(group: list[Rollout], preset: str) -> None:
    for breakdown in score_group(valid(group), preset):
        assert list(breakdown.terms) == list(PRESETS[preset])
        assert breakdown.reward == pytest.approx(sum(t.contribution for t in breakdown.terms.values()), abs=1e-12)
        assert breakdown.reward <= sum(max(0, t.weight) for t in breakdown.terms.values()) + 1e-12
        for name, term in breakdown.terms.items():
            assert term.contribution == term.raw * term.weight
            assert term.raw >= (-1 if name == "benefit" else 0)
            assert term.raw <= 1 or name in ("usage", "spurious")


@given(groups(), presets, st.randoms())
def test_the_order_of_rollouts_changes_no_reward(group: list[Rollout], preset: str, chance: random.Random) -> None:
    shuffled = chance.sample(group, len(group))
    before = {r.id: b for r, b in zip(group, score_group(group, preset), strict=True)}
    after = {r.id: b for r, b in zip(shuffled, score_group(shuffled, preset), strict=True)}
    assert {i: (b.valid, repr(b.reward)) for i, b in before.items()} == {
        i: (b.valid, repr(b.reward)) for i, b in after.items()
    }


@given(groups(), presets)
def test_an_invalid_rollout_changes_no_other_score_and_gets_none(group: list[Rollout], preset: str) -> None:
    breakdowns = score_group(group, preset)
    assert [b for b in breakdowns if b.valid] == score_group(valid(group), preset)
    for scored, breakdown in zip(group, breakdowns, strict=True):
        assert breakdown.valid == scored.observed.valid
        assert list(breakdown.terms) == list(PRESETS[preset])
        assert math.isnan(breakdown.reward) == (not breakdown.valid)


@given(
    groups(), st.sampled_from(sorted(name for name in PRESETS if "must" in PRESETS[name])), st.integers(0, 5), boxes()
)
def test_crop_credit_never_falls_when_another_crop_is_added(
    group: list[Rollout], preset: str, number: int, box: Box
) -> None:
    before = group[0]
    added = Step(ok=True, ops=(CROP,), crops=(box,), node=6, parent=0, net=Orientation.ID, region=box)
    more = (*before.observed.steps[:number], added, *before.observed.steps[number:])
    after = replace(before, observed=replace(before.observed, steps=more))
    must = [PRESETS[preset]["must"].term([r])[0] for r in (before, after)]
    assert must[1] >= must[0] - 1e-12


@given(groups())
def test_what_the_calls_add_sums_to_what_the_trajectory_earns(group: list[Rollout]) -> None:
    for scored in group:
        for by_step, whole in (
            (terms.paper_must_by_step, terms.paper_must),
            (terms.verified_must_by_step, terms.verified_must),
        ):
            gains = by_step(scored)
            assert len(gains) == len(scored.observed.steps)
            assert min(gains, default=0.0) >= 0
            assert sum(gains) == pytest.approx(whole(scored), abs=1e-12)


@given(boxes(), boxes())
def test_one_crop_earns_the_same_in_paper_and_upstream(box: Box, crop: Box) -> None:
    scored = rollout((CROP,), did(CROP, crops=[crop]), box=box)
    assert terms.paper_must(scored) == pytest.approx(terms.upstream_must(scored)) == pytest.approx(iou(crop, box))


@given(groups())
def test_verified_never_reads_the_names_of_core_ops_or_the_crops_as_written(group: list[Rollout]) -> None:
    def renamed(step: Step) -> Step:
        names = tuple(op for op in step.ops if op not in CORE)
        return replace(step, ops=("rotate_90", CROP, *names), crops=(BOX,))

    other = [
        replace(r, observed=replace(r.observed, steps=tuple(map(renamed, r.observed.steps)))) for r in valid(group)
    ]
    assert score_group(other) == score_group(valid(group))


@given(groups())
def test_upstream_never_reads_provenance(group: list[Rollout]) -> None:
    other = [
        replace(
            r,
            observed=replace(
                r.observed, steps=tuple(Step(ok=s.ok, ops=s.ops, crops=s.crops) for s in r.observed.steps)
            ),
        )
        for r in valid(group)
    ]
    for preset in ("upstream", "paper"):
        assert score_group(other, preset) == score_group(valid(group), preset)


orders = st.fixed_dictionaries(
    {
        "weights": st.dictionaries(
            st.sampled_from(["must", "full", "emergent", "necessity", "benefit", "exec", "curiosity", "format"]),
            st.floats(-0.3, 0.6),
        ),
        "gate_strategy_on_correct": st.booleans(),
        "cap_total": st.none() | st.floats(0.2, 2),
        "sim": st.sampled_from(["iou", "containment", "giou", "mod_f1"]),
        "group_split": st.sampled_from(["optional", "any"]),
    }
)
"""Settings of preset `ordered`, of which some break the order and are refused."""


def least_lead(group: Sequence[Rollout], preset: str, **settings: object) -> float:
    """What the worst right answer earns more than the best wrong one; infinite without one of the two."""
    rewards = [
        (r.observed.correct, b.reward) for r, b in zip(group, score_group(group, preset, **settings), strict=True)
    ]
    right, wrong = ([reward for correct, reward in rewards if correct is side] for side in (True, False))
    return min(right, default=math.inf) - max(wrong, default=-math.inf)


@given(groups())
def test_under_ordered_every_right_answer_earns_more_than_every_wrong_one(group: list[Rollout]) -> None:
    margin = Rubric(RewardSettings(preset="ordered")).margin
    assert margin == pytest.approx(0.175)
    assert least_lead(valid(group), "ordered") >= margin - 1e-12


@given(groups(), orders)
def test_settings_of_ordered_keep_the_order_or_are_refused(group: list[Rollout], settings: dict[str, object]) -> None:
    try:
        margin = Rubric(RewardSettings(preset="ordered", **settings)).margin
    except InputError as error:
        assume("a wrong answer can earn" not in str(error))
        raise
    assert least_lead(valid(group), "ordered", **settings) >= margin - 1e-12 > -1e-12


def test_the_margin_of_ordered_is_reached_and_that_of_verified_is_negative() -> None:
    """The worst right answer misses its crop, turns the image and calls too often; the best wrong one does all."""
    astray = [made(node, "rotate_90", parent=0, region=MISSED) for node in (1, 2, 3)]
    right = rollout((CROP,), *astray, format_kept=0.0)
    wrong = rollout((CROP,), made(1, CROP, region=BOX), correct=False)
    assert least_lead([right, wrong], "ordered") == pytest.approx(0.175)
    assert least_lead([right, wrong], "verified") == pytest.approx(-1.7)
    assert Rubric(RewardSettings()).margin == pytest.approx(-1.7)


@given(groups())
def test_ordered_has_the_raw_values_of_verified(group: list[Rollout]) -> None:
    raws = [Rubric(RewardSettings(preset=preset)).measure(group) for preset in ("verified", "ordered")]
    assert raws[0] == raws[1]


def test_verified_is_the_default() -> None:
    scored = rollout(("rotate_90",), made(1, "rotate_270"))
    assert score_group([scored]) == score_group([scored], "verified")


def test_a_weight_replaces_the_preset_one() -> None:
    scored = rollout(("rotate_90",), made(1, "rotate_270"), did("blur", ok=False))
    exec_term = score_group([scored], weights={"exec": 0.4, "format": 0})[0].terms["exec"]
    assert (exec_term.raw, exec_term.weight, exec_term.contribution) == (0.5, 0.4, 0.2)
    assert score_group([scored], weights={"exec": 0.4, "format": 0})[0].reward == pytest.approx(1 + 1 + 0.2)
    assert score_group([scored])[0].terms["exec"].contribution == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weights": {"delta": 1.0}}, r"unknown reward term 'delta'.*accuracy, format, must.*exec"),
        ({"preset": "upstream", "weights": {"exec": 1.0}}, "unknown reward term 'exec'.*usage"),
        ({"weights": {"must": math.nan}}, "'must' is nan"),
        ({"weights": {"turns": 0.5}}, "'turns' is 0.5; a penalty's weight is at most 0"),
        ({"preset": "papers"}, r"unknown reward preset 'papers'; known are: upstream, paper, verified"),
        ({"weights": {"redundancy": 0.5}}, "'redundancy' is 0.5; a penalty's weight is at most 0"),
        ({"preset": "upstream", "group_split": "any"}, "'upstream' doesn't read group_split"),
        ({"preset": "paper", "sim": "giou"}, "'paper' doesn't read sim"),
        ({"preset": "upstream", "gate_strategy_on_correct": True}, "'upstream' doesn't read gate_strategy_on_correct"),
        ({"preset": "upstream", "cap_total": 1.0}, "'upstream' doesn't read cap_total"),
        ({"preset": "ordered", "weights": {"b1": 1.0}}, "wrong answer can earn 0.65 more than a right one.*'verified'"),
        ({"preset": "upstream", "credit": "call"}, "'upstream' doesn't read credit"),
        ({"credit": "call", "weights": {"b1": 0}}, "credit: call needs a weight of 'must' above 0"),
        ({"gate_steps": 8}, "gate_steps is read only with gate_strategy_on_correct"),
        ({"curiosity": {"target": 0.5}}, "curiosity are read only if the term 'curiosity' has a weight"),
    ],
)
def test_a_setting_that_nobody_reads_is_refused_with_the_known_ones(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        score_group([], **arguments)


@pytest.mark.parametrize(
    ("changes", "field"), [({"size": None}, "task.size"), ({"box_frame": "model"}, "task.box_frame")]
)
def test_a_box_that_cannot_be_placed_is_a_fault_of_the_row(changes: dict[str, object], field: str) -> None:
    scored = rollout(("rotate_90", CROP), made(1, "rotate_270"), **{"box_frame": "canonical", **changes})
    with pytest.raises(InputError, match=field):
        score_group([scored])


def test_rollouts_of_two_prompts_are_not_one_group() -> None:
    other = replace(rollout(), group="h")
    with pytest.raises(ValueError, match="2 groups"):
        score_group([rollout(), other])


def test_a_group_without_rollouts_has_no_rewards() -> None:
    assert score_group([]) == []
