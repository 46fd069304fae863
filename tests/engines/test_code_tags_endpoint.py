"""A model behind an endpoint goes on in its own message behind the output of its code."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from judge_server import JudgeServer, Reply, Request, says, serve
from PIL import Image
from sets import coded, rl_row, scene, write_parquet

from codevision_ext.cli.eval import run_eval
from codevision_ext.cli.eval_options import EvalOptions
from codevision_ext.engines.endpoint import Dialogue
from codevision_ext.io.chat_client import ChatClient, Endpoint
from codevision_ext.io.records import read_records
from codevision_ext.report.page import write_report
from codevision_ext.rollout.code_tool import CodeTool
from codevision_ext.rollout.dialects.base import read_messages
from codevision_ext.rollout.dialects.registry import CODE_TAGS
from codevision_ext.rollout.loop import Trajectory, run_rollout
from codevision_ext.rollout.token_buffer import RolloutLimits
from codevision_ext.rollout.trained_format import TrainedFormat, write_trained_format
from codevision_ext.sandbox import Sandbox
from codevision_ext.types import EndReason, ToolCall
from data_prep.tasks.reading.glyphs import COLUMNS

IMAGE = Image.frombytes("RGB", (4, 2), bytes(range(24)))
PROMPT = [
    {"role": "system", "content": [{"type": "text", "text": "Look."}]},
    {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Turn it."}]},
]
LIMITS = RolloutLimits(response_tokens=400, assistant_turns=4)
CALL = CODE_TAGS.call_text("I turn it.", ToolCall(code="image = image.rotate(90, expand=True)"), first=True)
ANSWER = CODE_TAGS.answer_text("Now it stands.", "7", first=False)


@pytest.fixture(scope="module")
def tool() -> Iterator[CodeTool]:
    with Sandbox(live=1) as sandbox:
        yield CodeTool(sandbox)


def cut(text: str, **fields: Any) -> Reply:
    """A reply as servers give it: without the stop text, and with their fields about what ended it."""
    body = json.loads(says(text.removesuffix("</code>"), tokens=(30, 20)).body)
    body["choices"][0] |= fields
    return Reply(body=json.dumps(body).encode())


def played(server: JudgeServer, tool: CodeTool) -> Trajectory:
    async def once() -> Trajectory:
        chat = ChatClient(Endpoint(url=server.url, model="m", retries=0))
        dialogue = Dialogue(chat, {"seed": 3}, CODE_TAGS.stop)
        try:
            return await run_rollout(
                PROMPT, [IMAGE], policy=dialogue, renderer=dialogue, tool=tool, limits=LIMITS, dialect=CODE_TAGS
            )
        finally:
            await chat.close()

    return asyncio.run(once())


SERVERS = {
    "vLLM": [cut(CALL, stop_reason="</code>"), cut(ANSWER, stop_reason=None)],
    "SGLang": [cut(CALL, matched_stop="</code>"), cut(ANSWER, matched_stop=151645)],
    "one that doesn't say": [cut(CALL), cut(ANSWER)],
    "one that keeps the text": [says(CALL, tokens=(30, 20)), says(ANSWER, tokens=(30, 20))],
    "one that doesn't stop": [says(CALL + "<sandbox_output>a dream</sandbox_output>", tokens=(30, 20)), says(ANSWER)],
}


@pytest.mark.parametrize("replies", SERVERS.values(), ids=SERVERS)
def test_the_output_stands_in_the_message_that_the_model_goes_on_with(tool: CodeTool, replies: list[Reply]) -> None:
    with serve(*replies) as server:
        made = played(server, tool)
    assert (made.replies, made.answer, made.end_reason) == ([CALL, ANSWER], "7", EndReason.ANSWER)
    first, second = server.requests
    assert first["stop"] == second["stop"] == ["</code>"]
    assert [message["role"] for message in first["messages"]] == ["system", "user"]
    assert "image_path = '" in first["messages"][1]["content"][-1]["text"]
    assert "continue_final_message" not in first
    assert (second["continue_final_message"], second["add_generation_prompt"]) == (True, False)
    *before, message = second["messages"]
    assert before == first["messages"]
    assert message["role"] == "assistant"
    texts = [part.get("text", "<image>") for part in message["content"]]
    assert "".join(texts) == f"{CALL}<sandbox_output><image></sandbox_output>"


def test_a_closing_tag_in_a_string_is_no_end_and_the_model_goes_on_in_the_string(tool: CodeTool) -> None:
    code = "print('</code>')\nimage = image.rotate(90, expand=True)"
    call = CODE_TAGS.call_text("I turn it.", ToolCall(code=code), first=True)
    head, _, rest = call.partition("</code>")
    replies = [
        cut(head + "</code>", stop_reason="</code>"),
        cut(rest, stop_reason="</code>"),
        cut(ANSWER, stop_reason=None),
    ]
    with serve(*replies) as server:
        made = played(server, tool)
    assert (made.replies, [step.ok for step in made.steps]) == ([call, ANSWER], [True])
    sent = server.requests[1]["messages"][-1]
    assert (sent["role"], sent["content"]) == ("assistant", head + "</code>")


def test_a_block_that_the_model_left_open_is_told_in_a_message_of_the_user(tool: CodeTool) -> None:
    with serve(cut("<think>a <code>x = 1", stop_reason=None), cut(f"<think>{ANSWER}", stop_reason=None)) as server:
        made = played(server, tool)
    assert (made.malformed, made.answer) == (1, "7")
    assert [message["role"] for message in server.requests[1]["messages"]] == ["system", "user", "assistant", "user"]
    assert read_messages("code_tags/malformed.json")["bad_block"]["unclosed"] in json.dumps(server.requests[1])
    assert "continue_final_message" not in server.requests[1]


def test_an_evaluation_takes_the_dialect_from_the_checkpoint_and_its_report_shows_the_turns(tmp_path: Path) -> None:
    write_trained_format(
        tmp_path / "model", TrainedFormat(trained_by="sft", dialect="code_tags", system_prompt="Draw.")
    )
    rows = []
    for at, (column, op) in enumerate(COLUMNS.items()):
        row = rl_row(0, [op] if op else None, column=column, bbox=None)
        row["images"] = [{"bytes": coded(scene(at, (32, 28))), "path": None}]
        row["extra_info"] |= {"index": at}
        row["reward_model"] = {"style": "rule", "ground_truth": ["7"]}
        rows.append(row)
    write_parquet(tmp_path / "test.parquet", rows)

    def pupil(request: Request) -> Reply:
        asked = request["messages"][1]["content"]
        if "image_path" not in json.dumps(asked):
            return cut(f"<think>{ANSWER.replace('7', '8')}", stop_reason=None)
        done = request["messages"][-1]["role"] == "assistant"
        return cut(ANSWER, stop_reason=None) if done else cut(CALL, stop_reason="</code>")

    with serve(pupil) as server:
        options = EvalOptions(
            model=server.url,
            suites=[f"transformed={tmp_path / 'test.parquet'}"],
            out=tmp_path / "out",
            engine="openai",
            trained=tmp_path / "model",
        )
        model = run_eval(options).models["model"]
        assert {request["messages"][0]["content"] for request in server.requests} >= {"Draw."}
        assert "<tools>" not in json.dumps(server.requests)
    modes = model.suites["transformed"].modes
    assert [modes[mode].overall.score.accuracy for mode in ("tool_on", "tool_off")] == [1.0, 0.0]
    assert model.setup.settings["dialect"] == "code_tags"
    record, *_ = read_records(tmp_path / "out" / modes["tool_on"].rows)
    assert [(turn.role, len(turn.images)) for turn in record.turns] == [
        ("user", 1),
        ("assistant", 0),
        ("tool", 1),
        ("assistant", 0),
    ]
    assert (record.answer, record.observed.format, len(record.observed.steps)) == ("7", 1.0, 1)
    assert "image.rotate(90, expand=True)" in write_report([tmp_path / "out"]).read_text(encoding="utf-8")
