"""Lists the dialects, and recognises the one in which a conversation is written."""

from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Final, Literal

from codevision_ext.rollout.dialects.base import Dialect, DialectName
from codevision_ext.rollout.dialects.code_tags import CodeTags
from codevision_ext.rollout.dialects.tool_call import ToolCalls

TOOL_CALL: Final = ToolCalls()
CODE_TAGS: Final = CodeTags()
DIALECTS: Final[Mapping[DialectName, Dialect]] = {each.name: each for each in (TOOL_CALL, CODE_TAGS)}
"""Dialects by their names in the setting `codevision.dialect`."""


def split_message(text: str) -> list[tuple[Literal["assistant", "tool"], str]]:
    """Splits a message of the assistant into turns and observations, in the dialect that finds observations in it."""
    found = (dialect.turns(text) for dialect in DIALECTS.values())
    return next((turns for turns in found if len(turns) > 1), [("assistant", text)])


def has_call(text: str) -> bool:
    """Returns whether a turn has a call in any of the dialects, well-formed or not."""
    return any(dialect.has_call(text) for dialect in DIALECTS.values())


def dialect_of(turns: Iterable[tuple[str, str]]) -> Dialect | None:
    """Returns the dialect of the first call of a conversation; None where no observation follows a call.

    Args:
        turns: Roles and texts, in order.
    """
    for (role, text), (next_role, _) in pairwise(turns):
        if role == "assistant" and next_role == "tool":
            places = {text.find(dialect.tag): dialect for dialect in DIALECTS.values()}
            first = min((place for place in places if place >= 0), default=None)
            if first is not None:
                return places[first]
    return None
