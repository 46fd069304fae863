"""Runs one rollout, turn by turn, until it ends.

In each turn the policy writes, its tool calls are run, and the results are appended for the next turn. The same loop
serves training and evaluation. It knows neither verl nor an engine: a `Policy` samples tokens, a `Renderer` turns
messages and images into tokens, and a `CodeTool` runs code. The tool gets images at full resolution; the model gets
them resized.
"""

import asyncio
from bisect import bisect_left
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from PIL import Image

from codevision_ext.errors import EngineError
from codevision_ext.io.clean_text import clean_text
from codevision_ext.rollout.code_tool import CodeTool
from codevision_ext.rollout.dialects.base import Dialect, ParsedCall
from codevision_ext.rollout.dialects.registry import TOOL_CALL
from codevision_ext.rollout.image_history import ImageHistory, paths_in
from codevision_ext.rollout.parsing import turn_message
from codevision_ext.rollout.token_buffer import RolloutLimits, TokenBuffer
from codevision_ext.types import CoordinateSystem, EndReason, Step, ToolCall


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """The tokens that an engine sampled in one turn."""

    ids: list[int]
    log_probs: list[float]
    """Log-prob of each token, natural logarithm."""
    finished: bool
    """True if the policy ended its turn or the engine stopped it at a text, False if it reached the token limit."""
    stopped: bool = False
    """True if the engine stopped at one of the dialect's stop texts; the policy didn't end its message."""


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


