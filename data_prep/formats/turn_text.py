"""Writes the assistant turns of a demonstration: a thought with a tool call, or a thought with the answer."""

import json

from codevision_ext.rollout.code_tool import TOOL_SCHEMA
from codevision_ext.types import ToolCall

TOOLS = json.dumps([TOOL_SCHEMA])
"""JSON list of the tool's schema, for a model that writes coordinates in pixels."""


def call_text(thought: str, call: ToolCall) -> str:
    """Return an assistant turn that calls the tool."""
    arguments = {"code": call.code, "description": call.description, "image_index": call.image_index}
    request = json.dumps({"name": TOOL_SCHEMA["function"]["name"], "arguments": arguments})
    return f"<think>{thought}</think><tool_call>\n{request}\n</tool_call>"


def answer_text(thought: str, answer: str) -> str:
    """Return an assistant turn that answers."""
    return f"<think>{thought}</think><answer>{answer}</answer>"
