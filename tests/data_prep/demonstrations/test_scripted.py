"""Tests that demonstrations do what they show, and that their calls earn full marks."""

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
    STYLES,
    CallPlan,
    PlannedCall,
    demonstrate,
    draw_plan,
    read_aloud,
)
from data_prep.formats.schema import IMAGE_TAG, SFT_SCHEMA, Demonstration, Row, SampleType, sft_record
from data_prep.formats.sharegpt import check_turns
from data_prep.tasks.reading.glyphs import ORIENTATION_THOUGHTS, Mix, draw_rows


def assistant_turns(demonstration: Demonstration) -> list[str]:
    return [message.content for message in demonstration.messages if message.role == "assistant"]


def images(demonstration: Demonstration) -> list[Image.Image]:
    return [Image.open(io.BytesIO(png)).convert("RGB") for png in demonstration.images]


def test_all_five_sample_types_appear(demonstrations: list[Demonstration]) -> None:
    assert {demonstration.sample_type for demonstration in demonstrations} == set(SampleType) - {SampleType.READ}


def test_turns_alternate_and_every_tag_has_its_image(demonstrations: list[Demonstration]) -> None:
    for demonstration in demonstrations:
        check_turns(demonstration)


def test_every_turn_keeps_the_format_and_the_answer_is_right(
    rows: list[Row], demonstrations: list[Demonstration]
) -> None:
    for row, demonstration in zip(rows, demonstrations, strict=True):
        turns = assistant_turns(demonstration)
        assert format_score(turns) == 1.0
        assert is_correct(parse_answer(turns), row.answers)


def test_executing_the_calls_again_shows_the_same_texts_and_images(
    tool: CodeTool, demonstrations: list[Demonstration]
) -> None:
    for demonstration in demonstrations[:40]:
        shown = images(demonstration)
        history = ImageHistory(shown[:1])
        for request, observed in zip(demonstration.messages[1:-1:2], demonstration.messages[2:-1:2], strict=True):
            parsed = parse_call(request.content, len(history.images))
            assert parsed.status is CallStatus.OK
            assert parsed.call is not None
            observation = tool.call(history, parsed.call)
            assert observed.content == observation.text + (IMAGE_TAG if observation.image else "")
        assert [image.tobytes() for image in history.images] == [image.tobytes() for image in shown]


def test_the_last_image_is_upright_and_is_the_cell_where_there_is_a_box(
    rows: list[Row], demonstrations: list[Demonstration]
) -> None:
    for row, demonstration in zip(rows, demonstrations, strict=True):
        first, last = images(demonstration)[0], images(demonstration)[-1]
        orientation = geometry.compose_all(geometry.orientation_of(op) for op in row.applied if op != "crop")
        expected = first if row.box is None else first.crop(tuple(map(int, row.box)))
        assert geometry.apply(geometry.inverse(orientation), expected).tobytes() == last.tobytes()


def test_windows_of_a_multi_crop_shrink(demonstrations: list[Demonstration]) -> None:
    for demonstration in demonstrations:
        if demonstration.sample_type is SampleType.MULTI_CROP:
            areas = [image.width * image.height for image in images(demonstration)]
            assert len(areas) >= 3
            assert areas == sorted(set(areas), reverse=True)


def test_a_demonstration_without_errors_earns_full_marks_for_its_tools(tool: CodeTool) -> None:
    for row in draw_rows(Mix(crop_share=0.5), 20, "train", "train"):
        plan = draw_plan(np.random.default_rng([0, row.index]), row, 0.0)
        if plan.sample_type not in (SampleType.SINGLE_TOOL, SampleType.MULTI_TOOL):
            continue
        history = ImageHistory(images(read_aloud(row)))
        steps = tuple(tool.call(history, planned.call).step for planned in plan.calls)
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
        first, second = plan.calls
        assert plan.sample_type is SampleType.ERROR_HANDLING
        assert first.orientation is not undone
        assert first.thought == ORIENTATION_THOUGHTS[geometry.inverse(first.orientation or Orientation.ID)]
        assert (second.orientation, first.call.image_index) == (undone, 0)
        one_op_will_do = geometry.compose(geometry.orientation_of(op), first.orientation or Orientation.ID) not in (
            Orientation.TRANSPOSE,
            Orientation.TRANSVERSE,
        )
        assert second.call.image_index == one_op_will_do
        demonstrate(plan, row, tool)


