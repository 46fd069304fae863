"""Does every demonstration do what it shows, and is it worth learning from?"""

import io
import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from codevision_ext import geometry
from codevision_ext.errors import InfraError
from codevision_ext.rewards.rubric import score_group
from codevision_ext.rollout.code_tool import CodeTool
from codevision_ext.rollout.image_history import ImageHistory
from codevision_ext.rollout.parsing import format_score, parse_answer, parse_call
from codevision_ext.task.answers import is_correct
from codevision_ext.types import CallStatus, Orientation, Outcome, Rollout, Step, Task, ToolCall
from data_prep.demonstrations.scripted import (
    DESCRIPTIONS,
    LOOKS,
    STYLES,
    CallPlan,
    PlannedCall,
    SampleType,
    demonstrate,
    draw_plan,
    read_aloud,
)
from data_prep.formats.schema import IMAGE_TAG, SFT_SCHEMA, Demonstration, Row, sft_record
from data_prep.formats.sharegpt import check_turns
from data_prep.tasks.reading.glyphs import Mix, draw_rows


def assistant_turns(trajectory: Demonstration) -> list[str]:
    return [message.content for message in trajectory.messages if message.role == "assistant"]


def images(trajectory: Demonstration) -> list[Image.Image]:
    return [Image.open(io.BytesIO(png)).convert("RGB") for png in trajectory.images]


def test_all_five_sample_types_appear(trajectories: list[Demonstration]) -> None:
    assert {trajectory.sample_type for trajectory in trajectories} == set(SampleType) - {SampleType.READ}


def test_turns_alternate_and_every_tag_has_its_image(trajectories: list[Demonstration]) -> None:
    for trajectory in trajectories:
        check_turns(trajectory)


def test_every_turn_keeps_the_format_and_the_answer_is_right(
    rows: list[Row], trajectories: list[Demonstration]
) -> None:
    for row, trajectory in zip(rows, trajectories, strict=True):
        turns = assistant_turns(trajectory)
        assert format_score(turns) == 1.0
        assert is_correct(parse_answer(turns), row.answers)


def test_executing_the_calls_again_shows_the_same_texts_and_images(
    tool: CodeTool, trajectories: list[Demonstration]
) -> None:
    for trajectory in trajectories[:40]:
        shown = images(trajectory)
        history = ImageHistory(shown[:1])
        for asked, told in zip(trajectory.messages[1:-1:2], trajectory.messages[2:-1:2], strict=True):
            parsed = parse_call(asked.content, len(history.images))
            assert parsed.status is CallStatus.OK
            assert parsed.call is not None
            observation = tool.call(history, parsed.call)
            assert told.content == observation.text + (IMAGE_TAG if observation.image else "")
        assert [image.tobytes() for image in history.images] == [image.tobytes() for image in shown]


def test_the_last_image_is_upright_and_is_the_cell_where_there_is_a_box(
    rows: list[Row], trajectories: list[Demonstration]
) -> None:
    for row, trajectory in zip(rows, trajectories, strict=True):
        first, last = images(trajectory)[0], images(trajectory)[-1]
        looks = geometry.compose_all(geometry.orientation_of(op) for op in row.applied if op != "crop")
        wanted = first if row.box is None else first.crop(tuple(map(int, row.box)))
        assert geometry.apply(geometry.inverse(looks), wanted).tobytes() == last.tobytes()


def test_windows_of_a_multi_crop_shrink(trajectories: list[Demonstration]) -> None:
    for trajectory in trajectories:
        if trajectory.sample_type is SampleType.MULTI_CROP:
            areas = [image.width * image.height for image in images(trajectory)]
            assert len(areas) >= 3
            assert areas == sorted(set(areas), reverse=True)


def test_a_demonstration_without_errors_earns_full_marks_for_its_tools(tool: CodeTool) -> None:
    for row in draw_rows(Mix(crop_share=0.5), 20, "train", "train"):
        plan = draw_plan(np.random.default_rng([0, row.index]), row, 0.0)
        if plan.sample_type not in (SampleType.SINGLE_TOOL, SampleType.MULTI_TOOL):
            continue
        history = ImageHistory(images(read_aloud(row)))
        steps = tuple(tool.call(history, move.call).step for move in plan.moves)
        assert reward(row, steps) == pytest.approx(2.2)


def reward(row: Row, steps: tuple[Step, ...]) -> float:
    task = Task(applied=row.applied, box=row.box, box_frame=row.box_frame, size=row.size)
    observed = Outcome(correct=True, format=1.0, steps=steps)
    return score_group([Rollout(group="g", id="0", task=task, observed=observed)])[0].reward


