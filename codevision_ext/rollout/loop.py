"""Runs one rollout, turn by turn, until it ends.

In each turn the policy writes, its tool calls are run, and the results are appended for the next turn. The same loop
serves training and evaluation. It knows neither verl nor an engine: a `Policy` samples tokens, a `Renderer` turns
messages and images into tokens, and a `CodeTool` runs code. The tool gets images at full resolution; the model gets
them resized.
"""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from PIL import Image

from codevision_ext.errors import EngineError
from codevision_ext.io.clean_text import clean_text
from codevision_ext.rollout.code_tool import CodeTool, tool_schema
from codevision_ext.rollout.image_history import ImageHistory
from codevision_ext.rollout.parsing import ParsedCall, has_call, parse_answer, parse_call, turn_message
from codevision_ext.rollout.token_buffer import RolloutLimits, TokenBuffer
from codevision_ext.types import CoordinateSystem, EndReason, Step, ToolCall


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """The tokens that an engine sampled in one turn."""

    ids: list[int]
    log_probs: list[float]
    """Log-prob of each token, natural logarithm."""
    finished: bool
    """True if the policy ended its turn, False if it reached the token limit."""


def turn_ended(ids: Sequence[int], end_ids: Collection[int], *, stopped: bool) -> bool:
    """Returns whether the policy ended its turn; False if the turn reached the token limit.

    The last token decides. The engine's own report isn't enough: if the end token is the last token allowed, SGLang and
    verl's client of an asynchronous trainer report `length`.

    Args:
        ids: The tokens of the turn.
        end_ids: The tokens that end a turn.
        stopped: Whether the engine reports another end than the token limit.
    """
    return stopped or (bool(ids) and ids[-1] in end_ids)


class Policy(Protocol):
    """The engine, as one rollout uses it."""

    async def __call__(self, ids: list[int], images: Sequence[Image.Image], max_tokens: int) -> Completion:
        """Samples the next turn.

        Args:
            ids: All tokens so far; their image marks belong to `images`, in order.
            images: The images as the model sees them.
            max_tokens: Maximum tokens of the turn.

        Raises:
            EngineError: the engine broke, or its answer can't be trusted.
        """


class Renderer(Protocol):
    """Turns messages and images into tokens; see `models.renderer.QwenRenderer`."""

    end_id: int
    """Id of the token that ends a turn."""

    def resize(self, image: Image.Image) -> Image.Image:
        """Returns the image as the model sees it; called on several threads."""

    def prompt(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[dict[str, Any]], resized: Sequence[Image.Image]
    ) -> list[int]:
        """Returns the tokens of the prompt, up to the start of the first assistant turn."""

    def observation(self, role: str, text: str, resized: Sequence[Image.Image], *, closed: bool) -> list[int]:
        """Returns the tokens of a message, up to the start of the next assistant turn.

        Args:
            role: Role of the message.
            text: Text of the message.
            resized: Images of the message, as the model sees them.
            closed: Whether the turn before ended with `end_id`. If not, the message begins with `end_id`.
        """

    def decode(self, ids: Sequence[int]) -> str:
        """Returns the text of sampled tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversationMessage:
    """A message after the prompt: a turn of the assistant, or an observation of the tool."""

    role: Literal["assistant", "tool"]
    text: str
    images: tuple[int, ...] = ()
    """Indices of the images in the message, as `image_index` counts them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trajectory:
    """A finished rollout."""

    token_buffer: TokenBuffer
    end_reason: EndReason
    messages: tuple[ConversationMessage, ...]
    steps: tuple[Step, ...]
    images: tuple[Image.Image, ...]
    """All images at full resolution, as `image_index` counts them."""
    resized: tuple[Image.Image, ...]
    """Images as the model saw them, in the order of the image marks among the tokens."""
    malformed: int
    """Number of tool calls that couldn't be read, and of turns with neither a call nor an answer."""
    calls: tuple[ToolCall | None, ...]
    """Tool calls in order, one for each step; None for a call that couldn't be read and has no step."""

    @property
    def new_images(self) -> tuple[Image.Image, ...]:
        """Images that calls made, in order."""
        return self.images[len(self.images) - sum(len(step.images) for step in self.steps) :]

    @property
    def replies(self) -> list[str]:
        """Texts of the assistant's turns, in order."""
        return [message.text for message in self.messages if message.role == "assistant"]


