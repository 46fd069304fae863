"""Makes demonstrations with a model that writes them turn by turn; its calls are executed, checked and corrected.

The model knows answer, applied ops and box of the task. Each call runs in the sandbox. A turn is kept if the provenance
of its image shows progress towards an upright image of the box. One failing call is kept as well, so that the
demonstration recovers from an error. Any other turn is replaced by a scripted call that helps, or by the answer if no
call is needed. A demonstration that is too long, or whose answer isn't certainly right, is discarded.
"""

import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from importlib.resources import files
from typing import Any, Final

import numpy as np

from codevision_ext import geometry
from codevision_ext.rollout.code_tool import CodeTool, ToolResult
from codevision_ext.rollout.image_history import ImageHistory, size_in
from codevision_ext.rollout.parsing import has_call, parse_answer, parse_call
from codevision_ext.types import Box, CoordinateSystem, Orientation, ToolCall
from data_prep.demonstrations.model_client import (
    ModelClient,
    images_of,
    is_right,
    observation_message,
    question_text,
    row_messages,
)
from data_prep.demonstrations.phrasing import AT_FIRST_SIGHT, SENTENCES, WITH_TOOL
from data_prep.demonstrations.scripted import (
    DESCRIPTIONS,
    RELATIVE_CROPS,
    STYLES,
    TOO_SMALL,
    PlannedCall,
    write_turns,
    written_corners,
)
from data_prep.formats.schema import Demonstration, Row, SampleType, applied_orientation
from data_prep.formats.turn_text import call_text
from data_prep.parallel.pipeline import map_threads
from data_prep.tasks.common import Rng, pick
from data_prep.tasks.reading.glyphs import ORIENTATION_THOUGHTS

TURNS: Final = 8
"""Maximum number of turns of a demonstration."""
SLACK_PX: Final = 2
"""Number of pixels by which a box may exceed a crop that shows it."""
_THINK: Final = re.compile(r"<think>(.*?)</think>", re.DOTALL)


class TurnKind(StrEnum):
    """Treatment of a model's turn."""

    KEPT = "kept"
    KEPT_ERROR = "kept_error"
    """First failed call of a demonstration, from which it recovers."""
    MALFORMED = "corrected_malformed"
    OFF_TRACK = "corrected_off_track"
    """Call that ran and didn't help."""
    FAILED_AGAIN = "corrected_failed_again"
    LEFT_OUT = "corrected_left_out"
    """A call with an operation that demonstrations leave out."""
    TOO_EARLY = "corrected_too_early"
    """Answer before an image was readable."""


class Discarded(StrEnum):
    """Reason for discarding a demonstration."""

    WRONG_ANSWER = "discarded_wrong_answer"
    UNDECIDED = "discarded_undecided"
    """No rule decides whether the answer is right."""
    NO_ANSWER = "discarded_no_answer"
    TOO_LONG = "discarded_too_long"


