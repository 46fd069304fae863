"""A rollout ends for the right reason and holds exactly the tokens that were sampled and inserted."""

import asyncio
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from threading import get_ident
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from codevision_ext.errors import EngineError, InputError, SandboxError
from codevision_ext.rollout.code_tool import CodeTool, StartedCall
from codevision_ext.rollout.image_history import ImageHistory
from codevision_ext.rollout.loop import Completion, Trajectory, run_rollout, turn_ended
from codevision_ext.rollout.parsing import parse_call, turn_message
from codevision_ext.rollout.token_buffer import RolloutLimits, TokenBuffer
from codevision_ext.sandbox import Sandbox
from codevision_ext.types import CoordinateSystem, EndReason, ExecStatus, Step, ToolCall

IMAGE = Image.frombytes("RGB", (4, 2), bytes(range(24)))
TURN = "image = image.rotate(90, expand=True)"
MARK = 1
"""The token of an image."""


class Letters:
    """A renderer whose tokens are characters, and a mark for each image."""

    end_id = 0

    def resize(self, image: Image.Image) -> Image.Image:
        return image.resize((8, 8))

    def prompt(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[dict[str, Any]], resized: Sequence[Image.Image]
    ) -> list[int]:
        return [MARK] * len(resized) + [ord(letter) for letter in f"{len(tools)} tools, {len(messages)} messages"]

    def observation(self, role: str, text: str, resized: Sequence[Image.Image], *, closed: bool) -> list[int]:
        return ([] if closed else [self.end_id]) + [*map(ord, f"[{role}: {text}]")] + [MARK] * len(resized)

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(chr(token) for token in ids if token != self.end_id)


class Script:
    """A policy that says its lines one after the other, and keeps what it was asked."""

    def __init__(self, *lines: str, finished: bool = True, closed: bool = True) -> None:
        self.lines = list(lines)
        self.finished, self.closed = finished, closed
        self.asked: list[tuple[list[int], int, int]] = []

    async def __call__(self, ids: list[int], images: Sequence[Image.Image], max_tokens: int) -> Completion:
        assert ids.count(MARK) == len(images)
        assert all(image.size == (8, 8) for image in images)
        self.asked.append((list(ids), len(images), max_tokens))
        said = [*map(ord, self.lines.pop(0))] + [Letters.end_id] * self.closed
        return Completion(ids=said, log_probs=[-0.5] * len(said), finished=self.finished)


@pytest.fixture(scope="module")
def tool() -> Iterator[CodeTool]:
    with Sandbox(live=1) as sandbox:
        yield CodeTool(sandbox)


def calls(code: str, **more: Any) -> str:
    arguments = json.dumps({"name": "code_image_tool", "arguments": {"code": code, **more}})
    return f"<think>t</think><tool_call>{arguments}</tool_call>"


ANSWER = "<think>t</think><answer>7</answer>"
BROKEN = "<think>t</think><tool_call>{</tool_call>"
UNREAD = parse_call(BROKEN, 1).message


def played(
    policy: Any, tool: Any, coordinates: CoordinateSystem = CoordinateSystem.ORIGINAL, **limits: int
) -> Trajectory:
    given = RolloutLimits(**{"response_tokens": 2000, "assistant_turns": 5, "malformed_calls": 2} | limits)
    prompt = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "?"}]}]
    trajectory = asyncio.run(
        run_rollout(
            prompt, [IMAGE], policy=policy, renderer=Letters(), tool=tool, limits=given, coordinates=coordinates
        )
    )
    check_tokens(trajectory, policy)
    return trajectory


def check_tokens(trajectory: Trajectory, policy: Script) -> None:
    """Loss is on what was sampled, the policy was asked with all tokens so far, and every image has its mark."""
    token_buffer = trajectory.token_buffer
    for asked, _, _ in policy.asked:
        assert token_buffer.ids[: len(asked)] == asked
    assert len(token_buffer.response_ids) == len(token_buffer.response_mask) == len(token_buffer.log_probs)
    assert len(token_buffer.response_ids) <= token_buffer.limits.response_tokens
    assert token_buffer.log_probs == [-0.5 * kept for kept in token_buffer.response_mask]
    sampled = [token for token, kept in zip(token_buffer.response_ids, token_buffer.response_mask, strict=True) if kept]
    assert Letters().decode(sampled) == "".join(trajectory.replies)
    assert token_buffer.ids.count(MARK) == len(trajectory.resized)
    assert token_buffer.turns == len(trajectory.replies) == len(policy.asked)
    for (start, end), reply in zip(token_buffer.spans, trajectory.replies, strict=True):
        assert Letters().decode(token_buffer.response_ids[start:end]) == reply
    assert len(trajectory.step_turns) == len(trajectory.steps)


