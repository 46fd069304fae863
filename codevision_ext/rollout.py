"""How one rollout is played: the policy speaks, its call is run, the result is shown, until it ends for a named reason.

The same loop serves training and evaluation. It knows neither verl nor an engine: a `Policy` samples tokens, a `Codec`
turns words and pictures into tokens, a `CodeTool` runs code. Pictures keep full resolution for the tool and are fitted
for the model.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from PIL import Image

from codevision_ext.code_tool import TOOL_SCHEMA, CodeTool, PictureDesk
from codevision_ext.episode import Episode, EpisodeLimits
from codevision_ext.errors import EngineError
from codevision_ext.parsing import parse_call
from codevision_ext.types import CallStatus, EndReason, Step


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What an engine sampled in one turn."""

    ids: list[int]
    log_probs: list[float]
    """One a token, natural logarithm."""
    finished: bool
    """The policy ended its turn; False: it ran into the token limit."""


class Policy(Protocol):
    """An engine, seen from one rollout."""

    async def __call__(self, ids: list[int], pictures: Sequence[Image.Image], max_tokens: int) -> Sample:
        """Continue `ids`, whose picture marks belong to `pictures` in order, by at most `max_tokens`.

        Raises:
            EngineError: the engine broke, or its answer can't be trusted.
        """


class Codec(Protocol):
    """Words and pictures to tokens; see `verl_adapter.codec.QwenCodec`."""

    end_id: int

    def fit(self, image: Image.Image) -> Image.Image: ...

    def prompt(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[dict[str, Any]], fitted: Sequence[Image.Image]
    ) -> list[int]: ...

    def observation(self, role: str, text: str, fitted: Sequence[Image.Image], *, closed: bool) -> list[int]: ...

    def decode(self, ids: Sequence[int]) -> str: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message after the prompt, as written or shown."""

    role: Literal["assistant", "tool"]
    text: str
    pictures: tuple[int, ...] = ()
    """Indices of the pictures shown in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trajectory:
    """A finished rollout."""

    episode: Episode
    end_reason: EndReason
    messages: tuple[Message, ...]
    steps: tuple[Step, ...]
    pictures: tuple[Image.Image, ...]
    """Every picture at full resolution, as `image_index` counts them."""
    fitted: tuple[Image.Image, ...]
    """The pictures that the tokens refer to, as the model saw them."""
    malformed: int
    """Calls that couldn't be read."""

    @property
    def new_pictures(self) -> tuple[Image.Image, ...]:
        """The pictures that calls made."""
        return self.pictures[len(self.pictures) - sum(step.node is not None for step in self.steps) :]

    @property
    def replies(self) -> list[str]:
        """The assistant's turns."""
        return [message.text for message in self.messages if message.role == "assistant"]


async def play(
    messages: Sequence[Mapping[str, Any]],
    pictures: Sequence[Image.Image],
    *,
    policy: Policy,
    codec: Codec,
    tool: CodeTool | None,
    limits: EpisodeLimits,
) -> Trajectory:
    """Plays one rollout to its end.

    Args:
        messages: The prompt; contents are parts as chat templates take them, one image part a picture.
        pictures: The task's pictures at full resolution, in the order of the image parts.
        policy: The engine.
        codec: The model family's tokens.
        tool: Runs the calls; None: the policy has no tool.
        limits: What the rollout may use up.

    Raises:
        InfraError: the engine or the sandbox broke; the rollout is invalid.
        InputError: the prompt and the pictures don't belong together.
    """
    desk = PictureDesk(pictures)
    fitted = [codec.fit(picture) for picture in pictures]
    tools = [TOOL_SCHEMA] if tool else []
    episode = Episode(prompt_ids=codec.prompt(messages, tools, fitted), limits=limits)
    told: list[Message] = []
    steps: list[asyncio.Task[Step]] = []  # what a call did is traced while the policy goes on
    malformed = 0

    async def turns() -> EndReason:
        nonlocal malformed
        while True:
            sample = await policy(episode.ids, fitted, episode.room)
            if not sample.ids:
                raise EngineError("the engine sampled nothing")
            episode.add_sampled(sample.ids, sample.log_probs)
            reply = codec.decode(sample.ids)
            told.append(Message(role="assistant", text=reply))
            if not sample.finished:
                return EndReason.LENGTH
            parsed = parse_call(reply, len(desk.pictures))
            if tool is None or parsed.status is CallStatus.NONE:
                return EndReason.ANSWER
            if episode.turns >= limits.assistant_turns:
                return EndReason.TURN_CAP
            shown: list[Image.Image] = []
            if parsed.call is None:
                malformed += 1
                if malformed >= limits.malformed_calls:
                    return EndReason.MALFORMED
                text = parsed.message
            else:
                begun = await tool.begin(desk, parsed.call)
                steps.append(begun.step)
                text = "\n".join(filter(None, [begun.text, parsed.message]))
                if begun.image is not None:
                    shown.append(codec.fit(begun.image))
            closed = sample.ids[-1] == codec.end_id
            if not episode.add_context(codec.observation("tool", text, shown, closed=closed)):
                return EndReason.LENGTH
            fitted.extend(shown)
            told.append(Message(role="tool", text=text, pictures=(len(desk.pictures) - 1,) if shown else ()))

    try:
        reason = await turns()
    finally:
        traced = await asyncio.gather(*steps, return_exceptions=True)
    for step in traced:
        if isinstance(step, BaseException):
            raise step
    return Trajectory(
        episode=episode,
        end_reason=reason,
        messages=tuple(told),
        steps=tuple(step for step in traced if isinstance(step, Step)),
        pictures=tuple(desk.pictures),
        fitted=tuple(fitted),
        malformed=malformed,
    )
