"""Decides which calls of demonstrations SFT learns: those that failed, or were wrong on purpose, are masked.

A masked message has `train` false. The model still reads it, so it learns to recover from such a call and not to make
it. A message that says `train` itself keeps that.
"""

from dataclasses import replace
from itertools import pairwise
from typing import Final

from data_prep.formats.schema import IMAGE_TAG, Demonstration

CHANGE: Final = "failed_call_masked"
"""Change of a row with a message that was masked here."""


def mask_failed_calls(demonstration: Demonstration) -> Demonstration:
    """Return the demonstration with `train` false for each unmarked call that gave no image.

    A row can't say which calls were wrong on purpose; the commands that generate demonstrations mark them.
    """
    messages = list(demonstration.messages)
    for turn, (message, observation) in enumerate(pairwise(demonstration.messages)):
        failed = observation.role == "tool" and IMAGE_TAG not in observation.content
        if message.role == "assistant" and message.train is None and failed:
            messages[turn] = replace(message, train=False)
    if messages == list(demonstration.messages):
        return demonstration
    return replace(demonstration, messages=tuple(messages), changes=(*demonstration.changes, CHANGE))


def train_failed_calls(demonstration: Demonstration) -> Demonstration:
    """Return the demonstration with `train` true for each message that was masked."""
    messages = [
        message if message.train is None else replace(message, train=True) for message in demonstration.messages
    ]
    return replace(demonstration, messages=tuple(messages))
