"""The dialect `code_tags` of V-Thinker: calls are Python between `<code>` and `</code>`, inside of a thought.

A whole reply is one message of the assistant:

    <think> .. <code> Python </code><sandbox_output> image or text </sandbox_output> .. </think> <answer> .. </answer>

A turn of the policy ends with `</code>`. The output follows in the same message, and the policy goes on behind it. The
code may stand in a fence of backticks, tildes or three quotes, or in none. Tags in its strings are text, and so are
tags in its comments if it stands in a fence.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final, Literal, NamedTuple

from codevision_ext.rollout.dialects.base import Dialect, ParsedCall, Part, read_messages, read_prompt, refuse
from codevision_ext.rollout.other_formats import other_answer, other_call
from codevision_ext.types import CallStatus, CoordinateSystem, ToolCall

_OPEN: Final = "<code>"
_CLOSE: Final = "</code>"
_OUTPUT: Final = ("<sandbox_output>", "</sandbox_output>")
_FENCE: Final = re.compile(
    r"\s*(?:(?P<mark>`{3,}|~{3,})[ \t]*(?:[\w+#.-]+(?=[ \t]*\n)|(?:python3?|py)\b)?|"
    r"(?P<quotes>'''|\"\"\")[ \t]*(?:i?python3?|py)\b)[ \t]*\n?",
    re.IGNORECASE,
)
_TOKEN: Final = re.compile(
    r"(?P<tag></?code>)|(?P<comment>#[^\n]*)|(?P<string>"
    r"'''(?:\\(?:.|\Z)|(?!''')[^\\])*+(?:'''|\Z)|\"\"\"(?:\\(?:.|\Z)|(?!\"\"\")[^\\])*+(?:\"\"\"|\Z)|"
    r"'(?:\\(?:.|\Z)|[^'\\\n])*+(?:'|\Z)|\"(?:\\(?:.|\Z)|[^\"\\\n])*+(?:\"|\Z))",
    re.DOTALL,
)
"""Regular expression of a tag, or of a comment or string of Python; a string may be unfinished at the end."""
_ANSWER: Final = re.compile(r"<answer>((?:(?!</?answer>).)*)</answer>", re.DOTALL)
_KEPT: Final = re.compile(r"<think>(?:(?!</?think>).)*</think>\s*<answer>((?:(?!</?answer>).)*)</answer>", re.DOTALL)
_SHOWN_OUTPUT: Final = re.compile(r"\s*<sandbox_output>(.*?)</sandbox_output>", re.DOTALL)
_FILLER: Final = "_"
MOST_BLOCKS: Final = 256
"""Maximum number of code blocks of a turn that are looked at; reading each of them takes time."""


class Block(NamedTuple):
    """A block of code in a turn, as positions in characters."""

    start: int
    """Position of `<code>`."""
    code: tuple[int, int]
    """First character of the code, behind the fence, and the end of the block's text."""
    end: int | None
    """Position behind `</code>`; None where the block isn't closed."""
    mark: str
    """Mark that closes the fence; empty without a fence."""

    def source(self, text: str) -> str:
        """Returns the code without its fence."""
        code = text[slice(*self.code)]
        return code.rstrip().removesuffix(self.mark).strip("\n") if self.mark else code.strip("\n")


def find_block(text: str, position: int = 0, *, complete: bool = True) -> Block | None:
    """Returns the first block of code from a position on; None without one.

    A `<code>` that stands alone before another one, as in a sentence about the tags, begins no block.

    Args:
        text: The turn.
        position: Position at which the search begins, in characters.
        complete: Whether the turn is complete. Only then does a `</code>` close the block that seems to stand in a
            string: the string has a fault.
    """
    start = text.find(_OPEN, position)
    if start < 0:
        return None
    for _ in range(MOST_BLOCKS):
        fence = _FENCE.match(text, start + len(_OPEN))
        first = fence.end() if fence else start + len(_OPEN)
        mark = (fence["mark"] or fence["quotes"]) if fence else ""
        tag = _first_tag(text, first, mark)
        if tag is None or text.startswith(_CLOSE, tag):
            break
        start = tag
    close = tag
    if complete and (close is None or not text.startswith(_CLOSE, close)):
        found = text.find(_CLOSE, first)
        close = found if found >= 0 else None
    if close is None:
        return Block(start, (first, len(text)), None, mark)
    return Block(start, (first, close), close + len(_CLOSE), mark)


