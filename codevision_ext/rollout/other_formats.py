"""Recognises how a turn that has neither a tool call nor an answer tried to call the tool or to answer.

The names that the model reads come from this table, never from the turn.
"""

import re
from collections.abc import Sequence
from functools import cache
from typing import Final

TAGS: Final = (
    "tool_call", "tool_calls", "tool_use", "tool_code", "tool", "function_calls", "function_call", "functioncall",
    "function", "invoke", "action", "execute", "code", "python", "code_image_tool",
)  # fmt: skip
"""Tags by which models call a tool, or write its code; one of them is the model's own."""
OTHER_MARKS: Final[Sequence[tuple[str, str]]] = (
    (r"```|~~~", "a code fence (```)"),
    (r"\[/?TOOL_(?:CALLS|REQUEST)\]", "[TOOL_CALLS]"),
    (r"<[|｜][\w▁]*(?:python_tag|tool|function|action_start|plugin|interpreter)[\w▁]*[|｜]?>", "a special token"),
    (r"(?m)^[ \t]*Action(?: Input)?:", "Action:"),
)
"""Other marks of a tool call, as regular expressions, with their names."""

_MARKS: Final = [(re.compile(pattern), name) for pattern, name in OTHER_MARKS]
_JSON: Final = re.compile(r"""[{,]\s*["'](?:name|arguments|code|image_index)["']\s*:""")
_CODE: Final = re.compile(
    r"(?m)^[ \t]*(?:import \w|from [\w.]+ import |def \w+\(|print\(|(?:cv2|plt|np|draw)\.\w+|"
    r"(?:image|img|result|output|processed_image|\w*crop\w*)\s*=[^=]|\w+\s*=\s*\w[\w.]*\()"
)
_ANSWER: Final = re.compile(
    r"\\boxed\s*\{|<\s*/?\s*(?:final_answer|final|answer)\b[^<>]*>|\[answer\]|"
    r"(?m:^[^\w\n]{0,9}(?:final )?answer[^\w\n]{0,9}:)",
    re.IGNORECASE,
)


@cache
def _patterns(own: str) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Returns the patterns of other tags and of other spellings of the model's own tag."""
    others = "|".join(tag for tag in TAGS if tag != own)
    spelling = own.replace("_", "_?")
    return (
        re.compile(rf"</?({others})\b[^<>]{{0,200}}>", re.IGNORECASE),
        re.compile(rf"(?!</?{own}>)(?i:<\s*/?\s*(?:\w+:)?{spelling}\b[^<>]*>)"),
    )


def other_call(text: str, own: str) -> str | None:
    """Returns the name of the format by which a turn calls the tool or writes code; None if it does neither.

    Args:
        text: The turn.
        own: Tag of a call in the model's own format, one of TAGS.
    """
    others, spelling = _patterns(own)
    tag = others.search(text)
    if tag:
        return f"<{tag[1].lower()}>"
    mark = next((name for pattern, name in _MARKS if pattern.search(text)), None)
    if mark:
        return mark
    if spelling.search(text):
        return "another spelling of these tags"
    return "JSON without a tag" if _JSON.search(text) else "code without a tag" if _CODE.search(text) else None


def other_answer(text: str) -> bool:
    """Returns whether a turn answers in another way than between `<answer>` and `</answer>`."""
    return _ANSWER.search(text) is not None
