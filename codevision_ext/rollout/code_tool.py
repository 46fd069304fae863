"""Runs the calls of the code tool: runs the code, traces what it did to the image, and writes the observation.

The texts are in `prompts/tool.json` and `prompts/observations.json`. A call that makes new images adds them to the
`ImageHistory` of its rollout. Other calls don't change the history.
"""

import asyncio
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Any, Self

from PIL import Image

from codevision_ext.rollout.image_history import ImageHistory
from codevision_ext.sandbox.backend import Backend
from codevision_ext.sandbox.protocol import EarlierCall, ExecRequest, ExecResult
from codevision_ext.sandbox.provenance import Provenance, trace_by_probes, trace_exact
from codevision_ext.sandbox.settings import ToolSettings
from codevision_ext.types import AddedImage, CoordinateSystem, ExecStatus, Step, ToolCall

_PROMPTS = files("codevision_ext") / "prompts"
TOOL_SCHEMA: dict[str, Any] = json.loads((_PROMPTS / "tool.json").read_text(encoding="utf-8"))
"""Schema of the tool for chat templates (an OpenAI function), with coordinates in pixels of the original image."""
OBSERVATIONS: dict[str, str] = json.loads((_PROMPTS / "observations.json").read_text(encoding="utf-8"))
"""Text for each ExecStatus, and for other outcomes.

`noop`: the code returned its input image, pixel for pixel. `repeat`: the code returned another image of the history.
`left_out`: the code returned more images than a call may add. `note`: note of the sandbox on a successful call.
`empty`: the image has no pixels. A text is formatted once, before the printed output is added, so braces in the output
stay as they are.
"""

_EMPTY = re.compile(r"its size is (?:0x\d|\d+x0\b)")
_SPECIAL = re.compile(r"<(?=\||/?(?:image|video|tool_call|tool_response|sandbox_output)>)")
_ADDRESS = re.compile(r"(?<= at )0x[0-9a-fA-F]{6,16}\b")
"""Regular expression of an object's address, as `repr` writes it. It differs from process to process."""
_INVISIBLE = re.compile("[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")


def break_special_tokens(text: str) -> str:
    """Returns the text with a space in each special token, such as `<|im_end|>`, so that no tokenizer reads one."""
    return _SPECIAL.sub("< ", text)


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
    images: tuple[Image.Image, ...] = ()
    """New images; none after a failed call, and none that equals an image of the history."""
    step: Step
    result: ExecResult
    """Result of the execution."""

    @property
    def image(self) -> Image.Image | None:
        """First new image."""
        return self.images[0] if self.images else None


@dataclass(frozen=True, slots=True, kw_only=True)
class StartedCall:
    """The result of a call whose images are still being traced; the model can already write its next turn."""

    text: str
    """Text of the observation."""
    images: tuple[Image.Image, ...]
    """New images, as in `ToolResult`."""
    step: "asyncio.Task[Step]"
    """Task of the step for the record; must be awaited before the rollout ends. Raises SandboxError."""
    result: ExecResult
    """Result of the execution."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _NewImage:
    """An image of a call that was added to the history."""

    node: int
    """Index of the image in the history."""
    place: int
    """Place among the images that the code returned, from 0."""
    image: Image.Image
    provenance: Provenance | None
    """Provenance of the image; None if it can only be found with probes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """An executed call."""

    request: ExecRequest
    result: ExecResult
    added: tuple[_NewImage, ...]
    """New images in order."""
    unchanged: Provenance
    """Provenance of the call if no image was added."""
    text: str

    @property
    def images(self) -> tuple[Image.Image, ...]:
        return tuple(new.image for new in self.added)


@dataclass(frozen=True, slots=True)
class _OneOfSeveral:
    """Runs code in a sandbox and returns only one of its images."""

    sandbox: Backend
    place: int

    def run(self, request: ExecRequest) -> ExecResult:
        result = self.sandbox.run(request)
        images = result.images[self.place : self.place + 1]
        missing = result.status is ExecStatus.OK and not images
        return replace(result, images=images, status=ExecStatus.NO_IMAGE if missing else result.status)