@dataclass(slots=True, kw_only=True)
class DemonstrationState:
    """A demonstration in progress."""

    row: Row
    history: ImageHistory
    coordinates: CoordinateSystem
    """Coordinate system that the model writes in."""
    without: Collection[str] = ()
    """Operations that no call may perform."""
    calls: list[PlannedCall] = field(default_factory=list)
    observations: list[ToolResult] = field(default_factory=list)

    @property
    def needs_crop(self) -> bool:
        """Whether the row requires a crop."""
        return "crop" in self.row.applied and self.row.box is not None

    @property
    def undo(self) -> Orientation:
        """Orientation that puts the input image upright."""
        return geometry.inverse(applied_orientation(self.row.applied))

    def remaining(self, number: int) -> tuple[int, float]:
        """Return the cost of image `number` for comparisons: missing ops, then the visible area of the input, pixels.

        Missing ops are an orientation op if the image isn't upright, and a required crop. An image that doesn't show
        the box, or whose provenance is unknown, counts as 9 missing ops.
        """
        origin = self.history.nodes[number]
        if origin.net is None or origin.region is None or not self._shows_box(origin.region):
            return 9, 0.0
        area = geometry.box_area(origin.region)
        whole = float(self.row.size[0] * self.row.size[1])
        turned = origin.net is not self.undo
        return turned + (self.needs_crop and area > whole / 2), area if self.needs_crop else whole

    def _shows_box(self, region: Box) -> bool:
        box = self.row.box
        if box is None:
            return True
        inside = region.x1 - SLACK_PX <= box.x1 and region.y1 - SLACK_PX <= box.y1
        return inside and region.x2 + SLACK_PX >= box.x2 and region.y2 + SLACK_PX >= box.y2

    def best(self) -> int:
        """Return the number of the image with the lowest cost, the newest among equals."""
        return min(range(len(self.history.nodes)), key=lambda number: (*self.remaining(number), -number))

    @property
    def done(self) -> bool:
        """Whether an image has no missing ops."""
        return self.remaining(self.best())[0] == 0

    def helpful_call(self, rng: Rng) -> tuple[str, ToolCall]:
        """Return a thought and a call that reduce the missing ops of the best image."""
        names = {turn: name for name, turn in geometry.ORIENTATION_OPS.items() if name not in self.without}
        applied = applied_orientation(self.row.applied)
        for at in (self.best(), 0):  # a turn of the best image may take two operations, or one that is left out
            net, seen = self._traced(at)
            now = geometry.compose(applied, net)
            back = geometry.inverse(now)
            if back is Orientation.ID or back in names:
                break
        if back is not Orientation.ID:
            op = names[back]
            call = ToolCall(code=STYLES[op][0], description=DESCRIPTIONS[op], image_index=at)
            return pick(rng, SENTENCES[ORIENTATION_THOUGHTS[now]]), call
        assert self.row.box is not None
        region = geometry.map_box(seen, net, self.row.size)
        box = geometry.map_box(self.row.box, net, self.row.size)
        local = Box(*(a - b for a, b in zip(box, (*region[:2], *region[:2]), strict=True)))
        written, _ = written_corners(local, self.history.images[at].size, self.coordinates)
        style = (RELATIVE_CROPS if self.coordinates is CoordinateSystem.RELATIVE else STYLES["crop"])[0]
        call = ToolCall(code=style.format(**written), description=DESCRIPTIONS["crop"], image_index=at)
        return pick(rng, SENTENCES[TOO_SMALL]), call

    def _traced(self, number: int) -> tuple[Orientation, Box]:
        """Return orientation and visible part of image `number`, whose provenance is known."""
        node = self.history.nodes[number]
        assert node.net is not None
        assert node.region is not None
        return node.net, node.region

    def add(self, thought: str, call: ToolCall, observation: ToolResult) -> None:
        """Add a turn and its observation."""
        step = observation.step
        self.calls.append(PlannedCall(thought=thought, call=call, orientation=step.net, region=step.region))
        self.observations.append(observation)

    @property
    def sample_type(self) -> SampleType:
        if not self.calls:
            return SampleType.NO_TOOL
        if any(observation.image is None for observation in self.observations):
            return SampleType.ERROR_HANDLING
        if len(self.calls) == 1:
            return SampleType.SINGLE_TOOL
        crops = all(set(observation.step.ops) == {"crop"} for observation in self.observations)
        return SampleType.MULTI_CROP if crops else SampleType.MULTI_TOOL

    def finish(self, thought: str) -> Demonstration:
        """Return the demonstration with a last thought and the answer."""
        return write_turns(self.row, self.sample_type, self.calls, self.observations, thought, self.coordinates)


