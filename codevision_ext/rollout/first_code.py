"""Runs the first code block of a rollout's only turn, as benchmarks do that judge the drawing of one generation.

The code may stand in the tags `<code>` and `</code>`, in a call of the tool, or in a fence of three backticks or three
apostrophes. Text behind the first code block counts for nothing.
"""

import asyncio
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from PIL import Image

from codevision_ext.rollout.code_tool import CodeTool
from codevision_ext.rollout.image_history import ImageHistory
from codevision_ext.rollout.loop import ConversationMessage, Trajectory
from codevision_ext.rollout.parsing import parse_call
from codevision_ext.types import CoordinateSystem, ToolCall

_FENCE: Final = re.compile(r"(?P<mark>```|''')[ \t]*(?:python3?|py)?[ \t]*\r?\n(?P<code>.*?)(?P=mark)", re.DOTALL)
_TAGS: Final = re.compile(r"<code>(?P<code>.*?)</code>", re.DOTALL)


def first_code(reply: str) -> str | None:
    """Returns the first code block of a turn; None without a closed block that has a character."""
    if tagged := _TAGS.search(reply):
        fenced = _FENCE.search(tagged["code"])
        code: str | None = (fenced or tagged)["code"]
    elif call := parse_call(reply, 1).call:
        code = call.code
    else:
        fenced = _FENCE.search(reply)
        code = fenced["code"] if fenced else None
    return code.strip("\r\n") if code and code.strip() else None


async def run_first_code(
    trajectory: Trajectory,
    tool: CodeTool,
    resize: Callable[[Image.Image], Image.Image],
    coordinates: CoordinateSystem,
) -> Trajectory:
    """Returns a rollout of one turn with the images that its first code block makes from the first image of the task.

    A rollout without a code block stays as it is.

    Args:
        trajectory: Rollout of one turn, none of whose calls was run.
        tool: Runs the code.
        resize: Returns an image as the model sees it.
        coordinates: The coordinate system in which the model writes.

    Raises:
        SandboxError: the sandbox is broken; the rollout is invalid.
    """
    code = first_code(trajectory.replies[0])
    if code is None:
        return trajectory
    history = await asyncio.to_thread(ImageHistory, trajectory.images, resize, coordinates)
    call = ToolCall(code=code)
    result = await tool.acall(history, call)
    new = tuple(range(len(trajectory.images), len(history.images)))
    message = ConversationMessage(role="tool", text=result.text, images=new)
    return replace(
        trajectory,
        messages=(*trajectory.messages, message),
        steps=(result.step,),
        images=tuple(history.images),
        calls=(call,),
    )
