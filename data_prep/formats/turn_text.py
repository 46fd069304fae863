"""Writes the assistant turns of a demonstration, and recognises the dialect in which turns are written.

Demonstrations are generated in the dialect `tool_call`; `convert.dialects` writes them in another one.
"""

import json
from collections.abc import Iterable

from codevision_ext.rollout.code_tool import TOOL_SCHEMA
from codevision_ext.rollout.dialects.base import Dialect
from codevision_ext.rollout.dialects.registry import TOOL_CALL, dialect_of
from codevision_ext.types import ToolCall
from data_prep.formats.schema import Message

TOOLS = json.dumps([TOOL_SCHEMA])
"""JSON list of the tool's schema, for a model that writes coordinates in pixels."""


def call_text(thought: str, call: ToolCall) -> str:
    """Return an assistant turn that calls the tool."""
    return TOOL_CALL.call_text(thought, call, first=True)


def answer_text(thought: str, answer: str) -> str:
    """Return an assistant turn that answers."""
    return TOOL_CALL.answer_text(thought, answer, first=True)


def dialect_of_messages(messages: Iterable[Message]) -> Dialect | None:
    """Return the dialect of a conversation's first call; None where it has no call."""
    return dialect_of((message.role, message.content) for message in messages)
