"""How does a model write a demonstration? Turn by turn; what its calls did is checked and, if wrong, set right.

The model is told everything about the task. A call is run in the sandbox; provenance says whether it brought the newest
image nearer to an upright one that shows the box. If it did, the turn is kept; one failing call is kept, too, as a
thing to recover from; any other turn is replaced by the call that helps, or by the answer where none is needed, with
plain words for it. A trajectory whose answer is wrong, or that doesn't end, is discarded.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum
from importlib.resources import files
from itertools import islice
from typing import Any, Final

import numpy as np

from codevision_ext import geometry
from codevision_ext.rollout.code_tool import CodeTool, ToolResult
from codevision_ext.rollout.image_history import ImageHistory, size_in
from codevision_ext.rollout.parsing import has_call, parse_answer, parse_call
from codevision_ext.task.answers import is_correct
from codevision_ext.types import Box, CoordinateSystem, Orientation, ToolCall
from data_prep.convert.validate import required_orientation
from data_prep.demonstrations.model_client import (
    ModelClient,
    images_of,
    observation_message,
    question_text,
    row_messages,
)
from data_prep.demonstrations.phrasing import AT_FIRST_SIGHT, SAY, WITH_TOOL
from data_prep.demonstrations.scripted import (
    DESCRIPTIONS,
    RELATIVE_CROPS,
    STYLES,
    TOO_SMALL,
    PlannedCall,
    corners,
    trajectory,
)
from data_prep.formats.schema import Demonstration, Row, SampleType
from data_prep.formats.turn_text import call_text
from data_prep.tasks.reading.glyphs import LOOKS
from data_prep.tasks.synth.scene import Rng, pick

TURNS: Final = 8
"""Turns of a demonstration at most."""
SLACK_PX: Final = 2
_THINK: Final = re.compile(r"<think>(.*?)</think>", re.DOTALL)


class TurnKind(StrEnum):
    """What became of a turn of the model."""

    KEPT = "kept"
    KEPT_ERROR = "kept_error"
    """A call that failed, to be recovered from."""
    MALFORMED = "corrected_malformed"
    OFF_TRACK = "corrected_off_track"
    """A call that ran and brought nothing."""
    FAILED_AGAIN = "corrected_failed_again"
    TOO_EARLY = "corrected_too_early"
    """An answer before the image could be read."""


class Discarded(StrEnum):
    """Why a trajectory isn't used."""

    WRONG_ANSWER = "discarded_wrong_answer"
    NO_ANSWER = "discarded_no_answer"
    TOO_LONG = "discarded_too_long"


