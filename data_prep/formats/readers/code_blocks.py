"""Splits a reply that contains code of V-Thinker's dialect into thoughts and blocks of code.

A block is `<code> .. </code>`, with a fence of backticks, quotes or tildes inside or without one, or a fence alone.
"""

import re
from dataclasses import dataclass
from typing import Final

from data_prep.formats.row_errors import Reason, RowError

_FENCE: Final = r"(?P<{0}>```|'''|~~~)[ \t]*(?:python3?|py)"
_BLOCK: Final = re.compile(
    rf"<code>(?P<tagged>.*?)</code>|{_FENCE.format('named')}[ \t]*\n(?P<fenced>.*?)(?P=named)"
    r"|(?P<bare>```|~~~)[ \t]*\n(?P<plain>.*?)(?P=bare)",
    re.DOTALL | re.IGNORECASE,
)
_INNER: Final = re.compile(
    rf"\s*(?:{_FENCE.format('mark')}?|(?P<sign>```|'''|~~~))[ \t]*\n(?P<code>.*?)\s*(?(mark)(?P=mark)|(?P=sign))\s*",
    re.DOTALL | re.IGNORECASE,
)
_OPEN: Final = re.compile(rf"</?code>|```|~~~|{_FENCE.format('fence')}\b", re.IGNORECASE)
_DROPPED: Final = re.compile(r"<sandbox_output>.*?</sandbox_output>|<answer>.*?</answer>", re.DOTALL)
_TAGS: Final = re.compile(r"</?(?:think|answer|tool_call|tool_response|sandbox_output|code|image)>")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """Thoughts and code of a reply."""

    blocks: tuple[tuple[str, str], ...]
    """Thought and code of each block, in order; a thought may be empty."""
    conclusion: str
    """Text after the last block, without the answer."""


def split_reply(text: str, field: str) -> Reply:
    """Return the blocks of a reply; outputs, answers and tags of the dialect are dropped from its thoughts.

    Raises:
        RowError: A block has no end or no code.
    """
    blocks: list[tuple[str, str]] = []
    end = 0
    for match in _BLOCK.finditer(text):
        code = _code(match)
        if not code:
            raise RowError(Reason.BAD_CALL, field, f"block {len(blocks) + 1} has no code")
        blocks.append((_thought(text[end : match.start()], len(blocks) + 1, field), code))
        end = match.end()
    return Reply(blocks=tuple(blocks), conclusion=_thought(text[end:], len(blocks) + 1, field))


def _code(match: re.Match[str]) -> str:
    code = next(text for name in ("tagged", "fenced", "plain") if (text := match[name]) is not None)
    inner = _INNER.fullmatch(code) if match["tagged"] is not None else None
    return (inner["code"] if inner else code).strip("\n").rstrip()


def _thought(text: str, number: int, field: str) -> str:
    if mark := _OPEN.search(text):
        fault = "begins nowhere" if mark[0].lower() == "</code>" else "has no end"
        raise RowError(Reason.BAD_CALL, field, f"block {number} ({mark[0]}) {fault}")
    return _TAGS.sub("", _DROPPED.sub("", text)).strip()
