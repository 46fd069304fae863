"""Runs the code of a trajectory in the sandbox, and writes the demonstration with the images that it made."""

import atexit
import io
import re
from functools import cache
from typing import Final

from PIL import Image

from codevision_ext.drawing import agreement
from codevision_ext.rollout.code_tool import OBSERVATIONS, CodeTool
from codevision_ext.rollout.dialects.base import read_prompt
from codevision_ext.rollout.image_history import ImageHistory, paths_of
from codevision_ext.sandbox import Limits, Sandbox
from codevision_ext.types import ExecStatus, ToolCall
from data_prep.formats import image_tags
from data_prep.formats.image_files import normalize_image, png
from data_prep.formats.row_errors import Reason, RowError
from data_prep.formats.schema import IMAGE_TAG, CodeTrajectory, Demonstration, Message, SampleType
from data_prep.formats.turn_text import TOOLS, answer_text, call_text

WALL_S: Final = 10.0
"""Time limit of a block in seconds, as published; earlier blocks run again within it."""
DESCRIPTION: Final = "draw on the image"
_OPENED: Final = re.compile(r"""(?:imread|Image\.open|\bopen)\(\s*(?P<quote>["'])(?P<path>[^"'\n]+)(?P=quote)""")


@cache
def _tool() -> CodeTool:
    """Returns the tool of this process; its sandbox ends with the process."""
    sandbox = Sandbox(Limits(wall_s=WALL_S, memory_mb=1024), live=1)
    atexit.register(sandbox.close)
    return CodeTool(sandbox, keep_variables=True)


def as_published(trajectory: CodeTrajectory) -> Demonstration:
    """Return the demonstration without running its code; every block has the published image as its result.

    Raises:
        RowError: The trajectory has no edited image, or several blocks, whose images aren't published.
    """
    if len(trajectory.blocks) > 1:
        message = f"has {len(trajectory.blocks)} blocks, but only the last image is published; run the code"
        raise RowError(Reason.NO_TRAJECTORY, trajectory.column, message)
    return _written(trajectory, [], ["not_run"], _published(trajectory), None)


def run_trajectory(trajectory: CodeTrajectory) -> tuple[Demonstration, list[RowError]]:
    """Run every block of a trajectory, and return the demonstration and a fault for each block that failed.

    The blocks share their variables and the names that they save images to. A block that failed has its error as its
    observation; the published image replaces that of a last block that failed.

    Raises:
        RowError: The image can't be read, or the last block failed and there is no published image.
        SandboxError: The sandbox is broken.
    """
    images = [_decoded(normalize_image(data, "image").data) for data in trajectory.images]
    history, tool = ImageHistory(images, paths=_paths(trajectory)), _tool()
    observations: list[tuple[str, list[Image.Image]]] = []
    statuses: list[str] = []
    faults = []
    for number, (_, code) in enumerate(trajectory.blocks, start=1):
        known = len(history.images)
        text, result = tool.run(history, ToolCall(code=code, description=DESCRIPTION))
        observations.append((text, history.images[known:]))
        statuses.append(str(result.status))
        if result.status is not ExecStatus.OK:
            detail = f": {result.detail}" if result.detail else ""
            message = f"block {number} of {len(trajectory.blocks)} ended as {result.status}{detail}"
            faults.append(RowError(Reason.CODE_FAILED, trajectory.column, message))
    if statuses and statuses[-1] != ExecStatus.OK:
        if not trajectory.edited_image:
            raise faults[-1]
        return _written(trajectory, observations[:-1], statuses, _published(trajectory), None), faults
    value = None
    if trajectory.edited_image and len(history.images) > len(images):
        value = round(agreement(images[0], history.images[-1], _decoded(trajectory.edited_image)), 3)
    return _written(trajectory, observations, statuses, None, value), faults


def _paths(trajectory: CodeTrajectory) -> list[str]:
    """Return the path by which the code opens the image: that of the question, else the first one in the code."""
    texts = (trajectory.question, *(code for _, code in trajectory.blocks))
    named = [path for text in texts for path in paths_of(text)]
    return named[:1] or [match["path"] for text in texts[1:] for match in _OPENED.finditer(text)][:1]


def _question(trajectory: CodeTrajectory) -> str:
    """Return the question; a path that only the code names is added, because a model can't know it otherwise."""
    paths = _paths(trajectory)
    if not paths or paths_of(trajectory.question):
        return trajectory.question
    sentence = read_prompt("code_tags/user.txt")
    return f"{trajectory.question}\n{sentence.replace(paths_of(sentence)[0], paths[0])}"


def _published(trajectory: CodeTrajectory) -> tuple[str, list[Image.Image]]:
    """Return the published image as an observation. Raises RowError where there is none."""
    if not trajectory.edited_image:
        raise RowError(Reason.COLUMN_MISSING, "edited_image", "is missing or null")
    image = _decoded(trajectory.edited_image)
    node = len(trajectory.images)
    return OBSERVATIONS["ok"].format(node=node, width=image.width, height=image.height), [image]


def _written(
    trajectory: CodeTrajectory,
    observations: list[tuple[str, list[Image.Image]]],
    statuses: list[str],
    published: tuple[str, list[Image.Image]] | None,
    value: float | None,
) -> Demonstration:
    """Return the demonstration; `published` is the observation of the last block if that wasn't run or failed."""
    images = [*trajectory.images]
    messages = [Message(role="user", content=image_tags.with_tags(_question(trajectory), len(images)))]
    shown = observations if published is None else [*observations, published]
    for (thought, code), (text, made) in zip(trajectory.blocks, shown, strict=True):
        call = ToolCall(code=code, description=DESCRIPTION)
        messages.append(Message(role="assistant", content=call_text(thought, call)))
        messages.append(Message(role="tool", content=text + IMAGE_TAG * len(made)))
        images += [trajectory.edited_image] if published and made is published[1] else map(png, made)
    messages.append(Message(role="assistant", content=answer_text(trajectory.conclusion, trajectory.answers[0])))
    sample_type = SampleType.MULTI_TOOL if len(shown) > 1 else SampleType.SINGLE_TOOL
    if not all(made for _, made in shown):
        sample_type = SampleType.ERROR_HANDLING
    return Demonstration(
        messages=tuple(messages),
        images=tuple(images),
        sample_type=sample_type,
        tools=TOOLS,
        metadata={
            "sample_type": sample_type,
            "answer": trajectory.answers[0],
            "executed": all(status == ExecStatus.OK for status in statuses),
            "agreement": value,
            "blocks": statuses,
            **trajectory.metadata,
        },
        paths=(*trajectory.paths, *[None] * (len(images) - len(trajectory.images))),
        source=trajectory.source,
    )


def _decoded(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data)).convert("RGB")
