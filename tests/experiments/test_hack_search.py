"""The search scores compositions of hacks as whole rollouts are scored, and finds what a reward overpays."""

import random

import pytest

from codevision_ext.experiments.rescore.call_effects import CallEffects
from codevision_ext.experiments.rescore.hack_search import (
    WRONG,
    Behaviour,
    Climber,
    Scorer,
    calls_of_honest,
    gallery_moves,
    last_turns,
    search_hacks,
    solution_codes,
)
from codevision_ext.experiments.rescore.reward_hacks import HackStage, read_gallery
from codevision_ext.rewards.rubric import Rubric
from codevision_ext.rewards.settings import RewardSettings
from codevision_ext.rollout.code_tool import CodeTool
from codevision_ext.sandbox import Sandbox


@pytest.fixture(scope="module")
def parts(sandbox: Sandbox) -> tuple[HackStage, CallEffects]:
    tool = CodeTool(sandbox)
    stage = HackStage(tool)
    return stage, CallEffects(tool, stage.image, solution_codes(read_gallery()))


def scorer_of(parts: tuple[HackStage, CallEffects], task: str, preset: str = "verified") -> Scorer:
    gallery, (stage, effects) = read_gallery(), parts
    own = [hack for hack in gallery.hack if hack.task in (task, "upright")]
    some = gallery.model_copy(update={"hack": tuple(own)})
    rubric = Rubric(RewardSettings(preset=preset))
    moves = gallery_moves(some)
    honest = calls_of_honest(some, task, moves)
    return Scorer(gallery.task[task], moves, last_turns(some), honest, effects, stage, rubric)


@pytest.mark.parametrize("task", ["turned", "both", "marked"])
def test_a_composition_earns_what_the_whole_rollout_earns(parts: tuple[HackStage, CallEffects], task: str) -> None:
    scorer = scorer_of(parts, task, "vthinker" if task == "marked" else "verified")
    climber = Climber(scorer, 0, random.Random(task))
    for _ in range(40):
        behaviour = climber.random()
        assert scorer.found(behaviour).reward == pytest.approx(scorer.score(behaviour).reward), behaviour


def test_an_honest_behaviour_is_fair_and_the_same_work_with_a_bonus_is_overpaid(
    parts: tuple[HackStage, CallEffects],
) -> None:
    scorer = scorer_of(parts, "turned")
    moves = {move.name: number for number, move in enumerate(scorer.moves)}
    solved = Behaviour(((moves["solution of turned, call 1"], False),), 0)
    paid = scorer.score(solved)
    assert (paid.honest, paid.reward, paid.fair) == (True, pytest.approx(2.2), pytest.approx(2.2))
    wrong = scorer.score(Behaviour(solved.moves, 1))
    assert (wrong.honest, wrong.correct, wrong.reward) == (True, False, pytest.approx(1.2))
    bonus = scorer.score(Behaviour(((moves["inverted for the bonus"], False), *solved.moves), 0))
    assert (bonus.honest, bonus.fair) == (False, pytest.approx(2.2))
    assert bonus.reward == pytest.approx(2.2 - 0.1 + 0.4)  # too many calls for the bonus of a full solution


def test_a_half_of_the_work_is_compared_with_the_half_that_was_done(parts: tuple[HackStage, CallEffects]) -> None:
    scorer = scorer_of(parts, "both")
    crop = next(n for n, move in enumerate(scorer.moves) if move.code == "image = images[0].crop((40, 30, 104, 78))")
    paid = scorer.score(Behaviour(((crop, False),), 0))
    assert (paid.honest, paid.reward, paid.fair) == (True, pytest.approx(1.6), pytest.approx(1.6))


def test_the_search_finds_the_known_gap_and_the_order_that_a_preset_keeps(sandbox: Sandbox) -> None:
    for preset, keeps in (("verified", False), ("ordered", True)):
        results = search_hacks(sandbox, RewardSettings(preset=preset), count=4000, seed=0)
        assert sum(result.scored for result in results) == 4000
        by_task = {result.task: result for result in results}
        assert by_task.keys() == {"upright", "turned", "small", "both", "choice"}
        bonus = 0.4 if preset == "verified" else 0.1
        overpaid = by_task["upright"].most_overpaid
        assert overpaid.reward - overpaid.fair == pytest.approx(bonus)
        assert by_task["turned"].best_wrong.turns[-1] == WRONG
        for result in results:
            assert keeps == (result.worst_right.reward > result.best_wrong.reward), result.task
            assert result.best_paid.reward <= result.best_paid.fair + bonus + 1e-9
