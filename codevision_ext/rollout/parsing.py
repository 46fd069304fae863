"""Parses an assistant's turn: its tool calls, its answer, and whether it keeps the format."""

import json
import re
from collections.abc import Sequence
from string import Template
from typing import Any, Final

from codevision_ext.rollout.dialects.base import ParsedCall, read_messages, refuse
from codevision_ext.rollout.other_formats import other_answer, other_call
from codevision_ext.rollout.turn_parts import BLANK, json_start, mask_calls, read_json, thought_end
from codevision_ext.types import CallStatus, ToolCall

TOOL_NAME: Final = "code_image_tool"
"""Name of the tool, as the model calls it."""

_OPEN: Final = "<tool_call>"
_CLOSE: Final = re.compile(rf"{BLANK}</tool_call>")
_ARGUMENTS: Final = frozenset({"code", "description", "image_index"})
_ANSWER: Final = re.compile(r"<answer>((?:(?!</?answer>).)*)</answer>", re.DOTALL)
_FAULTS: Final[Sequence[tuple[str, str, str]]] = (
    ("single_quotes", r"Expecting (?:property name|value)", r"['‘’“”]"),
    ("escaped", r"Expecting (?:property name|value)", r"\\+\""),
    ("comma", r"Expecting (?:property name|value)|Illegal trailing comma", r"[}\]]|,\s*[}\]]"),
    ("python_word", r"Expecting value", r"(?:True|False|None)\b"),
    ("bracket", r"Expecting (?:',' delimiter|property name|value)", r"\s*(?:</tool_call>|$)"),
    ("quote", r"Expecting ',' delimiter", r"[^\s{}\[\]\"]"),
    ("open_string", r"Unterminated string", r""),
    ("backslash", r"Invalid \\", r""),
)
"""Faults of JSON: kind, regular expression of the decoder's message, regular expression of the text at the fault."""
_REASONS: Final = re.compile(r"[^\w\s',:]")
"""Characters of a decoder's reason that are left out of a message."""


def parse_call(text: str, n_images: int, start: int = 0) -> ParsedCall:
    """Reads the first tool call of an assistant's turn.

    A call inside the think block doesn't count: the search begins after the first `</think>`. Messages never repeat
    text of the model.

    Args:
        text: The turn.
        n_images: Number of images that a call can choose from.
        start: Position in the turn at which the search begins, in characters.
    """
    masked = mask_calls(text)
    opened = masked.find(_OPEN, max(start, thought_end(masked)))
    if opened < 0:
        return _no_call(text[max(start, thought_end(masked)) :], thought=masked[: thought_end(masked)])
    first = json_start(text, opened + len(_OPEN))
    try:
        value, end = read_json(text, first)
    except (ValueError, RecursionError) as error:
        return _json_fault(text, first, error)._replace(end=_next(masked, opened + len(_OPEN)))
    closed = _CLOSE.match(text, end)
    if closed is None:
        next_call = masked.find(_OPEN, end)
        behind = 0 <= masked.find("</tool_call>", end) < (next_call if next_call >= 0 else len(text))
        return _refuse(CallStatus.BAD_JSON, "behind" if behind else "unclosed")._replace(end=_next(masked, end))
    return read_call(value, n_images)._replace(end=closed.end())


def has_call(text: str, start: int = 0) -> bool:
    """Returns whether an assistant's turn has a tool call from `start` on, well-formed or not."""
    return parse_call(text, 0, start).status is not CallStatus.NONE


def _next(masked: str, start: int) -> int:
    """Returns the position after the next closing tag; without one the end of the text."""
    closed = _CLOSE.search(masked, start)
    return closed.end() if closed else len(masked)


def _no_call(reply: str, thought: str) -> ParsedCall:
    """Returns the refusal of a turn without a call; the message depends on what the turn has instead.

    Args:
        reply: The turn from the end of its thought on.
        thought: Its thought, masked; empty without one.
    """
    reply = reply.removeprefix("</think>")
    other = other_call(reply, "tool_call")
    if "<answer>" in reply:
        return _refuse(CallStatus.NONE, "open_answer")
    if other:
        return _refuse(CallStatus.NONE, "other_format", format=other)
    if _OPEN in thought:
        return _refuse(CallStatus.NONE, "thought")
    return _refuse(CallStatus.NONE, "other_answer" if other_answer(reply) else "no_call")


