"""Which texts a tiny model's tokenizer is trained on: everything it will read or write, but no answer as a whole.

Answers are taken apart into characters: a tokenizer that knows `CAT` as one token would ask a small model to tell
hundreds of words apart, where 36 characters will do.
"""

import json
from collections.abc import Iterable, Iterator
from string import ascii_uppercase, digits
from typing import Any

from codevision_ext.code_tool import OBSERVATIONS, TOOL_SCHEMA
from codevision_ext.parsing import malformed_messages
from data_prep.schema import IMAGE_TAG, Trajectory


def texts(trajectories: Iterable[Trajectory]) -> Iterator[str]:
    """Each text once: the tool's schema, every observation, the characters of answers, then the trajectories' turns."""
    seen: set[str] = set()
    for text in _all(trajectories):
        if text not in seen:
            seen.add(text)
            yield text


def _all(trajectories: Iterable[Trajectory]) -> Iterator[str]:
    yield json.dumps(TOOL_SCHEMA)
    yield from _leaves(OBSERVATIONS)
    yield from _leaves(malformed_messages())
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