def test_an_answer_ends_the_rollout() -> None:
    trajectory = played(Script(ANSWER), None)
    assert trajectory.end_reason is EndReason.ANSWER
    assert [message.role for message in trajectory.messages] == ["assistant"]


def test_a_call_is_run_and_its_image_is_shown_at_the_model_s_size_and_kept_at_its_own(tool: CodeTool) -> None:
    policy = Script(calls(TURN), calls(TURN, image_index=1), ANSWER)
    trajectory = played(policy, tool)
    assert trajectory.end_reason is EndReason.ANSWER
    assert [message.role for message in trajectory.messages] == ["assistant", "tool"] * 2 + ["assistant"]
    assert [message.images for message in trajectory.messages] == [(), (1,), (), (2,), ()]
    assert [seen for _, seen, _ in policy.asked] == [1, 2, 3]
    assert [image.size for image in trajectory.images] == [(4, 2), (2, 4), (4, 2)]
    assert [image.size for image in trajectory.new_images] == [(2, 4), (4, 2)]
    assert trajectory.images[2].tobytes() == IMAGE.rotate(180).tobytes()
    assert [step.parent for step in trajectory.steps] == [0, 1]


@pytest.mark.parametrize(
    ("coordinates", "half", "told"),
    [
        (CoordinateSystem.SEEN, "box(0, 0, 4, 8)", "Picture 1: 8x8."),
        (CoordinateSystem.RELATIVE, "box(0, 0, 500, 1000)", "Picture 1: 1000x1000."),
        (CoordinateSystem.ORIGINAL, "box(0, 0, 2, 2)", "Picture 1: 2x2."),
    ],
)
def test_coordinates_in_the_model_s_frame_cut_the_image_at_full_resolution(
    tool: CodeTool, coordinates: CoordinateSystem, half: str, told: str
) -> None:
    again = calls(f"image = images[0].crop({half[:-1]}, index=0))", image_index=1)
    policy = Script(calls(f"image = image.crop({half})"), again, ANSWER)
    trajectory = played(policy, tool, coordinates)
    assert trajectory.messages[1].text == told
    assert [image.tobytes() for image in trajectory.new_images] == [IMAGE.crop((0, 0, 2, 2)).tobytes()]
    assert [step.crops for step in trajectory.steps] == [((0, 0, 2, 2),), ()]
    assert trajectory.steps[1].noop


def test_code_that_fails_is_a_result_that_the_model_reads(tool: CodeTool) -> None:
    trajectory = played(Script(calls("1 / 0"), ANSWER), tool)
    assert trajectory.end_reason is EndReason.ANSWER
    assert [step.status for step in trajectory.steps] == [ExecStatus.ERROR]
    assert "ZeroDivisionError" in trajectory.messages[1].text
    assert len(trajectory.resized) == 1


def test_a_image_that_did_not_change_isn_t_shown_again(tool: CodeTool) -> None:
    trajectory = played(Script(calls("image = image.copy()"), ANSWER), tool)
    assert [step.noop for step in trajectory.steps] == [True]
    assert len(trajectory.images) == len(trajectory.resized) == 1


def test_a_call_that_can_t_be_read_is_answered_and_the_second_one_ends_the_rollout(tool: CodeTool) -> None:
    trajectory = played(Script(BROKEN, ANSWER), tool)
    assert trajectory.end_reason is EndReason.ANSWER
    assert trajectory.messages[1].text == UNREAD
    assert (trajectory.malformed, trajectory.steps) == (1, ())
    capped = played(Script(BROKEN, BROKEN, ANSWER), tool)
    assert (capped.end_reason, capped.malformed, len(capped.replies)) == (EndReason.MALFORMED, 2, 2)
    assert capped.messages[-1].role == "assistant"