async def run_rollout(
    messages: Sequence[Mapping[str, Any]],
    images: Sequence[Image.Image],
    *,
    policy: Policy,
    renderer: Renderer,
    tool: CodeTool | None,
    limits: RolloutLimits,
    coordinates: CoordinateSystem = CoordinateSystem.ORIGINAL,
    schemas: Sequence[dict[str, Any]] | None = None,
) -> Trajectory:
    """Runs one rollout to its end.

    Images are resized on other threads, so that many rollouts can share an event loop.

    Args:
        messages: The prompt. Contents are lists of parts, as chat templates take them, with one image part per image.
        images: The task's images at full resolution, in the order of the image parts.
        policy: The engine.
        renderer: The model family's tokens.
        tool: Runs the calls; None: the policy has no tool.
        limits: Limits of the rollout.
        coordinates: The coordinate system in which the policy writes.
        schemas: Schemas of the tool for the system block (`config.tool_schemas`); None: the package's own schema.

    Raises:
        InfraError: the engine or the sandbox broke; the rollout is invalid.
        InputError: the prompt has more or fewer image parts than there are images.
    """
    history = await asyncio.to_thread(ImageHistory, images, renderer.resize, coordinates)
    calls = _Calls(history, limits)
    resized = list(history.resized)
    tools = ([tool_schema(coordinates)] if schemas is None else schemas) if tool else []
    token_buffer = TokenBuffer(prompt_ids=renderer.prompt(messages, tools, resized), limits=limits)
    conversation: list[ConversationMessage] = []

    async def turns() -> EndReason:
        while True:
            completion = await policy(token_buffer.ids, resized, token_buffer.room)
            if not completion.ids:
                raise EngineError("the engine sampled nothing")
            token_buffer.add_sampled(completion.ids, completion.log_probs)
            reply = clean_text(renderer.decode(completion.ids))
            conversation.append(ConversationMessage(role="assistant", text=reply))
            if not completion.finished:
                return EndReason.LENGTH
            last = token_buffer.turns >= limits.assistant_turns
            if tool is None or (not has_call(reply) and (last or parse_answer([reply]) is not None)):
                return EndReason.ANSWER
            if last:
                return EndReason.TURN_CAP
            first_new = len(history.images)
            text = await calls.run(tool, reply)
            if calls.malformed >= limits.malformed_calls:
                return EndReason.MALFORMED
            if limits.force_answer and token_buffer.turns == limits.assistant_turns - 1:
                text += "\n" + turn_message("last_turn")
            new_indices = tuple(range(first_new, len(history.images)))
            new_images = history.resized[first_new:]
            closed = completion.ids[-1] == renderer.end_id
            if not token_buffer.add_context(renderer.observation("tool", text, new_images, closed=closed)):
                return EndReason.LENGTH
            resized.extend(new_images)
            conversation.append(ConversationMessage(role="tool", text=text, images=new_indices))

    try:
        reason = await turns()
    finally:  # the tasks must end with the rollout, also where the engine broke
        steps = await asyncio.gather(*calls.steps, return_exceptions=True)
    for step in steps:
        if isinstance(step, BaseException):
            raise step
    return Trajectory(
        token_buffer=token_buffer,
        end_reason=reason,
        messages=tuple(conversation),
        steps=tuple(step for step in steps if isinstance(step, Step)),
        images=tuple(history.images),
        resized=tuple(resized),
        malformed=calls.malformed,
        calls=tuple(calls.parsed),
    )


class _Calls:
    """The tool calls of one rollout."""

    def __init__(self, history: ImageHistory, limits: RolloutLimits) -> None:
        self.history = history
        self.steps: list[asyncio.Task[Step]] = []
        """Steps of the calls that were run; their images are traced while the policy writes its next turn."""
        self.malformed = 0
        self.parsed: list[ToolCall | None] = []
        """Calls in order; None for a call that couldn't be read."""
        self._limits = limits

    async def run(self, tool: CodeTool, reply: str) -> str:
        """Runs the calls of one turn in order, and returns the text of the observation on all of them.

        A turn without a call counts as one that couldn't be read. Stops at the call that makes `malformed` reach its
        limit. Raises SandboxError.
        """
        texts: list[str] = []
        if not has_call(reply):
            return self._refuse(parse_call(reply, len(self.history.images)))
        position = 0
        while has_call(reply, position) and len(texts) < self._limits.calls_per_turn:
            parsed = parse_call(reply, len(self.history.images), position)
            position = parsed.end
            if parsed.call is not None:
                self.parsed.append(parsed.call)
                started = await tool.begin(self.history, parsed.call)
                self.steps.append(started.step)
                texts.append(started.text)
                continue
            texts.append(self._refuse(parsed))
            if self.malformed >= self._limits.malformed_calls:
                break
        if len(texts) > 1:
            texts = [turn_message("one_of_several", number=i, text=text) for i, text in enumerate(texts, 1)]
        if has_call(reply, position):
            texts.append(turn_message("extra_calls", limit=self._limits.calls_per_turn))
        return "\n".join(texts)

    def _refuse(self, parsed: ParsedCall) -> str:
        """Counts a call that couldn't be read, and returns the sentence for the model."""
        self.parsed.append(None)
        self.malformed += 1
        return parsed.message
