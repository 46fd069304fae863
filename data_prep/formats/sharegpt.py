"""Converts demonstrations to the sharegpt schema of CodeVision-SFT and back, both without loss."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any, Final

from codevision_ext.errors import InputError
from codevision_ext.rollout.dialects.registry import TOOL_CALL
from codevision_ext.task.row_checks import check_tags, check_trained
from codevision_ext.types import CallStatus
from data_prep.formats import fields
from data_prep.formats.row_errors import Reason, RowError
from data_prep.formats.schema import IMAGE_TAG, Demonstration, Message, SampleType
from data_prep.formats.turn_text import dialect_of_messages
from data_prep.formats.turns import IMAGE_FIELDS, OTHER_MEDIA, is_learned, read_turns

SOURCE: Final = "CodeVision-SFT"
LICENCE: Final = "CC-BY-NC-4.0"
"""Licence of items of CodeVision-SFT without their own licence."""
SPEAKERS = {"system": "system", "user": "human", "assistant": "gpt", "tool": "tool"}
"""Speakers of sharegpt by role."""
_TOOLS = re.compile(r"(.*?)\n?<tools>\n(.*?)\n</tools>(.*)", re.DOTALL)
_HEADING, _ENDING = "# Tools", "For each function call"
"""Words of Qwen's chat template before and after the tools; they are removed, because the template adds them again."""
_CROP = re.compile(r"\.crop\(|\[\s*\w+\s*:\s*\w+\s*,\s*\w+\s*:\s*\w+")


def to_sharegpt(demonstration: Demonstration, images: Sequence[str]) -> dict[str, Any]:
    """Return a demonstration as one item of the JSON list; `images` are the paths of its images, in order."""
    item, extra = _item(demonstration, images), dict(demonstration.extra)
    turns = extra.get("conversations")
    if turns and [turn.get("value") for turn in turns] == [turn["value"] for turn in item["conversations"]]:
        extra["conversations"] = [
            own if "train" not in turn or _has_mark(own) else own | {"train": turn["train"]}
            for own, turn in zip(turns, item["conversations"], strict=True)
        ]
    elif turns:
        # LLaMA-Factory can't read the item's own turns: other fields, calls or image tags, or a system message.
        extra = {name: value for name, value in extra.items() if name not in ("conversations", "system")}
    return {name: value for name, value in (item | extra).items() if value is not None}


def _has_mark(turn: Mapping[str, Any]) -> bool:
    """Return whether a turn says, in any trainer's way, which of its messages are learned."""
    return turn.get("train") is not None or is_learned(turn, "conversations") is not None


def from_sharegpt(
    item: Mapping[str, Any], images: Sequence[bytes], paths: Sequence[str | None] = (), messages: Sequence[Message] = ()
) -> Demonstration:
    """Return the demonstration of one item.

    Args:
        item: Item of a sharegpt file.
        images: Image files of the item.
        paths: Paths of the image files.
        messages: Turns of the item; empty: read from the item.

    Raises:
        RowError: A field is missing or of another type, or a speaker isn't known.
    """
    turns = list(messages or read_turns(fields.parts(item, "conversations"), "conversations")[0])
    metadata = fields.mapping(item.get("metadata"), "metadata")
    tools, system = _read_system(fields.text(item.get("system") or "", "system"))
    if item.get("tools") is not None:
        tools = tools_text(item["tools"])
    if system:
        turns.insert(0, Message(role="system", content=system))
    demonstration = Demonstration(
        messages=tuple(turns),
        images=tuple(images),
        sample_type=item.get("sample_type") or metadata.get("sample_type") or infer_sample_type(turns),
        tools=tools,
        metadata=metadata,
        paths=tuple(paths),
        source=item.get("source") or "",
        licence=item.get("licence") or "",
        changes=fields.texts(item.get("changes"), "changes"),
    )
    written = _item(demonstration, ())
    names = (written.keys() | set(item)) - set(IMAGE_FIELDS) - OTHER_MEDIA
    extra = {name: item.get(name) for name in sorted(names) if name not in item or written.get(name) != item[name]}
    return replace(demonstration, extra=extra)


def check_turns(demonstration: Demonstration) -> None:
    """Check that assistant turns alternate with turns of user and tool, and that the image tags fit the images.

    The first turn, after an optional system message, is the user's, and the last turn is the assistant's.

    Raises:
        RowError: A turn has another role, a tag fails `check_tags`, or SFT would train on no turn.
    """
    messages = demonstration.messages
    if messages and messages[0].role == "system":
        messages = messages[1:]
    for turn, role in enumerate(message.role for message in messages):
        expected = "assistant" if turn % 2 else "tool" if turn else "user"
        if role != expected and not (expected == "tool" and role == "user"):
            raise RowError(Reason.BAD_TURNS, "messages", f"turn {turn} is {role}'s, not {expected}'s")
    if len(messages) % 2 or not messages:
        raise RowError(Reason.BAD_TURNS, "messages", "the last turn isn't the assistant's")
    turns = [asdict(message) for message in demonstration.messages]
    for field, check in (
        ("images", partial(check_tags, images=len(demonstration.images))),
        ("messages", check_trained),
    ):
        try:
            check(turns)
        except InputError as error:
            raise RowError(Reason.BAD_TURNS, field, str(error)) from error


