"""Finds the tags of an assistant's turn that are outside of the tool calls' own text.

Code may print `</think>` or `</tool_call>`. So a search for tags must use the masked turn, in which the text of each
call is replaced by as many filler characters. Positions in the masked turn are also positions in the turn itself.
"""

import json
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final, Literal, NamedTuple

_TAG: Final = re.compile(r"<tool_call>|</tool_call>|</think>")
BLANK: Final = r"[\s\ufeff\u200b]*"
"""Regular expression of white space and invisible characters."""
_BLANK: Final = re.compile(BLANK)
_DECODER: Final = json.JSONDecoder(strict=False)  # models put real line breaks into the code string
_HARD_BLANKS: Final = dict.fromkeys([0xA0, 0xFEFF, 0x200B, 0x202F, 0x3000, *range(0x2000, 0x200B)], " ")
_OPENING: Final = re.compile(r"<(think|tool_call|answer)>")
_FILLER: Final = "_"

MOST_OPENINGS: Final = 256
"""Maximum number of `<tool_call>` tags in a turn whose text is masked; each attempt to read JSON takes time."""

PartKind = Literal["think", "tool_call", "answer", "text"]


class TurnPart(NamedTuple):
    """A part of a turn."""

    kind: PartKind
    text: str
    """Text of the part, without its tags and without white space at its ends."""


def mask_calls(text: str) -> str:
    """Returns the turn with the text of each call replaced; its length and the tags of the calls stay.

    The text of a call is the JSON value after `<tool_call>`, whatever that value contains. Without a JSON value, it is
    everything up to the next `</tool_call>`. If another `<tool_call>` comes before that, the first tag begins no call.
    """
    tags = list(_TAG.finditer(text))
    pieces, position, openings = [], 0, 0
    for index, tag in enumerate(tags):
        if tag[0] == "<tool_call>" and tag.start() >= position and openings < MOST_OPENINGS:
            openings += 1
            end = _json_end(text, tag.end()) or _next_closing(tags, index + 1)
            if end is not None:
                pieces += [text[position : tag.end()], _FILLER * (end - tag.end())]
                position = end
    return "".join([*pieces, text[position:]])


def json_start(text: str, position: int) -> int:
    """Returns the position of the first character from `position` on that isn't white space."""
    match = _BLANK.match(text, position)
    return match.end() if match else position


def read_json(text: str, start: int) -> tuple[Any, int]:
    """Returns the JSON value that begins at `start`, and its end; all Unicode blanks count as spaces between its parts.

    Raises:
        ValueError: there is no JSON value.
        RecursionError: the value is nested too deeply.
    """
    try:
        return _DECODER.raw_decode(text, start)
    except ValueError:
        plain = _plain(text)
        if plain is text:
            raise
        return _DECODER.raw_decode(plain, start)


@lru_cache(maxsize=8)
def _plain(text: str) -> str:
    """Returns the text with spaces in place of other Unicode blanks."""
    plain = text.translate(_HARD_BLANKS)
    return text if plain == text else plain


def thought_end(masked: str) -> int:
    """Returns the position of the tag that ends the thought of a masked turn; 0 without one."""
    return max(0, masked.find("</think>"))


def turn_parts(text: str) -> list[TurnPart]:
    """Splits a turn into its parts; no text is lost, whatever its form.

    If the chat template wrote the first `<think>`, the turn has only the closing tag.
    """
    masked = mask_calls(text)
    if "</think>" in masked and "<think>" not in masked.partition("</think>")[0]:
        text, masked = f"<think>{text}", f"<think>{masked}"
    parts, end = [], 0
    unclosed: set[str] = set()
    for opening in _OPENING.finditer(masked):
        kind = opening[1]
        closing = -1 if opening.start() < end or kind in unclosed else masked.find(f"</{kind}>", opening.end())
        if closing >= 0:
            parts += [_part("text", text[end : opening.start()]), _part(kind, text[opening.end() : closing])]
            end = closing + len(f"</{kind}>")
        elif opening.start() >= end:
            unclosed.add(kind)
    parts.append(_part("text", text[end:]))
    return [part for part in parts if part.text or part.kind != "text"]


def _part(kind: str, text: str) -> TurnPart:
    return TurnPart(kind, text.strip())  # type: ignore[arg-type]  # _OPENING matches these kinds only


def _json_end(text: str, position: int) -> int | None:
    """Returns the end of the JSON object or list that stands at `position`; None if none can be read."""
    start = json_start(text, position)
    if text[start : start + 1] not in ("{", "["):
        return None
    try:
        return read_json(text, start)[1]
    except (ValueError, RecursionError):
        return None


def _next_closing(tags: Sequence[re.Match[str]], first: int) -> int | None:
    """Returns the position of the closing tag that comes before the next opening tag; None if none does."""
    for index in range(first, len(tags)):
        if tags[index][0] != "</think>":
            return tags[index].start() if tags[index][0] == "</tool_call>" else None
    return None
