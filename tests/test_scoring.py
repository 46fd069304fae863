"""A finished rollout gets its reward; a rollout that failed by our fault gets none."""

from dataclasses import replace
from typing import Any

import pytest
from PIL import Image

from codevision_ext.config import Settings
from codevision_ext.errors import InputError
from codevision_ext.io.records import Record, RecordWriter, read_records, scored
from codevision_ext.monitor.rollout_metrics import group_numbers, rollout_numbers
from codevision_ext.rewards.rubric import PRESETS, Rubric, score_group
from codevision_ext.rewards.settings import RewardSettings
from codevision_ext.rollout.loop import ConversationMessage, Trajectory
from codevision_ext.rollout.token_buffer import RolloutLimits, TokenBuffer
from codevision_ext.scoring import TurnGains, observe, score_rollouts, turn_gains, with_images
from codevision_ext.task.item import Item, read_item
from codevision_ext.types import (
    Box,
    CoordinateSystem,
    EndReason,
    ExecStatus,
    Orientation,
    Outcome,
    Step,
    Task,
    ToolCall,
)

RIGHT = "<think>t</think><answer>7</answer>"
WRONG = "<think>t</think><answer>8</answer>"
ROW = {
    "data_source": "glyphs",
    "reward_model": {"ground_truth": ["7", "seven"]},
    "extra_info": {"index": 3, "question": "?", "transform": ["rotate_90"], "bbox": [1, 2, 3, 4], "column": "rot90"},
}
ITEM = read_item(ROW, (8, 4))
TURNED_BACK = Step(
    ok=True, ops=("rotate_270",), node=1, parent=0, net=Orientation.R270, region=Box(0, 0, 8, 4), status=ExecStatus.OK
)


def trajectory(
    *replies: str,
    steps: tuple[Step, ...] = (),
    end: EndReason = EndReason.ANSWER,
    calls: tuple[ToolCall | None, ...] | None = None,
    turns: int = 9,
) -> Trajectory:
    """Without `calls` each step had code of its own."""
    token_buffer = TokenBuffer(prompt_ids=[1], limits=RolloutLimits(response_tokens=99, assistant_turns=turns))
    asked = tuple(ToolCall(code=str(at)) for at in range(len(steps))) if calls is None else calls
    messages = []
    for at, reply in enumerate(replies):
        token_buffer.add_sampled([2, 3], [-1.0, -1.0])
        messages.append(ConversationMessage(role="assistant", text=reply))
        if at < len(steps):
            token_buffer.add_context([4])
            messages.append(ConversationMessage(role="tool", text="Picture 1: 4x8.", images=(1,)))
    images = (Image.new("RGB", (8, 4)), *[Image.new("RGB", (4, 8), "red") for step in steps if step.node is not None])
    return Trajectory(
        token_buffer=token_buffer,
        end_reason=end,
        messages=tuple(messages),
        steps=steps,
        images=images,
        resized=images,
        malformed=asked.count(None),
        calls=asked,
    )


