"""Defines what makes items: the offline program and endpoints have one protocol."""

from enum import StrEnum
from typing import Protocol

from codevision_ext.errors import CodeVisionError
from data_prep.evolve.item import Item, Relation
from data_prep.evolve.stages import Examined


class ReplyFault(StrEnum):
    """Reason for which a reply isn't used."""

    CUT_OFF = "reply_cut_off"
    """The reply reached the limit of its tokens."""
    REFUSED = "reply_refused"
    """The endpoint gave no text, or the conversation is longer than the model's context."""
    NOT_JSON = "reply_not_json"
    FIELD = "reply_field"
    """A field is missing, unknown, of another type or out of range."""
    COUNT = "reply_count"
    """The reply hasn't the items that were ordered: three, of rising difficulty, with the tools of the call."""


class ReplyError(CodeVisionError):
    """A reply of a model that can't be used; it is counted, and the run goes on."""

    def __init__(self, fault: ReplyFault, detail: str) -> None:
        super().__init__(detail)
        self.fault = fault


class Generator(Protocol):
    """Makes items; equal arguments give equal items.

    A back end that asks a model raises ReplyError where the reply can't be used.
    """

    name: str
    """Name of the back end, part of every id and key."""

    def generate(self, knowledge: tuple[str, ...], tools: tuple[str, ...], number: int, seed: int) -> tuple[Item, ...]:
        """Return three items, easy, medium and hard, which need all of `knowledge` or draw with all of `tools`."""
        ...

    def perceive(self, knowledge: tuple[str, ...], number: int, seed: int) -> tuple[Item, ...]:
        """Return three perception items of one image: surface, semantic and integrated."""
        ...

    def expand(self, item: Item, relation: Relation, seed: int) -> Item | None:
        """Return a problem on the same image with one drawing more; None if the item can't be expanded so."""
        ...


class Reviewer(Protocol):
    """Checks, repairs and solves items by models, and merges names that models propose."""

    def review(self, examined: Examined, parent: Item | None) -> tuple[Examined, list[ReplyError]]:
        """Return an item that passed all other checks, repaired if necessary, with the first check that it fails.

        The errors are replies that couldn't be used.
        """
        ...

    def stop(self) -> None:
        """Let no further call be sent; threads that need one end with an error."""
        ...
