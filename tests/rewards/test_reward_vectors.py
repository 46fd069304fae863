"""Every preset gives the specification's rewards, to nine places."""

from dataclasses import replace

import pytest
from rollouts import BOX, MISSED, did, made, rollout

from codevision_ext.rewards.rubric import score_group
from codevision_ext.types import Box, Orientation, Rollout, Step

ROTATIONS = ("rotate_90", "rotate_180", "rotate_270")
BOTH = ("crop", "rotate_90")
CROP = did("crop", crops=[BOX])
TURN = did("rotate_270")

VECTORS: dict[str, tuple[Rollout, float, float]] = {
    "U1": (rollout(), 1.1, 1.1),
    "U2": (rollout((), CROP), 1.1, 1.1),
    "U3": (rollout((), did("rotate_90")), 0.6, 0.6),
    "U4": (rollout(("rotate_90",), TURN), 2.2, 2.2),
    "U5": (rollout(("rotate_90",), did("rotate_90")), 1.1, 1.1),
    "U6": (rollout(("rotate_90",), did(*ROTATIONS)), 2.1, 2.1),
    "U7": (rollout(("rotate_90",), *(did(op) for op in ROTATIONS)), 1.6, 1.6),
    "U8": (rollout(("crop",), CROP), 2.2, 2.2),
    "U9": (rollout(("crop",), did("crop", crops=[Box(100, 100, 300, 300)])), 1.45, 1.45),
    "U10": (rollout(("crop",), did("crop", crops=[MISSED])), 0.2, 0.7),
    "U11": (rollout(("crop",)), 0.1, 0.6),
    "U12": (rollout(BOTH, TURN, did("crop", crops=[MISSED])), 1.7, 1.2),
    "U13": (rollout(BOTH, TURN, CROP), 2.2, 2.2),
    "U14": (rollout(BOTH, TURN, CROP, CROP), 1.7, 2.1),
    "U15": (rollout(BOTH, TURN, did("crop", "contrast_up", crops=[BOX])), 2.4, 2.4),
    "U16": (rollout(BOTH, TURN, CROP, correct=False), 1.2, 1.2),
    "U17": (rollout(BOTH, correct=False), 0.1, 0.1),
    "U18": (rollout(BOTH), 0.1, 0.6),
    "U19": (rollout(("crop",), CROP, did("rotate_90")), 1.6, 2.1),
    "U20": (rollout(("crop",), *[CROP] * 11), -2.3, 1.6),
    "P21": (rollout(BOTH, CROP, TURN), 2.2, 2.1),
    "P22": (rollout(("crop",), did("crop", crops=[Box(100, 100, 300, 300)]), CROP), 2.2, 2.1),
    "P24": (rollout(("rotate_90",), did("rotate_270", ok=False), TURN), 2.2, 2.1),
}


FAILED_BOTH = did("rotate_270", "crop", crops=[BOX], ok=False)
FAULTS: dict[str, tuple[Rollout, float, float]] = {
    "a failed call earns nothing in paper": (rollout(BOTH, FAILED_BOTH), 2.2, 0.6),
    "a failed call on the way": (rollout(BOTH, did("rotate_270", "crop", crops=[BOX]), did(ok=False)), 2.2, 2.1),
    "a call too many": (rollout(("rotate_90",), TURN, did("contrast_up")), 2.4, 2.3),
    "a box without the op": (rollout(("crop",), did("resize", crops=[BOX])), 0.3, 0.8),
}


def reward(scored: Rollout, preset: str) -> float:
    return score_group([scored], preset)[0].reward


@pytest.mark.parametrize("vector", VECTORS)
def test_the_upstream_preset_gives_the_reward_of_the_released_code(vector: str) -> None:
    assert reward(VECTORS[vector][0], "upstream") == pytest.approx(VECTORS[vector][1], abs=1e-9)


@pytest.mark.parametrize("vector", VECTORS)
def test_the_paper_preset_gives_the_reward_of_the_paper(vector: str) -> None:
    assert reward(VECTORS[vector][0], "paper") == pytest.approx(VECTORS[vector][2], abs=1e-9)


