"""Plays one rollout, turn by turn: the policy writes, its tool call is run, the result is shown, until it ends.

The same loop serves training and evaluation. It knows neither verl nor an engine: a `Policy` samples tokens, a
`Renderer` turns messages and images into tokens, a `CodeTool` runs code. The tool gets images at full resolution, the
model gets them resized.
"""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from PIL import Image

from codevision_ext.errors import EngineError
from codevision_ext.rollout.code_tool import CodeTool, tool_schema
from codevision_ext.rollout.image_history import ImageHistory
from codevision_ext.rollout.parsing import has_call, parse_call, turn_message
from codevision_ext.rollout.token_buffer import RolloutLimits, TokenBuffer
from codevision_ext.types import EndReason, Frame, Step, ToolCall


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """What an engine sampled in one turn."""

    ids: list[int]
    log_probs: list[float]
    """One a token, natural logarithm."""
    finished: bool
    """The policy ended its turn; False: it ran into the token limit."""


def turn_ended(ids: Sequence[int], end_ids: Collection[int], *, stopped: bool) -> bool:
    """Return whether the policy ended its turn, rather than ran into the token limit.

    The last token decides. SGLang, and verl's client of an asynchronous trainer, compare the length first: they report
    `length` for a turn whose end token is the last one allowed.

    Args:
        ids: The tokens of the turn.
        end_ids: The tokens that end a turn.
        stopped: Whether the engine reports another end than the token limit.
    """
    return stopped or (bool(ids) and ids[-1] in end_ids)


class Policy(Protocol):
    """An engine, seen from one rollout."""

    async def __call__(self, ids: list[int], images: Sequence[Image.Image], max_tokens: int) -> Completion:
        """Continue `ids`, whose image marks belong to `images` in order, by at most `max_tokens`.

        Raises:
            EngineError: the engine broke, or its answer can't be trusted.
        """


class Renderer(Protocol):
    """Words and images to tokens; see `models.renderer.QwenRenderer`."""

    end_id: int

    def fit(self, image: Image.Image) -> Image.Image:
        """The image as the model sees it; called on several threads."""

    def prompt(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[dict[str, Any]], fitted: Sequence[Image.Image]
    ) -> list[int]: ...

    def observation(self, role: str, text: str, fitted: Sequence[Image.Image], *, closed: bool) -> list[int]: ...

    def decode(self, ids: Sequence[int]) -> str: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversationMessage:
    """One message after the prompt, as written or shown."""

    role: Literal["assistant", "tool"]
    text: str
    images: tuple[int, ...] = ()
    """Indices of the images shown in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trajectory:
    """A finished rollout."""

    episode: TokenBuffer
    end_reason: EndReason
    messages: tuple[ConversationMessage, ...]
    steps: tuple[Step, ...]
    images: tuple[Image.Image, ...]
    """Every image at full resolution, as `image_index` counts them."""
    fitted: tuple[Image.Image, ...]
    """The images that the tokens refer to, as the model saw them."""
    malformed: int
    """Calls that couldn't be read."""
    calls: tuple[ToolCall | None, ...]
    """What was asked for, in order, one a step; None, and no step, where it couldn't be read."""

    @property
    def new_images(self) -> tuple[Image.Image, ...]:
        """The images that calls made."""
        return self.images[len(self.images) - sum(step.node is not None for step in self.steps) :]

    @property
    def replies(self) -> list[str]:
        """The assistant's turns."""
        return [message.text for message in self.messages if message.role == "assistant"]


