"""The code tool: runs a call's code, traces what the code did to the image, and words the observation for the model.

The words are in `prompts/tool.json` and `prompts/observations.json`. A call that makes a new image adds it to the
`ImageHistory` of its rollout. Any other call leaves the history as it was.
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
from codevision_ext.types import CoordinateSystem, ExecStatus, Step, ToolCall

_PROMPTS = files("codevision_ext") / "prompts"
TOOL_SCHEMA: dict[str, Any] = json.loads((_PROMPTS / "tool.json").read_text(encoding="utf-8"))
"""Schema of the tool for chat templates (an OpenAI function), with coordinates in pixels of the original image."""
OBSERVATIONS: dict[str, str] = json.loads((_PROMPTS / "observations.json").read_text(encoding="utf-8"))
"""Text for each ExecStatus, and for `noop`: the code returned its input image, pixel for pixel.

A text is formatted once, before the printed output is added, so braces in that output stay as they are.
"""

_SPECIAL = re.compile(r"<(?=\||/?(?:image|video|tool_call|tool_response)>)")
_ADDRESS = re.compile(r"(?<= at )0x[0-9a-fA-F]{6,16}\b")
"""Address of an object, as `repr` writes it; another one in every process."""
_INVISIBLE = re.compile("[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")


@cache
def tool_schema(coordinates: CoordinateSystem) -> dict[str, Any]:
    """Returns the schema of the tool for a model that writes in these coordinates; callers must not change it."""
    words: dict[str, str] = json.loads((_PROMPTS / "coordinates.json").read_text(encoding="utf-8"))
    function = TOOL_SCHEMA["function"]
    return TOOL_SCHEMA | {"function": function | {"description": function["description"] + words[coordinates]}}


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolResult:
    """The result of a call: the observation for the model, and the step for the record."""

    text: str
    """Text of the observation."""
    image: Image.Image | None = None
    """New image; None after a failed call, and where the image equals the one that the code got."""
    step: Step
    result: ExecResult
    """Result of the execution."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StartedCall:
    """The result of a call whose image is still being traced; the model can already go on."""

    text: str
    """Text of the observation."""
    image: Image.Image | None
    """New image, or None as in `ToolResult`."""
    step: "asyncio.Task[Step]"
    """Task of the step for the record; must be awaited before the rollout ends. Raises SandboxError."""
    result: ExecResult
    """Result of the execution."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """An executed call."""

    request: ExecRequest
    result: ExecResult
    provenance: Provenance | None
    """Provenance of the image; None: it takes probes to find it."""
    text: str
    node: int | None = None
    """Index of the image that was added; None: none was."""

    @property
    def image(self) -> Image.Image | None:
        return None if self.node is None else self.result.images[0]


class CodeTool:
    """Runs the calls of `code_image_tool`; one tool serves many rollouts, each with its own `ImageHistory`."""

    def __init__(self, sandbox: Backend, max_text_chars: int = 512, keep_variables: bool = False) -> None:
        """Keeps the settings; the sandbox starts at the first call.

        Args:
            sandbox: Runs the code.
            max_text_chars: Maximum length of the printed output in an observation, and of its error message.
            keep_variables: Whether a call finds the variables of earlier calls. Those calls are run again first.
        """
        self._sandbox = sandbox
        self._max_text_chars = max_text_chars
        self._keep_variables = keep_variables

    def call(self, history: ImageHistory, call: ToolCall) -> ToolResult:
        """Runs one call and traces its image; a new image is added to the history.

        Raises:
            InputError: the history has no image `image_index` (`parse_call` checks it first).
            SandboxError: the sandbox is broken; the rollout is invalid, not wrong.
        """
        run = self._run(history, call)
        step = self._record_step(history, run, self._trace(run))
        return ToolResult(text=run.text, image=run.image, step=step, result=run.result)

    async def acall(self, history: ImageHistory, call: ToolCall) -> ToolResult:
        """Does what `call` does, without blocking the event loop. Calls on one history must follow one another."""
        started = await self.begin(history, call)
        return ToolResult(text=started.text, image=started.image, step=await started.step, result=started.result)

    async def begin(self, history: ImageHistory, call: ToolCall) -> StartedCall:
        """Runs one call and returns as soon as the model can go on; its image is traced in the meantime.

        The next call on the history may begin before the step of this one is there. Raises what `call` raises.
        """
        run = await self._sandbox.in_thread(lambda: self._run(history, call))
        step = asyncio.create_task(self._record_after(history.pending_provenance, history, run))
        history.pending_provenance = step
        return StartedCall(text=run.text, image=run.image, step=step, result=run.result)

    async def _record_after(self, previous: "asyncio.Task[Step] | None", history: ImageHistory, run: _Run) -> Step:
        """Traces a call, and records its step once the previous call's step is recorded."""
        provenance = await self._sandbox.in_thread(lambda: self._trace(run))
        if previous is not None:
            await previous
        return self._record_step(history, run, provenance)

    def _run(self, history: ImageHistory, call: ToolCall) -> _Run:
        """Runs the code, adds a new image to the history, and words the observation."""
        request = ExecRequest(
            code=call.code,
            images=tuple(history.images),
            image_index=call.image_index,
            earlier=tuple(history.calls) if self._keep_variables else (),
            coordinate_sizes=tuple(history.sizes),
        )
        result = self._sandbox.run(request)
        if result.status is ExecStatus.OK:
            images = len(request.images)
            history.calls.append(EarlierCall(code=call.code, image_index=call.image_index, images=images))
        provenance = trace_exact(request, result)
        node = None
        if result.status is not ExecStatus.OK:
            text = self._text(result.status, result)
        elif provenance is not None and provenance.noop:
            text = self._text("noop", result)
        else:
            node = history.add(result.images[0])
            width, height = history.sizes[node]
            text = self._text("ok", result, node=node, width=width, height=height)
        return _Run(request=request, result=result, provenance=provenance, text=text, node=node)

    def _trace(self, run: _Run) -> Provenance:
        return run.provenance or trace_by_probes(self._sandbox, run.request, run.result)

    def _record_step(self, history: ImageHistory, run: _Run, provenance: Provenance) -> Step:
        """Records the provenance of a new image and returns the step; must be called in the order of the calls."""
        status, isolation = run.result.status, run.result.isolation
        if run.node is None:
            ok = status is ExecStatus.OK
            return Step(ok=ok, parent=provenance.parent, noop=provenance.noop, status=status, isolation=isolation)
        origin = history.record_provenance(provenance)
        return Step(
            ok=True,
            ops=provenance.ops,
            crops=provenance.crops,
            node=run.node,
            parent=provenance.parent,
            net=origin.net,
            region=origin.region,
            status=status,
            isolation=isolation,
        )

    def _text(self, key: str, result: ExecResult, **values: int) -> str:
        """Returns the observation text for `key`, followed by what the code printed."""
        limits = self._sandbox.limits
        text = OBSERVATIONS[key].format(
            detail=self._harmless(result.detail), wall_s=f"{limits.wall_s:g}", code_chars=limits.code_chars, **values
        )
        printed = self._harmless(result.stdout).strip()
        return f"{text}\n{printed}" if printed else text

    def _harmless(self, text: str) -> str:
        """Removes control characters and addresses, breaks up special tokens, and cuts the text to `max_text_chars`."""
        text = _SPECIAL.sub("< ", _ADDRESS.sub("0x..", _INVISIBLE.sub("", text)))
        return text if len(text) <= self._max_text_chars else text[: self._max_text_chars] + "..."