@pytest.mark.parametrize("case", FAULTS)
def test_failed_superfluous_and_unnamed_work_is_paid_as_each_preset_says(case: str) -> None:
    scored, upstream, paper = FAULTS[case]
    assert reward(scored, "upstream") == pytest.approx(upstream, abs=1e-9)
    assert reward(scored, "paper") == pytest.approx(paper, abs=1e-9)


R90, R270 = Orientation.R90, Orientation.R270
SOLVED = made(1, "rotate_270", "crop", region=BOX)
FAR = Box(700, 500, 800, 600)
HALF = Box(100, 100, 200, 300)
IDLE = Step(ok=True, node=None, parent=0, noop=True)
FAILED = Step(ok=False, parent=0)

VERIFIED: dict[str, tuple[Rollout, float]] = {
    "U1, answers directly": (rollout(), 1.1),
    "U3, turns an upright image": (rollout((), made(1, "rotate_90")), 0.6),
    "U4, undoes the rotation": (rollout(("rotate_90",), made(1, "rotate_270")), 2.2),
    "three rotations chained in one call": (rollout(("rotate_90",), made(1, *ROTATIONS)), 1.1),
    "rotate_180 by two flips in one call": (
        rollout(("rotate_180",), made(1, "flip_horizontal", "flip_vertical")),
        2.2,
    ),
    "a rotation that never reaches the image": (rollout(("rotate_90",), IDLE), 1.1),
    "rotate, then crop exactly in the input frame": (
        rollout(BOTH, made(1, "rotate_270"), made(2, "crop", net=R270, region=BOX)),
        2.2,
    ),
    "crop, then rotate: the order isn't paid for": (
        rollout(BOTH, made(1, "crop", region=BOX), made(2, "rotate_270", net=R270, region=BOX)),
        2.2,
    ),
    "a crop of IoU 0.5": (rollout(("crop",), made(1, "crop", region=HALF)), 1.1 + 0.5 + 0.1),
    "a crop that misses": (rollout(("crop",), made(1, "crop", region=FAR)), 0.6),
    "no tool where a crop was required": (rollout(("crop",)), 0.6),
    "a wrong turn on the way": (
        rollout(("rotate_90",), made(1, "rotate_90"), made(2, "rotate_270", parent=0)),
        2.1,
    ),
    "solved in one call, and one that did nothing": (rollout(BOTH, SOLVED, IDLE), 2.1),
    "solved in one call, and one that failed": (rollout(BOTH, SOLVED, FAILED), 2.1),
    "a failed call that claims an image": (rollout(BOTH, replace(SOLVED, ok=False)), 0.6),
    "too many calls": (rollout(("rotate_90",), made(1, "rotate_270"), FAILED, FAILED), 1.6),
    "a failed call": (rollout(("rotate_90",), FAILED, made(1, "rotate_270")), 2.1),
    "an idle call": (rollout(("rotate_90",), IDLE, made(1, "rotate_270")), 2.1),
    "turned, and then used the upright input again": (
        rollout((), made(1, "rotate_90"), made(2, "blur", parent=0)),
        0.6 + 0.2 + 0.5 - 0.5,
    ),
    "turned for a task that only asks for a crop": (
        rollout(("crop",), made(1, "crop", region=BOX), made(2, "rotate_90", net=R90, region=BOX)),
        1.6,
    ),
    "an unknown orientation earns nothing": (
        rollout(("rotate_90",), Step(ok=True, ops=("rotate_270",), node=1, parent=0)),
        1.1,
    ),
    "an unknown orientation isn't punished": (rollout((), Step(ok=True, node=1, parent=0)), 1.1),
    "perfect tools, wrong answer": (rollout(("rotate_90",), made(1, "rotate_270"), correct=False), 1.2),
}


@pytest.mark.parametrize("vector", VERIFIED)
def test_the_verified_preset_pays_for_what_reached_a_image(vector: str) -> None:
    assert reward(VERIFIED[vector][0], "verified") == pytest.approx(VERIFIED[vector][1], abs=1e-9)


