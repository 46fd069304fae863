"""Makes scripted demonstrations with thoughts in full sentences, for pretrained models."""

import os
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from typing import Final

import numpy as np

from codevision_ext.rollout.code_tool import CodeTool
from codevision_ext.types import Box, CoordinateSystem
from data_prep.demonstrations.scripted import TOO_SMALL, CallPlan, PlannedCall, demonstrate, draw_plan
from data_prep.formats.schema import Demonstration, Row, SampleType
from data_prep.parallel.pipeline import map_threads
from data_prep.tasks.common import Rng, pick

SENTENCES: Final = {
    "turned left": (
        "The picture lies on its left side: its text runs from the bottom to the top. A quarter turn puts it right.",
        "The lines run upwards, so the picture was turned to the left. I turn it back before I read it.",
    ),
    "turned right": (
        "The picture lies on its right side: its text runs from the top to the bottom. A quarter turn puts it right.",
        "The lines run downwards, so the picture was turned to the right. I turn it back before I read it.",
    ),
    "upside down": (
        "The picture stands on its head. I turn it by half a turn.",
        "Everything is upside down here; half a turn makes it readable.",
    ),
    "mirrored": (
        "The letters are mirrored: they run from the right to the left. I mirror the picture back.",
        "This is a mirror image, left and right are exchanged. I flip it horizontally.",
    ),
    "flipped": (
        "The letters stand on their heads but still run from the left to the right: it was flipped vertically.",
        "Top and bottom are exchanged, as in a reflection on water. I flip the picture vertically.",
    ),
    "turned and mirrored": (
        "The picture is turned and mirrored by now. I take the operation that undoes both.",
        "It is both turned and mirrored; one right operation puts it straight.",
    ),
    "upright": ("The picture stands upright now.", "It stands as it should."),
    TOO_SMALL: (
        "What is asked for is too small to be read with certainty. I cut it out.",
        "The part in question is a small one; I crop it to see it in full.",
    ),
}
"""Full sentences for each short thought of the reading task."""
AFTER_ERROR: Final = (
    "That call failed: there is a mistake in my code. I write it again.",
    "The error says that the code can't run. I correct it.",
)
AFTER_WRONG: Final = ("That wasn't the right way.", "Now it stands differently, but still not upright.")
AT_FIRST_SIGHT: Final = (
    "The picture stands upright, and what is asked for can be seen well.",
    "I can read this without any change to the picture.",
)
WITH_TOOL: Final = ("Now it can be read: it says {answer}.", "In this picture the answer is plain to see: {answer}.")
WINDOW: Final = (2.5, 5.0)
"""Range of width and height of the first of two crops, as multiples of the sides of its box."""


def plan_thoughts(
    rng: Rng,
    row: Row,
    wrong_first: float,
    coordinates: CoordinateSystem = CoordinateSystem.ORIGINAL,
    without: Collection[str] = (),
) -> CallPlan:
    """Draw a plan with thoughts in full sentences; see `scripted.draw_plan`."""
    row = row if "crop" in row.applied else replace(row, box=None)
    plan = draw_plan(rng, row, wrong_first, window, coordinates, without)
    calls: list[PlannedCall] = []
    for call in plan.calls:
        thought = pick(rng, SENTENCES[call.thought])
        if calls and calls[-1].orientation is None:
            thought = pick(rng, AFTER_ERROR)
        elif plan.sample_type is SampleType.ERROR_HANDLING and len(calls) == 1:
            thought = f"{pick(rng, AFTER_WRONG)} {thought}"
        calls.append(replace(call, thought=thought))
    ending = pick(rng, WITH_TOOL).format(answer=row.answers[0]) if calls else pick(rng, AT_FIRST_SIGHT)
    return replace(plan, calls=tuple(calls), conclusion=ending)


def window(rng: np.random.Generator, box: Box, page: tuple[int, int]) -> Box:
    """Draw a random window around a box, larger than the box, and clipped to the page."""
    left, top, right, bottom = box
    spans: list[tuple[int, int]] = []
    for low, high, edge in ((left, right, page[0]), (top, bottom, page[1])):
        length = min(edge, int((high - low) * rng.uniform(*WINDOW)) + 1)
        start = int(np.clip(low - rng.uniform() * (length - (high - low)), 0, edge - length))
        spans.append((min(start, int(low)), max(start + length, int(high))))
    return Box(spans[0][0], spans[1][0], spans[0][1], spans[1][1])


def demonstrate_rows(
    rows: Iterable[Row],
    tool: CodeTool,
    *,
    seed: int,
    wrong_first: float,
    coordinates: CoordinateSystem = CoordinateSystem.ORIGINAL,
    without: Collection[str] = (),
) -> Iterator[Demonstration]:
    """Yield a demonstration of each row, in order; calls of several rows run at the same time.

    Raises:
        InfraError: The result of a call isn't the planned one.
    """

    def run(row: Row) -> Demonstration:
        rng = np.random.default_rng([seed, row.index, 1])
        return demonstrate(plan_thoughts(rng, row, wrong_first, coordinates, without), row, tool, coordinates)

    return map_threads(run, rows, os.cpu_count() or 1)