def _json_fault(text: str, start: int, error: Exception) -> ParsedCall:
    """Returns the refusal of a call whose JSON can't be read, with the reason and the place where there is one."""
    if text.startswith("```", start):
        return _refuse(CallStatus.BAD_JSON, "fence")
    if not isinstance(error, json.JSONDecodeError) or not text.startswith("{", start):
        return _refuse(CallStatus.BAD_JSON, "not_json")
    before = text[start : error.pos]
    place = {"line": before.count("\n") + 1, "column": error.pos - start - before.rfind("\n")}
    for kind, reason, at in _FAULTS:
        if re.match(reason, error.msg) and re.match(at, text[error.pos : error.pos + 80]):
            return _refuse(CallStatus.BAD_JSON, kind, **place)
    return _refuse(CallStatus.BAD_JSON, "syntax", **place, reason=_REASONS.sub("", error.msg).lower())


def read_call(value: Any, n_images: int) -> ParsedCall:
    """Checks a decoded JSON value and returns the call that it describes."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return _refuse(CallStatus.BAD_JSON, "not_text")
    except RecursionError:
        return _refuse(CallStatus.BAD_JSON, "not_json")
    if not isinstance(value, dict):
        return _refuse(CallStatus.BAD_JSON, "not_json")
    if value.get("name") != TOOL_NAME:
        return _refuse(CallStatus.UNKNOWN_TOOL, "name")
    arguments = value.get("arguments")
    if isinstance(arguments, str):
        return _refuse(CallStatus.BAD_ARGUMENTS, "text")
    if not isinstance(arguments, dict):
        return _refuse(CallStatus.BAD_ARGUMENTS, "not_an_object")
    if not arguments.keys() <= _ARGUMENTS:
        return _refuse(CallStatus.BAD_ARGUMENTS, "unknown")
    code, description = arguments.get("code"), arguments.get("description", "")
    image_index = arguments.get("image_index", 0)
    if not isinstance(code, str) or not code.strip():
        return _refuse(CallStatus.BAD_ARGUMENTS, "code")
    if not isinstance(description, str):
        return _refuse(CallStatus.BAD_ARGUMENTS, "description")
    if type(image_index) is not int:  # true is an int to Python, not to the model
        return _refuse(CallStatus.BAD_ARGUMENTS, "image_index")
    if not 0 <= image_index < n_images:
        return _refuse(CallStatus.BAD_INDEX, "out_of_range", last=n_images - 1)
    return ParsedCall(CallStatus.OK, ToolCall(code=code, description=description, image_index=image_index), "")


def _refuse(status: CallStatus, kind: str, **words: object) -> ParsedCall:
    return refuse(malformed_messages(), status, kind, **words)


def malformed_messages() -> dict[str, dict[str, str]]:
    """Returns the sentences of prompts/malformed.json, by status and kind of fault."""
    return read_messages("malformed.json")


def turn_message(kind: str, **words: object) -> str:
    """Returns a sentence of prompts/turns.json, with `words` filled in: a message to the model about its turn."""
    return Template(turn_messages()[kind]).substitute(words)


def turn_messages() -> dict[str, str]:
    """Returns the sentences of prompts/turns.json, by kind."""
    return read_messages("turns.json")


def parse_answer(turn_texts: Sequence[str]) -> str | None:
    """Returns the stripped text of the last closed `<answer>` in the last turn; None without one."""
    text = turn_texts[-1] if turn_texts else ""
    answers = [text[slice(*answer.span(1))] for answer in _ANSWER.finditer(mask_calls(text))]
    return answers[-1].strip() if answers else None


def format_score(turn_texts: Sequence[str], prefix: str = "") -> float:
    """Returns 1 if every turn keeps the format, else 0.

    Each turn begins with a closed think block, the only one of the turn. The last turn ends with the only answer block
    of the rollout, which isn't empty.

    Args:
        turn_texts: The assistant's turns, without observations.
        prefix: Text that the chat template wrote before each turn (`<think>` on thinking models).
    """
    turns = [mask_calls((prefix + text).strip()) for text in turn_texts]
    thoughtful = all(turn.startswith("<think>") and _holds_one("think", turn) for turn in turns)
    if not turns or not thoughtful or not _holds_one("answer", "".join(turns)):
        return 0.0
    _, _, reply = turns[-1].partition("</think>")
    _, _, answer = reply.partition("<answer>")
    return 1.0 if answer.endswith("</answer>") and answer.removesuffix("</answer>").strip() else 0.0


def _holds_one(tag: str, text: str) -> bool:
    return text.count(f"<{tag}>") == 1 and text.count(f"</{tag}>") == 1
