"""How a trajectory looks in the sharegpt schema of CodeVision-SFT, and back, without a loss either way."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from codevision_ext.rollout.parsing import parse_answer, parse_call
from codevision_ext.types import CallStatus
from data_prep.formats import fields
from data_prep.formats.row_errors import Reason, RowError
from data_prep.formats.schema import IMAGE_TAG, Demonstration, Message, SampleType

SOURCE: Final = "CodeVision-SFT"
LICENCE: Final = "CC-BY-NC-4.0"
"""Of an item that names no other."""
SPEAKERS = {"system": "system", "user": "human", "assistant": "gpt", "tool": "tool"}
"""Our roles, and what sharegpt calls them."""
_ROLES = {speaker: role for role, speaker in SPEAKERS.items()} | {
    "user": "user",
    "assistant": "assistant",
    "observation": "tool",
    "function_call": "assistant",
}
_TOOLS = re.compile(r"(.*?)\n?<tools>\n(.*?)\n</tools>(.*)", re.DOTALL)
_HEADING, _ENDING = "# Tools", "For each function call"
"""How Qwen's own template introduces tools, and what it says behind them; ours says it again."""
_CROP = re.compile(r"\.crop\(|\[\s*\w+\s*:\s*\w+\s*,\s*\w+\s*:\s*\w+")


def to_sharegpt(trajectory: Demonstration, images: Sequence[str]) -> dict[str, Any]:
    """The trajectory as one item of the JSON list; `images` are the paths of its images, in order."""
    item = _ours(trajectory, images) | dict(trajectory.extra)
    return {name: value for name, value in item.items() if value is not None}


def from_sharegpt(item: Mapping[str, Any], images: Sequence[bytes], paths: Sequence[str | None] = ()) -> Demonstration:
    """The trajectory of one item; `images` are the files its `images` name, `paths` are these names.

    Raises:
        RowError: A field is missing or of another type, or a speaker isn't known.
    """
    turns = fields.parsed(fields.need(item, "conversations"), "conversations")
    try:
        said = [(turn["from"], turn["value"]) for turn in turns]
    except (TypeError, KeyError) as error:
        raise RowError(Reason.BAD_TYPE, "conversations", f"must be a list of {{from, value}}: {error!r}") from error
    if unknown := [speaker for speaker, _ in said if speaker not in _ROLES]:
        raise RowError(Reason.BAD_TURNS, "conversations.from", f"{unknown[0]!r} is no known speaker")
    messages = [
        Message(role=_ROLES[speaker], content=fields.text(value, "conversations.value")) for speaker, value in said
    ]
    metadata = fields.mapping(item.get("metadata"), "metadata")
    tools, system = _read_system(fields.text(item.get("system") or "", "system"))
    if isinstance(item.get("tools"), str):
        tools = item["tools"]
    if system:
        messages.insert(0, Message(role="system", content=system))
    trajectory = Demonstration(
        messages=tuple(messages),
        images=tuple(images),
        sample_type=item.get("sample_type") or metadata.get("sample_type") or kind_of(messages),
        tools=tools,
        metadata=metadata,
        paths=tuple(paths),
        source=item.get("source") or "",
        licence=item.get("licence") or "",
        changes=tuple(item.get("changes") or ()),
    )
    ours = _ours(trajectory, ())
    names = (ours | dict(item)).keys() - {"images"}
    extra = {name: item.get(name) for name in sorted(names) if name not in item or ours.get(name) != item[name]}
    return replace(trajectory, extra=extra)


def check_turns(trajectory: Demonstration) -> None:
    """Whether the model and the others take turns, the user first and the model last, with one image a tag.

    A system message may stand before them.

    Raises:
        RowError: They don't; names the turn.
    """
    messages = trajectory.messages
    if messages and messages[0].role == "system":
        messages = messages[1:]
    for turn, message in enumerate(messages):
        expected = "assistant" if turn % 2 else "tool" if turn else "user"
        if message.role != expected and not (expected == "tool" and message.role == "user"):
            raise RowError(Reason.BAD_TURNS, "messages", f"turn {turn} is {message.role}'s, not {expected}'s")
    if len(messages) % 2 or not messages:
        raise RowError(Reason.BAD_TURNS, "messages", "the last turn isn't the assistant's")
    tags = sum(message.content.count(IMAGE_TAG) for message in messages)
    if tags != len(trajectory.images):
        said = f"{tags} {IMAGE_TAG} tags, but {len(trajectory.images)} images"
        raise RowError(Reason.BAD_TURNS, "images", said)


