"""Converts demonstrations to the sharegpt schema of CodeVision-SFT and back, without a loss either way."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any, Final

from codevision_ext.errors import InputError
from codevision_ext.rollout.parsing import parse_answer, parse_call
from codevision_ext.task.row_checks import check_tags, check_trained
from codevision_ext.types import CallStatus
from data_prep.formats import fields
from data_prep.formats.row_errors import Reason, RowError
from data_prep.formats.schema import IMAGE_TAG, Demonstration, Message, SampleType
from data_prep.formats.turns import IMAGE_FIELDS, OTHER_MEDIA, read_turns

SOURCE: Final = "CodeVision-SFT"
LICENCE: Final = "CC-BY-NC-4.0"
"""Licence of an item of CodeVision-SFT that names none."""
SPEAKERS = {"system": "system", "user": "human", "assistant": "gpt", "tool": "tool"}
"""Speaker in sharegpt by role."""
_TOOLS = re.compile(r"(.*?)\n?<tools>\n(.*?)\n</tools>(.*)", re.DOTALL)
_HEADING, _ENDING = "# Tools", "For each function call"
"""Words that Qwen's chat template puts before and behind the tools; its next use puts them there again."""
_CROP = re.compile(r"\.crop\(|\[\s*\w+\s*:\s*\w+\s*,\s*\w+\s*:\s*\w+")


def to_sharegpt(demonstration: Demonstration, images: Sequence[str]) -> dict[str, Any]:
    """Return a demonstration as one item of the JSON list; `images` are the paths of its images, in order."""
    item, extra = _item(demonstration, images), dict(demonstration.extra)
    turns = extra.get("conversations")
    if turns and [turn.get("value") for turn in turns] != [turn["value"] for turn in item["conversations"]]:
        # LLaMA-Factory can't read the item's own turns: other fields, calls or image tags, or a system message.
        extra = {name: value for name, value in extra.items() if name not in ("conversations", "system")}
    return {name: value for name, value in (item | extra).items() if value is not None}


def from_sharegpt(
    item: Mapping[str, Any], images: Sequence[bytes], paths: Sequence[str | None] = (), messages: Sequence[Message] = ()
) -> Demonstration:
    """Return the demonstration of one item.

    Args:
        item: Item of a sharegpt file.
        images: Files that its `images` name.
        paths: Names of these files.
        messages: Turns of the item, if they are read already.

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
    """Check that assistant turns alternate with those of user and tool, and that the image tags fit the images.

    The user comes first, perhaps behind a system message, and the assistant last.

    Raises:
        RowError: A turn is another role's (the message names it), a tag fails `check_tags`, or no turn is learned.
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
    for turn, message in enumerate(messages[:-1]):
        observation = messages[turn + 1]
        if message.role == "assistant" and observation.role == "tool":
            parsed = parse_call(message.content, max(1, images))
            if parsed.status is not CallStatus.OK and IMAGE_TAG in observation.content:
                raise RowError(Reason.BAD_CALL, "messages", f"turn {turn}: {parsed.message or 'no call'}")
        images += message.content.count(IMAGE_TAG)
    if not parse_answer([messages[-1].content]):
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
        "conversations": [_turn(message) for message in messages],
        "images": list(images),
        "metadata": json.dumps(demonstration.metadata, sort_keys=True),
        "system": _system(system, demonstration.tools),
    }
    if _read_system(item["system"])[0] != demonstration.tools:  # the system message can't carry their spelling
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


def _turn(message: Message) -> dict[str, Any]:
    """Return a turn; LLaMA-Factory reads speaker and value only."""
    turn: dict[str, Any] = {"from": SPEAKERS[message.role], "value": message.content}
    return turn if message.train is None else turn | {"train": message.train}


def tools_text(tools: Any) -> str:
    """Return the schemas of tools, given as a list or as its JSON, as JSON; "" for none."""
    return tools if isinstance(tools, str) else json.dumps(tools) if tools else ""


def _system(text: str, tools: str) -> str:
    """Return a system message: the text, then, if there are tools, a schema per line between tags."""
    if not tools:
        return text
    block = "<tools>\n" + "\n".join(json.dumps(schema) for schema in json.loads(tools)) + "\n</tools>"
    return f"{text}\n{block}" if text else block


def _read_system(system: str) -> tuple[str, str]:
    """Return the tool schemas of a system message as a JSON list ("" for none), and the rest of its text."""
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
