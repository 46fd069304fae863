"""How a tool call becomes an image: run its code, trace what it did, tell the model what it got.

The words for the model are in `prompts/tool.json` and `prompts/observations.json`. Images of one trajectory lie on a
`ImageHistory`; a call that made a new image adds it there, anything else leaves the desk as it was.
"""

import asyncio
import json
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from PIL import Image

from codevision_ext.rollout.image_history import ImageHistory
from codevision_ext.sandbox.backend import Backend
from codevision_ext.sandbox.protocol import EarlierCall, ExecRequest, ExecResult
from codevision_ext.sandbox.provenance import Provenance, trace_by_probes, trace_exact
from codevision_ext.types import ExecStatus, Frame, Step, ToolCall

_PROMPTS = files("codevision_ext") / "prompts"
TOOL_SCHEMA: dict[str, Any] = json.loads((_PROMPTS / "tool.json").read_text(encoding="utf-8"))
"""The tool as chat templates want it (OpenAI function schema), in the frame `original`."""
OBSERVATIONS: dict[str, str] = json.loads((_PROMPTS / "observations.json").read_text(encoding="utf-8"))
"""One text for each ExecStatus, and `noop`; filled once, so braces in what the code printed stay what they are."""

_SPECIAL = re.compile(r"<(?=\||/?(?:image|video|tool_call|tool_response)>)")
_INVISIBLE = re.compile("[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")


@cache
def tool_schema(frame: Frame) -> dict[str, Any]:
    """The tool as a model that writes in this frame is told of it; not to be changed."""
    words: dict[str, str] = json.loads((_PROMPTS / "coordinates.json").read_text(encoding="utf-8"))
    function = TOOL_SCHEMA["function"]
    return TOOL_SCHEMA | {"function": function | {"description": function["description"] + words[frame]}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What the model gets to see of a call, and what the record keeps of it."""

    text: str
    image: Image.Image | None = None
    """The new image; None where there is none (a failed call, or an image equal to its parent)."""
    step: Step
    result: ExecResult
    """How the execution ended, in full."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StartedCall:
    """What the model gets to see of a call, while it is still being traced what the call did."""

    text: str
    image: Image.Image | None
    step: "asyncio.Task[Step]"
    """What the record keeps; await it before the rollout ends. Raises SandboxError."""
    result: ExecResult


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """An executed call."""

    request: ExecRequest
    result: ExecResult
    made: Provenance | None
    """None: only probes can tell."""
    text: str
    node: int | None = None
    """Index of the image that was added."""

    @property
    def image(self) -> Image.Image | None:
        return None if self.node is None else self.result.images[0]


class CodeTool:
    """Runs the calls of `code_image_tool`; one tool serves any number of trajectories, each with a desk of its own."""

    def __init__(self, sandbox: Backend, max_text_chars: int = 512, keep_variables: bool = False) -> None:
        """`max_text_chars` bounds what the code may say to the model (output, error), in characters."""
        self._sandbox = sandbox
        self._max_text_chars = max_text_chars
        self._keep_variables = keep_variables

    def call(self, desk: ImageHistory, call: ToolCall) -> Observation:
        """Execute one call and trace what it did; a new image is added to the desk.

        Raises:
            InputError: `image_index` isn't on the desk (`parse_call` checks it first).
            SandboxError: the sandbox is broken; the rollout is invalid, not wrong.
        """
        run = self._run(desk, call)
        step = self._settle(desk, run, self._trace(run))
        return Observation(text=run.text, image=run.image, step=step, result=run.result)

    async def acall(self, desk: ImageHistory, call: ToolCall) -> Observation:
        """`call` without blocking the event loop; calls on one desk must follow one another."""
        begun = await self.begin(desk, call)
        return Observation(text=begun.text, image=begun.image, step=await begun.step, result=begun.result)

    async def begin(self, desk: ImageHistory, call: ToolCall) -> StartedCall:
        """Execute one call and return as soon as the model can go on; what it did is traced in the meantime.

        The next call on the desk may begin before the step of this one is there. Raises what `call` raises.
        """
        run = await self._sandbox.in_thread(lambda: self._run(desk, call))
        desk.settling = asyncio.create_task(self._settle_after(desk.settling, desk, run))
        return StartedCall(text=run.text, image=run.image, step=desk.settling, result=run.result)

    async def _settle_after(self, before: "asyncio.Task[Step] | None", desk: ImageHistory, run: _Run) -> Step:
        made = await self._sandbox.in_thread(lambda: self._trace(run))
        if before is not None:
            await before
        return self._settle(desk, run, made)

    def _run(self, desk: ImageHistory, call: ToolCall) -> _Run:
        """Execute, lay the image on the desk, and tell the model."""
        request = ExecRequest(
            code=call.code,
            images=tuple(desk.images),
            image_index=call.image_index,
            earlier=tuple(desk.calls) if self._keep_variables else (),
            frames=tuple(desk.sizes),
        )
        result = self._sandbox.run(request)
        if result.status is ExecStatus.OK:
            images = len(request.images)
            desk.calls.append(EarlierCall(code=call.code, image_index=call.image_index, images=images))
        made = trace_exact(request, result)
        if result.status is not ExecStatus.OK:
            return _Run(request=request, result=result, made=made, text=self._text(result.status, result))
        if made is not None and made.noop:
            return _Run(request=request, result=result, made=made, text=self._text("noop", result))
        node = desk.add(result.images[0])
        width, height = desk.sizes[node]
        text = self._text("ok", result, node=node, width=width, height=height)
        return _Run(request=request, result=result, made=made, text=text, node=node)

    def _trace(self, run: _Run) -> Provenance:
        return run.made or trace_by_probes(self._sandbox, run.request, run.result)

    def _settle(self, desk: ImageHistory, run: _Run, made: Provenance) -> Step:
        """What the record keeps; in the order of the calls."""
        status, isolation = run.result.status, run.result.isolation
        if run.node is None:
            done = status is ExecStatus.OK
            return Step(ok=done, parent=made.parent, noop=made.noop, status=status, isolation=isolation)
        node = desk.settle(made)
        return Step(
            ok=True,
            ops=made.ops,
            crops=made.crops,
            node=run.node,
            parent=made.parent,
            net=node.net,
            region=node.region,
            status=status,
            isolation=isolation,
        )

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