def stopped_at_text(ids: Sequence[int], end_ids: Collection[int], stop: Sequence[str], *, finished: bool) -> bool:
    """Returns whether the engine stopped at one of the texts `stop`, where the policy didn't end its message.

    Args:
        ids: The tokens of the turn.
        end_ids: The tokens that end a turn.
        stop: The texts at which the engine was asked to stop.
        finished: Whether the turn ended before the token limit.
    """
    return finished and bool(stop) and ids[-1] not in end_ids


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

    def insertion(self, before: str, resized: Sequence[Image.Image], after: str = "") -> list[int]:
        """Returns the tokens of a text, images and another text inside of a message of the assistant."""

    def decode(self, ids: Sequence[int]) -> str:
        """Returns the text of sampled tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversationMessage:
    """A message after the prompt: a turn of the assistant, or an observation of the tool."""

    role: Literal["assistant", "tool"]
    text: str
    images: tuple[int, ...] = ()
    """Indices of the images in the message, as `image_index` counts them."""


Watch = Callable[[ConversationMessage, Sequence[Image.Image]], None]
"""Function that gets each message after the prompt as soon as it exists, with its images at full resolution."""


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
    step_turns: tuple[int, ...] = ()
    """Assistant turn that each step belongs to, from 0."""
    dialect: Dialect = TOOL_CALL
    """Dialect of the policy."""
    think_prefix: str = ""
    """Text that the chat template wrote before each message of the assistant."""

    @property
    def new_images(self) -> tuple[Image.Image, ...]:
        """Images that calls made, in order."""
        return self.images[len(self.images) - sum(len(step.images) for step in self.steps) :]

    @property
    def replies(self) -> list[str]:
        """Texts of the assistant's turns, in order."""
        return [message.text for message in self.messages if message.role == "assistant"]

    @property
    def answer(self) -> str | None:
        """Answer in the last turn; None where it has none."""
        return self.dialect.parse_answer(self.replies, self.think_prefix)


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
    dialect: Dialect = TOOL_CALL,
    think_prefix: str = "",
    watch: Watch | None = None,
) -> Trajectory:
    """Runs one rollout to its end.

    Images are resized on other threads, so that many rollouts can share an event loop. A rollout that is cancelled
    starts no further call; code that is running ends at its time limit.

    Args:
        messages: The prompt. Contents are lists of parts, as chat templates take them, with one image part per image.
        images: The task's images at full resolution, in the order of the image parts.
        policy: The engine.
        renderer: The model family's tokens.
        tool: Runs the calls; None: the policy has no tool.
        limits: Limits of the rollout.
        coordinates: The coordinate system in which the policy writes.
        schemas: Schemas of the tool for the system block (`config.tool_schemas`); None: the package's own schema.
        dialect: How the policy writes its calls, and reads their results.
        think_prefix: Text that the chat template writes before each message of the assistant.
        watch: Function that gets each message as soon as it exists; None: nobody watches.

    Raises:
        InfraError: the engine or the sandbox broke; the rollout is invalid.
        InputError: the prompt has more or fewer image parts than there are images.
    """
    messages = with_question_end(messages, dialect) if tool else messages
    history = await asyncio.to_thread(ImageHistory, images, renderer.resize, coordinates, paths_in(messages))
    calls = _Calls(history, limits, dialect)
    resized = list(history.resized)
    tools = (dialect.schemas(coordinates) if schemas is None else schemas) if tool else []
    token_buffer = TokenBuffer(prompt_ids=renderer.prompt(messages, tools, resized), limits=limits)
    conversation: list[ConversationMessage] = []

    def append(message: ConversationMessage) -> None:
        conversation.append(message)
        if watch:
            watch(message, [history.images[index] for index in message.images])

    async def turns() -> EndReason:
        while True:
            turn = await _sample_turn(policy, renderer, dialect if tool else None, token_buffer, resized)
            token_buffer.add_sampled(turn.ids, turn.log_probs)
            reply = clean_text(turn.text)
            append(ConversationMessage(role="assistant", text=reply))
            if not turn.finished:
                return EndReason.LENGTH
            last = token_buffer.turns >= limits.assistant_turns
            replies = [message.text for message in conversation if message.role == "assistant"]
            called = tool is not None and dialect.has_call(reply)
            if tool is None or (not called and (last or dialect.parse_answer(replies, think_prefix) is not None)):
                return EndReason.ANSWER
            if last:
                return EndReason.TURN_CAP
            first_new = len(history.images)
            text = await calls.run(tool, reply, token_buffer.turns - 1)
            if calls.malformed >= limits.malformed_calls:
                return EndReason.MALFORMED
            text = dialect.observed(text, len(history.images) - first_new)
            if limits.force_answer and token_buffer.turns == limits.assistant_turns - 1:
                text = f"{text}\n{turn_message('last_turn')}".lstrip("\n")
            new_indices = tuple(range(first_new, len(history.images)))
            new_images = history.resized[first_new:]
            frame = dialect.frame(reply)
            if frame:
                before, after = frame
                context = turn.rest + renderer.insertion(before + text, new_images, after)
            else:
                closed = turn.ids[-1] == renderer.end_id
                context = renderer.observation("tool", text, new_images, closed=closed)
            if not token_buffer.add_context(context):
                return EndReason.LENGTH
            resized.extend(new_images)
            append(ConversationMessage(role="tool", text=text, images=new_indices))

    try:
        reason = await turns()
    except asyncio.CancelledError:  # nobody will read the steps
        for task in calls.steps:
            task.cancel()
        raise
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
        step_turns=tuple(calls.step_turns),
        dialect=dialect,
        think_prefix=think_prefix,
    )


def with_question_end(messages: Sequence[Mapping[str, Any]], dialect: Dialect) -> list[dict[str, Any]]:
    """Returns a prompt with the text that the dialect puts behind its first question; contents are lists of parts."""
    prompt = [dict(message) for message in messages]
    asked = next((message for message in prompt if message["role"] == "user"), None)
    end = dialect.question_end("".join(part.get("text", "") for part in asked["content"])) if asked else ""
    if asked and end:
        asked["content"] = [*asked["content"], {"type": "text", "text": end}]
    return prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class _Turn:
    """What the policy sampled between two observations."""

    ids: list[int]
    log_probs: list[float]
    text: str
    finished: bool
    """False if the turn reached the token limit."""
    rest: list[int]
    """Tokens of the end of the text that are no sampled tokens; see `_cut`."""