def _first_tag(text: str, first: int, mark: str) -> int | None:
    """Returns the position of the first tag that isn't part of the code: `</code>`, or without a fence `<code>`.

    Args:
        text: The turn.
        first: First character of the code.
        mark: Mark of the fence; empty without one.
    """
    closing = re.compile(rf"^[ \t]*{re.escape(mark)}[ \t]*$", re.MULTILINE)
    line = first
    for token in _TOKEN.finditer(text, first):
        if token["tag"] == _CLOSE or (token["tag"] and not mark):
            return token.start()
        tag = -1 if token["tag"] else text.find(_CLOSE, token.start(), token.end())
        if tag >= 0 and token["comment"] and not mark:
            return tag
        while tag >= 0 and mark:  # in a string or comment; but behind its fence the code has ended
            if closing.search(text, line, tag) or text[token.start() : tag].strip() == mark:
                return tag
            line = max(line, text.rfind("\n", first, tag) + 1)
            tag = text.find(_CLOSE, tag + 1, token.end())
    return None


def _blocks(text: str) -> Iterator[Block]:
    """Yields the blocks of code of a complete turn."""
    position: int | None = 0
    for _ in range(MOST_BLOCKS):
        block = find_block(text, position or 0)
        if block is None:
            return
        yield block
        position = block.end
        if position is None:
            return


def _masked(text: str) -> str:
    """Returns a turn with the text of its code replaced; its length and the tags of the code stay."""
    pieces, position = [], 0
    for block in _blocks(text):
        inner, end = block.start + len(_OPEN), block.code[1]
        pieces += [text[position:inner], _FILLER * (end - inner)]
        position = end
    return "".join([*pieces, text[position:]])