def test_the_name_of_an_op_alone_earns_nothing_when_verified() -> None:
    named = rollout(("rotate_90",), Step(ok=True, ops=("rotate_270",), parent=0, noop=True))
    assert (reward(named, "upstream"), reward(named, "verified")) == (pytest.approx(2.2), pytest.approx(1.1))


def test_two_flips_for_half_a_turn_are_paid_only_when_verified() -> None:
    flips = rollout(("rotate_180",), made(1, "flip_horizontal", "flip_vertical"))
    assert (reward(flips, "upstream"), reward(flips, "verified")) == (pytest.approx(1.1), pytest.approx(2.2))


def test_a_crop_in_the_turned_frame_is_compared_in_the_right_frame_only_when_verified() -> None:
    turned = made(1, "rotate_270")
    crop = Step(ok=True, ops=("crop",), crops=(Box(600, 100, 700, 200),), node=2, parent=1, net=R270, region=BOX)
    solved = rollout(BOTH, turned, crop)
    assert (reward(solved, "upstream"), reward(solved, "verified")) == (pytest.approx(1.7), pytest.approx(2.2))


def test_a_box_in_the_canonical_frame_is_mapped_through_what_was_applied() -> None:
    # The canonical image is 800 x 1000; rotate_90 takes (10, 20, 40, 60) to (20, 760, 60, 790) on 1000 x 800.
    steps = made(1, "rotate_270"), made(2, "crop", net=R270, region=Box(20, 760, 60, 790))
    canonical = rollout(BOTH, *steps, box=Box(10, 20, 40, 60), box_frame="canonical")
    assert reward(canonical, "verified") == pytest.approx(2.2)
    assert reward(rollout(BOTH, *steps, box=Box(10, 20, 40, 60)), "verified") < 2


def benefit(preset: str, tool: str, plain: str, op: str = "contrast_up") -> list[float]:
    """The raw necessity of each rollout; the letters say whether it is right (x) or wrong (-)."""
    group = [rollout((), did(op), correct=mark == "x", name=f"t{i}") for i, mark in enumerate(tool)]
    group += [rollout((), correct=mark == "x", name=f"p{i}") for i, mark in enumerate(plain)]
    return [breakdown.terms["necessity"].raw for breakdown in score_group(group, preset)]


@pytest.mark.parametrize("preset", ["upstream", "paper", "verified"])
def test_the_benefit_of_the_tool_goes_to_those_that_needed_it(preset: str) -> None:
    assert benefit(preset, "xxx-", "x---") == [0.5, 0.5, 0.5, 0, 0, 0, 0, 0]
    assert benefit(preset, "xxx-", "xx--") == [0] * 8
    assert benefit(preset, "xxxx", "") == [0] * 4
    assert benefit(preset, "", "xxxx") == [0] * 4
    assert benefit(preset, "x---", "xx") == [0] * 6


def test_an_op_that_tasks_require_shows_no_benefit_unless_the_group_is_split_by_any_call() -> None:
    assert benefit("upstream", "xxx-", "----", op="rotate_90") == [0.75] * 3 + [0] * 5
    assert benefit("paper", "xxx-", "----", op="rotate_90") == [0] * 8
    group = [
        rollout((), did("blur"), name="optional"),
        rollout((), did("crop"), name="core"),
        rollout((), correct=False, name="plain"),
    ]
    for split, expected in (("optional", [0.5, 0, 0]), ("any", [1, 0, 0])):
        breakdowns = score_group(group, "paper", group_split=split)
        assert [b.terms["necessity"].raw for b in breakdowns] == expected


def test_a_gated_answer_gets_no_benefit_upstream() -> None:
    group = [rollout(("crop",), did("crop", crops=[MISSED])), rollout(("crop",), correct=False)]
    assert [b.terms["necessity"].raw for b in score_group(group, "upstream")] == [0, 0]


def test_a_crop_is_paid_by_its_own_op_and_only_where_a_box_is_given() -> None:
    for preset in ("upstream", "paper", "verified"):
        without_box = rollout(("crop",), made(1, "crop", region=BOX), box=None)
        assert score_group([without_box], preset)[0].terms["must"].raw == 0
