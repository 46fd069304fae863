"""The optional reward terms and switches do what docs/reward.md says, and nothing while they are off."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rollouts import BOX, MISSED, made, rollout
from test_reward_properties import boxes, groups, valid

from codevision_ext.config import read_settings
from codevision_ext.errors import InputError
from codevision_ext.geometry import box_area, iou
from codevision_ext.rewards import terms
from codevision_ext.rewards.rubric import PRESETS, Rubric, score_group
from codevision_ext.rewards.settings import CuriositySettings, RewardSettings
from codevision_ext.rewards.similarity import SIMILARITIES, Sim, containment, giou, mod_f1
from codevision_ext.types import Box, Rollout, Step

OPTIONAL = ("exec", "benefit", "curiosity", "faithful", "redundancy", "area", "drawn")
AROUND = Box(75, 75, 225, 225)
HUGE = Box(0, 0, 1000, 800)
FAILED = Step(ok=False, parent=0)


def crop(node: int, region: Box, parent: int = 0) -> Step:
    return made(node, "crop", parent=parent, region=region)


# the optional terms


def test_every_optional_term_is_there_with_weight_0() -> None:
    assert {name for name, weighted in PRESETS["verified"].items() if weighted.weight == 0} == set(OPTIONAL)


@given(groups())
def test_a_term_without_weight_changes_no_reward(group: list[Rollout]) -> None:
    named = dict.fromkeys(OPTIONAL, 0.0)
    assert score_group(valid(group)) == score_group(valid(group), weights=named)


def test_the_benefit_is_signed_and_goes_to_all_that_called() -> None:
    def group(tool: str, plain: str) -> list[Rollout]:
        called = [rollout((), made(1, "blur"), correct=mark == "x") for mark in tool]
        return [*called, *(rollout(correct=mark == "x") for mark in plain)]

    assert terms.benefit(group("xxx-", "x---")) == [0.5] * 4 + [0] * 4
    assert terms.benefit(group("x---", "xxx-")) == [-0.5] * 4 + [0] * 4
    assert terms.benefit(group("xx", "")) == [0, 0]
    assert terms.benefit(group("", "xx")) == [0, 0]


def test_trying_the_tool_is_paid_while_few_of_the_group_do() -> None:
    tried, plain, failed = rollout((), made(1, "blur")), rollout(), rollout((), FAILED)
    pay = terms.curiosity(CuriositySettings(target=0.5))
    assert pay([tried, plain, plain, failed]) == [0.25, 0, 0, 0]
    assert pay([tried, tried, plain, plain]) == [0] * 4
    assert pay([]) == []


@pytest.mark.parametrize(
    ("step", "left"), [(1, 1), (10, 1), (11, 0.95), (20, 0.5), (30, 0), (31, 0), (1000, 0), (None, 0)]
)
def test_curiosity_falls_over_the_steps_that_its_schedule_names(step: int | None, left: float) -> None:
    schedule = {"target": 0.5, "full_steps": 10, "decay_steps": 20}
    group = [replace(r, step=step) for r in (rollout((), made(1, "blur")), rollout(), rollout(), rollout())]
    first = score_group(group, weights={"curiosity": 2.0}, curiosity=schedule)[0].terms["curiosity"]
    assert first.raw == pytest.approx(0.25 * left)
    assert first.contribution == pytest.approx(0.5 * left)


def test_curiosity_without_a_schedule_needs_no_step_and_one_of_0_steps_ends_at_once() -> None:
    assert [CuriositySettings().share(step) for step in (None, 1, 999)] == [1, 1, 1]
    assert [CuriositySettings(full_steps=2, decay_steps=0).share(step) for step in (1, 2, 3)] == [1, 1, 0]


@given(st.integers(0, 50), st.integers(0, 50), st.lists(st.integers(1, 200), min_size=2))
def test_a_schedule_never_rises_and_stays_a_share(full: int, decay: int, steps: list[int]) -> None:
    shares = [CuriositySettings(full_steps=full, decay_steps=decay).share(step) for step in sorted(steps)]
    assert shares == sorted(shares, reverse=True)
    assert all(0 <= share <= 1 for share in shares)


def test_crops_that_repeat_each_other_are_redundant_and_zooming_in_is_not() -> None:
    assert terms.redundancy(rollout(("crop",), crop(1, BOX))) == 0
    assert terms.redundancy(rollout(("crop",), crop(1, BOX), crop(2, BOX))) == 1
    assert terms.redundancy(rollout(("crop",), crop(1, BOX), crop(2, MISSED))) == 0
    assert terms.redundancy(rollout(("crop",), crop(1, BOX), crop(2, MISSED), crop(3, BOX))) == 0.5
    near = Box(105, 105, 200, 200)
    zoomed = rollout(("crop",), crop(1, Box(0, 0, 500, 400)), crop(2, BOX, parent=1))
    assert terms.redundancy(zoomed) == pytest.approx(iou(BOX, Box(0, 0, 500, 400))) == pytest.approx(0.05)
    assert terms.redundancy(rollout(("crop",), crop(1, BOX), crop(2, near))) == pytest.approx(iou(BOX, near))


def test_turning_a_crop_or_the_whole_image_is_no_crop() -> None:
    turned = made(2, "rotate_90", region=BOX)
    assert terms.redundancy(rollout(("crop",), crop(1, BOX), turned, FAILED)) == 0
    whole = rollout((), made(1, "rotate_90"), made(2, "rotate_90", parent=0))
    assert terms.redundancy(whole) == 0


def test_the_area_is_that_of_the_crop_which_fits_best() -> None:
    assert terms.area_shown(rollout(("crop",), crop(1, BOX))) == 10_000 / 800_000
    assert terms.area_shown(rollout(("crop",), crop(1, HUGE), crop(2, BOX))) == 10_000 / 800_000
    both = rollout(("crop",), crop(1, HUGE), crop(2, AROUND))
    assert terms.area_shown(both, containment) == 22_500 / 800_000
    assert terms.area_shown(rollout((), crop(1, HUGE))) == 0
    assert terms.area_shown(rollout(("crop",))) == 0


def test_a_huge_crop_that_shows_everything_pays_for_its_area() -> None:
    def reward(region: Box) -> float:
        scored = rollout(("crop",), crop(1, region))
        return score_group([scored], sim="containment", weights={"area": -0.5})[0].reward

    assert reward(HUGE) == pytest.approx(reward(BOX) - 0.5 + 0.5 * 10_000 / 800_000)


def test_the_step_judge_s_marks_are_averaged_and_must_all_be_there() -> None:
    marked = rollout((), replace(made(1, "blur"), faithful=1.0), replace(FAILED, faithful=0.5))
    assert score_group([marked], weights={"faithful": 0.4})[0].terms["faithful"].contribution == pytest.approx(0.3)
    assert terms.faithful(rollout()) == 0
    half = rollout((), replace(made(1, "blur"), faithful=1.0), FAILED)
    with pytest.raises(InputError, match=r"observed\.steps\.1\.faithful is missing"):
        score_group([half], weights={"faithful": 0.4})
    assert score_group([half])[0].terms["faithful"].contribution == 0


def test_a_term_that_cannot_be_measured_is_an_error_only_where_it_counts() -> None:
    sizeless = rollout(("crop",), crop(1, BOX), size=None)
    assert score_group([sizeless])[0].reward == pytest.approx(2.2)
    with pytest.raises(InputError, match=r"task\.size is missing"):
        score_group([sizeless], weights={"area": -0.1})


# the switches


def test_a_gated_strategy_pays_only_correct_answers() -> None:
    wrong = rollout(("rotate_90",), made(1, "rotate_270"), correct=False)
    assert score_group([wrong])[0].reward == pytest.approx(1.2)
    assert score_group([wrong], gate_strategy_on_correct=True)[0].reward == pytest.approx(0.1)
    assert score_group([wrong], "paper", gate_strategy_on_correct=True)[0].reward == pytest.approx(0.1)
    right = replace(wrong, observed=replace(wrong.observed, correct=True))
    assert score_group([right], gate_strategy_on_correct=True)[0].reward == pytest.approx(2.2)


def test_a_gate_closes_over_its_steps() -> None:
    wrong = rollout(("rotate_90",), made(1, "rotate_270"), correct=False)

    def reward(step: int | None) -> float:
        return score_group([replace(wrong, step=step)], gate_strategy_on_correct=True, gate_steps=4)[0].reward

    assert [reward(step) for step in (1, 2, 3, 5, 9, None)] == pytest.approx([1.2, 0.925, 0.65, 0.1, 0.1, 0.1])


@given(groups())
def test_a_gated_wrong_answer_earns_at_most_its_format(group: list[Rollout]) -> None:
    weights = {"exec": 0.5, "benefit": 0.5, "curiosity": 0.5}
    for scored, breakdown in zip(
        valid(group), score_group(valid(group), weights=weights, gate_strategy_on_correct=True), strict=True
    ):
        assert scored.observed.correct or breakdown.reward <= 0.1 * scored.observed.format + 1e-12


@given(groups(), st.sampled_from(["paper", "verified"]), st.floats(-1, 2.5))
def test_a_capped_total_is_never_above_the_cap_and_still_the_sum_of_its_terms(
    group: list[Rollout], preset: str, cap: float
) -> None:
    free = score_group(valid(group), preset)
    capped = score_group(valid(group), preset, cap_total=cap)
    for before, after in zip(free, capped, strict=True):
        assert after.reward == pytest.approx(min(cap, before.reward), abs=1e-12)
        assert after.reward == pytest.approx(sum(t.contribution for t in after.terms.values()), abs=1e-12)
        assert list(after.terms) == [*before.terms, "cap"]
        assert after.terms["cap"].contribution == -after.terms["cap"].raw


@pytest.mark.parametrize("sim", SIMILARITIES)
@given(region=boxes(), box=boxes())
def test_a_similarity_is_a_share_and_1_for_the_box_itself(sim: Sim, region: Box, box: Box) -> None:
    measure: Callable[[Box, Box], float] = SIMILARITIES[sim]
    assert 0 <= measure(region, box) <= 1 + 1e-12
    assert measure(box, box) == pytest.approx(1)
    if min(region.x2, box.x2) <= max(region.x1, box.x1):
        assert measure(region, box) == 0


def test_the_similarities_of_a_crop_with_some_context() -> None:
    assert iou(AROUND, BOX) == pytest.approx(10_000 / 22_500)
    assert containment(AROUND, BOX) == 1
    assert giou(AROUND, BOX) == pytest.approx(iou(AROUND, BOX))
    assert mod_f1(AROUND, BOX) == 1
    beside = Box(150, 150, 250, 250)
    assert giou(beside, BOX) == pytest.approx(2_500 / 17_500 - 5_000 / 22_500 if 2_500 / 17_500 > 5_000 / 22_500 else 0)
    assert mod_f1(beside, BOX) == pytest.approx(2 * 0.5625 * 0.25 / 0.8125)
    assert box_area(Box(5, 5, 1, 9)) == 0


@pytest.mark.parametrize("sim", SIMILARITIES)
def test_the_preset_s_crop_terms_all_read_the_similarity(sim: Sim) -> None:
    region = Box(120, 120, 200, 200)
    expected = SIMILARITIES[sim](region, BOX)
    scored = score_group([rollout(("crop",), crop(1, region))], sim=sim)[0].terms
    assert scored["must"].raw == pytest.approx(expected)
    assert scored["full"].raw == (expected >= 0.5)
    assert scored["poor_crop"].raw == (expected < 0.1)


@pytest.mark.parametrize(("shown", "good"), [(100, True), (99, False)])
def test_a_good_crop_shows_at_least_half_of_the_box(shown: int, good: bool) -> None:
    half = Box(100, 100, 200, 100 + shown / 2)
    assert iou(half, BOX) == containment(half, BOX) == pytest.approx(shown / 200)
    cropped = rollout(("crop",), crop(1, half))
    assert terms.verified_full(cropped) == good
    assert terms.faithful_crop(cropped) is good


# settings


def test_every_reward_setting_is_reached_from_a_config() -> None:
    section = {
        "preset": "verified",
        "weights": {"curiosity": 0.1},
        "group_split": "any",
        "sim": "mod_f1",
        "gate_strategy_on_correct": True,
        "gate_steps": 10,
        "cap_total": 2.0,
        "curiosity": {"target": 0.2, "full_steps": 5, "decay_steps": 6},
        "overturn": "mask_loss",
        "normalise": "components",
        "filter_groups": "accuracy",
        "credit": "call",
    }
    assert section.keys() == RewardSettings.model_fields.keys()
    assert read_settings({"reward": section}).reward.model_dump() == section


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"simm": "iou"}, "codevision.reward.simm: unknown setting; known are preset, weights"),
        ({"sim": "dice"}, "codevision.reward.sim: must be 'iou', 'containment'"),
        ({"group_split": "all"}, "codevision.reward.group_split: must be 'optional' or 'any'"),
        ({"curiosity": {"until": 3}}, "codevision.reward.curiosity.until: unknown setting; known are target, full_"),
        ({"curiosity": {"target": 0}}, "codevision.reward.curiosity.target: must be greater than 0"),
        ({"cap_total": float("inf")}, "codevision.reward.cap_total: must be a finite number"),
        ({"overturn": "mask"}, "codevision.reward.overturn: must be 'none', 'mask_loss'"),
        ({"weights": {"delta": 1.0}}, "unknown reward term 'delta'"),
        ({"weights": {"faithful": 1.0}}, "codevision.reward.weights.faithful: no step judge runs here"),
    ],
)
def test_a_wrong_reward_setting_is_named_as_it_stands_in_the_config(section: dict[str, object], said: str) -> None:
    with pytest.raises(InputError) as caught:
        read_settings({"reward": section})
    assert str(caught.value).startswith(said)


def test_the_weights_of_a_rubric_are_those_of_its_breakdowns() -> None:
    rubric = Rubric(RewardSettings(weights={"exec": 0.2}, cap_total=1.0))
    scored = rubric.score([rollout((), made(1, "blur"))])[0]
    assert {name: term.weight for name, term in scored.terms.items()} == rubric.weights


def test_of_several_images_of_a_call_only_the_first_earns_and_the_others_where_later_calls_use_them() -> None:
    net = {op: made(node, op, parent=0) for node, op in enumerate(("rotate_180", "rotate_270", "rotate_90"), 1)}
    shotgun = replace(net["rotate_180"], further=(*net["rotate_270"].images, *net["rotate_90"].images))
    for op, score in (("rotate_180", 1), ("rotate_90", 0), ("rotate_270", 0)):
        assert terms.verified_must(rollout((op,), shotgun)) == score
    onward = made(4, "crop", parent=2, net=net["rotate_270"].net)
    assert terms.verified_must(rollout(("rotate_90",), shotgun, onward)) == 1
    upright = replace(made(1, parent=0), further=made(2, "rotate_90", parent=0).images)
    used = Step(ok=True, parent=2, noop=True)
    assert terms.verified_inappropriate(rollout((), upright, used)) == 1
    assert terms.verified_inappropriate(rollout((), upright)) == 0