def test_a_row_is_read_once_with_everything_that_scoring_asks_for() -> None:
    task = Task(applied=("rotate_90",), box=Box(1.0, 2.0, 3.0, 4.0), box_frame="input", size=(8, 4))
    expected = Item(id="glyphs-3", question="?", references=("7", "seven"), task=task, source="glyphs", column="rot90")
    assert read_item(ROW, (8, 4)) == expected
    plain = read_item({"extra_info": {"answer": "7"}}, (8, 4))
    assert (plain.references, plain.task.applied, plain.task.box) == (("7",), (), None)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"reward_model": {"ground_truth": []}}, "row glyphs-3: reward_model.ground_truth must be a non-empty answer"),
        ({"reward_model": {"ground_truth": ["7", ""]}}, "row glyphs-3: reward_model.ground_truth"),
        ({"reward_model": {"ground_truth": 7}}, "row glyphs-3: reward_model.ground_truth"),
        ({"extra_info": {"index": 3, "bbox": [1, 2, 3]}}, "row glyphs-3: extra_info.bbox must have four numbers"),
    ],
)
def test_a_row_that_can_t_be_scored_is_refused_by_row_and_field(change: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_item(ROW | change, (8, 4))


def test_an_answer_counts_only_where_the_rollout_ended_with_it() -> None:
    assert observe(trajectory(RIGHT), ["7"]).correct
    assert not observe(trajectory(WRONG), ["7"]).correct
    for end in (EndReason.LENGTH, EndReason.TURN_CAP, EndReason.MALFORMED):
        seen = observe(trajectory(RIGHT, end=end), ["7"])
        assert (seen.correct, seen.valid, seen.end_reason) == (False, True, end)


@pytest.mark.parametrize(
    ("coordinates", "answer"), [("original", "(20, 10)"), ("seen", "(10, 5)"), ("relative", "(500, 500)")]
)
def test_an_answer_of_coordinates_is_judged_by_distance_in_the_model_s_coordinate_system(
    coordinates: str, answer: str
) -> None:
    truth = {"ground_truth": ["{'P': (20, 10)}"]}
    item = read_item({"reward_model": truth, "extra_info": {"answer_kind": "coordinates"}}, (40, 20))
    images, resized = (Image.new("RGB", (40, 20)),), (Image.new("RGB", (20, 10)),)
    settings = Settings(coordinates=CoordinateSystem(coordinates))
    rollouts = [
        replace(trajectory(f"<think>t</think><answer>{text}</answer>"), images=images, resized=resized)
        for text in (answer, f"{{'P': {answer}, 'Q': (1, 1)}}", "the middle")
    ]
    records = score_rollouts(item, "g", rollouts, settings)
    assert [record.observed.answer_share for record in records] == [1, 0.5, 0]
    assert [record.observed.correct for record in records] == [True, False, False]
    assert not any(record.observed.undecided for record in records)


def test_the_format_is_judged_with_what_the_template_wrote_before_the_turn() -> None:
    bare = trajectory("t</think><answer>7</answer>")
    assert (observe(bare, ["7"]).format, observe(bare, ["7"], "<think>").format) == (0.0, 1.0)


def test_a_rollout_that_broke_has_no_reward_and_moves_nobody_else_s() -> None:
    good, bad = trajectory("<think>t</think>", RIGHT, steps=(TURNED_BACK,)), trajectory(WRONG)
    alone = score_rollouts(ITEM, "g", [good, bad], Settings())
    beside = score_rollouts(ITEM, "g", [good, None, bad, None], Settings())
    assert [record.observed.valid for record in beside] == [True, False, True, False]
    assert [beside[0].reward, beside[2].reward] == [record.reward for record in alone]
    assert [beside[0].terms, beside[2].terms] == [record.terms for record in alone]
    for record in (beside[1], beside[3]):
        assert (record.reward, record.terms, record.answer, record.tokens) == (None, {}, None, None)
        assert record.observed.end_reason is EndReason.INFRA
    assert alone[0].reward is not None
    assert alone[1].reward is not None
    assert alone[0].reward > alone[1].reward
    assert [record.reward for record in score_rollouts(ITEM, "g", [None, None], Settings())] == [None, None]


def test_the_group_s_terms_see_all_rollouts_of_the_prompt() -> None:
    brighter = Step(ok=True, ops=("contrast_up",), node=1, parent=0, net=Orientation.ID, status=ExecStatus.OK)
    helped = trajectory("<think>t</think>", RIGHT, steps=(brighter,))
    item = read_item(ROW | {"extra_info": {"index": 3}}, (8, 4))
    (single,) = score_rollouts(item, "g", [helped], Settings())
    first, _ = score_rollouts(item, "g", [helped, trajectory(WRONG)], Settings())
    assert single.terms["necessity"].contribution == 0
    assert first.terms["necessity"].contribution > 0


def test_a_record_names_its_group_and_says_what_was_answered(tmp_path: Any) -> None:
    played = trajectory("<think>t</think>", RIGHT, steps=(TURNED_BACK,))
    (record,) = score_rollouts(ITEM, "g", [played], Settings(), split="train", step=5)
    assert (record.group, record.id, record.split, record.step) == ("g", "g-0", "train", 5)
    assert (record.answer, record.references, record.column, record.source) == ("7", ("7", "seven"), "rot90", "glyphs")
    assert (record.tokens, record.turn_count) == (5, 2)
    writer = RecordWriter(tmp_path, "train")
    kept = with_images(record, played, writer)
    writer.write(kept)
    assert [len(turn.images) for turn in kept.turns] == [1, 0, 1, 0]
    assert [turn.role for turn in kept.turns] == ["user", "assistant", "tool", "assistant"]
    assert (kept.turns[0].images[0], kept.turns[2].images[0]) == kept.pictures
    (again,) = read_records(writer.path)
    assert again == kept
    assert score_group([again])[0].reward == record.reward
    assert with_images(record, None, writer) is record


def test_what_is_logged_has_the_same_names_for_every_rollout() -> None:
    played = trajectory("<think>t</think>", RIGHT, steps=(TURNED_BACK, Step(ok=False), Step(ok=True, noop=True)))
    trajectories = [played, trajectory(WRONG, end=EndReason.LENGTH), None]
    records = score_rollouts(ITEM, "g", trajectories, Settings())
    first, second, broken = (rollout_numbers(r, t, Settings()) for r, t in zip(records, trajectories, strict=True))
    assert list(first) == list(second) == list(broken)
    assert {f"term_{name}" for name in PRESETS["verified"]} <= first.keys()
    assert (first["acc"], first["tool"], first["calls"], first["failed_calls"], first["noop_calls"]) == (1, 1, 3, 1, 1)
    assert (second["tool"], second["end_length"], second["end_answer"]) == (0, 1, 0)
    assert (broken["valid"], broken["end_infra"], broken["turns"], broken["term_accuracy"]) == (0, 1, 0, 0)
    weighed = sum(value for name, value in first.items() if name.startswith("term_"))
    assert weighed == pytest.approx(records[0].reward)


WELL, BADLY = Step(ok=True), Step(ok=False)


@pytest.mark.parametrize(
    ("calls", "steps", "turns", "repeated", "recoverable", "recovered"),
    [
        ("", (), 9, 0, 0, 0),
        ("ab", (WELL, WELL), 9, 0, 0, 0),
        ("aab", (BADLY, BADLY, WELL), 9, 1, 2, 2),
        ("abc", (WELL, BADLY, BADLY), 9, 0, 2, 0),
        ("?a?", (WELL,), 9, 0, 2, 1),
        ("?aa", (BADLY, WELL), 3, 1, 2, 2),
        ("a", (BADLY,), 2, 0, 0, 0),
        ("aAa", (WELL, WELL, WELL), 9, 1, 0, 0),
    ],
)
def test_calls_that_are_repeated_and_errors_that_are_made_good_are_counted(
    calls: str, steps: tuple[Step, ...], turns: int, repeated: int, recoverable: int, recovered: int
) -> None:
    """A letter is a call's code, `A` that of `a` on another image, `?` one that can't be read."""
    asked = tuple(
        None if letter == "?" else ToolCall(code=letter.lower(), image_index=int(letter.isupper())) for letter in calls
    )
    played = trajectory(RIGHT, steps=steps, calls=asked, turns=turns)
    (record,) = score_rollouts(ITEM, "g", [played], Settings())
    logged = rollout_numbers(record, played, Settings())
    assert (logged["repeated_calls"], logged["malformed_calls"]) == (repeated, calls.count("?"))
    assert (logged["recoverable_calls"], logged["recovered_calls"]) == (recoverable, recovered)


def test_the_accuracy_that_groups_are_filtered_by_differs_only_where_there_is_a_signal() -> None:
    def filtered(*trajectories: Trajectory | None) -> list[float]:
        records = score_rollouts(ITEM, "g", trajectories, Settings())
        return [values["filter_acc"] for values in group_numbers(records, trajectories, Settings())]

    right, wrong = trajectory(RIGHT), trajectory(WRONG)
    assert filtered(right, None, right) == [1, 1, 1]
    assert filtered(None, wrong, wrong) == [0, 0, 0]
    assert filtered(right, None, wrong) == [1, 1, 0]
    assert filtered(None, None) == [0, 1]


def test_the_gain_of_a_call_is_that_of_its_turn_and_the_gains_sum_to_the_term() -> None:
    turned = Step(ok=True, node=1, parent=0, net=Orientation.R270, region=Box(0, 0, 8, 4))
    played = replace(
        trajectory("a", "b", "c", steps=(Step(ok=False, parent=0), turned)),
        step_turns=(0, 1),
        end_reason=EndReason.ANSWER,
    )
    rubric = Rubric(RewardSettings(credit="call", weights={"must": 0.5}))
    record = Record(
        group="g",
        id="g-0",
        task=Task(applied=("rotate_90",)),
        observed=Outcome(correct=True, format=1, steps=played.steps),
    )
    record = scored(record, rubric.score([record])[0])
    assert turn_gains(record, played, rubric) == TurnGains(spans=((0, 2), (3, 5), (6, 8)), gains=(0.0, 0.5, 0.0))
    assert turn_gains(record, None, rubric) == TurnGains()
    invalid = replace(record, observed=replace(record.observed, valid=False))
    assert turn_gains(invalid, played, rubric) == TurnGains()