@dataclass(slots=True, kw_only=True)
class DemonstrationState:
    """A demonstration as far as it got."""

    row: Row
    history: ImageHistory
    coordinates: CoordinateSystem
    """What coordinates are written in."""
    moves: list[PlannedCall] = field(default_factory=list)
    seen: list[ToolResult] = field(default_factory=list)

    @property
    def looks(self) -> Orientation:
        """What was applied to the image."""
        return required_orientation(self.row.applied)

    @property
    def wants_crop(self) -> bool:
        """Whether the row asks for a crop."""
        return "crop" in self.row.applied and self.row.box is not None

    def left(self, node: int) -> tuple[int, float]:
        """What is still to be done about an image: ops, then pixels of the input image that it shows.

        The ops are a turn, where it isn't upright, and a crop, where one is required. Larger than any other where it
        isn't known, or no longer shows the box.
        """
        made = self.history.nodes[node]
        if made.net is None or made.region is None or not self._shows_box(made.region):
            return 9, 0.0
        area = (made.region.x2 - made.region.x1) * (made.region.y2 - made.region.y1)
        whole = float(self.row.size[0] * self.row.size[1])
        turned = made.net is not geometry.inverse(self.looks)
        return turned + (self.wants_crop and area > whole / 2), area if self.wants_crop else whole

    def _shows_box(self, region: Box) -> bool:
        box = self.row.box
        if box is None:
            return True
        low = region.x1 - SLACK_PX <= box.x1 and region.y1 - SLACK_PX <= box.y1
        return low and region.x2 + SLACK_PX >= box.x2 and region.y2 + SLACK_PX >= box.y2

    def best(self) -> int:
        """The image to go on from: the newest of those with the least left to do."""
        return min(range(len(self.history.nodes)), key=lambda node: (*self.left(node), -node))

    def helping(self, rng: Rng) -> tuple[str, ToolCall]:
        """The thought and the call that bring it nearer."""
        at = self.best()
        node = self.history.nodes[at]
        assert node.net is not None
        assert node.region is not None
        now = geometry.compose(self.looks, node.net)
        back = geometry.inverse(now)
        if back is not Orientation.ID:
            if back not in geometry.ORIENTATION_OPS.values():  # takes two ops: from the first image it is one
                at, now, back = 0, self.looks, geometry.inverse(self.looks)
            op = next(name for name, orientation in geometry.ORIENTATION_OPS.items() if orientation is back)
            call = ToolCall(code=STYLES[op][0], description=DESCRIPTIONS[op], image_index=at)
            return pick(rng, SAY[LOOKS[now]]), call
        assert self.row.box is not None
        region = geometry.map_box(node.region, node.net, self.row.size)
        box = geometry.map_box(self.row.box, node.net, self.row.size)
        local = Box(*(a - b for a, b in zip(box, (*region[:2], *region[:2]), strict=True)))
        written, _ = corners(local, self.history.images[at].size, self.coordinates)
        style = (RELATIVE_CROPS if self.coordinates is CoordinateSystem.RELATIVE else STYLES["crop"])[0]
        call = ToolCall(code=style.format(**written), description=DESCRIPTIONS["crop"], image_index=at)
        return pick(rng, SAY[TOO_SMALL]), call

    def take(self, thought: str, call: ToolCall, observation: ToolResult) -> None:
        """Add a turn and its result."""
        self.moves.append(
            PlannedCall(thought=thought, call=call, net=observation.step.net, region=observation.step.region)
        )
        self.seen.append(observation)

    @property
    def sample_type(self) -> SampleType:
        """By what was called."""
        if not self.moves:
            return SampleType.NO_TOOL
        if any(observation.image is None for observation in self.seen):
            return SampleType.ERROR_HANDLING
        if len(self.moves) == 1:
            return SampleType.SINGLE_TOOL
        crops = all(set(observation.step.ops) == {"crop"} for observation in self.seen)
        return SampleType.MULTI_CROP if crops else SampleType.MULTI_TOOL


def give(row: Row, chat: ModelClient, tool: CodeTool, seed: int) -> tuple[Demonstration | Discarded, Counter[TurnKind]]:
    """One demonstration by the model, and what became of its turns.

    Raises:
        EngineError: The endpoint gave no reply.
        SandboxError: The sandbox is broken.
    """
    rng = np.random.default_rng([seed, row.index, 2])
    lesson = DemonstrationState(
        row=row, history=ImageHistory(images_of(row), coordinates=chat.coordinates), coordinates=chat.coordinates
    )
    messages, counts = briefing(row, chat.coordinates), Counter[TurnKind]()
    for _ in range(TURNS):
        said = chat.reply(messages, seed)
        thought = _thought(said)
        done = lesson.left(lesson.best())[0] == 0
        if not has_call(said) and done:
            answer = parse_answer([said])
            if answer is None:
                return Discarded.NO_ANSWER, counts
            if not is_correct(answer, row.answers):
                return Discarded.WRONG_ANSWER, counts
            counts[TurnKind.KEPT] += 1
            return _finished(lesson, thought), counts
        found = _try(lesson, said, thought, tool) if has_call(said) else TurnKind.TOO_EARLY
        counts[found] += 1
        if found not in (TurnKind.KEPT, TurnKind.KEPT_ERROR):
            if done:
                ending = pick(rng, WITH_TOOL if lesson.moves else AT_FIRST_SIGHT)
                return _finished(lesson, ending.format(answer=row.answers[0])), counts
            thought, call = lesson.helping(rng)
            lesson.take(thought, call, tool.call(lesson.history, call))
        move, observation = lesson.moves[-1], lesson.seen[-1]
        messages.append({"role": "assistant", "content": call_text(move.thought, move.call)})
        messages.append(observation_message(observation.text, observation.image))
    return Discarded.TOO_LONG, counts


