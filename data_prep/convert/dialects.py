"""Writes demonstrations in another dialect: calls, answers, observations, system message and question."""

import json
from dataclasses import replace
from typing import Final

from codevision_ext.rollout.dialects.base import Dialect, DialectName
from codevision_ext.rollout.dialects.registry import DIALECTS, TOOL_CALL
from codevision_ext.types import CoordinateSystem
from data_prep.formats.row_errors import Reason, RowError
from data_prep.formats.schema import IMAGE_TAG, Demonstration, Message
from data_prep.formats.turn_text import dialect_of_messages

CHANGE: Final = "dialect"
"""Change of a row that was written in another dialect here."""
_ANY_INDEX: Final = 2**31
"""Number of images for reading a call whose index was checked before."""


def in_dialect(demonstration: Demonstration, name: DialectName | None) -> Demonstration:
    """Return the demonstration in a dialect; unchanged without a name, if it is written in it, or if it has no tool.

    If the dialect shows no schema of the tool, a system message that describes the tool is added where there is none.

    Raises:
        RowError: A turn has neither a call that can be read nor an answer, or an observation has fewer words than those
            of the dialect.
    """
    messages = demonstration.messages
    own = dialect_of_messages(messages) or (TOOL_CALL if demonstration.tools else None)
    if name is None or own is None or own.name == name:
        return demonstration
    dialect = DIALECTS[name]
    written: list[Message] = []
    first = True
    for turn, message in enumerate(messages):
        content = message.content
        if message.role == "assistant":
            content = _turn(content, own, dialect, first, turn)
            first = dialect.frame(content) is None
        elif message.role == "tool":
            content = _observation(content, dialect, turn)
        elif message.role == "system" and content == own.system(tools=True):
            content = dialect.system(tools=True)
        written.append(replace(message, content=content))
    asked = next((at for at, message in enumerate(written) if message.role == "user"), None)
    if asked is not None:
        question = written[asked].content
        written[asked] = replace(written[asked], content=question + dialect.question_end(question))
    schemas = dialect.schemas(CoordinateSystem.ORIGINAL)
    if not schemas and written[0].role != "system":
        written.insert(0, Message(role="system", content=dialect.system(tools=True)))
    return replace(
        demonstration,
        messages=tuple(written),
        tools=json.dumps(schemas) if schemas else "",
        changes=(*demonstration.changes, CHANGE),
    )


def _turn(content: str, own: Dialect, dialect: Dialect, first: bool, turn: int) -> str:
    """Return a turn of the assistant in the dialect; `first` is whether it begins its message."""
    call = own.parse_call(content, _ANY_INDEX).call
    thought = "\n".join(part.text for part in own.parts(content) if part.kind in ("think", "text"))
    if call is not None:
        return dialect.call_text(thought, call, first=first)
    answer = own.parse_answer([content])
    if answer is None:
        raise RowError(Reason.BAD_CALL, "messages", f"turn {turn}: neither a call that can be read nor an answer")
    return dialect.answer_text(thought, answer, first=first)


def _observation(content: str, dialect: Dialect, turn: int) -> str:
    images = content.count(IMAGE_TAG)
    text = content.replace(IMAGE_TAG, "")
    if images and not text.strip() and dialect.observed("words", images):
        message = f"turn {turn}: the observation has no words, but in the dialect {dialect.name} it has"
        raise RowError(Reason.NOT_SUPPORTED, "messages", message)
    return dialect.observed(text, images) + IMAGE_TAG * images