def check_calls(trajectory: Demonstration) -> None:
    """Whether every call can be read, unless it was answered without an image, and the last turn answers.

    Raises:
        RowError: A call that was answered with an image can't be read, or there is no answer.
    """
    shown = 0
    messages = trajectory.messages
    for turn, message in enumerate(messages[:-1]):
        told = messages[turn + 1]
        if message.role == "assistant" and told.role == "tool":
            parsed = parse_call(message.content, max(1, shown))
            if parsed.status is not CallStatus.OK and IMAGE_TAG in told.content:
                said = f"turn {turn}: {parsed.message or 'no call'}"
                raise RowError(Reason.BAD_CALL, "messages", said)
        shown += message.content.count(IMAGE_TAG)
    if not parse_answer([messages[-1].content]):
        raise RowError(Reason.NO_ANSWER, "messages", "the last turn has no <answer>, or a blank one")


def kind_of(messages: Sequence[Message]) -> str:
    """The sample type of a trajectory that doesn't say its own."""
    told = [message.content for message in messages if message.role == "tool"]
    if not told:
        return SampleType.NO_TOOL
    if any(IMAGE_TAG not in content for content in told):
        return SampleType.ERROR_HANDLING
    if len(told) == 1:
        return SampleType.SINGLE_TOOL
    calls = [message.content for message in messages if message.role == "assistant"][:-1]
    return SampleType.MULTI_CROP if all(map(_CROP.search, calls)) else SampleType.MULTI_TOOL


def _ours(trajectory: Demonstration, images: Sequence[str]) -> dict[str, Any]:
    """The item without what is extra."""
    system, messages = "", trajectory.messages
    if messages and messages[0].role == "system":
        system, messages = messages[0].content, messages[1:]
    item: dict[str, Any] = {
        "conversations": [{"from": SPEAKERS[message.role], "value": message.content} for message in messages],
        "images": list(images),
        "metadata": json.dumps(trajectory.metadata, sort_keys=True),
        "system": _system(system, trajectory.tools),
    }
    if _read_system(item["system"])[0] != trajectory.tools:  # written in another way, or none of a tool's lines
        item["tools"] = trajectory.tools
    if trajectory.metadata.get("sample_type") != trajectory.sample_type:
        item["sample_type"] = trajectory.sample_type
    if trajectory.source not in ("", SOURCE):
        item["source"] = trajectory.source
    if trajectory.licence not in ("", LICENCE):
        item["licence"] = trajectory.licence
    if trajectory.changes:
        item["changes"] = list(trajectory.changes)
    return item


def _system(said: str, tools: str) -> str:
    """The system text: what is said, then a schema a line, between tags; without tools only what is said."""
    if not tools:
        return said
    block = "<tools>\n" + "\n".join(json.dumps(schema) for schema in json.loads(tools)) + "\n</tools>"
    return f"{said}\n{block}" if said else block


def _read_system(system: str) -> tuple[str, str]:
    """The tool schemas of a system text as a JSON list (empty where there are none), and what else it says."""
    found = _TOOLS.fullmatch(system)
    if found is None:
        return "", system
    said, block, behind = found.groups()
    try:
        tools = json.dumps([json.loads(line) for line in block.splitlines() if line.strip()])
    except ValueError as error:
        raise RowError(Reason.BAD_JSON, "system", f"a tool schema can't be read: {error}") from error
    if _HEADING in said:
        said = said[: said.index(_HEADING)].rstrip()
    behind = behind.strip()
    return tools, said if not behind or behind.startswith(_ENDING) else f"{said}\n\n{behind}".strip()
