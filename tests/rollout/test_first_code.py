"""The first code block of a turn is found in every published form, and only that block is run."""

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from codevision_ext.rollout.code_tool import CodeTool
from codevision_ext.rollout.first_code import first_code, run_first_code
from codevision_ext.rollout.loop import ConversationMessage, Trajectory
from codevision_ext.rollout.token_buffer import RolloutLimits, TokenBuffer
from codevision_ext.sandbox import Sandbox
from codevision_ext.types import CoordinateSystem, EndReason, ExecStatus

RED = "image = Image.new('RGB', image.size, 'red')"
BLUE = "image = Image.new('RGB', image.size, 'blue')"
CALL = '<tool_call>{"name": "code_image_tool", "arguments": {"code": "image = 1"}}</tool_call>'


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        ("<think>a<code>\n```python\nx = 1\n```\n</code>b", "x = 1"),
        ("<think>a<code>\n'''python\nx = 1\n'''\n</code>b", "x = 1"),
        ("<code>x = 1</code>", "x = 1"),
        ("<code>```\nx = '''a'''\n```</code>", "x = '''a'''"),
        ("words\n```python\nx = 1\n```\nwords\n```python\ny = 2\n```", "x = 1"),
        ("'''python\r\nx = 1\r\n'''", "x = 1"),
        ("```py\nif a:\n    b\n```", "if a:\n    b"),
        ("<code>x = 1</code><code>y = 2</code>", "x = 1"),
        (f"<think>t</think>{CALL}", "image = 1"),
        ("", None),
        ("no code at all", None),
        ("<code>x = 1", None),
        ("```python\nx = 1", None),
        ("<code>  </code>", None),
        ("```json\n{}\n```", None),
    ],
)
def test_the_first_closed_block_is_the_code(reply: str, code: str | None) -> None:
    assert first_code(reply) == code


@given(st.text(alphabet="ab =()\n", min_size=1), st.sampled_from(["```", "'''"]), st.text(alphabet="xyz \n"))
def test_any_code_between_any_words_is_found(code: str, mark: str, words: str) -> None:
    found = first_code(f"{words}<code>\n{mark}python\n{code}\n{mark}\n</code>{words}<code>other</code>")
    assert found == (code.strip("\n") if code.strip() else None)


def turn(reply: str) -> Trajectory:
    tokens = TokenBuffer(prompt_ids=[1], limits=RolloutLimits(response_tokens=9, assistant_turns=1))
    image = Image.new("RGB", (40, 30))
    return Trajectory(
        token_buffer=tokens,
        end_reason=EndReason.ANSWER,
        messages=(ConversationMessage(role="assistant", text=reply),),
        steps=(),
        images=(image,),
        resized=(image,),
        malformed=0,
        calls=(),
    )


def finish(sandbox: Sandbox, reply: str) -> Trajectory:
    whole = run_first_code(turn(reply), CodeTool(sandbox), lambda image: image, CoordinateSystem.ORIGINAL)
    return asyncio.run(whole)


def test_only_the_first_block_is_run_and_its_image_stands_in_the_rollout(sandbox: Sandbox) -> None:
    finished = finish(sandbox, f"<code>{RED}</code> and <code>{BLUE}</code>")
    assert [image.getpixel((3, 3)) for image in finished.new_images] == [(255, 0, 0)]
    assert [step.status for step in finished.steps] == [ExecStatus.OK]
    assert [message.role for message in finished.messages] == ["assistant", "tool"]
    assert finished.messages[1].images == (1,)
    assert finished.replies == [f"<code>{RED}</code> and <code>{BLUE}</code>"]


@pytest.mark.parametrize("code", ["raise ValueError('no')", "x = 1", "image = image.copy()"])
def test_code_that_makes_no_image_leaves_none(sandbox: Sandbox, code: str) -> None:
    finished = finish(sandbox, f"```python\n{code}\n```")
    images: Sequence[Image.Image] = finished.new_images
    assert list(images) == []
    assert len(finished.steps) == 1


def test_a_turn_without_code_stays_as_it_is(sandbox: Sandbox) -> None:
    plain = turn("<answer>7</answer>")
    assert asyncio.run(run_first_code(plain, CodeTool(sandbox), lambda i: i, CoordinateSystem.ORIGINAL)) is plain
