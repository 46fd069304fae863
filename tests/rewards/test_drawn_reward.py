"""Drawings are judged by their pixels in a real rollout, and the vthinker presets pay what docs/reward.md says."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from judge_server import Reply, Request, data_of, fails, says, serve, verdict
from PIL import Image
from rollouts import made, rollout
from test_reward_properties import groups, valid

import codevision_ext.scoring
from codevision_ext.config import Settings, read_settings
from codevision_ext.errors import InputError
from codevision_ext.experiments.rescore.options import read_reward
from codevision_ext.experiments.rescore.rescore import rescore
from codevision_ext.io.records import encode_record
from codevision_ext.judge.shared import close_judges
from codevision_ext.monitor.rollout_metrics import rollout_numbers, summarise_step
from codevision_ext.rewards.rubric import PRESETS, score_group
from codevision_ext.rewards.settings import RewardSettings
from codevision_ext.rollout.code_tool import CodeTool
from codevision_ext.rollout.loop import Completion, Trajectory, run_rollout
from codevision_ext.rollout.token_buffer import RolloutLimits
from codevision_ext.sandbox import Sandbox
from codevision_ext.scoring import last_image, score_rollouts
from codevision_ext.task.item import Item, read_item
from codevision_ext.types import CoordinateSystem, DrawingScore, EndReason, Rollout, Step

VTHINKER = Settings(reward=RewardSettings(preset="vthinker"))
SIZE = (320, 240)
SEGMENT = {"kind": "segment", "x1": 60, "y1": 60, "x2": 260, "y2": 180}
DRAW = "d = ImageDraw.Draw(image)\nd.line((60, 60, 260, 180), fill=(255, 0, 0), width=3)"
ANSWER = "<think>t</think><answer>7</answer>"
PRESENT = ("vthinker", "vthinker_paper", "vthinker_as_run")


class Letters:
    """A renderer whose tokens are characters, and whose model sees every image at half its size."""

    end_id = 0

    def resize(self, image: Image.Image) -> Image.Image:
        return image.resize((max(1, image.width // 2), max(1, image.height // 2)))

    def prompt(self, *_: object) -> list[int]:
        return [0]

    def observation(self, role: str, text: str, resized: Sequence[Image.Image], *, closed: bool) -> list[int]:  # noqa: ARG002
        return [*map(ord, text)]

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(map(chr, ids))


def photo(size: tuple[int, int] = SIZE) -> Image.Image:
    grid = np.random.default_rng(1).integers(60, 200, (6, 8, 3), np.uint8)
    return Image.fromarray(grid).resize(size, Image.Resampling.BICUBIC)


def call(code: str, index: int = 0) -> str:
    arguments = {"name": "code_image_tool", "arguments": {"code": code, "image_index": index}}
    return f"<think>t</think><tool_call>{json.dumps(arguments)}</tool_call>"


def play(
    sandbox: Sandbox,
    *turns: str,
    image: Image.Image | None = None,
    coordinates: CoordinateSystem = CoordinateSystem.ORIGINAL,
    limit: int = 9,
) -> Trajectory:
    """Runs a rollout of a model that writes these turns."""
    left = list(turns)

    async def policy(ids: list[int], images: Sequence[Image.Image], max_tokens: int) -> Completion:  # noqa: ARG001
        text = left.pop(0)
        return Completion(ids=[*map(ord, text)], log_probs=[0.0] * len(text), finished=True)

    return asyncio.run(
        run_rollout(
            [{"role": "user", "content": [{"type": "image"}]}],
            [image or photo()],
            policy=policy,
            renderer=Letters(),
            tool=CodeTool(sandbox),
            limits=RolloutLimits(response_tokens=100_000, assistant_turns=limit),
            coordinates=coordinates,
        )
    )


def item(*primitives: dict[str, Any], answers: Sequence[str] = (), size: tuple[int, int] = SIZE) -> Item:
    row = {"reward_model": {"ground_truth": list(answers)}, "extra_info": {"drawing": {"primitives": list(primitives)}}}
    return read_item(row, size)


def score(task: Item, *trajectories: Trajectory | None, settings: Settings = VTHINKER) -> list[Any]:
    return score_rollouts(task, "g", trajectories, settings)


# in a rollout


def test_the_last_image_handed_back_is_the_answer_of_a_row_without_words(sandbox: Sandbox) -> None:
    drawn, erased, nothing = score(
        item(SEGMENT),
        play(sandbox, call(DRAW), ANSWER),
        play(sandbox, call(DRAW), call("image = images[0]", 1), ANSWER),
        play(sandbox, ANSWER),
    )
    assert (drawn.observed.correct, drawn.observed.drawn.reason, drawn.observed.drawn.node) == (True, "right", 1)
    assert drawn.reward == pytest.approx(1 + 0.5 + (0.3 + 0.5) * drawn.observed.drawn.f1)
    assert drawn.observed.drawn.f1 > 0.95
    assert (erased.observed.correct, erased.observed.drawn.node, erased.reward) == (False, 0, 0.5)
    assert erased.observed.drawn.reason == "there is no ink that can be seen"
    assert (nothing.observed.correct, nothing.observed.drawn.node, nothing.reward) == (False, None, 0.5)
    assert nothing.observed.drawn.recall == (0.0,)


def test_a_drawing_counts_as_the_answer_only_where_the_rollout_ended_with_it(sandbox: Sandbox) -> None:
    (stopped,) = score(item(SEGMENT), play(sandbox, call(DRAW), call(DRAW), limit=2))
    assert stopped.observed.end_reason is EndReason.TURN_CAP
    assert stopped.observed.drawn.correct
    assert not stopped.observed.correct


def test_the_target_stays_in_pixels_of_the_stored_image_whatever_the_model_saw(sandbox: Sandbox) -> None:
    seen = "d = ImageDraw.Draw(image)\nd.line((*point(30, 30), *point(130, 90)), fill=(255, 0, 0), width=3)"
    small = play(sandbox, call(seen), ANSWER, coordinates=CoordinateSystem.SEEN)
    assert small.resized[0].size == (160, 120)
    assert small.images[1].size == SIZE
    (record,) = score(item(SEGMENT), small)
    assert record.observed.drawn.reason == "right"


@pytest.mark.parametrize("factor", [0.5, 2])
def test_a_drawing_on_a_resized_image_is_laid_onto_the_stored_one(sandbox: Sandbox, factor: float) -> None:
    resized = f"image = image.resize((int({factor} * image.width), int({factor} * image.height)), Image.LANCZOS)"
    line = tuple(int(factor * value) for value in (60, 60, 260, 180))
    drawn = f"d = ImageDraw.Draw(image)\nd.line({line}, fill=(255, 0, 0), width=4)"
    (record,) = score(item(SEGMENT), play(sandbox, call(resized), call(drawn, 1), ANSWER))
    assert (record.observed.drawn.reason, record.observed.drawn.node) == ("right", 2)


def test_an_image_in_which_the_input_is_not_found_earns_nothing_and_stays_valid(sandbox: Sandbox) -> None:
    noise = "rng = np.random.default_rng(0)\nimage = Image.fromarray(rng.integers(0, 256, (200, 200, 3), np.uint8))"
    (record,) = score(item(SEGMENT), play(sandbox, call(noise), ANSWER))
    assert record.observed.drawn.correct is None
    assert (record.observed.valid, record.observed.correct, record.reward) == (True, False, 0.5)
    numbers = rollout_numbers(record, None, VTHINKER)
    assert (numbers["drawn"], numbers["drawn_unknown"], numbers["drawn_right"]) == (1, 1, 0)


def test_a_fault_of_the_verifier_makes_the_rollout_invalid_and_never_wrong(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    whole = play(sandbox, call(DRAW), ANSWER)
    verify, calls = codevision_ext.scoring.verify, []

    def breaks_once(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 1:
            raise MemoryError
        return verify(*arguments)

    monkeypatch.setattr(codevision_ext.scoring, "verify", breaks_once)
    for task in (item(SEGMENT), item(SEGMENT, answers=["7"])):
        calls.clear()
        broken, good = score(task, whole, whole)
        assert (broken.observed.valid, broken.reward, broken.terms, broken.observed.drawn) == (False, None, {}, None)
        assert (len(broken.observed.steps), broken.observed.format) == (1, 1)
        assert good.observed.valid
        assert "its drawing couldn't be checked" in caplog.text


def test_an_answer_in_words_is_judged_as_words_and_its_drawing_beside_it(sandbox: Sandbox) -> None:
    drawn, plain, other = score(
        item(SEGMENT, answers=["7"]),
        play(sandbox, call(DRAW), ANSWER),
        play(sandbox, ANSWER),
        play(sandbox, call(DRAW), ANSWER.replace("7", "8")),
    )
    f1 = drawn.observed.drawn.f1
    assert [record.observed.correct for record in (drawn, plain, other)] == [True, True, False]
    assert drawn.reward == pytest.approx(1.5 + 0.8 * f1)
    assert plain.reward == pytest.approx(1.5)
    assert other.reward == pytest.approx(0.5 + 0.5 * f1)
    infos = [rollout_numbers(record, None, VTHINKER) for record in (drawn, plain, other)]
    metrics = summarise_step(infos, ["g"] * 3)
    assert metrics["rollout/drawn_f1"] == pytest.approx(2 * f1 / 3)
    assert metrics["rollout/drawn_right"] == pytest.approx(2 / 3)
    assert metrics["reward/drawn/mean"] == pytest.approx(f1 / 3)
    undrawn = [
        rollout_numbers(record, None, VTHINKER) for record in score(read_item(WORDS, SIZE), play(sandbox, ANSWER))
    ]
    assert undrawn[0].keys() == infos[0].keys()
    assert not {"rollout/drawn_f1", "rollout/drawn_right"} & summarise_step(undrawn, ["g"]).keys()


WORDS = {"reward_model": {"ground_truth": ["7"]}}


def test_a_record_keeps_the_target_and_the_verdict_and_scores_the_same_again(sandbox: Sandbox, tmp_path: Path) -> None:
    records = score(item(SEGMENT), play(sandbox, call(DRAW), ANSWER), play(sandbox, ANSWER))
    stored = json.loads(encode_record(records[0]))
    assert stored["task"]["drawing"]["primitives"][0]["kind"] == "segment"
    assert stored["observed"]["drawn"].keys() == {
        *("correct", "f1", "recall", "precision", "preserved", "reason", "node"),
    }
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_bytes(b"".join(encode_record(replace(record, reward=None, terms={})) for record in records))
    rescore(source, out, read_reward("vthinker", (), ()))
    again = [json.loads(line)["reward"] for line in out.read_text().splitlines()]
    assert again == [pytest.approx(record.reward) for record in records]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda record: record["observed"].pop("drawn"), r"line 1: field observed\.drawn is missing"),
        (
            lambda record: record["observed"]["drawn"].update(f1=1.5),
            r"line 1: field observed\.drawn\.f1: 1\.5 isn't in",
        ),
        (lambda record: record["observed"]["drawn"].update(f2=1), r"line 1: field observed\.drawn\.f2"),
        (lambda record: record["task"]["drawing"]["primitives"].clear(), r"line 1: field task\.drawing: .*is empty"),
        (
            lambda record: record["observed"]["steps"][0].pop("node"),
            r"line 1: field observed\.steps\.0\.node: is missing",
        ),
    ],
)
def test_a_record_that_lacks_what_the_preset_reads_is_refused_by_line_and_field(
    sandbox: Sandbox, tmp_path: Path, change: Any, message: str
) -> None:
    (record,) = score(item(SEGMENT), play(sandbox, call(DRAW), ANSWER))
    line = json.loads(encode_record(record))
    change(line)
    (tmp_path / "in.jsonl").write_text(json.dumps(line) + "\n")
    with pytest.raises(InputError, match=message):
        rescore(tmp_path / "in.jsonl", tmp_path / "out.jsonl", read_reward("vthinker", (), ()))


def test_of_several_images_of_a_call_the_last_one_is_handed_back_last() -> None:
    several = made(1, "draw")
    assert last_image(()) is None
    assert last_image((Step(ok=False),)) is None
    assert last_image((several, Step(ok=False))) == 1
    assert last_image((several, Step(ok=True, parent=0, noop=True))) == 0


# the presets


TARGET = {"primitives": [SEGMENT]}


def drawn(f1: float, **more: Any) -> Rollout:
    """A rollout of a row with a target: one call, whose drawing has this F1."""
    judged = DrawingScore(correct=f1 > 0.9, f1=f1, recall=(f1,), precision=f1, preserved=1.0, reason="r", node=1)
    played = rollout((), made(1, "draw"), **more)
    observed = replace(played.observed, drawn=judged, consistent=1.0 if played.observed.correct else None)
    return replace(played, task=replace(played.task, drawing=TARGET), observed=observed)


@pytest.mark.parametrize(
    ("scored", "rewards"),
    [
        (drawn(1.0), (2.3, 1.8, 2.3)),
        (drawn(0.5), (1.9, 1.8, 2.3)),
        (drawn(0.0), (1.5, 1.8, 2.3)),
        (drawn(1.0, correct=False), (1.0, 0.5, 0.5)),
        (drawn(0.5, correct=False), (0.75, 0.5, 0.5)),
        (drawn(0.0, correct=False, format_kept=0.0), (0, 0, 0)),
    ],
)
def test_each_preset_pays_what_its_table_says(scored: Rollout, rewards: tuple[float, ...]) -> None:
    for preset, reward in zip(PRESENT, rewards, strict=True):
        assert score_group([scored], preset)[0].reward == pytest.approx(reward), preset


@pytest.mark.parametrize(
    ("steps", "rewards"),
    [
        ((), (1.5, 1.5, 1.5)),
        ((made(1, "draw"),), (1.8, 1.8, 1.8)),
        ((Step(ok=False),), (1.5, 1.8, 1.5)),
        ((Step(ok=True, parent=0, noop=True),), (1.5, 1.8, 1.8)),
        ((made(1, "draw"), Step(ok=False)), (1.8, 1.8, 1.65)),
    ],
)
def test_calls_of_a_row_without_a_target_are_paid_by_what_each_preset_reads(
    steps: tuple[Step, ...], rewards: tuple[float, ...]
) -> None:
    scored = rollout((), *steps)
    for preset, reward in zip(PRESENT, rewards, strict=True):
        assert score_group([scored], preset, **NO_JUDGE[preset])[0].reward == pytest.approx(reward), preset


NO_JUDGE: dict[str, dict[str, Any]] = {
    "vthinker": {},
    "vthinker_paper": {},
    "vthinker_as_run": {"weights": {"consistency": 0.0}},
}


@pytest.mark.parametrize("preset", PRESENT)
@given(group=groups(), f1=st.floats(0, 1))
def test_a_wrong_answer_is_never_worth_less_than_none(preset: str, group: list[Rollout], f1: float) -> None:
    judged = [replace(r, observed=replace(r.observed, drawn=drawn(f1).observed.drawn)) for r in valid(group)]
    judged = [replace(r, task=replace(r.task, drawing=TARGET)) for r in judged]
    wrong = [replace(r, observed=replace(r.observed, correct=False)) for r in judged]
    for breakdown in score_group(wrong, preset, **NO_JUDGE[preset]):
        assert breakdown.terms["accuracy"].contribution == 0
        assert breakdown.reward >= 0
    right = [replace(r, observed=replace(r.observed, correct=True)) for r in wrong]
    for one, other in zip(
        score_group(wrong, preset, **NO_JUDGE[preset]), score_group(right, preset, **NO_JUDGE[preset]), strict=True
    ):
        assert other.reward >= one.reward + 1 - 1e-9


def test_coordinates_are_paid_by_the_share_of_right_places_under_vthinker_only() -> None:
    half = rollout((), correct=False)
    half = replace(half, observed=replace(half.observed, answer_share=0.5))
    assert [score_group([half], preset, **NO_JUDGE[preset])[0].reward for preset in PRESENT] == [1.0, 0.5, 0.5]


def test_drawn_is_an_optional_term_of_verified() -> None:
    assert PRESETS["verified"]["drawn"].weight == 0
    paid = score_group([drawn(0.5)], "verified", weights={"drawn": 0.4})[0].terms["drawn"]
    assert paid.contribution == pytest.approx(0.2)
    unjudged = replace(drawn(0.5), observed=replace(drawn(0.5).observed, drawn=None))
    with pytest.raises(InputError, match=r"observed\.drawn is missing"):
        score_group([unjudged], "verified", weights={"drawn": 0.4})
    assert score_group([unjudged], "verified")[0].terms["drawn"].contribution == 0


def test_a_gated_drawing_pays_only_correct_answers() -> None:
    assert score_group([drawn(1.0, correct=False)], "vthinker", gate_strategy_on_correct=True)[0].reward == 0.5
    for preset in ("vthinker_paper", "vthinker_as_run"):
        with pytest.raises(InputError, match="doesn't read gate_strategy_on_correct"):
            score_group([drawn(1.0)], preset, gate_strategy_on_correct=True)


# thought and answer


def test_the_consistency_of_the_released_script_needs_a_judge() -> None:
    with pytest.raises(InputError, match=r"weights\.consistency: is 0\.5, but there is no codevision\.judge"):
        read_settings({"reward": {"preset": "vthinker_as_run"}})
    assert read_settings({"reward": {"preset": "vthinker_as_run", "weights": {"consistency": 0}}})
    with pytest.raises(InputError, match=r"observed\.consistent is missing"):
        score_group([rollout()], "vthinker_as_run")


def test_the_judge_compares_the_end_of_the_thought_with_a_correct_answer_only(sandbox: Sandbox) -> None:
    def judge(request: Request) -> Reply:
        _, references, answer = data_of(request)
        return says(verdict(request, "CORRECT" if references[0] in answer else "INCORRECT"))

    long = "x" * 600
    turns = [
        f"<think>{long} so it is 7</think><answer>7</answer>",
        "<think>so it is 9</think><answer>7</answer>",
        "<think>so it is 8</think><answer>8</answer>",
        "<answer>7</answer>",
    ]
    played = [play(sandbox, turn) for turn in turns]
    with serve(judge) as server:
        section = {"preset": "vthinker_as_run"}
        settings = read_settings({"reward": section, "judge": {"base_url": server.url, "model": "m"}})
        records = score(read_item(WORDS, SIZE), *played, settings=settings)
        assert [record.observed.consistent for record in records] == [1, 0, None, 0]
        assert [record.terms["consistency"].contribution for record in records] == [0.5, 0, 0, 0]
        assert sorted(len(data_of(request)[2]) for request in server.requests) == [10, 500]  # they run side by side
    with serve(fails(500)) as server:
        judge_section = {"base_url": server.url, "model": "m", "retries": 0}
        settings = read_settings({"reward": section, "judge": judge_section})
        broken, wrong = score(read_item(WORDS, SIZE), played[0], played[2], settings=settings)
        assert (broken.observed.valid, broken.reward) == (False, None)
        assert (wrong.observed.valid, wrong.reward) == (True, 0.5)
    close_judges()
