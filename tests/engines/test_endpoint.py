"""A model behind an endpoint reads the prompt that training reads, and its rollouts end for the same reasons."""

import asyncio
import json
from contextlib import AbstractContextManager
from importlib.resources import files
from typing import Any

import jinja2
import pytest
from chat_server import json_server
from judge_server import JudgeServer, Reply, Request, fails, says, serve
from PIL import Image

from codevision_ext.engines.endpoint import Dialogue
from codevision_ext.errors import EngineError, InputError
from codevision_ext.io.chat_client import ChatClient, Endpoint
from codevision_ext.rollout.code_tool import CodeTool, tool_schema
from codevision_ext.rollout.loop import Trajectory, run_rollout
from codevision_ext.rollout.token_buffer import RolloutLimits
from codevision_ext.sandbox import Sandbox
from codevision_ext.types import CoordinateSystem, EndReason

IMAGE = Image.frombytes("RGB", (4, 2), bytes(range(24)))
CALL = '<think>a</think><tool_call>{"name": "code_image_tool", "arguments": {"code": "%s"}}</tool_call>'
TURN = CALL % "image = image.rotate(90, expand=True)"
ANSWER = "<think>b</think><answer>7</answer>"
PROMPT = [
    {"role": "system", "content": [{"type": "text", "text": "Look."}]},
    {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "\nWhat is it, «x»?"}]},
]
LIMITS = RolloutLimits(response_tokens=400, assistant_turns=4)


def played(server: JudgeServer, tool: CodeTool | None = None, **params: Any) -> tuple[Trajectory, Dialogue]:
    async def once() -> tuple[Trajectory, Dialogue]:
        chat = ChatClient(Endpoint(url=server.url, model="m", retries=0))
        dialogue = Dialogue(chat, params)
        try:
            made = await run_rollout(PROMPT, [IMAGE], policy=dialogue, renderer=dialogue, tool=tool, limits=LIMITS)
        finally:
            await chat.close()
        return made, dialogue

    return asyncio.run(once())


def rendered(messages: list[dict[str, Any]], tools: list[dict[str, Any]]) -> str:
    """As a checkpoint's chat template renders them, by the rules of transformers."""
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
    environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
    template = (files("codevision_ext") / "prompts" / "chat_template.jinja").read_text(encoding="utf-8")
    return environment.from_string(template).render(messages=messages, tools=tools, add_generation_prompt=True)


def test_an_endpoint_reads_the_very_words_that_a_rollout_in_training_has() -> None:
    with serve(says(TURN), says(CALL % "1 / 0"), says(ANSWER)) as server, Sandbox() as sandbox:
        made, _ = played(server, CodeTool(sandbox))
    text, error = [message.text for message in made.messages if message.role == "tool"]
    spoken = [
        *PROMPT,
        {"role": "assistant", "content": TURN},
        {"role": "tool", "content": [{"type": "text", "text": text}, {"type": "image"}]},
        {"role": "assistant", "content": CALL % "1 / 0"},
        {"role": "tool", "content": [{"type": "text", "text": error}]},
    ]
    assert made.end_reason is EndReason.ANSWER
    assert [step.ok for step in made.steps] == [True, False]
    last = server.requests[-1]["messages"]
    assert rendered(last, []) == rendered(spoken, [tool_schema(CoordinateSystem.ORIGINAL)])
    shown = [part for message in last if isinstance(message["content"], list) for part in message["content"]]
    assert sum(part["type"] == "image_url" for part in shown) == 2


def test_without_a_tool_nothing_speaks_of_it() -> None:
    with serve(says(TURN)) as server:
        made, _ = played(server, temperature=0.5, seed=3)
    assert made.end_reason is EndReason.ANSWER
    assert not made.steps
    assert "tool" not in json.dumps(server.requests[0]["messages"])
    assert (server.requests[0]["temperature"], server.requests[0]["seed"]) == (0.5, 3)


def test_tokens_are_those_that_the_endpoint_counts_and_the_tool_s_leave_less_room() -> None:
    with serve(says(TURN, tokens=(30, 20)), says(ANSWER, tokens=(100, 9))) as server, Sandbox() as sandbox:
        made, _ = played(server, CodeTool(sandbox))
    assert len(made.token_buffer.prompt_ids) == 30
    assert made.token_buffer.response_mask == [1] * 29
    assert [request["max_tokens"] for request in server.requests] == [400, 380]
    replies = [says(TURN, tokens=(30 + 100 * at, 20)) for at in range(3)]
    with serve(*replies, says(ANSWER)) as server, Sandbox() as sandbox:
        played(server, CodeTool(sandbox))
    assert [request["max_tokens"] for request in server.requests] == [400, 380, 360 - 80, 340 - 160]


def test_thoughts_that_a_server_took_out_are_put_back() -> None:
    with serve(says("<answer>7</answer>", thought="Seven.")) as server:
        made, _ = played(server)
    assert made.replies == ["<think>Seven.</think><answer>7</answer>"]


def full(_: Request) -> Reply:
    said = {"error": {"message": "This model's maximum context length is 64 tokens.", "code": 400}}
    return Reply(status=400, body=json.dumps(said).encode())


