"""How a tool call becomes a picture: run its code, trace what it did, tell the model what it got.

The words for the model are in `prompts/tool.json` and `prompts/observations.json`. Pictures of one trajectory lie on a
`PictureDesk`; a call that made a new picture adds it there, anything else leaves the desk as it was.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from importlib.resources import files
from typing import Any

from PIL import Image

from codevision_ext.errors import InputError
from codevision_ext.geometry import compose
from codevision_ext.sandbox.pool import Sandbox
from codevision_ext.sandbox.protocol import ExecRequest, ExecResult, Limits
from codevision_ext.sandbox.provenance import Provenance, into_input, trace
from codevision_ext.types import Box, ExecStatus, Orientation, Step, ToolCall

_PROMPTS = files("codevision_ext") / "prompts"
TOOL_SCHEMA: dict[str, Any] = json.loads((_PROMPTS / "tool.json").read_text(encoding="utf-8"))
"""The tool as chat templates want it (OpenAI function schema)."""
OBSERVATIONS: dict[str, str] = json.loads((_PROMPTS / "observations.json").read_text(encoding="utf-8"))
"""One text for each ExecStatus, and `noop`; filled once, so braces in what the code printed stay what they are."""

_SPECIAL = re.compile(r"<(?=\||/?(?:image|video|tool_call|tool_response)>)")
_INVISIBLE = re.compile("[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """Where a picture on the desk comes from."""

    root: int
    """Index of the task's picture it was made from."""
    net: Orientation | None
    """Orientation relative to that picture; None: unknown."""
    region: Box | None
    """Visible part in pixels of that picture; None: unknown."""


class PictureDesk:
    """The pictures of one trajectory as `image_index` counts them: the task's own first, then the new ones."""

    def __init__(self, pictures: Sequence[Image.Image]) -> None:
        self.pictures: list[Image.Image] = list(pictures)
        self.nodes: list[Node] = [
            Node(root=index, net=Orientation.ID, region=Box(0, 0, *picture.size))
            for index, picture in enumerate(self.pictures)
        ]

    def add(self, picture: Image.Image, parent: int, made: Provenance) -> int:
        """Lay a new picture on the desk and return its index."""
        origin = self.nodes[parent]
        net = None if origin.net is None or made.net is None else compose(origin.net, made.net)
        region = None
        if origin.net is not None and origin.region is not None and made.box is not None:
            region = into_input(made.box, origin.net, origin.region, self.pictures[parent].size)
        self.pictures.append(picture)
        self.nodes.append(Node(root=origin.root, net=net, region=region))
        return len(self.pictures) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What the model gets to see of a call, and what the record keeps of it."""

    text: str
    image: Image.Image | None = None
    """The new picture; None where there is none (a failed call, or a picture equal to its parent)."""
    step: Step


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolSettings:
    """The `config` of the code tool in a tool config of verl, where the limits stand beside the rest."""

    limits: Limits = field(default_factory=Limits)
    live: int | None = None
    """Calls run at the same time; None: one a core."""
    max_text_chars: int = 512


def read_tool_settings(config: Mapping[str, Any], where: str) -> ToolSettings:
    """Checks the settings of a tool config; `where` names it, and `type` is verl's own.

    Raises:
        InputError: a setting is unknown (the known ones are listed), isn't a number or is too small.
    """
    limits, own = {limit.name for limit in fields(Limits)}, {"live", "max_text_chars"}
    given = {name: value for name, value in config.items() if name != "type"}
    for name, value in given.items():
        if name not in limits | own:
            raise InputError(f"{where}: unknown setting {name}; known are {', '.join(sorted(limits | own))}")
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise InputError(f"{where}: setting {name} is {value!r}, not a number")
    return ToolSettings(
        limits=Limits(**{name: value for name, value in given.items() if name in limits}),
        **{name: value for name, value in given.items() if name in own},
    )


class CodeTool:
    """Runs the calls of `code_image_tool`; one tool serves any number of trajectories, each with a desk of its own."""

    def __init__(self, sandbox: Sandbox, max_text_chars: int = 512) -> None:
        """`max_text_chars` bounds what the code may say to the model (output, error), in characters."""
        self._sandbox = sandbox
        self._max_text_chars = max_text_chars

    def call(self, desk: PictureDesk, call: ToolCall) -> Observation:
        """Execute one call; a new picture is added to the desk.

        Raises:
            InputError: `image_index` isn't on the desk (`parse_call` checks it first).
            SandboxError: the sandbox is broken; the rollout is invalid, not wrong.
        """
        request = ExecRequest(code=call.code, images=tuple(desk.pictures), image_index=call.image_index)
        result = self._sandbox.run(request)
        return self._observe(desk, call, result, trace(self._sandbox, request, result))

    async def acall(self, desk: PictureDesk, call: ToolCall) -> Observation:
        """`call` without blocking the event loop; calls on one desk must follow one another."""
        return await self._sandbox.in_thread(lambda: self.call(desk, call))

    def _observe(self, desk: PictureDesk, call: ToolCall, result: ExecResult, made: Provenance) -> Observation:
        if result.status is not ExecStatus.OK:
            step = Step(ok=False, parent=call.image_index, status=result.status)
            return Observation(text=self._text(result.status, result), step=step)
        if made.noop:
            step = Step(ok=True, parent=call.image_index, noop=True, status=result.status)
            return Observation(text=self._text("noop", result), step=step)
        picture = result.images[0]
        index = desk.add(picture, call.image_index, made)
        step = Step(
            ok=True,
            ops=made.ops,
            crops=made.crops,
            node=index,
            parent=call.image_index,
            net=desk.nodes[index].net,
            region=desk.nodes[index].region,
            status=result.status,
        )
        text = self._text("ok", result, node=index, width=picture.width, height=picture.height)
        return Observation(text=text, image=picture, step=step)

    def _text(self, key: str, result: ExecResult, **values: int) -> str:
        """The observation for `key`, then what the code printed."""
        limits = self._sandbox.limits
        said = OBSERVATIONS[key].format(
            detail=self._harmless(result.detail), wall_s=f"{limits.wall_s:g}", code_chars=limits.code_chars, **values
        )
        printed = self._harmless(result.stdout).strip()
        return f"{said}\n{printed}" if printed else said

    def _harmless(self, text: str) -> str:
        """At most `max_text_chars`, without control characters and without anything a tokenizer takes for its own."""
        text = _SPECIAL.sub("< ", _INVISIBLE.sub("", text))
        return text if len(text) <= self._max_text_chars else text[: self._max_text_chars] + "..."