def demonstrate_by_model(
    row: Row, model: ModelClient, tool: CodeTool, seed: int, without: Collection[str] = ()
) -> tuple[Demonstration | Discarded, Counter[TurnKind]]:
    """Return one demonstration by the model, and counts of the treatment of its turns.

    No call performs an operation of `without`.

    Raises:
        EngineError: The endpoint gave no reply.
        SandboxError: The sandbox is broken.
    """
    rng = np.random.default_rng([seed, row.index, 2])
    history = ImageHistory(images_of(row), coordinates=model.coordinates)
    state = DemonstrationState(row=row, history=history, coordinates=model.coordinates, without=without)
    messages, counts = teacher_messages(row, model.coordinates), Counter[TurnKind]()
    for _ in range(TURNS):
        reply = model.reply(messages, seed)
        thought, done = _thought(reply), state.done
        if not has_call(reply) and done:
            answer = parse_answer([reply])
            if answer is None:
                return Discarded.NO_ANSWER, counts
            right = is_right(row, answer, model.coordinates)
            if not right:
                return Discarded.UNDECIDED if right is None else Discarded.WRONG_ANSWER, counts
            counts[TurnKind.KEPT] += 1
            return state.finish(thought), counts
        kind = _try_call(state, reply, thought, tool) if has_call(reply) else TurnKind.TOO_EARLY
        counts[kind] += 1
        if kind not in (TurnKind.KEPT, TurnKind.KEPT_ERROR):
            if done:
                ending = pick(rng, WITH_TOOL if state.calls else AT_FIRST_SIGHT)
                return state.finish(ending.format(answer=row.answers[0])), counts
            thought, call = state.helpful_call(rng)
            state.add(thought, call, tool.call(state.history, call))
        last, observation = state.calls[-1], state.observations[-1]
        messages.append({"role": "assistant", "content": call_text(last.thought, last.call)})
        messages.append(observation_message(observation.text, observation.image))
    return Discarded.TOO_LONG, counts


def teacher_messages(row: Row, coordinates: CoordinateSystem) -> list[dict[str, Any]]:
    """Return the first messages to the model: system prompt with instructions, then metadata, images and question."""
    system, user = row_messages(row, coordinates, with_tool=True)
    system["content"] += (
        "\n\n" + (files("data_prep.demonstrations") / "phrasing.txt").read_text(encoding="utf-8").strip()
    )
    metadata = {
        "answer": row.answers[0],
        "applied_to_the_picture": list(row.applied),
        "box_of_the_answer": row.box and list(written_corners(row.box, row.size, coordinates)[0].values()),
        "picture_size": list(size_in(coordinates, row.size, row.size)),
    }
    text = {"type": "text", "text": "For the teacher only:\n" + json.dumps(metadata)}
    images = [part for part in user["content"] if part["type"] != "text"]
    question = {"type": "text", "text": question_text(row)}
    return [system, {"role": "user", "content": [text, *images, question]}]


def demonstrate_all_by_model(
    rows: Iterable[Row],
    model: ModelClient,
    tool: CodeTool,
    *,
    seed: int,
    concurrency: int,
    counts: Counter[str],
    without: Collection[str] = (),
) -> Iterator[Demonstration]:
    """Yield the demonstrations that aren't discarded, in the order of the rows.

    `counts` counts turns by TurnKind and discarded demonstrations by Discarded. No call performs an operation of
    `without`.

    Raises:
        EngineError: The endpoint gave no reply.
        SandboxError: The sandbox is broken.
    """
    results = map_threads(lambda row: demonstrate_by_model(row, model, tool, seed, without), rows, concurrency)
    for result, turns in results:
        counts.update({str(turn): count for turn, count in turns.items()})
        if isinstance(result, Demonstration):
            yield result
        else:
            counts[str(result)] += 1


def _try_call(state: DemonstrationState, reply: str, thought: str, tool: CodeTool) -> TurnKind:
    """Run the call of a turn; keep the turn if the call helps or is the first to fail, else undo the call."""
    parsed = parse_call(reply, len(state.history.images))
    if parsed.call is None or not thought:
        return TurnKind.MALFORMED
    before = state.remaining(state.best())
    images, calls = len(state.history.images), len(state.history.calls)
    observation = tool.call(state.history, parsed.call)
    if observation.image is None:
        if before[0] == 0:
            return TurnKind.OFF_TRACK
        if any(earlier.image is None for earlier in state.observations):
            return TurnKind.FAILED_AGAIN
        state.add(thought, parsed.call, observation)
        return TurnKind.KEPT_ERROR
    if set(observation.step.ops) & set(state.without):
        state.history.undo(images, calls)
        return TurnKind.LEFT_OUT
    if state.remaining(len(state.history.nodes) - 1) < before:
        state.add(thought, parsed.call, observation)
        return TurnKind.KEPT
    state.history.undo(images, calls)
    return TurnKind.OFF_TRACK


def _thought(reply: str) -> str:
    match = _THINK.search(reply)
    return match[1].strip() if match else ""
