"""Plays a rollout for a request, and reads the answer, the thoughts and the record from it."""

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from PIL import Image

from codevision_ext.config import system_prompt
from codevision_ext.engines.base import LoadedModel
from codevision_ext.evaluate.run import RolloutConfig, record_numbers, run_prompt
from codevision_ext.io.records import Record
from codevision_ext.rollout.code_tool import CodeTool
from codevision_ext.rollout.dialects.base import Dialect
from codevision_ext.rollout.dialects.registry import DIALECTS
from codevision_ext.rollout.loop import ConversationMessage, Trajectory
from codevision_ext.scoring import answer_of
from codevision_ext.serve.protocol import ChatRequest, TokenCounts
from codevision_ext.types import EndReason, Outcome, Task

FINISH: Final = {EndReason.ANSWER: "stop", EndReason.MALFORMED: "stop"}
"""OpenAI's `finish_reason` by the end of a rollout; every other end is `length`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedModel:
    """A model that answers, and how it is asked."""

    name: str
    """Id of the model in requests."""
    model: LoadedModel
    config: RolloutConfig
    """Settings and limits of the rollouts."""
    tool: CodeTool | None
    """Tool of the model; None: the server has none."""
    temperature: float
    """Temperature of a request that names none."""
    ignore_max_tokens: bool = False
    """True: the limit of tokens is the server's own, whatever a request names."""

    @property
    def dialect(self) -> Dialect:
        """Dialect of the model."""
        return DIALECTS[self.config.settings.dialect]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatAnswer:
    """The end of a rollout, for the sender of the request."""

    trajectory: Trajectory
    content: str
    """Answer; without an `<answer>` the text of the last turn, and empty if something else ended the rollout."""
    rest: str
    """Thoughts that no message of the rollout showed before."""
    finish: str
    """OpenAI's `finish_reason`."""
    tokens: TokenCounts
    own: Mapping[str, Any]
    """Field `codevision` of the response."""
    seed: int
    seconds: float
    """Seconds of the rollout."""


class Thoughts:
    """Cuts the messages of a rollout into the deltas of `reasoning_content`, and the rest into `content`.

    Thoughts and calls are shown at once. Other text of a turn is only shown as a thought if the rollout goes on.
    """

    def __init__(self, dialect: Dialect, *, tools: bool) -> None:
        self._dialect, self._tools = dialect, tools
        self._left = ""

    def add(self, message: ConversationMessage) -> str:
        """Returns what a message adds to the thoughts."""
        if message.role == "tool":
            left, self._left = self._left, ""
            return f"{left}<tool_response>\n{message.text}\n</tool_response>\n\n"
        if self._tools and self._dialect.has_call(message.text):
            return f"{message.text.strip()}\n\n"
        parts = self._dialect.parts(message.text)
        self._left = "".join(f"{part.text}\n\n" for part in parts if part.kind != "think")
        return "".join(f"{part.text}\n\n" for part in parts if part.kind == "think")

    def end(self, trajectory: Trajectory) -> tuple[str, str]:
        """Returns the last delta of the thoughts, and the content."""
        answer = answer_of(trajectory)
        if answer is not None:
            return "", answer
        if trajectory.end_reason is not EndReason.ANSWER:
            return self._left, ""
        parts = trajectory.dialect.parts(trajectory.replies[-1])
        return "", "\n".join(part.text for part in parts if part.kind in ("text", "answer"))


Show = Callable[[str, ConversationMessage, Sequence[Image.Image]], None]
"""Function that gets each message of a rollout: its delta of the thoughts, the message, and its images."""


async def play(
    served: ServedModel, request: ChatRequest, prompt: Sequence[Mapping[str, Any]], ident: str, show: Show
) -> ChatAnswer:
    """Runs the rollout of a request; raises what `evaluate.run.run_prompt` raises."""
    config, options = served.config, request.codevision
    most_tokens = None if served.ignore_max_tokens else request.most_tokens
    limits = replace(
        config.limits,
        response_tokens=min(config.limits.response_tokens, most_tokens or config.limits.response_tokens),
        assistant_turns=min(config.limits.assistant_turns, options.turns or config.limits.assistant_turns),
    )
    tool = served.tool if options.tool else None
    seed = secrets.randbits(63) if request.seed is None else request.seed % 2**63
    temperature = served.temperature if request.temperature is None else request.temperature
    thoughts = Thoughts(served.dialect, tools=tool is not None)

    def watch(message: ConversationMessage, images: Sequence[Image.Image]) -> None:
        show(thoughts.add(message), message, images)

    start = time.monotonic()
    trajectory = await run_prompt(
        prompt,
        system_prompt(config.settings, tools=tool is not None),
        policy=served.model.policy(seed, temperature=temperature),
        renderer=served.model.renderer,
        tool=tool,
        limits=limits,
        settings=config.settings,
        watch=watch,
    )
    rest, content = thoughts.end(trajectory)
    tokens, sampled = trajectory.token_buffer, sum(trajectory.token_buffer.response_mask)
    counts = TokenCounts(prompt=len(tokens.prompt_ids), sampled=sampled, context=len(tokens.response_ids) - sampled)
    own = {
        "end_reason": str(trajectory.end_reason),
        "answer": answer_of(trajectory),
        "turns": tokens.turns,
        "tool_calls": len(trajectory.calls),
        "tool_tokens": counts.context,
        "trajectory": f"/trajectories/{ident}",
    }
    return ChatAnswer(
        trajectory=trajectory,
        content=content,
        rest=rest,
        finish=FINISH.get(trajectory.end_reason, "length"),
        tokens=counts,
        own=own,
        seed=seed,
        seconds=time.monotonic() - start,
    )


def record_of(served: ServedModel, request: ChatRequest, answer: ChatAnswer, ident: str) -> Record:
    """Returns the record of an answer, without turns and images: that of an evaluation, but nothing is scored."""
    trajectory, settings = answer.trajectory, served.config.settings
    outcome = Outcome(
        correct=False,
        undecided=answer_of(trajectory) is not None,
        format=trajectory.dialect.format_score(trajectory.replies, settings.think_prefix),
        end_reason=trajectory.end_reason,
        steps=trajectory.steps,
    )
    record = Record(
        group=ident,
        id=f"{ident}-0",
        task=Task(size=trajectory.images[0].size if trajectory.images else None),
        observed=outcome,
        source="serve",
        seed=answer.seed,
        question=request.question,
        answer=trajectory.answer,
        tokens=len(trajectory.token_buffer.response_ids),
        turn_count=trajectory.token_buffer.turns,
    )
    numbers = record_numbers(record, trajectory, settings) | {"seconds": answer.seconds}
    return replace(record, numbers=numbers)
