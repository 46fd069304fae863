"""A demonstration that was written in one dialect can be written in the other, and comes back from files unchanged."""

import json
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

from codevision_ext.rollout.dialects.registry import CODE_TAGS, DIALECTS, TOOL_CALL
from codevision_ext.types import ToolCall
from data_prep.cli.app import app
from data_prep.convert.dialects import CHANGE, in_dialect
from data_prep.convert.failed_calls import mask_failed_calls
from data_prep.formats.row_errors import Reason, RowError
from data_prep.formats.schema import Demonstration, Message
from data_prep.formats.sharegpt import check_calls, check_turns, from_sharegpt, to_sharegpt
from data_prep.formats.turn_text import TOOLS, dialect_of_messages

FAIL, TURN = ToolCall(code="1 / 0"), ToolCall(code="print('</code>')\nimage = image.rotate(90)", image_index=0)
LATER = ToolCall(code="image = image.rotate(90)", description="turn", image_index=1)


def written() -> Demonstration:
    messages = [
        Message(role="user", content="<image>\nWhich number?"),
        Message(role="assistant", content=TOOL_CALL.call_text("I try.", FAIL, first=True)),
        Message(role="tool", content="Error: ZeroDivisionError"),
        Message(role="assistant", content=TOOL_CALL.call_text("I turn it.", TURN, first=True)),
        Message(role="tool", content="Picture 1: 2x4.<image>"),
        Message(role="assistant", content=TOOL_CALL.call_text("Again.", LATER, first=True)),
        Message(role="tool", content="Picture 2: 4x2.<image>"),
        Message(role="assistant", content=TOOL_CALL.answer_text("Now I see.", "7", first=True)),
    ]
    return Demonstration(messages=tuple(messages), images=(b"0", b"1", b"2"), sample_type="multi-tool", tools=TOOLS)


def test_every_turn_is_written_in_the_other_dialect() -> None:
    other = in_dialect(mask_failed_calls(written()), "code_tags")
    system, user, *turns = other.messages
    assert (system.role, system.content) == ("system", CODE_TAGS.system(tools=True))
    assert user.content.startswith("<image>\nWhich number?\n")
    assert "image_path = '" in user.content
    assert [(turn.role, turn.train) for turn in turns] == [
        ("assistant", False),
        ("tool", None),
        ("assistant", None),
        ("tool", None),
        ("assistant", None),
        ("tool", None),
        ("assistant", None),
    ]
    assert [CODE_TAGS.parse_call(turns[at].content, 3).call for at in (0, 2, 4)] == [
        FAIL,
        TURN,
        ToolCall(code=f"image = images[1]\n{LATER.code}"),
    ]
    assert [turns[at].content for at in (1, 3, 5)] == ["Error: ZeroDivisionError", "<image>", "<image>"]
    whole = [turn.content for turn in turns if turn.role == "assistant"]
    assert (CODE_TAGS.parse_answer(whole), CODE_TAGS.format_score(whole)) == ("7", 1.0)
    assert [text.count("<think>") for text in whole] == [1, 0, 0, 0]
    assert (other.tools, other.changes[-1]) == ("", CHANGE)
    assert dialect_of_messages(other.messages) is CODE_TAGS
    check_turns(other)
    check_calls(other)
    assert in_dialect(other, "code_tags") is other
    assert in_dialect(other, None) is other


def test_an_answer_without_a_call_is_told_of_the_tool_too_and_reading_without_a_tool_stays_as_it_is() -> None:
    messages = (written().messages[0], written().messages[-1])
    direct = replace(written(), messages=messages, images=(b"0",))
    other = in_dialect(direct, "code_tags")
    assert [message.role for message in other.messages] == ["system", "user", "assistant"]
    assert CODE_TAGS.format_score([other.messages[-1].content]) == 1.0
    assert in_dialect(replace(direct, tools=""), "code_tags") == replace(direct, tools="")


def test_what_the_other_dialect_can_t_say_is_refused() -> None:
    messages = list(written().messages)
    messages[1] = replace(messages[1], content="<think>a</think><tool_call>{</tool_call>")
    with pytest.raises(RowError, match="turn 1: neither a call that can be read nor an answer") as refused:
        in_dialect(replace(written(), messages=tuple(messages)), "code_tags")
    assert refused.value.reason is Reason.BAD_CALL
    with pytest.raises(RowError, match="turn 5: the observation has no words, but in the dialect tool_call it has"):
        in_dialect(in_dialect(written(), "code_tags"), "tool_call")


def test_outputs_stand_in_the_message_of_a_sharegpt_turn_and_come_back() -> None:
    other = in_dialect(mask_failed_calls(written()), "code_tags")
    item = json.loads(json.dumps(to_sharegpt(other, ["0.png", "1.png", "2.png"])))
    human, reply = item["conversations"]
    assert (human["from"], reply["from"], reply["train"]) == ("human", "gpt", [False, None, None, None])
    assert reply["value"].count("</code><sandbox_output><image></sandbox_output>") == 2
    assert "</code><sandbox_output>Error: ZeroDivisionError</sandbox_output>" in reply["value"]
    assert "tools" not in item
    back = from_sharegpt(item, other.images)
    assert back.messages == other.messages
    assert to_sharegpt(back, ["0.png", "1.png", "2.png"]) == item


@pytest.mark.parametrize("name", DIALECTS)
def test_files_are_converted_to_a_dialect_and_back_to_the_same_rows(tmp_path: Path, name: str) -> None:
    item = to_sharegpt(written(), ["0.png", "1.png", "2.png"])
    (tmp_path / "set.json").write_text(json.dumps([item]))
    for at, size in enumerate([(4, 2), (2, 4), (4, 2)]):
        Image.effect_noise(size, 90 + at).convert("RGB").save(tmp_path / f"{at}.png")
    source = str(tmp_path / "set.json")

    def convert(source: str, out: str, *words: str) -> None:
        result = CliRunner().invoke(app, ["convert", source, "--out", str(tmp_path / out), *words])
        assert result.exit_code == 0, result.output

    convert(source, "rows.parquet", "--to", "sft", "--dialect", name)
    (row,) = pq.read_table(tmp_path / "rows.parquet").to_pylist()
    assert bool(row["tools"]) == (name == "tool_call")
    assert row["messages"][-1]["content"].endswith("<answer>7</answer>")
    convert(str(tmp_path / "rows.parquet"), "again", "--to", "sharegpt")
    (items,) = [path for path in (tmp_path / "again").glob("*.json") if path.name != "dataset_info.json"]
    convert(str(items), "back.parquet", "--to", "sft")
    (back,) = pq.read_table(tmp_path / "back.parquet").to_pylist()
    assert back["messages"] == row["messages"]
    assert [image["bytes"] for image in back["images"]] == [image["bytes"] for image in row["images"]]


def test_an_unknown_dialect_and_one_for_tasks_are_refused(tmp_path: Path) -> None:
    for words in (["--to", "sft", "--dialect", "smoke"], ["--dialect", "code_tags"]):
        result = CliRunner().invoke(app, ["convert", "x.json", "--out", str(tmp_path / "out.parquet"), *words])
        assert result.exit_code != 0
