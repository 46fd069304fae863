"""A checkpoint's codevision.json is written, read, and followed where no setting is given."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from codevision_ext.config import read_settings, system_prompt, tool_schemas
from codevision_ext.errors import InputError
from codevision_ext.models.checkpoint_settings import checkpoint_settings, format_of_rl, format_of_sft, notes
from codevision_ext.rollout.code_tool import tool_schema
from codevision_ext.rollout.dialects.registry import CODE_TAGS, TOOL_CALL
from codevision_ext.rollout.trained_format import (
    FILE,
    TrainedFormat,
    read_trained_format,
    write_trained_format,
)
from codevision_ext.types import CoordinateSystem, ToolCall

BOUNDS = (784, 7056)
OWN_SCHEMA = {"type": "function", "function": {"parameters": {}, "name": "code_image_tool", "description": "Mine."}}


def conversation(system: str | None, tools: Any) -> tuple[list[dict[str, Any]], str]:
    messages = [{"role": "user", "content": "<image>?"}, {"role": "assistant", "content": "!"}]
    first = [] if system is None else [{"role": "system", "content": system}]
    return first + messages, json.dumps(tools) if tools else ""


def sft(*rows: Any, earlier: TrainedFormat | None = None) -> TrainedFormat:
    return format_of_sft([conversation(*row) for row in rows], "<think>\n", BOUNDS, earlier)


def test_the_file_has_its_schema_s_fields_and_is_read_as_it_was_written(tmp_path: Path) -> None:
    trained = sft(("Look.", [tool_schema(CoordinateSystem.RELATIVE)]), (None, None))
    write_trained_format(tmp_path / "new" / "folder", trained)
    assert read_trained_format(tmp_path / "new" / "folder") == trained
    assert json.loads((tmp_path / "new" / "folder" / FILE).read_text()) == {
        "version": 1,
        "trained_by": "sft",
        "system_prompt": "Look.",
        "system_prompt_no_tool": "",
        "tools": [tool_schema(CoordinateSystem.RELATIVE)],
        "dialect": "tool_call",
        "coordinates": "relative",
        "think_prefix": "<think>",
        "answer_format": "<answer>{answer}</answer>",
        "calls_per_turn": None,
        "force_answer": None,
        "min_pixels": 784,
        "max_pixels": 7056,
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"version": 2}, "version is 2; this version of codevision_ext reads 1"),
        ({}, "version is None"),
        ({"version": 1}, "field trained_by: is missing"),
        ({"version": 1, "trained_by": "sft", "dialekt": "x"}, "field dialekt: isn't known"),
        ({"version": 1, "trained_by": "sft", "dialect": "smoke"}, "field dialect: must be 'tool_call'"),
        ({"version": 1, "trained_by": "sft", "coordinates": 3}, "field coordinates: must be"),
        ({"version": 1, "trained_by": "rl", "calls_per_turn": 0}, "field calls_per_turn: must be"),
        ({"version": 1, "trained_by": "rl", "max_pixels": -1}, "field max_pixels: must be"),
        ([], "isn't a JSON object"),
    ],
)
def test_a_file_that_can_not_be_read_is_refused_by_file_and_field(tmp_path: Path, content: Any, message: str) -> None:
    (tmp_path / FILE).write_text(json.dumps(content))
    with pytest.raises(InputError, match=message) as refused:
        checkpoint_settings(read_settings({}), tmp_path)
    assert str(tmp_path / FILE) in str(refused.value)


def test_settings_that_are_not_given_are_the_checkpoint_s(tmp_path: Path) -> None:
    write_trained_format(tmp_path, sft((None, [tool_schema(CoordinateSystem.RELATIVE)])))
    own = checkpoint_settings(read_settings({"malformed_calls": 3}), tmp_path)
    assert own.differences == ()
    settings = own.settings
    assert (settings.coordinates, settings.think_prefix, settings.malformed_calls) == ("relative", "<think>", 3)
    assert (system_prompt(settings, tools=True), system_prompt(settings, tools=False)) == ("", "")
    assert tool_schemas(settings) == [tool_schema(CoordinateSystem.RELATIVE)]
    assert notes({tmp_path: own}) == []


def test_a_given_setting_holds_and_one_that_differs_is_named_in_a_line(tmp_path: Path) -> None:
    write_trained_format(tmp_path, sft((None, [tool_schema(CoordinateSystem.RELATIVE)])))
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"min_pixels": 784, "max_pixels": 12544}))
    given = {"coordinates": "original", "think_prefix": "<think>\n", "system_prompt": None}
    own = checkpoint_settings(read_settings(given), tmp_path)
    assert own.settings.coordinates == "original"
    assert system_prompt(own.settings, tools=True) == TOOL_CALL.system(tools=True)
    assert tool_schemas(own.settings) == [tool_schema(CoordinateSystem.ORIGINAL)]
    assert notes({tmp_path: own}) == [
        f"{tmp_path}: coordinates is 'original', but the checkpoint was trained with 'relative'",
        f"{tmp_path}: system_prompt is 'Answer the question about the picture. Think first, betwe...', but the "
        "checkpoint was trained with no message",
        f"{tmp_path}: images have 784 to 12,544 pixels, but the checkpoint was trained with 784 to 7,056",
    ]
    same = {"coordinates": "relative", "system_prompt": ""}
    assert checkpoint_settings(read_settings(same), tmp_path).differences[:-1] == ()


def test_public_checkpoints_have_the_defaults_and_are_named_in_a_single_line(tmp_path: Path) -> None:
    own = checkpoint_settings(read_settings({}), tmp_path / "a")
    assert own.settings == read_settings({})
    assert system_prompt(own.settings, tools=True) == TOOL_CALL.system(tools=True)
    (line,) = notes({tmp_path / "a": own, tmp_path / "b": own})
    assert line.startswith(f"{tmp_path / 'a'}, {tmp_path / 'b'}: no codevision.json says how it was trained; settings")


@pytest.mark.parametrize(
    ("rows", "with_tool", "without"),
    [
        ([("Look.", [OWN_SCHEMA])], "Look.", "Look."),
        ([(None, None)], "", ""),
        ([("Look.", None)], "Look.", "Look."),
        ([(None, [OWN_SCHEMA]), ("Read.", None)], "", "Read."),
        ([(TOOL_CALL.system(tools=True), [OWN_SCHEMA])], TOOL_CALL.system(tools=True), TOOL_CALL.system(tools=False)),
        ([("A", [OWN_SCHEMA]), ("B", [OWN_SCHEMA]), ("B", [OWN_SCHEMA])], "B", "B"),
    ],
)
def test_the_system_message_is_that_of_the_rows(rows: Any, with_tool: str, without: str) -> None:
    trained = sft(*rows)
    assert (trained.system(tools=True), trained.system(tools=False)) == (with_tool, without)


def test_a_schema_of_the_rows_own_is_shown_again_with_its_keys_in_their_order(tmp_path: Path) -> None:
    write_trained_format(tmp_path, sft((None, [OWN_SCHEMA])))
    own = checkpoint_settings(read_settings({"coordinates": "relative"}), tmp_path)
    assert json.dumps(tool_schemas(own.settings)) == json.dumps([OWN_SCHEMA])
    assert own.differences == ()


def test_what_no_row_decides_is_what_the_training_before_taught() -> None:
    before = sft(("Look.", [tool_schema(CoordinateSystem.RELATIVE)]))
    after = sft(("Read.", None), earlier=before)
    assert (after.system_prompt, after.system_prompt_no_tool) == ("Look.", "Read.")
    assert (after.tools, after.coordinates) == (before.tools, "relative")
    other = sft(("Mine.", [OWN_SCHEMA]), earlier=before)
    assert (other.tools, other.coordinates) == ((OWN_SCHEMA,), None), "the coordinates belong to the schema"


def test_rl_writes_the_settings_of_its_rollouts(tmp_path: Path) -> None:
    write_trained_format(tmp_path, sft(("Look.", [OWN_SCHEMA]), ("Read.", None)))
    own = checkpoint_settings(read_settings({"calls_per_turn": 2}), tmp_path)
    trained = format_of_rl(own.settings, Counter({None: 3}), (784, 9000), own.trained)
    assert (trained.trained_by, trained.system_prompt, trained.system_prompt_no_tool) == ("rl", "Look.", "Read.")
    assert (trained.tools, trained.calls_per_turn, trained.max_pixels) == ((OWN_SCHEMA,), 2, 9000)
    assert format_of_rl(own.settings, Counter({"Mine.": 3, None: 1}), None, None).system_prompt == "Mine."


CALLED = [
    {"role": "assistant", "content": CODE_TAGS.call_text("a", ToolCall(code="x = 1"), first=True)},
    {"role": "tool", "content": "<image>"},
    {"role": "assistant", "content": CODE_TAGS.answer_text("b", "7", first=False)},
]


def test_the_dialect_is_that_of_the_rows_and_an_evaluation_takes_it_from_the_checkpoint(tmp_path: Path) -> None:
    system = {"role": "system", "content": CODE_TAGS.system(tools=True)}
    direct = [system, {"role": "user", "content": "?"}, {"role": "assistant", "content": "<think>a</think>"}]
    trained = format_of_sft([([*direct[:2], *CALLED], ""), (direct, None), (direct[1:], None)], "", BOUNDS, None)
    assert (trained.dialect, trained.tools) == ("code_tags", None)
    assert (trained.system_prompt, trained.system_prompt_no_tool) == (system["content"], "")
    write_trained_format(tmp_path, trained)
    own = checkpoint_settings(read_settings({}), tmp_path)
    assert (own.settings.dialect, own.differences, tool_schemas(own.settings)) == ("code_tags", (), [])
    assert system_prompt(own.settings, tools=True) == CODE_TAGS.system(tools=True)
    rl = format_of_rl(own.settings, Counter({None: 1}), None, own.trained)
    assert (rl.dialect, rl.system_prompt, rl.tools) == ("code_tags", system["content"], ())
    other = checkpoint_settings(read_settings({"dialect": "tool_call"}), tmp_path)
    assert other.differences == ("dialect is 'tool_call', but the checkpoint was trained with 'code_tags'",)
    assert system_prompt(other.settings, tools=True) == TOOL_CALL.system(tools=True)
    assert tool_schemas(other.settings) == [tool_schema(CoordinateSystem.ORIGINAL)]


def test_rows_without_a_call_leave_the_dialect_open(tmp_path: Path) -> None:
    trained = sft((None, None))
    assert trained.dialect is None
    write_trained_format(tmp_path, trained)
    assert checkpoint_settings(read_settings({}), tmp_path).settings.dialect == "tool_call"
    own = checkpoint_settings(read_settings({"dialect": "code_tags"}), tmp_path)
    assert own.differences == ()
    assert tool_schemas(own.settings) == []
    assert sft((None, None), earlier=format_of_sft([(CALLED, None)], "", BOUNDS, None)).dialect == "code_tags"
    assert sft((None, [OWN_SCHEMA])).dialect == "tool_call"
