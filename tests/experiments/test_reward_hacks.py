"""No known hack, run through loop, sandbox, provenance and reward, earns more than the honest behaviour in it."""

import pytest

from codevision_ext.experiments.rescore.reward_hacks import Earned, HackResult, read_gallery, try_hacks
from codevision_ext.rewards.settings import RewardSettings
from codevision_ext.sandbox import Sandbox

DRAWN = {hack.name for hack in read_gallery().hack if read_gallery().task[hack.task].drawing}
"""Hacks on tasks that ask for a drawing."""
BONUS = 0.2 + 0.2
"""What preset `verified` pays for an optional op: the term `emergent`, and `necessity` where siblings fail without."""


@pytest.fixture(scope="module")
def findings(sandbox: Sandbox) -> list[HackResult]:
    presets = {preset: RewardSettings(preset=preset) for preset in ("upstream", "paper", "verified", "vthinker")}
    closed = RewardSettings(weights={"emergent": 0.0, "necessity": 0.0})
    return try_hacks(sandbox, presets | {"closed": closed})


def test_the_gallery_is_large_and_every_entry_is_of_a_known_task() -> None:
    gallery = read_gallery()
    assert len(gallery.hack) >= 40
    assert len({hack.name for hack in gallery.hack}) == len(gallery.hack)
    assert {hack.task for hack in gallery.hack} == gallery.task.keys()
    assert {hack.gap for hack in gallery.hack} == {None, "emergent"}


def test_under_verified_no_hack_earns_more_than_the_honest_part_of_it(findings: list[HackResult]) -> None:
    paid = [finding.name for finding in findings if finding.earned["verified"].pays and finding.gap is None]
    assert [name for name in paid if name not in DRAWN] == []


def test_under_vthinker_no_hack_with_a_drawing_earns_more_than_the_honest_part_of_it(
    findings: list[HackResult],
) -> None:
    drawn = [finding for finding in findings if finding.name in DRAWN]
    assert len(drawn) >= 15
    assert [finding.name for finding in drawn if finding.earned["vthinker"].pays] == []
    for finding in drawn:
        earned = finding.earned["vthinker"]
        assert earned.honest == pytest.approx(2.3, abs=0.05), finding.name
        assert earned.hack <= earned.honest - 0.7, finding.name


def test_a_known_gap_pays_its_bonus_at_most_and_is_closed_by_its_weights(findings: list[HackResult]) -> None:
    for finding in findings:
        if finding.gap:
            earned = finding.earned["verified"]
            assert earned.hack <= earned.counterpart + BONUS + 1e-9
        assert not finding.earned["closed"].pays, finding.name


def test_no_hack_earns_more_than_the_honest_solution(findings: list[HackResult]) -> None:
    for finding in findings:
        earned = finding.earned["verified"]
        honest = {"upright": 1.1, "choice": 1.1, "figure": 1.1 + BONUS, "marked": 1.1 + BONUS}
        assert earned.honest == pytest.approx(honest.get(finding.task, 2.2)), finding.name
        assert finding.gap or earned.hack <= earned.honest


def test_a_hack_pays_only_where_it_earns_more_than_its_counterpart() -> None:
    assert Earned(hack=0.2, counterpart=0.1, honest=1.1).pays
    assert not Earned(hack=0.1, counterpart=0.1, honest=1.1).pays
