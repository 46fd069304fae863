"""Defines what a dialect is: how a model writes its calls, and how it reads their results."""

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from string import Template
from typing import Any, ClassVar, Final, Literal, NamedTuple

from codevision_ext.types import CallStatus, CoordinateSystem, ToolCall

DialectName = Literal["tool_call", "code_tags"]
_PROMPTS: Final = files("codevision_ext") / "prompts"


class ParsedCall(NamedTuple):
    """The result of reading a turn for a tool call."""

    status: CallStatus
    call: ToolCall | None
    """The call; None unless the status is OK."""
    message: str
    """Sentence for the model that says what to change; empty if the status is OK."""
    end: int = 0
    """Position in the turn from which the next call is searched, in characters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part of a turn, as a reader sees it."""

    kind: Literal["think", "code", "answer", "text", "broken"]
    """`code` is a call, and `broken` a call that couldn't be read."""
    text: str
    """Text of the part, without its tags and without white space at its ends."""
    note: str = ""
    """Description of a call and the image that it works on; empty for other parts."""


class Dialect(ABC):
    """How calls are written, read and answered. A dialect has no state; `DIALECTS` has one object of each.

    A *turn* is what the policy samples between two observations. In some dialects the observation of a call follows
    within the same message, so that a message of the assistant has several turns.
    """

    name: ClassVar[DialectName]
    tag: ClassVar[str]
    """Tag that opens a call."""
    stop: ClassVar[tuple[str, ...]] = ()
    """Texts at which an engine may end a turn, because a call may end there; the loop decides whether it does."""

    @abstractmethod
    def system(self, *, tools: bool) -> str:
        """Returns the package's own system message of conversations with the tool, or without."""

    @abstractmethod
    def schemas(self, coordinates: CoordinateSystem) -> list[dict[str, Any]]:
        """Returns the schemas of the tool that the system block shows; empty where the system message describes it."""

    @property
    def has_schema(self) -> bool:
        """Whether the system block shows a schema of the tool."""
        return bool(self.schemas(CoordinateSystem.ORIGINAL))

    def question_end(self, question: str) -> str:  # noqa: ARG002
        """Returns the text that follows the first question of a conversation with the tool; empty for none."""
        return ""

    @abstractmethod
    def parse_call(self, text: str, n_images: int, start: int = 0) -> ParsedCall:
        """Reads the first call of a turn. Messages never repeat text of the model.

        Args:
            text: The turn.
            n_images: Number of images that a call can choose from.
            start: Position in the turn at which the search begins, in characters.
        """

    def has_call(self, text: str, start: int = 0) -> bool:
        """Returns whether a turn has a call from `start` on, well-formed or not."""
        return self.parse_call(text, 0, start).status is not CallStatus.NONE

    def call_end(self, text: str, *, complete: bool) -> int | None:  # noqa: ARG002
        """Returns the position in characters at which a call ends the turn; None where the policy ends its turns.

        Args:
            text: The turn so far.
            complete: Whether the policy will write nothing more of it.
        """
        return None

    def frame(self, text: str) -> tuple[str, str] | None:  # noqa: ARG002
        """Returns the texts around the observation that follows a turn within the same message.

        None: the turn ends its message, and an observation is a message of its own.
        """
        return None

    def observed(self, text: str, images: int) -> str:  # noqa: ARG002
        """Returns the text of an observation that the model reads.

        Args:
            text: Text of the tool.
            images: Number of new images, which the model sees after the text.
        """
        return text

    @abstractmethod
    def parse_answer(self, turns: Sequence[str], prefix: str = "") -> str | None:
        """Returns the stripped text of the last closed `<answer>` in the last turn; None where it has no answer.

        Args:
            turns: The assistant's turns, without observations.
            prefix: Text that the chat template wrote before each message (`<think>` on thinking models).
        """

    @abstractmethod
    def format_score(self, turns: Sequence[str], prefix: str = "") -> float:
        """Returns 1 where every turn keeps the format, else 0.

        Args:
            turns: The assistant's turns, without observations.
            prefix: Text that the chat template wrote before each message (`<think>` on thinking models).
        """

    @abstractmethod
    def parts(self, text: str) -> list[Part]:
        """Splits a turn into its parts; no text is lost, whatever its form."""

    @abstractmethod
    def call_text(self, thought: str, call: ToolCall, *, first: bool) -> str:
        """Writes a turn that calls the tool; `first` is whether it is the first one of its message."""

    @abstractmethod
    def answer_text(self, thought: str, answer: str, *, first: bool) -> str:
        """Writes a turn that answers; `first` is whether it is the first one of its message."""

    def turns(self, text: str) -> list[tuple[Literal["assistant", "tool"], str]]:
        """Splits a message of the assistant into its turns and the observations between them, with their roles."""
        return [("assistant", text)]


def refuse(messages: dict[str, dict[str, str]], status: CallStatus, kind: str, **words: object) -> ParsedCall:
    """Returns the result of a call that isn't run, with a sentence of a table by status and kind of fault."""
    return ParsedCall(status, None, Template(messages[status][kind]).substitute(words))


@cache
def read_prompt(name: str) -> str:
    """Returns a text of the folder `prompts`, without white space around it."""
    return (_PROMPTS / name).read_text(encoding="utf-8").strip()


@cache
def read_messages(name: str) -> dict[str, Any]:
    """Returns a JSON object of the folder `prompts`; callers must not change it."""
    messages: dict[str, Any] = json.loads(read_prompt(name))
    return messages
