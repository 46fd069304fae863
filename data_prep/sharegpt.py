"""How a trajectory looks in the sharegpt schema of CodeVision-SFT, and back."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from codevision_ext.errors import InputError
from data_prep.schema import IMAGE_TAG, Message, Trajectory

SPEAKERS = {"user": "human", "assistant": "gpt", "tool": "tool"}
"""Our roles, and what sharegpt calls them."""
_ROLES = {speaker: role for role, speaker in SPEAKERS.items()}
_TOOLS = re.compile(r"<tools>\n(.*)\n</tools>\s*\Z", re.DOTALL)


def to_sharegpt(trajectory: Trajectory, pictures: Sequence[str]) -> dict[str, Any]:
    """The trajectory as one item of the JSON list; `pictures` are the paths of its pictures, in order."""
    return {
        "conversations": [
            {"from": SPEAKERS[message.role], "value": message.content} for message in trajectory.messages
        ],
        "images": list(pictures),
        "metadata": json.dumps(trajectory.metadata, sort_keys=True),
        "system": _system(trajectory.tools),
    }


def from_sharegpt(item: Mapping[str, Any], pictures: Sequence[bytes], where: str) -> Trajectory:
    """The trajectory of one item; `pictures` are the files its `images` name, `where` opens the message of an error.

    Raises:
        InputError: A field is missing or of another type, the turns don't alternate, or tags and pictures don't match.
    """
    try:
        messages = tuple(Message(role=_ROLES[turn["from"]], content=turn["value"]) for turn in item["conversations"])
        metadata = json.loads(item["metadata"])
        sample_type = metadata["sample_type"]
        tools = _tools(item["system"])
    except KeyError as error:
        raise InputError(f"{where}: {error} is missing, or no known speaker") from error
    except (TypeError, ValueError) as error:
        raise InputError(f"{where}: {error}") from error
    trajectory = Trajectory(
        messages=messages, images=tuple(pictures), sample_type=sample_type, tools=tools, metadata=metadata
    )
    check_turns(trajectory, where)
    return trajectory


def check_turns(trajectory: Trajectory, where: str) -> None:
    """Whether the model and the others take turns, the user first and the model last, with one picture a tag.

    Raises:
        InputError: They don't; names the turn.
    """
    last = len(trajectory.messages) - 1
    for turn, message in enumerate(trajectory.messages):
        expected = "assistant" if turn % 2 else "tool" if turn else "user"
        if message.role != expected:
            raise InputError(f"{where}: turn {turn} is {message.role}'s, not {expected}'s")
    if last % 2 == 0:
        raise InputError(f"{where}: the last turn isn't the assistant's")
    tags = sum(message.content.count(IMAGE_TAG) for message in trajectory.messages)
    if tags != len(trajectory.images):
        raise InputError(f"{where}: {tags} {IMAGE_TAG} tags, but {len(trajectory.images)} pictures")


def _system(tools: str) -> str:
    """The system text: a schema a line, between tags; empty without tools."""
    return "<tools>\n" + "\n".join(json.dumps(schema) for schema in json.loads(tools)) + "\n</tools>" if tools else ""


def _tools(system: str) -> str:
    """The tool schemas of a system text as a JSON list; empty where there are none."""
    found = _TOOLS.search(system)
    return json.dumps([json.loads(line) for line in found[1].splitlines()]) if found else ""