def test_wrong_first_is_the_share_of_turned_rows_that_turn_wrong() -> None:
    rows = list(draw_rows(Mix(crop_share=0.0, source_share=0.0), 300, "train", "train"))
    for share in (0.0, 0.4, 1.0):
        plans = [draw_plan(np.random.default_rng([1, row.index]), row, share) for row in rows]
        wrong = [plan.calls[0].orientation not in (None, plan.calls[-1].orientation) for plan in plans]
        assert np.mean(wrong) == pytest.approx(share, abs=0.08 if 0 < share < 1 else 0)


def test_a_failing_call_shows_its_error_and_no_image_and_is_repaired(tool: CodeTool) -> None:
    failing = 0
    for row in draw_rows(Mix(source_share=0.0), 120, "train", "train"):
        plan = draw_plan(np.random.default_rng([2, row.index]), row, 0.0)
        if plan.calls[0].orientation is None:
            failing += 1
            demonstration = demonstrate(plan, row, tool)
            error, repaired = demonstration.messages[2].content, demonstration.messages[3].content
            assert error.startswith("Error: ")
            assert IMAGE_TAG not in error
            assert plan.calls[1].call.code in repaired
            assert demonstration.sample_type is SampleType.ERROR_HANDLING
    assert failing > 0


def test_a_call_that_does_something_else_than_planned_stops_the_build(tool: CodeTool) -> None:
    row = next(row for row in draw_rows(Mix(), 20, "train", "train") if row.applied == ("rotate_90",))
    upside_down = ToolCall(code="image = image.rotate(180, expand=True)")
    planned = PlannedCall(thought="", call=upside_down, orientation=Orientation.R270)
    with pytest.raises(InfraError, match="was planned to give r270"):
        demonstrate(CallPlan(sample_type=SampleType.SINGLE_TOOL, calls=(planned,)), row, tool)
    meant_to_fail = replace(planned, orientation=None)
    with pytest.raises(InfraError, match="an error"):
        demonstrate(CallPlan(sample_type=SampleType.ERROR_HANDLING, calls=(meant_to_fail,)), row, tool)


def test_a_crop_of_another_part_than_planned_stops_the_build(tool: CodeTool) -> None:
    row = next(row for row in draw_rows(Mix(crop_share=0.8), 40, "train", "train") if row.applied == ("crop",))
    beside = ToolCall(code="image = image.crop((40, 40, 124, 96))")
    planned = PlannedCall(thought="", call=beside, orientation=Orientation.ID, region=row.box)
    with pytest.raises(InfraError, match="was planned to give id Box"):
        demonstrate(CallPlan(sample_type=SampleType.SINGLE_TOOL, calls=(planned,)), row, tool)


def test_reading_shows_no_tool_and_the_rest_shows_it(rows: list[Row], demonstrations: list[Demonstration]) -> None:
    upright = next(row for row in rows if not row.applied)
    read = read_aloud(upright)
    assert read.tools == ""
    assert read.sample_type is SampleType.READ
    assert assistant_turns(read) == [f"<think>upright</think><answer>{upright.answers[0]}</answer>"]
    assert {json.loads(demonstration.tools)[0]["function"]["name"] for demonstration in demonstrations} == {
        "code_image_tool"
    }


def test_metadata_tells_the_task_and_how_each_call_ended(rows: list[Row], demonstrations: list[Demonstration]) -> None:
    records = pa.Table.from_pylist([sft_record(demonstration) for demonstration in demonstrations], schema=SFT_SCHEMA)
    for row, record in zip(rows, records.to_pylist(), strict=True):
        metadata = json.loads(record["metadata"])
        assert metadata["sample_type"] == record["sample_type"]
        assert (metadata["answer"], metadata["applied"]) == (row.answers[0], list(row.applied))
        assert metadata["box"] == (None if row.box is None else list(row.box))
        calls = sum(message["role"] == "tool" for message in record["messages"])
        assert len(metadata["calls"]) == calls
        shown = sum(call["status"] == "ok" for call in metadata["calls"])
        assert len(record["images"]) == 1 + shown


def test_every_op_that_has_styles_has_a_description() -> None:
    assert STYLES.keys() == DESCRIPTIONS.keys()