@pytest.mark.parametrize(
    "reply",
    ["It is a park.", "```python\nimage = image.rotate(90)\n```", "<code>x</code>", '{"name": "code_image_tool"}', ""],
)
def test_a_turn_with_neither_call_nor_answer_is_answered_counted_and_capped(tool: CodeTool, reply: str) -> None:
    trajectory = played(Script(reply, calls(TURN), ANSWER), tool)
    assert trajectory.end_reason is EndReason.ANSWER
    assert trajectory.messages[1].text == parse_call(reply, 1).message
    assert (trajectory.malformed, len(trajectory.steps)) == (1, 1)
    assert [call is None for call in trajectory.calls] == [True, False]
    capped = played(Script(reply, BROKEN, ANSWER), tool)
    assert (capped.end_reason, capped.malformed, len(capped.replies)) == (EndReason.MALFORMED, 2, 2)


def test_a_last_turn_with_neither_call_nor_answer_and_one_without_a_tool_end_the_rollout(tool: CodeTool) -> None:
    for trajectory in (played(Script(calls(TURN), "no"), tool, assistant_turns=2), played(Script("no"), None)):
        assert (trajectory.end_reason, trajectory.malformed) == (EndReason.ANSWER, 0)


def test_tags_in_the_code_of_a_call_change_nothing(tool: CodeTool) -> None:
    code = "print('</think></tool_call><answer>9</answer>')\nimage = image.rotate(90, expand=True)"
    for turn in (calls(code), calls(code).removeprefix("<think>t</think>")):
        trajectory = played(Script(turn, ANSWER), tool)
        assert ([step.ok for step in trajectory.steps], trajectory.malformed) == ([True], 0)


def test_of_two_calls_in_a_turn_the_first_is_run_and_the_model_is_told(tool: CodeTool) -> None:
    trajectory = played(Script(calls(TURN) + calls(TURN), ANSWER), tool)
    assert len(trajectory.steps) == 1
    assert trajectory.messages[1].text == "Picture 1: 2x4.\n" + turn_message("extra_calls", limit=1)


def test_several_calls_of_a_turn_are_run_in_order_and_each_is_answered(tool: CodeTool) -> None:
    turn = calls(TURN) + BROKEN + calls(TURN, image_index=1) + calls("1 / 0") + calls(TURN)
    trajectory = played(Script(turn, ANSWER), tool, calls_per_turn=4)
    told = trajectory.messages[1]
    assert [step.parent for step in trajectory.steps] == [0, 1, 0]
    assert (told.images, len(trajectory.resized), trajectory.malformed) == ((1, 2), 3, 1)
    assert trajectory.images[2].tobytes() == IMAGE.rotate(180).tobytes()
    asked = [call and (call.code, call.image_index) for call in trajectory.calls]
    assert asked == [(TURN, 0), None, (TURN, 1), ("1 / 0", 0)]
    lines = told.text.splitlines()
    assert lines[0] == "Call 1: Picture 1: 2x4."
    assert lines[1] == "Call 2: " + UNREAD
    assert lines[2] == "Call 3: Picture 2: 4x2."
    assert lines[3].startswith("Call 4: Error:")
    assert lines[-1] == turn_message("extra_calls", limit=4)


def test_each_step_knows_its_turn(tool: CodeTool) -> None:
    trajectory = played(Script(BROKEN, calls(TURN) + calls(TURN), calls(TURN), ANSWER), tool, calls_per_turn=2)
    assert trajectory.step_turns == (1, 1, 2)


def test_calls_behind_the_last_one_that_may_be_malformed_aren_t_run(tool: CodeTool) -> None:
    trajectory = played(Script(BROKEN + BROKEN + calls(TURN)), tool, calls_per_turn=3)
    assert (trajectory.end_reason, trajectory.malformed, trajectory.steps) == (EndReason.MALFORMED, 2, ())


def test_before_its_last_turn_the_model_is_told_to_answer_where_that_is_set(tool: CodeTool) -> None:
    script = (calls(TURN), calls(TURN), ANSWER)
    forced = played(Script(*script), tool, assistant_turns=3, force_answer=True)
    last = turn_message("last_turn")
    assert [last in message.text for message in forced.messages if message.role == "tool"] == [False, True]
    assert forced.end_reason is EndReason.ANSWER
    assert not any(last in message.text for message in played(Script(*script), tool, assistant_turns=3).messages)
    deaf = played(Script(*[calls(TURN)] * 3), tool, assistant_turns=3, force_answer=True)
    assert deaf.end_reason is EndReason.TURN_CAP