class CodeTool:
    """Runs the calls of `code_image_tool`; one tool serves many rollouts, each with its own `ImageHistory`."""

    def __init__(
        self, sandbox: Backend, max_text_chars: int = 512, keep_variables: bool = False, images_per_call: int = 4
    ) -> None:
        """Keeps the settings; the sandbox starts at the first call.

        Args:
            sandbox: Runs the code.
            max_text_chars: Maximum length of the printed output in an observation, and of its error message.
            keep_variables: Whether a call has the variables of earlier calls. If so, those calls are run again first.
            images_per_call: Maximum images that one call adds; the model reads how many were left out.
        """
        self._sandbox = sandbox
        self._max_text_chars = max_text_chars
        self._keep_variables = keep_variables
        self._images_per_call = images_per_call

    @classmethod
    def of(cls, sandbox: Backend, settings: ToolSettings) -> Self:
        """Returns the tool that a tool config describes."""
        return cls(sandbox, settings.max_text_chars, settings.keep_variables, settings.images_per_call)

    def call(self, history: ImageHistory, call: ToolCall) -> ToolResult:
        """Runs one call and traces its images; new images are added to the history.

        Raises:
            InputError: the history has no image `image_index` (`parse_call` checks it first).
            SandboxError: the sandbox is broken; the rollout is invalid, not wrong.
        """
        run = self._run(history, call)
        step = self._record_step(history, run, self._trace(run))
        return ToolResult(text=run.text, images=run.images, step=step, result=run.result)

    def run(self, history: ImageHistory, call: ToolCall) -> tuple[str, ExecResult]:
        """Runs one call without tracing its images, which are added to the history; returns the observation's text.

        Raises what `call` raises.
        """
        run = self._run(history, call)
        return run.text, run.result

    async def acall(self, history: ImageHistory, call: ToolCall) -> ToolResult:
        """Does what `call` does, without blocking the event loop. Calls on one history must follow one another."""
        started = await self.begin(history, call)
        return ToolResult(text=started.text, images=started.images, step=await started.step, result=started.result)

    async def begin(self, history: ImageHistory, call: ToolCall) -> StartedCall:
        """Runs one call and returns as soon as the model can write its next turn; the images are traced meanwhile.

        The next call on the history may begin before the step of this call is recorded. Raises what `call` raises.
        """
        run = await self._sandbox.in_thread(lambda: self._run(history, call))
        step = asyncio.create_task(self._record_after(history.pending_provenance, history, run))
        history.pending_provenance = step
        return StartedCall(text=run.text, images=run.images, step=step, result=run.result)

    async def _record_after(self, previous: "asyncio.Task[Step] | None", history: ImageHistory, run: _Run) -> Step:
        """Traces a call, and records its step once the previous call's step is recorded."""
        provenances = await self._sandbox.in_thread(lambda: self._trace(run))
        if previous is not None:
            await previous
        return self._record_step(history, run, provenances)

    def _run(self, history: ImageHistory, call: ToolCall) -> _Run:
        """Runs the code, adds new images to the history, and writes the observation."""
        request = ExecRequest(
            code=call.code,
            images=tuple(history.images),
            image_index=call.image_index,
            earlier=tuple(history.calls) if self._keep_variables else (),
            coordinate_sizes=tuple(history.sizes),
            paths=tuple(history.paths),
        )
        result = self._sandbox.run(request)
        if result.status is ExecStatus.OK:
            images = len(request.images)
            history.calls.append(EarlierCall(code=call.code, image_index=call.image_index, images=images))
        unchanged = Provenance(parent=call.image_index)
        if result.status is not ExecStatus.OK:
            text = self._text(self._failure(result), result, *history.images[call.image_index].size)
            return _Run(request=request, result=result, added=(), unchanged=unchanged, text=text)
        added: list[_NewImage] = []
        known: list[Provenance] = []
        left_out = 0
        for place, image in enumerate(result.images):
            provenance = trace_exact(request, replace(result, images=(image,)))
            if provenance is not None and provenance.noop:
                known.append(provenance)
            elif any(image.size == new.image.size and image.tobytes() == new.image.tobytes() for new in added):
                continue  # the same image twice
            elif len(added) == self._images_per_call:
                left_out += 1
            else:
                node = history.add(image)
                added.append(_NewImage(node=node, place=place, image=image, provenance=provenance))
        text = self._describe(history, result, call.image_index, [new.node for new in added], known, left_out)
        return _Run(
            request=request, result=result, added=tuple(added), unchanged=known[0] if known else unchanged, text=text
        )

    def _describe(
        self,
        history: ImageHistory,
        result: ExecResult,
        image_index: int,
        added: Sequence[int],
        known: Sequence[Provenance],
        left_out: int,
    ) -> str:
        """Returns the observation text of a successful call.

        Args:
            history: The images, the new ones among them.
            result: Result of the execution.
            image_index: Index of the image that the code got.
            added: Indices of the new images.
            known: Provenance of each returned image that was in the history before.
            left_out: Number of further images that weren't added.
        """
        texts = [
            OBSERVATIONS["ok"].format(node=node, width=w, height=h) for node in added for w, h in [history.sizes[node]]
        ]
        repeated = dict.fromkeys(each.parent for each in known if each.parent != image_index)
        texts += [OBSERVATIONS["repeat"].format(node=node) for node in repeated]
        if not texts:
            texts.append(OBSERVATIONS["noop"])
        if left_out:
            texts.append(OBSERVATIONS["left_out"].format(count=left_out, limit=self._images_per_call))
        if result.detail:
            texts.append(OBSERVATIONS["note"].format(detail=self._harmless(result.detail)))
        return self._with_output("\n".join(texts), result)

    def _trace(self, run: _Run) -> list[Provenance]:
        """Returns the provenance of each new image, in order. Raises SandboxError."""
        return [
            new.provenance
            or trace_by_probes(
                _OneOfSeveral(self._sandbox, new.place), run.request, replace(run.result, images=(new.image,))
            )
            for new in run.added
        ]

    def _record_step(self, history: ImageHistory, run: _Run, provenances: Sequence[Provenance]) -> Step:
        """Records the provenance of new images and returns the step; must be called in the order of the calls."""
        status, isolation = run.result.status, run.result.isolation
        if not run.added:
            ok, parent, noop = status is ExecStatus.OK, run.unchanged.parent, run.unchanged.noop
            return Step(ok=ok, parent=parent, noop=noop, status=status, isolation=isolation)
        images = []
        for new, provenance in zip(run.added, provenances, strict=True):
            origin = history.record_provenance(provenance)
            images.append(
                AddedImage(
                    ops=provenance.ops,
                    crops=provenance.crops,
                    node=new.node,
                    parent=provenance.parent,
                    net=origin.net,
                    region=origin.region,
                )
            )
        return Step.with_images(images, status=status, isolation=isolation)

    @staticmethod
    def _failure(result: ExecResult) -> str:
        """Returns the key of the observation on a failed call."""
        empty = result.status is ExecStatus.BAD_IMAGE and _EMPTY.match(result.detail)
        return "empty" if empty else str(result.status)

    def _text(self, key: str, result: ExecResult, width: int, height: int) -> str:
        """Returns the observation text of a failed call; width and height are pixels of the image that the code got."""
        limits = self._sandbox.limits
        text = OBSERVATIONS[key].format(
            detail=self._harmless(result.detail),
            wall_s=f"{limits.wall_s:g}",
            code_chars=limits.code_chars,
            width=width,
            height=height,
        )
        if result.status is ExecStatus.NO_IMAGE and result.detail:
            text += "\n" + OBSERVATIONS["note"].format(detail=self._harmless(result.detail))
        return self._with_output(text, result)

    def _with_output(self, text: str, result: ExecResult) -> str:
        """Returns the text, followed by what the code printed."""
        printed = self._harmless(result.stdout).strip()
        return f"{text}\n{printed}" if printed else text

    def _harmless(self, text: str) -> str:
        """Removes control characters and addresses, breaks up special tokens, and cuts the text to `max_text_chars`."""
        text = break_special_tokens(_ADDRESS.sub("0x..", _INVISIBLE.sub("", text)))
        return text if len(text) <= self._max_text_chars else text[: self._max_text_chars] + "..."
