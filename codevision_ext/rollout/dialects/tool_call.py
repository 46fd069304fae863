"""The dialect `tool_call`: a call is one JSON object between `<tool_call>` and `</tool_call>`, and ends a message.

The chat template shows the tool's schema in the system block, and the observation as a message of its own.
"""

import json
from collections.abc import Sequence
from typing import Any, Final

from codevision_ext.rollout import parsing
from codevision_ext.rollout.code_tool import tool_schema
from codevision_ext.rollout.dialects.base import Dialect, ParsedCall, Part, read_prompt
from codevision_ext.rollout.turn_parts import turn_parts
from codevision_ext.types import CoordinateSystem, ToolCall

_JSON: Final = json.JSONDecoder(strict=False)


class ToolCalls(Dialect):
    """Calls as JSON, each at the end of a message."""

    name = "tool_call"
    tag = "<tool_call>"

    def system(self, *, tools: bool) -> str:
        return read_prompt("system.txt" if tools else "system_no_tool.txt")

    def schemas(self, coordinates: CoordinateSystem) -> list[dict[str, Any]]:
        return [tool_schema(coordinates)]

    def parse_call(self, text: str, n_images: int, start: int = 0) -> ParsedCall:
        return parsing.parse_call(text, n_images, start)

    def parse_answer(self, turns: Sequence[str], prefix: str = "") -> str | None:  # noqa: ARG002
        return parsing.parse_answer(turns)

    def format_score(self, turns: Sequence[str], prefix: str = "") -> float:
        return parsing.format_score(turns, prefix)

    def parts(self, text: str) -> list[Part]:
        return [
            _call(part.text) if part.kind == "tool_call" else Part(kind=part.kind, text=part.text)
            for part in turn_parts(text)
        ]

    def call_text(self, thought: str, call: ToolCall, *, first: bool) -> str:  # noqa: ARG002
        arguments = {"code": call.code, "description": call.description, "image_index": call.image_index}
        request = json.dumps({"name": parsing.TOOL_NAME, "arguments": arguments})
        return f"<think>{thought}</think><tool_call>\n{request}\n</tool_call>"

    def answer_text(self, thought: str, answer: str, *, first: bool) -> str:  # noqa: ARG002
        return f"<think>{thought}</think><answer>{answer}</answer>"


def _call(text: str) -> Part:
    try:
        arguments = _JSON.decode(text.strip())["arguments"]
        about, index = arguments.get("description", ""), arguments.get("image_index", 0)
        return Part(
            kind="code", text=arguments["code"].strip(), note=f"{about + ' · ' if about else ''}on image {index}"
        )
    except (ValueError, KeyError, TypeError, AttributeError):  # whatever isn't a call is shown as it was written
        return Part(kind="broken", text=text.strip())