def test_the_last_turn_s_call_isn_t_run(tool: CodeTool) -> None:
    trajectory = played(Script(calls(TURN), calls(TURN)), tool, assistant_turns=2)
    assert trajectory.end_reason is EndReason.TURN_CAP
    assert len(trajectory.steps) == 1


def test_a_turn_that_ran_into_the_limit_ends_the_rollout_and_nothing_of_it_is_read(tool: CodeTool) -> None:
    for line in (ANSWER, calls(TURN), "no"):
        trajectory = played(Script(line, finished=False), tool)
        assert trajectory.end_reason is EndReason.LENGTH
        assert trajectory.steps == ()


def test_a_result_that_doesn_t_fit_is_left_out_as_a_whole(tool: CodeTool) -> None:
    said = calls(TURN)
    shown = Letters().observation("tool", "Picture 1: 2x4.", [IMAGE], closed=True)
    fits = len(said) + 1 + len(shown) + 1
    for room in range(len(said) + 1, fits):
        trajectory = played(Script(said), tool, response_tokens=room)
        assert trajectory.end_reason is EndReason.LENGTH
        assert len(trajectory.token_buffer.response_ids) == len(said) + 1
        assert len(trajectory.resized) == 1
        assert [message.role for message in trajectory.messages] == ["assistant"]
    script = Script(said, "x", closed=True)
    script.lines[1] = ""
    trajectory = played(script, tool, response_tokens=fits)
    assert (trajectory.end_reason, len(trajectory.resized)) == (EndReason.LENGTH, 2)  # one token is no answer
    assert script.asked[1][1:] == (2, 1)


def test_a_turn_that_ended_without_its_closing_token_gets_one_without_loss(tool: CodeTool) -> None:
    trajectory = played(Script(BROKEN, ANSWER, closed=False), tool)
    at = len(BROKEN)
    assert trajectory.token_buffer.response_ids[at] == Letters.end_id
    assert trajectory.token_buffer.response_mask[at] == 0


def test_a_turn_has_the_room_that_is_left_and_no_more_than_a_turn_s_own(tool: CodeTool) -> None:
    policy = Script(BROKEN, ANSWER)
    played(policy, tool, response_tokens=300, turn_tokens=200)
    (_, _, first), (asked, _, second) = policy.asked
    assert first == 200
    assert second == 300 - (len(asked) - len(policy.asked[0][0]))


class NotedLetters(Letters):
    """Notes the threads that it fits images on."""

    def __init__(self) -> None:
        self.threads: list[int] = []

    def resize(self, image: Image.Image) -> Image.Image:
        self.threads.append(get_ident())
        return super().resize(image)


def test_images_are_fitted_once_each_and_never_on_the_thread_of_the_event_loop(tool: CodeTool) -> None:
    renderer = NotedLetters()
    prompt = [{"role": "user", "content": [{"type": "image"}, {"type": "image"}]}]
    limits = RolloutLimits(response_tokens=2000, assistant_turns=5)
    policy = Script(calls(TURN), calls(TURN, image_index=2), ANSWER)
    trajectory = asyncio.run(
        run_rollout(prompt, [IMAGE] * 2, policy=policy, renderer=renderer, tool=tool, limits=limits)
    )
    assert len(renderer.threads) == len(trajectory.resized) == 4
    assert get_ident() not in renderer.threads


class LateTool:
    """A tool that knows what its first call did only when the policy has gone on."""

    def __init__(self, tool: CodeTool, fault: Exception | None = None) -> None:
        self.tool, self.fault = tool, fault
        self.went_on = asyncio.Event()

    async def begin(self, history: ImageHistory, call: ToolCall) -> StartedCall:
        begun = await self.tool.begin(history, call)

        async def late() -> Step:
            await asyncio.wait_for(self.went_on.wait(), 10)
            if self.fault:
                raise self.fault
            return await begun.step

        return replace(begun, step=asyncio.create_task(late()))


class Onward(Script):
    """Tells a LateTool that it was asked again, and may then break."""

    def __init__(self, tool: LateTool, *lines: str, breaks: bool = False) -> None:
        super().__init__(*lines)
        self.tool, self.breaks = tool, breaks

    async def __call__(self, ids: list[int], images: Sequence[Image.Image], max_tokens: int) -> Completion:
        if self.asked:
            self.tool.went_on.set()
            if self.breaks:
                raise EngineError("the engine died")
        return await super().__call__(ids, images, max_tokens)


