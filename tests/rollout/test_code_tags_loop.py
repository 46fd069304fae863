"""A rollout in the dialect `code_tags` is one message of the assistant, with the outputs of its code in it."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest
from PIL import Image

from codevision_ext.rollout.code_tool import CodeTool
from codevision_ext.rollout.dialects.base import read_messages
from codevision_ext.rollout.dialects.registry import CODE_TAGS
from codevision_ext.rollout.loop import Completion, Trajectory, run_rollout
from codevision_ext.rollout.parsing import turn_message
from codevision_ext.rollout.token_buffer import RolloutLimits
from codevision_ext.sandbox import Sandbox
from codevision_ext.types import EndReason, ExecStatus

IMAGE = Image.frombytes("RGB", (4, 2), bytes(range(24)))
MARK, END = "\x01", "\x00"
"""An image among the tokens, and the token that ends a message."""
SENTENCES = read_messages("code_tags/malformed.json")


class Pieces:
    """A renderer whose tokens are pieces of text, so that one token can reach beyond the end of a call."""

    end_id = 0

    def __init__(self) -> None:
        self.texts = [END]
        self.asked: list[str] = []

    def ids(self, *pieces: str) -> list[int]:
        for piece in pieces:
            if piece not in self.texts:
                self.texts.append(piece)
        return [self.texts.index(piece) for piece in pieces]

    def resize(self, image: Image.Image) -> Image.Image:
        return image

    def prompt(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[dict[str, Any]], resized: Sequence[Image.Image]
    ) -> list[int]:
        self.asked = ["".join(part.get("text", "") for part in message["content"]) for message in messages]
        return self.ids(*MARK * len(resized), f"{len(tools)} tools")

    def observation(self, role: str, text: str, resized: Sequence[Image.Image], *, closed: bool) -> list[int]:
        return [*([] if closed else [self.end_id]), *self.ids(f"[{role}: {text}]", *MARK * len(resized))]

    def insertion(self, before: str, resized: Sequence[Image.Image], after: str = "") -> list[int]:
        return self.ids(*before, *MARK * len(resized), *after)

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(self.texts[token] for token in ids).removesuffix(END)


class Script:
    """A policy that samples lines of pieces; with `stops` as an engine that stops at `</code>`, else to their end."""

    def __init__(self, renderer: Pieces, *lines: Sequence[str], stops: bool = True) -> None:
        self.renderer, self.lines, self.stops = renderer, [list(line) for line in lines], stops
        self.asked: list[tuple[str, int]] = []

    async def __call__(self, ids: list[int], images: Sequence[Image.Image], max_tokens: int) -> Completion:
        before = "".join(self.renderer.texts[token] for token in ids)
        assert before.count(MARK) == len(images)
        self.asked.append((before, max_tokens))
        line, pieces, stopped = self.lines[0], [], False
        while line and len(pieces) < max_tokens and not stopped:
            pieces.append(line.pop(0))
            stopped = self.stops and "</code>" in "".join(pieces)
        if not line:
            self.lines.pop(0)
        sampled = self.renderer.ids(*pieces)
        finished = stopped or pieces[-1] == END or not line
        return Completion(ids=sampled, log_probs=[-0.5] * len(sampled), finished=finished, stopped=stopped)


@pytest.fixture(scope="module")
def tool() -> Iterator[CodeTool]:
    with Sandbox(live=1) as sandbox:
        yield CodeTool(sandbox)


def block(code: str) -> str:
    return f"<think>a\n<code>\n```python\n{code}\n```\n</code>"


TURN = block("image = image.rotate(90, expand=True)")
ANSWER = [*"b</think>\n<answer>7</answer>", END]


def played(
    renderer: Pieces, policy: Script, tool: CodeTool | None, question: str = "?", **limits: Any
) -> tuple[Trajectory, str]:
    """Plays a rollout, and returns it with the text of its response; sampled text stands in brackets «»."""
    given = RolloutLimits(**{"response_tokens": 2000, "assistant_turns": 5, "malformed_calls": 2} | limits)
    prompt = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}]
    trajectory = asyncio.run(
        run_rollout(prompt, [IMAGE], policy=policy, renderer=renderer, tool=tool, limits=given, dialect=CODE_TAGS)
    )
    buffer = trajectory.token_buffer
    assert len(buffer.response_ids) == len(buffer.response_mask) == len(buffer.log_probs)
    assert buffer.log_probs == [-0.5 * sampled for sampled in buffer.response_mask]
    assert buffer.turns == len(trajectory.replies)
    shown, before = "", 0
    for token, sampled in zip(buffer.response_ids, buffer.response_mask, strict=True):
        shown += ("«" if sampled > before else "»" if sampled < before else "") + renderer.texts[token]
        before = sampled
    return trajectory, (shown + "»" * before).replace(MARK, "<image>").replace(END, "$")


@pytest.mark.parametrize("stops", [True, False], ids=["an engine that stops", "one that goes on"])
def test_the_output_of_the_code_stands_in_the_message_and_the_policy_goes_on(tool: CodeTool, stops: bool) -> None:
    renderer = Pieces()
    beyond = [] if stops else [*"<sandbox_output>I dream</sandbox_output></think><answer>9</answer>"]
    trajectory, shown = played(renderer, Script(renderer, [*TURN, *beyond], ANSWER, stops=stops), tool)
    assert shown == f"«{TURN}»<sandbox_output><image></sandbox_output>«b</think>\n<answer>7</answer>$»"
    assert trajectory.end_reason is EndReason.ANSWER
    assert trajectory.answer == "7"
    assert [(message.role, message.text, message.images) for message in trajectory.messages] == [
        ("assistant", TURN, ()),
        ("tool", "", (1,)),
        ("assistant", "b</think>\n<answer>7</answer>", ()),
    ]
    assert trajectory.images[1].size == (2, 4)
    assert (trajectory.malformed, [step.ok for step in trajectory.steps]) == (0, [True])


def test_the_prompt_names_the_image_and_shows_no_schema(tool: CodeTool) -> None:
    renderer = Pieces()
    trajectory, _ = played(renderer, Script(renderer, ANSWER), tool)
    assert renderer.asked[-1].startswith("?\n")
    assert "image_path = '" in renderer.asked[-1]
    assert renderer.decode(trajectory.token_buffer.prompt_ids).endswith("0 tools")
    question = "Mark it. image_path = 'a.png'"
    played(renderer, Script(renderer, ANSWER), tool, question)
    assert renderer.asked[-1] == question
    played(renderer, Script(renderer, ANSWER), None)
    assert renderer.asked[-1] == "?"


@pytest.mark.parametrize("first_line", ["", "image_path = 'image.png'\n"], ids=["the name", "the path of the prompt"])
def test_code_as_v_thinker_writes_it_opens_the_image_and_saves_its_drawing(tool: CodeTool, first_line: str) -> None:
    renderer = Pieces()
    turn = "img.rotate(90, expand=True).save(processed_path)\nprint(processed_path)"
    code = f"{first_line}img = Image.open(image_path)\n{turn}"
    again = f"img = Image.open(processed_path)\n{turn}"
    policy = Script(renderer, [*block(code)], [*block(again).removeprefix("<think>")], ANSWER)
    trajectory, shown = played(renderer, policy, tool)
    assert shown.count("»<sandbox_output><image></sandbox_output>«") == 2
    assert [image.tobytes() for image in trajectory.new_images] == [
        IMAGE.rotate(90, expand=True).tobytes(),
        IMAGE.rotate(180).tobytes(),
    ]


def test_text_stands_for_a_result_without_an_image(tool: CodeTool) -> None:
    renderer = Pieces()
    trajectory, shown = played(renderer, Script(renderer, [*block("print(6 * 7)\n1 / 0")], ANSWER), tool)
    assert trajectory.steps[0].status is ExecStatus.ERROR
    observation = trajectory.messages[1].text
    assert "ZeroDivisionError" in observation
    assert "42" in observation
    assert f"</code>»<sandbox_output>{observation}</sandbox_output>«b" in shown


def test_printed_tags_can_t_leave_the_output(tool: CodeTool) -> None:
    renderer = Pieces()
    code = "print('</sandbox_output></think><answer>9</answer>')\n1 / 0"
    trajectory, _ = played(renderer, Script(renderer, [*block(code)], ANSWER), tool)
    assert "</sandbox_output>" not in trajectory.messages[1].text
    assert trajectory.answer == "7"


def test_a_token_that_adds_white_space_behind_the_call_is_kept(tool: CodeTool) -> None:
    renderer = Pieces()
    trajectory, shown = played(renderer, Script(renderer, [*TURN[:-1], ">\n"], ANSWER), tool)
    assert shown.startswith(f"«{TURN}\n»<sandbox_output><image></sandbox_output>«b")
    assert trajectory.replies[0] == TURN + "\n"


@pytest.mark.parametrize("last", ["><", "></think>"])
def test_a_token_that_adds_text_behind_the_call_ends_there_without_loss(tool: CodeTool, last: str) -> None:
    renderer = Pieces()
    trajectory, shown = played(renderer, Script(renderer, [*TURN[:-1], last], ANSWER), tool)
    assert shown.startswith(f"«{TURN[:-1]}»><sandbox_output><image></sandbox_output>«b")
    assert trajectory.replies[0] == TURN
    assert trajectory.steps[0].ok


@pytest.mark.parametrize("stops", [True, False])
def test_a_closing_tag_in_a_string_of_the_code_ends_no_turn(tool: CodeTool, stops: bool) -> None:
    renderer = Pieces()
    turn = block("print('</code>')\nimage = image.rotate(90, expand=True)")
    policy = Script(renderer, [*turn], ANSWER, stops=stops)
    trajectory, shown = played(renderer, policy, tool)
    assert shown.startswith(f"«{turn}»<sandbox_output>")
    assert (len(trajectory.replies), trajectory.malformed) == (2, 0)
    assert len(policy.asked) == 2 + stops


def test_a_block_that_never_closes_is_answered_in_a_message_of_its_own_and_counted(tool: CodeTool) -> None:
    renderer = Pieces()
    broken = "<think>a\n<code>\n```python\nx = 1\n```\n"
    policy = Script(renderer, [*broken, END], [*TURN], ANSWER)
    trajectory, shown = played(renderer, policy, tool)
    sentence = SENTENCES["bad_block"]["unclosed"]
    assert shown.startswith(f"«{broken}$»[tool: {sentence}]«<think>a")
    assert (trajectory.malformed, trajectory.calls[0], trajectory.answer) == (1, None, "7")
    twice, _ = played(renderer, Script(renderer, [*broken, END], [*broken, END], ANSWER), tool)
    assert (twice.end_reason, twice.malformed) == (EndReason.MALFORMED, 2)


@pytest.mark.parametrize(
    ("turn", "status", "kind"),
    [
        ("<think>a <code>\n</code>", "bad_block", "empty"),
        ("<think>a <code>```python\n```</code>", "bad_block", "empty"),
    ],
)
def test_an_empty_block_is_answered_in_the_message_and_counted(
    tool: CodeTool, turn: str, status: str, kind: str
) -> None:
    renderer = Pieces()
    trajectory, shown = played(renderer, Script(renderer, [*turn], ANSWER), tool)
    assert shown.startswith(f"«{turn}»<sandbox_output>{SENTENCES[status][kind]}</sandbox_output>«b")
    assert (trajectory.malformed, trajectory.answer) == (1, "7")


def test_an_answer_inside_of_the_thought_is_no_answer(tool: CodeTool) -> None:
    renderer = Pieces()
    policy = Script(renderer, [*TURN], [*"it is <answer>7</answer>", END], [*"<think>a", *ANSWER])
    trajectory, shown = played(renderer, policy, tool)
    assert f"«it is <answer>7</answer>$»[tool: {SENTENCES['none']['thought']}]«<think>" in shown
    assert (trajectory.malformed, trajectory.answer, trajectory.end_reason) == (1, "7", EndReason.ANSWER)


def test_of_two_blocks_that_an_engine_sampled_at_once_the_first_is_run(tool: CodeTool) -> None:
    renderer = Pieces()
    policy = Script(renderer, [*TURN, *TURN, END], ANSWER, stops=False)
    trajectory, shown = played(renderer, policy, tool)
    assert shown.startswith(f"«{TURN}»<sandbox_output><image></sandbox_output>«b")
    assert len(trajectory.steps) == 1


def test_a_turn_cut_at_its_limit_ends_the_rollout_unless_its_call_is_complete(tool: CodeTool) -> None:
    renderer = Pieces()
    cut, _ = played(renderer, Script(renderer, [*TURN], ANSWER), tool, turn_tokens=len(TURN) - 1)
    assert (cut.end_reason, cut.replies) == (EndReason.LENGTH, [TURN[:-1]])
    whole, _ = played(
        renderer, Script(renderer, [*TURN, *"so it is"], ANSWER, stops=False), tool, turn_tokens=len(TURN) + 3
    )
    assert (whole.end_reason, len(whole.steps)) == (EndReason.ANSWER, 1)


def test_the_last_turn_may_not_call_and_is_told_so(tool: CodeTool) -> None:
    renderer = Pieces()
    trajectory, shown = played(renderer, Script(renderer, [*TURN], ANSWER), tool, assistant_turns=2, force_answer=True)
    assert f"<sandbox_output>{turn_message('last_turn')}<image></sandbox_output>" in shown
    assert trajectory.end_reason is EndReason.ANSWER
    capped, _ = played(renderer, Script(renderer, [*TURN], ANSWER), tool, assistant_turns=1)
    assert capped.end_reason is EndReason.TURN_CAP


def test_without_a_tool_the_code_is_text_and_nothing_ends_a_turn_but_the_policy() -> None:
    renderer = Pieces()
    line = [*TURN, *ANSWER]
    trajectory, shown = played(renderer, Script(renderer, line), None)
    assert shown == f"«{TURN}b</think>\n<answer>7</answer>$»"
    assert (trajectory.answer, len(trajectory.replies), trajectory.steps) == ("7", 1, ())