async def run_rollout(
    messages: Sequence[Mapping[str, Any]],
    images: Sequence[Image.Image],
    *,
    policy: Policy,
    renderer: Renderer,
    tool: CodeTool | None,
    limits: RolloutLimits,
    frame: Frame = Frame.ORIGINAL,
) -> Trajectory:
    """Plays one rollout to its end.

    Images are fitted on other threads, so that many rollouts can share an event loop.

    Args:
        messages: The prompt; contents are parts as chat templates take them, one image part an image.
        images: The task's images at full resolution, in the order of the image parts.
        policy: The engine.
        renderer: The model family's tokens.
        tool: Runs the calls; None: the policy has no tool.
        limits: What the rollout may use up.
        frame: The coordinates that the policy writes.

    Raises:
        InfraError: the engine or the sandbox broke; the rollout is invalid.
        InputError: the prompt and the images don't belong together.
    """
    desk = await asyncio.to_thread(ImageHistory, images, renderer.fit, frame)
    calls = _Calls(desk, limits)
    fitted = list(desk.seen)
    tools = [tool_schema(frame)] if tool else []
    episode = TokenBuffer(prompt_ids=renderer.prompt(messages, tools, fitted), limits=limits)
    told: list[ConversationMessage] = []

    async def turns() -> EndReason:
        while True:
            sample = await policy(episode.ids, fitted, episode.room)
            if not sample.ids:
                raise EngineError("the engine sampled nothing")
            episode.add_sampled(sample.ids, sample.log_probs)
            reply = renderer.decode(sample.ids)
            told.append(ConversationMessage(role="assistant", text=reply))
            if not sample.finished:
                return EndReason.LENGTH
            if tool is None or not has_call(reply):
                return EndReason.ANSWER
            if episode.turns >= limits.assistant_turns:
                return EndReason.TURN_CAP
            known = len(desk.images)
            text = await calls.run(tool, reply)
            if calls.malformed >= limits.malformed_calls:
                return EndReason.MALFORMED
            if limits.force_answer and episode.turns == limits.assistant_turns - 1:
                text += "\n" + turn_message("last_turn")
            new = range(known, len(desk.images))
            shown = desk.seen[known:]
            closed = sample.ids[-1] == renderer.end_id
            if not episode.add_context(renderer.observation("tool", text, shown, closed=closed)):
                return EndReason.LENGTH
            fitted.extend(shown)
            told.append(ConversationMessage(role="tool", text=text, images=tuple(new)))

    try:
        reason = await turns()
    finally:
        traced = await asyncio.gather(*calls.steps, return_exceptions=True)
    for step in traced:
        if isinstance(step, BaseException):
            raise step
    return Trajectory(
        episode=episode,
        end_reason=reason,
        messages=tuple(told),
        steps=tuple(step for step in traced if isinstance(step, Step)),
        images=tuple(desk.images),
        fitted=tuple(fitted),
        malformed=calls.malformed,
        calls=tuple(calls.asked),
    )


class _Calls:
    """The calls of one rollout."""

    def __init__(self, desk: ImageHistory, limits: RolloutLimits) -> None:
        self.desk = desk
        self.steps: list[asyncio.Task[Step]] = []  # what a call did is traced while the policy goes on
        self.malformed = 0
        self.asked: list[ToolCall | None] = []
        self._limits = limits

    async def run(self, tool: CodeTool, reply: str) -> str:
        """Runs the calls of a turn in order, and gives what the policy is told of all of them.

        Raises SandboxError. Ends early when too many calls of the rollout couldn't be read.
        """
        results: list[str] = []
        at = 0
        while has_call(reply, at) and len(results) < self._limits.calls_per_turn:
            parsed = parse_call(reply, len(self.desk.images), at)
            at = parsed.end
            self.asked.append(parsed.call)
            if parsed.call is not None:
                begun = await tool.begin(self.desk, parsed.call)
                self.steps.append(begun.step)
                results.append(begun.text)
                continue
            results.append(parsed.message)
            self.malformed += 1
            if self.malformed >= self._limits.malformed_calls:
                break
        if len(results) > 1:
            results = [turn_message("one_of_several", number=i, text=text) for i, text in enumerate(results, 1)]
        if has_call(reply, at):
            results.append(turn_message("extra_calls", limit=self._limits.calls_per_turn))
        return "\n".join(results)