def test_the_policy_goes_on_while_it_is_traced_what_its_call_did(tool: CodeTool) -> None:
    late = LateTool(tool)
    trajectory = played(Onward(late, calls(TURN), ANSWER), late)
    assert [step.net for step in trajectory.steps] == ["r90"]


def test_a_sandbox_that_dies_while_it_traces_spoils_the_rollout(tool: CodeTool) -> None:
    late = LateTool(tool, SandboxError("the sandbox died"))
    with pytest.raises(SandboxError, match="the sandbox died"):
        played(Onward(late, calls(TURN), ANSWER), late)
    late = LateTool(tool, SandboxError("the sandbox died"))
    with pytest.raises(EngineError, match="the engine died"):
        played(Onward(late, calls(TURN), ANSWER, breaks=True), late)


class DeadSandbox:
    """A sandbox that broke under us."""

    async def begin(self, *_: Any) -> None:
        raise SandboxError("the sandbox died")


def test_a_fault_of_ours_is_never_told_to_the_model(tool: CodeTool) -> None:
    async def broken(ids: list[int], images: Sequence[Image.Image], max_tokens: int) -> Completion:  # noqa: ARG001
        raise EngineError("the engine died")

    async def silent(ids: list[int], images: Sequence[Image.Image], max_tokens: int) -> Completion:  # noqa: ARG001
        return Completion(ids=[], log_probs=[], finished=True)

    with pytest.raises(SandboxError, match="the sandbox died"):
        played(Script(calls(TURN), ANSWER), DeadSandbox())
    with pytest.raises(EngineError, match="the engine died"):
        played(broken, tool)
    with pytest.raises(EngineError, match="sampled nothing"):
        played(silent, tool)


def test_an_engine_that_says_more_than_was_asked_or_no_log_probs_is_not_trusted() -> None:
    with pytest.raises(EngineError, match="returned 35 tokens where 10 were asked for"):
        played(Script(ANSWER), None, turn_tokens=10)
    token_buffer = TokenBuffer(prompt_ids=[5], limits=RolloutLimits(response_tokens=9, assistant_turns=1))
    with pytest.raises(EngineError, match="2 tokens but 1 log-probs"):
        token_buffer.add_sampled([1, 2], [-1.0])
    assert token_buffer.response_ids == []


@pytest.mark.parametrize(
    ("ids", "stopped", "ended"),
    [
        ([5, 7], True, True),
        ([5, 6], True, True),  # by a stop word of the engine's own
        ([5, 7], False, True),  # the end token is the last one that was allowed
        ([5, 8], False, True),
        ([7, 5], False, False),
        ([], False, False),
    ],
)
def test_a_turn_is_cut_exactly_when_neither_its_last_token_nor_the_engine_ends_it(
    ids: list[int], stopped: bool, ended: bool
) -> None:
    assert turn_ended(ids, (7, 8), stopped=stopped) is ended


def test_a_limit_below_one_is_refused_by_its_name() -> None:
    for name in ("response_tokens", "assistant_turns", "malformed_calls", "calls_per_turn"):
        with pytest.raises(InputError, match=f"{name} is 0; it must be at least 1"):
            RolloutLimits(**{"response_tokens": 1, "assistant_turns": 1} | {name: 0})


MOVES = st.lists(st.tuples(st.booleans(), st.lists(st.integers(2, 99), min_size=1, max_size=9)), max_size=12)


@given(moves=MOVES, room=st.integers(1, 40))
def test_whatever_happens_an_episode_is_within_its_limit_and_nothing_is_half_there(moves: Any, room: int) -> None:
    token_buffer = TokenBuffer(prompt_ids=[1], limits=RolloutLimits(response_tokens=room, assistant_turns=99))
    expected: list[tuple[int, int]] = []
    for sampled, ids in moves:
        if sampled and len(ids) <= token_buffer.room:
            token_buffer.add_sampled(ids, [-1.0] * len(ids))
            expected += [(token, 1) for token in ids]
        elif not sampled and token_buffer.add_context(ids):
            expected += [(token, 0) for token in ids]
            assert token_buffer.room >= 1
        assert list(zip(token_buffer.response_ids, token_buffer.response_mask, strict=True)) == expected
        assert len(expected) <= room
    assert token_buffer.ids == [1, *token_buffer.response_ids]