class CodeTags(Dialect):
    """Calls as Python inside of a thought, whose outputs follow in the same message."""

    name = "code_tags"
    tag = _OPEN
    stop = (_CLOSE,)

    def system(self, *, tools: bool) -> str:
        return read_prompt(f"code_tags/{'system' if tools else 'system_no_tool'}.txt")

    def schemas(self, coordinates: CoordinateSystem) -> list[dict[str, Any]]:  # noqa: ARG002
        return []

    def question_end(self, question: str) -> str:
        return "" if "image_path" in question else f"\n{read_prompt('code_tags/user.txt')}"

    def parse_call(self, text: str, n_images: int, start: int = 0) -> ParsedCall:
        block = find_block(text, start)
        if block is None:
            return _no_call(text[start:])
        end = len(text) if block.end is None else block.end
        code = block.source(text)
        if block.end is None:
            return _refuse(CallStatus.BAD_BLOCK, "unclosed")._replace(end=end)
        if not code.strip():
            return _refuse(CallStatus.BAD_BLOCK, "empty")._replace(end=end)
        if not n_images:
            return _refuse(CallStatus.BAD_INDEX, "no_image")._replace(end=end)
        return ParsedCall(CallStatus.OK, ToolCall(code=code), "", end)

    def call_end(self, text: str, *, complete: bool) -> int | None:
        block = find_block(text, complete=complete)
        return block.end if block else None

    def frame(self, text: str) -> tuple[str, str] | None:
        end = max((block.end or 0 for block in _blocks(text)), default=0)
        return _OUTPUT if end and not text[end:].strip() else None

    def observed(self, text: str, images: int) -> str:
        return "" if images else text

    def parse_answer(self, turns: Sequence[str], prefix: str = "") -> str | None:
        if not turns:
            return None
        message = [turns[-1]]
        for turn in reversed(turns[:-1]):
            if not self.frame(turn):
                break
            message.insert(0, turn)
        whole, masked = prefix + "".join(message), prefix + "".join(map(_masked, message))
        closed = masked.rfind("</think>")
        if masked.rfind("<think>") > closed:
            return None  # an answer inside of a thought
        answers = list(_ANSWER.finditer(masked, max(closed, len(masked) - len(turns[-1]), 0)))
        return whole[slice(*answers[-1].span(1))].strip() if answers else None

    def format_score(self, turns: Sequence[str], prefix: str = "") -> float:
        """Returns 1 where the rollout is one thought, with all code in it, and one answer that isn't empty, else 0."""
        begins = [not self.frame(turn) for turn in ("", *turns)[:-1]]
        whole = "".join(prefix * begin + _masked(turn) for begin, turn in zip(begins, turns, strict=True))
        kept = _KEPT.fullmatch(whole.strip())
        return float(bool(kept and kept[1].strip() and not any(tag in whole for tag in _OUTPUT)))

    def parts(self, text: str) -> list[Part]:
        parts: list[Part] = []
        position = 0
        for block in _blocks(text):
            parts += _prose(text[position : block.start], thought=True)
            source = block.source(text).strip() if block.end else ""
            raw = text[block.start + len(_OPEN) : block.code[1]].strip()
            parts.append(Part(kind="code" if source else "broken", text=source or raw))
            position = len(text) if block.end is None else block.end
        return [*parts, *_prose(text[position:], thought=False)]

    def call_text(self, thought: str, call: ToolCall, *, first: bool) -> str:
        """Writes a turn that calls the tool. The code of a call on a later image begins by choosing that image."""
        chosen = f"image = images[{call.image_index}]\n" if call.image_index else ""
        return f"{'<think>' * first}{thought}\n<code>\n```python\n{chosen}{call.code}\n```\n</code>"

    def answer_text(self, thought: str, answer: str, *, first: bool) -> str:
        return f"{'<think>' * first}{thought}</think>\n<answer>{answer}</answer>"

    def turns(self, text: str) -> list[tuple[Literal["assistant", "tool"], str]]:
        turns: list[tuple[Literal["assistant", "tool"], str]] = []
        position = begin = 0
        while (block := find_block(text, position)) and block.end is not None:
            position = block.end
            output = _SHOWN_OUTPUT.match(text, position)
            if output:
                turns += [("assistant", text[begin:position]), ("tool", output[1].strip())]
                position = begin = output.end()
        rest = text[begin:]
        return [*turns, ("assistant", rest)] if rest.strip() or not turns else turns


def _prose(text: str, *, thought: bool) -> list[Part]:
    """Splits text without code into parts; `thought` is whether code follows, so that it stands in a thought."""
    before, opened, rest = text.partition("<think>")
    inside, closed, behind = rest.partition("</think>")
    if not opened:
        before, (inside, closed, behind) = "", text.partition("</think>")
        if not closed and not thought:
            inside, behind = "", text
    spans: list[tuple[Literal["think", "answer", "text"], str]] = [("text", before), ("think", inside)]
    place = 0
    for answer in _ANSWER.finditer(behind):
        spans += [("text", behind[place : answer.start()]), ("answer", answer[1])]
        place = answer.end()
    spans.append(("text", behind[place:]))
    return [Part(kind=kind, text=words.strip()) for kind, words in spans if words.strip()]


def _no_call(text: str) -> ParsedCall:
    """Returns the refusal of a turn without code; the message depends on what the turn has instead."""
    if _ANSWER.search(text):
        return _refuse(CallStatus.NONE, "thought")
    if "<answer>" in text:
        return _refuse(CallStatus.NONE, "open_answer")
    text = re.sub("</?think>", "\n", text)
    other = other_call(text, "code")
    if other:
        return _refuse(CallStatus.NONE, "other_format", format=other)
    return _refuse(CallStatus.NONE, "other_answer" if other_answer(text) else "no_call")


def _refuse(status: CallStatus, kind: str, **words: object) -> ParsedCall:
    return refuse(read_messages("code_tags/malformed.json"), status, kind, **words)