def check_calls(demonstration: Demonstration) -> None:
    """Check that every call whose observation has an image can be read, and that the last turn has an answer.

    Raises:
        RowError: Such a call can't be read, or there is no answer.
    """
    images = 0
    messages = demonstration.messages
    dialect = dialect_of_messages(messages) or TOOL_CALL
    for turn, message in enumerate(messages[:-1]):
        observation = messages[turn + 1]
        if message.role == "assistant" and observation.role == "tool":
            parsed = dialect.parse_call(message.content, max(1, images))
            if parsed.status is not CallStatus.OK and IMAGE_TAG in observation.content:
                raise RowError(Reason.BAD_CALL, "messages", f"turn {turn}: {parsed.message or 'no call'}")
        images += message.content.count(IMAGE_TAG)
    if not dialect.parse_answer([message.content for message in messages if message.role == "assistant"]):
        raise RowError(Reason.NO_ANSWER, "messages", "the last turn has no <answer>, or a blank one")


def infer_sample_type(messages: Sequence[Message]) -> str:
    """Return the sample type of a demonstration that doesn't name its own."""
    observations = [message.content for message in messages if message.role == "tool"]
    if not observations:
        return SampleType.NO_TOOL
    if any(IMAGE_TAG not in content for content in observations):
        return SampleType.ERROR_HANDLING
    if len(observations) == 1:
        return SampleType.SINGLE_TOOL
    calls = [message.content for message in messages if message.role == "assistant"][:-1]
    return SampleType.MULTI_CROP if all(map(_CROP.search, calls)) else SampleType.MULTI_TOOL


def _item(demonstration: Demonstration, images: Sequence[str]) -> dict[str, Any]:
    """Return the item without the fields in `extra`."""
    system, messages = "", demonstration.messages
    if messages and messages[0].role == "system":
        system, messages = messages[0].content, messages[1:]
    item: dict[str, Any] = {
        "conversations": _turns(messages),
        "images": list(images),
        "metadata": json.dumps(demonstration.metadata, sort_keys=True),
        "system": _system(system, demonstration.tools),
    }
    if _read_system(item["system"])[0] != demonstration.tools:  # another spelling than that of the system message
        item["tools"] = demonstration.tools
    if demonstration.metadata.get("sample_type") != demonstration.sample_type:
        item["sample_type"] = demonstration.sample_type
    if demonstration.source not in ("", SOURCE):
        item["source"] = demonstration.source
    if demonstration.licence not in ("", "unknown", LICENCE if demonstration.source in ("", SOURCE) else ""):
        item["licence"] = demonstration.licence
    if demonstration.changes:
        item["changes"] = list(demonstration.changes)
    return item


def _turns(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Return the turns; LLaMA-Factory reads speaker and value only.

    Observations that stand inside of an assistant's message in the dialect of the calls do so here. Such a turn has a
    list of `train`, with a value for each of its messages.
    """
    dialect = dialect_of_messages(messages) or TOOL_CALL
    turns: list[dict[str, Any]] = []
    at = 0
    while at < len(messages):
        message = messages[at]
        value, flags = message.content, [message.train]
        at += 1
        while message.role == "assistant" and at + 1 < len(messages):
            frame, following = dialect.frame(messages[at - 1].content), messages[at : at + 2]
            if frame is None or [each.role for each in following] != ["tool", "assistant"]:
                break
            value += frame[0] + following[0].content + frame[1] + following[1].content
            flags.append(following[1].train)
            at += 2
        turn: dict[str, Any] = {"from": SPEAKERS[message.role], "value": value}
        turns.append(turn if set(flags) == {None} else turn | {"train": flags if len(flags) > 1 else flags[0]})
    return turns


def tools_text(tools: Any) -> str:
    """Return tool schemas, a list or its JSON, as JSON; "" without tools."""
    return tools if isinstance(tools, str) else json.dumps(tools) if tools else ""


def _system(text: str, tools: str) -> str:
    """Return a system message: the text, and the tool schemas, one per line between tags."""
    if not tools:
        return text
    block = "<tools>\n" + "\n".join(json.dumps(schema) for schema in json.loads(tools)) + "\n</tools>"
    return f"{text}\n{block}" if text else block


def _read_system(system: str) -> tuple[str, str]:
    """Return the tool schemas of a system message as a JSON list ("" without tools), and the remaining text."""
    match = _TOOLS.fullmatch(system)
    if match is None:
        return "", system
    text, block, behind = match.groups()
    try:
        tools = json.dumps([json.loads(line) for line in block.splitlines() if line.strip()])
    except ValueError as error:
        raise RowError(Reason.BAD_JSON, "system", f"a tool schema can't be read: {error}") from error
    text = text.partition(_HEADING)[0].rstrip() if _HEADING in text else text
    behind = behind.strip()
    return tools, text if not behind or behind.startswith(_ENDING) else f"{text}\n\n{behind}".strip()