@pytest.mark.parametrize("op", [op for op in STYLES if op != "crop"])
def test_every_wrong_first_op_is_recovered_from(tool: CodeTool, op: str) -> None:
    rows = [row for row in draw_rows(Mix(crop_share=0.0), 60, "train", "train") if row.applied == (op,)][:6]
    assert len(rows) == 6
    undone = geometry.inverse(geometry.orientation_of(op))
    for row in rows:
        plan = draw_plan(np.random.default_rng(row.index), row, 1.0)
        first, second = plan.moves
        assert plan.sample_type is SampleType.ERROR_HANDLING
        assert first.net is not undone
        assert first.thought == LOOKS[geometry.inverse(first.net or Orientation.ID)]
        assert (second.net, first.call.image_index) == (undone, 0)
        one_op_will_do = geometry.compose(geometry.orientation_of(op), first.net or Orientation.ID) not in (
            Orientation.TRANSPOSE,
            Orientation.TRANSVERSE,
        )
        assert second.call.image_index == one_op_will_do
        demonstrate(plan, row, tool)


def test_wrong_first_is_the_share_of_turned_rows_that_turn_wrong() -> None:
    rows = list(draw_rows(Mix(crop_share=0.0, source_share=0.0), 300, "train", "train"))
    for share in (0.0, 0.4, 1.0):
        plans = [draw_plan(np.random.default_rng([1, row.index]), row, share) for row in rows]
        wrong = [plan.moves[0].net not in (None, plan.moves[-1].net) for plan in plans]
        assert np.mean(wrong) == pytest.approx(share, abs=0.08 if 0 < share < 1 else 0)


def test_a_failing_call_shows_its_error_and_no_image_and_is_repaired(tool: CodeTool) -> None:
    found = 0
    for row in draw_rows(Mix(source_share=0.0), 120, "train", "train"):
        plan = draw_plan(np.random.default_rng([2, row.index]), row, 0.0)
        if plan.moves[0].net is None:
            found += 1
            trajectory = demonstrate(plan, row, tool)
            error, repaired = trajectory.messages[2].content, trajectory.messages[3].content
            assert error.startswith("Error: ")
            assert IMAGE_TAG not in error
            assert plan.moves[1].call.code in repaired
            assert trajectory.sample_type is SampleType.ERROR_HANDLING
    assert found > 0


def test_a_call_that_does_something_else_than_planned_stops_the_build(tool: CodeTool) -> None:
    row = next(row for row in draw_rows(Mix(), 20, "train", "train") if row.applied == ("rotate_90",))
    upside_down = ToolCall(code="image = image.rotate(180, expand=True)")
    move = PlannedCall(thought="", call=upside_down, net=Orientation.R270)
    with pytest.raises(InfraError, match="was planned to give r270"):
        demonstrate(CallPlan(sample_type=SampleType.SINGLE_TOOL, moves=(move,)), row, tool)
    meant_to_fail = replace(move, net=None)
    with pytest.raises(InfraError, match="an error"):
        demonstrate(CallPlan(sample_type=SampleType.ERROR_HANDLING, moves=(meant_to_fail,)), row, tool)


def test_a_crop_of_another_part_than_planned_stops_the_build(tool: CodeTool) -> None:
    row = next(row for row in draw_rows(Mix(crop_share=0.8), 40, "train", "train") if row.applied == ("crop",))
    beside = ToolCall(code="image = image.crop((40, 40, 124, 96))")
    move = PlannedCall(thought="", call=beside, net=Orientation.ID, region=row.box)
    with pytest.raises(InfraError, match="was planned to give id Box"):
        demonstrate(CallPlan(sample_type=SampleType.SINGLE_TOOL, moves=(move,)), row, tool)


def test_reading_shows_no_tool_and_the_rest_shows_it(rows: list[Row], trajectories: list[Demonstration]) -> None:
    upright = next(row for row in rows if not row.applied)
    read = read_aloud(upright)
    assert read.tools == ""
    assert read.sample_type is SampleType.READ
    assert assistant_turns(read) == [f"<think>upright</think><answer>{upright.answers[0]}</answer>"]
    assert {json.loads(trajectory.tools)[0]["function"]["name"] for trajectory in trajectories} == {"code_image_tool"}


def test_metadata_tells_the_task_and_how_each_call_ended(rows: list[Row], trajectories: list[Demonstration]) -> None:
    records = pa.Table.from_pylist([sft_record(trajectory) for trajectory in trajectories], schema=SFT_SCHEMA)
    for row, record in zip(rows, records.to_pylist(), strict=True):
        told = json.loads(record["metadata"])
        assert told["sample_type"] == record["sample_type"]
        assert (told["answer"], told["applied"]) == (row.answers[0], list(row.applied))
        assert told["box"] == (None if row.box is None else list(row.box))
        calls = sum(message["role"] == "tool" for message in record["messages"])
        assert len(told["calls"]) == calls
        shown = sum(call["status"] == "ok" for call in told["calls"])
        assert len(record["images"]) == 1 + shown


def test_every_op_that_has_styles_has_a_description() -> None:
    assert STYLES.keys() == DESCRIPTIONS.keys()
