"""Lists the texts that the tokenizer of a tiny model is trained on: all that the model reads or writes, but no answers.

Answers are spelled in characters: with `CAT` as one token, a small model would have to tell hundreds of words apart,
instead of 36 characters.
"""

import json
from collections.abc import Iterable, Iterator
from importlib.resources import files
from string import ascii_uppercase, digits
from typing import Any

from codevision_ext.rollout.code_tool import OBSERVATIONS, TOOL_SCHEMA
from codevision_ext.rollout.parsing import malformed_messages, turn_messages
from data_prep.formats.schema import IMAGE_TAG, Demonstration


def texts(demonstrations: Iterable[Demonstration]) -> Iterator[str]:
    """Yield each text once: tool schema, system prompts, observations, the characters of answers, then turns."""
    return iter(dict.fromkeys(_all(demonstrations)))


def _all(demonstrations: Iterable[Demonstration]) -> Iterator[str]:
    yield json.dumps(TOOL_SCHEMA)
    prompts = (file for file in files("codevision_ext").joinpath("prompts").iterdir() if file.name.endswith(".txt"))
    yield from sorted(file.read_text(encoding="utf-8").strip() for file in prompts)
    yield from _leaves(OBSERVATIONS)
    yield from _leaves(malformed_messages())
    yield from _leaves(turn_messages())
    yield from ascii_uppercase + digits
    for demonstration in demonstrations:
        answer = f"<answer>{demonstration.metadata['answer']}</answer>"
        for message in demonstration.messages:
            yield message.content.replace(IMAGE_TAG, "").replace(answer, "<answer></answer>").strip()


def _leaves(table: Any) -> Iterator[str]:
    if isinstance(table, str):
        yield table
    else:
        for value in table.values():
            yield from _leaves(value)