async def _sample_turn(
    policy: Policy,
    renderer: Renderer,
    dialect: Dialect | None,
    token_buffer: TokenBuffer,
    resized: Sequence[Image.Image],
) -> _Turn:
    """Samples the next turn, up to the end of the policy's message or of a call that ends the turn.

    If the engine stopped at a text that is no end of a call, as in a string of the code, it samples on. If the engine
    didn't stop at the end of a call, what it sampled behind that is dropped.

    Args:
        policy: The engine.
        renderer: Decodes the tokens.
        dialect: Says where a call ends a turn; None: the policy has no tool.
        token_buffer: The tokens so far.
        resized: All images so far, as the model sees them.
    """
    ids: list[int] = []
    log_probs: list[float] = []
    while True:
        sampled = await policy(token_buffer.ids + ids, resized, token_buffer.room - len(ids))
        if not sampled.ids:
            raise EngineError("the engine sampled nothing")
        ids, log_probs = ids + sampled.ids, log_probs + sampled.log_probs
        more = sampled.stopped and len(ids) < token_buffer.room
        text = renderer.decode(ids)
        end = dialect.call_end(text, complete=not more) if dialect else None
        if end is not None:
            return _cut(ids, log_probs, text, end, renderer)
        if not more:
            finished = sampled.finished and not sampled.stopped
            return _Turn(ids=ids, log_probs=log_probs, text=text, finished=finished, rest=[])


def _cut(ids: list[int], log_probs: list[float], text: str, end: int, renderer: Renderer) -> _Turn:
    """Returns the turn up to the position `end` in its text.

    A last token may reach further. If it adds white space only, the turn keeps that. Otherwise the turn ends with the
    token before, and the tokens of the text up to `end` are context, because the policy didn't sample them.
    """

    def length(tokens: int) -> int:
        return len(renderer.decode(ids[:tokens]))

    count = len(ids)
    if length(count - 1) >= end:  # the engine went on behind the call
        count = 1 + bisect_left(range(1, count), end, key=length)
    kept = renderer.decode(ids[:count])
    if not kept[end:].strip():
        return _Turn(ids=ids[:count], log_probs=log_probs[:count], text=kept, finished=True, rest=[])
    count -= 1
    rest = renderer.insertion(text[len(renderer.decode(ids[:count])) : end], ())
    return _Turn(ids=ids[:count], log_probs=log_probs[:count], text=text[:end], finished=True, rest=rest)


class _Calls:
    """The tool calls of one rollout."""

    def __init__(self, history: ImageHistory, limits: RolloutLimits, dialect: Dialect) -> None:
        self.history = history
        self.steps: list[asyncio.Task[Step]] = []
        """Steps of the calls that were run; their images are traced while the policy writes its next turn."""
        self.malformed = 0
        self.step_turns: list[int] = []
        """Turn of each of `steps`, from 0."""
        self.parsed: list[ToolCall | None] = []
        """Calls in order; None for a call that couldn't be read."""
        self._limits, self._dialect = limits, dialect

    async def run(self, tool: CodeTool, reply: str, turn: int) -> str:
        """Runs the calls of one turn in order, and returns the text of the observation on all of them.

        A turn without a call counts as one that couldn't be read. Stops at the call that makes `malformed` reach its
        limit. `turn` is the number of turns before this one. Raises SandboxError.
        """
        texts: list[str] = []
        dialect = self._dialect
        if not dialect.has_call(reply):
            return self._refuse(dialect.parse_call(reply, len(self.history.images)))
        position = 0
        while dialect.has_call(reply, position) and len(texts) < self._limits.calls_per_turn:
            parsed = dialect.parse_call(reply, len(self.history.images), position)
            position = parsed.end
            if parsed.call is not None:
                self.parsed.append(parsed.call)
                started = await tool.begin(self.history, parsed.call)
                self.steps.append(started.step)
                self.step_turns.append(turn)
                texts.append(started.text)
                continue
            texts.append(self._refuse(parsed))
            if self.malformed >= self._limits.malformed_calls:
                break
        if len(texts) > 1:
            texts = [turn_message("one_of_several", number=i, text=text) for i, text in enumerate(texts, 1)]
        if dialect.has_call(reply, position):
            texts.append(turn_message("extra_calls", limit=self._limits.calls_per_turn))
        return "\n".join(texts)

    def _refuse(self, parsed: ParsedCall) -> str:
        """Counts a call that couldn't be read, and returns the sentence for the model."""
        self.parsed.append(None)
        self.malformed += 1
        return parsed.message
