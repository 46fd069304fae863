"""Which texts a tiny model's tokenizer is trained on: everything it will read or write, but no answer as a whole.

Answers are taken apart into characters: a tokenizer that knows `CAT` as one token would ask a small model to tell
hundreds of words apart, where 36 characters will do.
"""

import json
from collections.abc import Iterable, Iterator
from importlib.resources import files
from string import ascii_uppercase, digits
from typing import Any

from codevision_ext.rollout.code_tool import OBSERVATIONS, TOOL_SCHEMA
from codevision_ext.rollout.parsing import malformed_messages, turn_messages
from data_prep.formats.schema import IMAGE_TAG, Demonstration


def texts(trajectories: Iterable[Demonstration]) -> Iterator[str]:
    """Each text once: what is told of the tool, system prompts, observations, the characters of answers, then turns."""
    seen: set[str] = set()
    for text in _all(trajectories):
        if text not in seen:
            seen.add(text)
            yield text


def _all(trajectories: Iterable[Demonstration]) -> Iterator[str]:
    yield json.dumps(TOOL_SCHEMA)
    prompts = (file for file in files("codevision_ext").joinpath("prompts").iterdir() if file.name.endswith(".txt"))
    yield from sorted(file.read_text(encoding="utf-8").strip() for file in prompts)
    yield from _leaves(OBSERVATIONS)
    yield from _leaves(malformed_messages())
    yield from _leaves(turn_messages())
    yield from ascii_uppercase + digits
    for trajectory in trajectories:
        answer = f"<answer>{trajectory.metadata['answer']}</answer>"
        for message in trajectory.messages:
            yield message.content.replace(IMAGE_TAG, "").replace(answer, "<answer></answer>").strip()


def _leaves(table: Any) -> Iterator[str]:
    """The texts of a nested table."""
    if isinstance(table, str):
        yield table
    else:
        for value in table.values():
            yield from _leaves(value)