def briefing(row: Row, coordinates: CoordinateSystem) -> list[dict[str, Any]]:
    """What the model is told: how to write, the metadata, then the image as the pupil gets it, and the question."""
    system, user = row_messages(row, coordinates, with_tool=True)
    system["content"] += (
        "\n\n" + (files("data_prep.demonstrations") / "phrasing.txt").read_text(encoding="utf-8").strip()
    )
    metadata = {
        "answer": row.answers[0],
        "applied_to_the_picture": list(row.applied),
        "box_of_the_answer": row.box and list(corners(row.box, row.size, coordinates)[0].values()),
        "picture_size": list(size_in(coordinates, row.size, row.size)),
    }
    text = {"type": "text", "text": "For the teacher only:\n" + json.dumps(metadata)}
    images = [part for part in user["content"] if part["type"] != "text"]
    question = {"type": "text", "text": question_text(row)}
    return [system, {"role": "user", "content": [text, *images, question]}]


def give_all(
    rows: Iterable[Row],
    chat: ModelClient,
    tool: CodeTool,
    *,
    seed: int,
    concurrency: int,
    counts: Counter[str],
    progress: Callable[[int], None] = lambda _: None,
) -> Iterator[Demonstration]:
    """The demonstrations that are kept, in the order of the rows; `counts` gets what became of turns and of the others.

    Raises:
        EngineError: The endpoint gave no reply.
        SandboxError: The sandbox is broken.
    """
    stream, done = iter(rows), 0
    with ThreadPoolExecutor(concurrency) as pool:
        while batch := list(islice(stream, concurrency)):
            for made, turns in pool.map(lambda row: give(row, chat, tool, seed), batch):
                counts.update({str(turn): count for turn, count in turns.items()})
                done += 1
                progress(done)
                if isinstance(made, Demonstration):
                    yield made
                else:
                    counts[str(made)] += 1


def _try(lesson: DemonstrationState, said: str, thought: str, tool: CodeTool) -> TurnKind:
    """Run the call of a turn; it is taken if it helped, or is the first that failed, and else undone."""
    parsed = parse_call(said, len(lesson.history.images))
    if parsed.call is None or not thought:
        return TurnKind.MALFORMED
    before = lesson.left(lesson.best())
    images, calls = len(lesson.history.images), len(lesson.history.calls)
    observation = tool.call(lesson.history, parsed.call)
    if observation.image is None:
        if before[0] == 0:
            return TurnKind.OFF_TRACK
        if any(earlier.image is None for earlier in lesson.seen):
            return TurnKind.FAILED_AGAIN
        lesson.take(thought, parsed.call, observation)
        return TurnKind.KEPT_ERROR
    if lesson.left(len(lesson.history.nodes) - 1) < before:
        lesson.take(thought, parsed.call, observation)
        return TurnKind.KEPT
    lesson.history.undo(images, calls)
    return TurnKind.OFF_TRACK


def _finished(lesson: DemonstrationState, thought: str) -> Demonstration:
    calls = [
        {"status": (step := observation.step).status, "net": step.net, "ops": list(step.ops)}
        for observation in lesson.seen
    ]
    return trajectory(lesson.row, lesson.sample_type, lesson.moves, lesson.seen, calls, thought, lesson.coordinates)


def _thought(said: str) -> str:
    found = _THINK.search(said)
    return found[1].strip() if found else ""