def test_a_dialogue_that_outgrows_the_model_ended_for_its_length_and_a_prompt_that_does_is_our_fault() -> None:
    with serve(says(TURN), full) as server, Sandbox() as sandbox:
        made, _ = played(server, CodeTool(sandbox))
    assert (made.end_reason, len(made.steps)) == (EndReason.LENGTH, 1)
    with serve(full) as server, pytest.raises(EngineError, match="maximum context length is 64"):
        played(server)


def test_a_turn_that_ran_into_the_limit_ends_the_rollout() -> None:
    with serve(says("<think>I", finish="length")) as server:
        assert played(server)[0].end_reason is EndReason.LENGTH


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (fails(500), "m at http.* gave no reply: .*500"),
        (says(None), "ended for the reason 'stop'"),
        (says("no", finish="content_filter"), "ended for the reason 'content_filter'"),
        (Reply(reset=True), "gave no reply"),
    ],
)
def test_an_endpoint_that_gives_no_reply_makes_a_rollout_invalid(reply: Reply, said: str) -> None:
    with serve(reply) as server, pytest.raises(EngineError, match=said):
        played(server)


def test_what_an_endpoint_serves_is_asked_for_and_a_key_that_is_not_there_is_named() -> None:
    with serve(says("x")) as server:
        assert Endpoint(url=server.url, model="").first_model() == "m"
    with pytest.raises(InputError, match="can't list its models"):
        Endpoint(url=server.url, model="").first_model()
    with pytest.raises(InputError, match="the environment has no NO_SUCH_KEY"):
        ChatClient(Endpoint(url=server.url, model="m", api_key_env="NO_SUCH_KEY"))


WEIRD = "t \ud83d \0 \x1b[2J \u2028 \udc00\ud83d \ufeff \U0001f600"


def completion(message: Any, usage: Any = None, finish: Any = "stop") -> Reply:
    body = {"choices": [{"index": 0, "message": message, "finish_reason": finish}], "usage": usage}
    return Reply(body=json.dumps(body).encode())


def test_text_that_is_no_text_is_mended_before_it_is_kept_or_sent_again() -> None:
    turn = TURN.replace("<think>a", f"<think>{WEIRD}")
    with serve(completion({"content": turn}), says(ANSWER)) as server, Sandbox() as sandbox:
        made, _ = played(server, CodeTool(sandbox), stop=["\ud83d"])
    mended = WEIRD.replace("\ud83d", "\ufffd").replace("\udc00", "\ufffd")
    assert made.replies[0] == TURN.replace("<think>a", f"<think>{mended}")
    assert [step.ok for step in made.steps] == [True]
    assert server.requests[1]["messages"][2]["content"] == made.replies[0]
    assert server.requests[0]["stop"] == ["\ufffd"]


@pytest.mark.parametrize(
    "usage",
    [
        [],
        "many",
        7,
        {"prompt_tokens": "9", "completion_tokens": [1]},
        {"prompt_tokens": -3, "completion_tokens": float("inf")},
        {"prompt_tokens": 10**30, "completion_tokens": True},
        {"prompt_tokens": 2.5},
    ],
)
def test_a_count_that_is_none_is_estimated(usage: Any) -> None:
    with serve(completion({"content": ANSWER}, usage)) as server:
        made, _ = played(server)
    assert made.replies == [ANSWER]
    assert 0 < len(made.token_buffer.prompt_ids) < 100
    assert len(made.token_buffer.response_ids) == len(ANSWER) // 4


@pytest.mark.parametrize(
    "reply",
    [
        Reply(body=b'{"choices": [{"message": {"content": "\xff"}}]}'),
        Reply(body=b"[" * 100_000),
        Reply(body=b'{"choices": []}'),
        Reply(body=b'{"choices": {"0": 1}}'),
        completion(None),
        completion(["x"]),
        completion({"content": ["x"]}),
        completion({"content": 7}),
        completion({}, finish={"a": "\ud83d"}),
        completion({"content": "x"}, finish=None),
        Reply(status=500, body=json.dumps({"error": {"message": "no \ud83d\0"}}).encode()),
        Reply(status=400, body=b"\xff\xfe\0"),
    ],
)
def test_a_reply_that_is_none_makes_its_rollout_invalid_and_nothing_else(reply: Reply) -> None:
    with serve(reply) as server, pytest.raises(EngineError) as raised:
        played(server)
    str(raised.value).encode()


def test_a_list_of_models_that_is_none_is_an_error_in_one_sentence() -> None:
    for listed in ({"data": None}, {"data": [{"id": None}]}, {}, [], {"data": "x"}):
        with models_server(listed) as url, pytest.raises(InputError, match=r"can't list its models|serves no model"):
            Endpoint(url=url, model="").first_model()
    with models_server({"data": [{"id": "m\ud83d"}]}) as url:
        assert Endpoint(url=url, model="").first_model() == "m\ufffd"


def models_server(listed: Any) -> AbstractContextManager[str]:
    """Serves a list of models."""
    return json_server(lambda _: (200, listed))
