"""How a row becomes a demonstration for SFT: a plan is drawn, then each call of it is executed and checked.

Texts are short and from a small vocabulary, so that a model of a few hundred thousand parameters can learn them.
"""

import io
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from PIL import Image

from codevision_ext import geometry
from codevision_ext.errors import InfraError
from codevision_ext.rollout.code_tool import CodeTool, ToolResult, tool_schema
from codevision_ext.rollout.image_history import ImageHistory
from codevision_ext.sandbox.coordinates import RELATIVE_SIZE, box_in_pixels, scaled
from codevision_ext.types import Box, CoordinateSystem, ExecStatus, Orientation, ToolCall
from data_prep.formats.schema import IMAGE_TAG, Demonstration, Message, Row, SampleType, user_text
from data_prep.formats.turn_text import answer_text, call_text
from data_prep.tasks.reading.drawing import to_png
from data_prep.tasks.reading.glyphs import CELL, GRID, LOOKS, ORIENTATION_OPS, SOURCE, Mix, draw_rows, rng_of

ROWS_AT_A_TIME = 32
FAILING_SHARE = 0.05
"""Share of tool trajectories whose first call fails; the model reads the error and repairs it."""
PLAIN_SHARE = 0.85
"""Share of calls in the plainest style of their op; the rest are spread over the other styles."""


TOO_SMALL = "too small"

STYLES = {
    "rotate_90": (
        "image = image.rotate(90, expand=True)",
        "image = image.transpose(Image.Transpose.ROTATE_90)",
        "image = Image.fromarray(np.rot90(np.array(image)))",
    ),
    "rotate_180": (
        "image = image.rotate(180, expand=True)",
        "image = image.transpose(Image.Transpose.ROTATE_180)",
        "image = Image.fromarray(np.rot90(np.array(image), 2))",
    ),
    "rotate_270": (
        "image = image.rotate(270, expand=True)",
        "image = image.transpose(Image.Transpose.ROTATE_270)",
        "image = Image.fromarray(np.rot90(np.array(image), 3))",
    ),
    "flip_horizontal": (
        "image = ImageOps.mirror(image)",
        "image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)",
        "image = Image.fromarray(np.array(image)[:, ::-1])",
    ),
    "flip_vertical": (
        "image = ImageOps.flip(image)",
        "image = image.transpose(Image.Transpose.FLIP_TOP_BOTTOM)",
        "image = Image.fromarray(np.array(image)[::-1])",
    ),
    "crop": (
        "image = image.crop(({x1}, {y1}, {x2}, {y2}))",
        "image = Image.fromarray(np.array(image)[{y1}:{y2}, {x1}:{x2}])",
    ),
}
"""Code by op, the plainest first."""
RELATIVE_CROPS = (
    "image = image.crop(box({x1}, {y1}, {x2}, {y2}))",
    "x1, y1, x2, y2 = box({x1}, {y1}, {x2}, {y2})\nimage = Image.fromarray(np.array(image)[y1:y2, x1:x2])",
)
"""The same of a model that writes in the coordinates `relative`."""
BREAKAGES = (("image = ", "image = photo."), (")", ""))
"""What goes wrong when a call is meant to fail: text and what it is mistyped as."""
DESCRIPTIONS = {
    "rotate_90": "turn left",
    "rotate_180": "turn around",
    "rotate_270": "turn right",
    "flip_horizontal": "mirror",
    "flip_vertical": "flip",
    "crop": "crop",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedCall:
    """One planned call, and what must come of it."""

    thought: str
    call: ToolCall
    net: Orientation | None
    """Orientation of the new image relative to the input image; None: the call is meant to fail."""
    region: Box | None = None
    """Part of the input image that the new image shows; None: all of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallPlan:
    """What the demonstrator does with a row before it answers."""

    sample_type: SampleType
    moves: tuple[PlannedCall, ...] = ()
    conclusion: str | None = None
    """What is thought before the answer; None: how the image stands then."""


def read_aloud(row: Row) -> Demonstration:
    """The answer at first sight, without a tool: what the model learns before it meets the tool."""
    return trajectory(row, SampleType.READ, [], [], [])


def draw_trajectories(mix: Mix, count: int, split: str, tool: CodeTool, wrong_first: float) -> Iterator[Demonstration]:
    """Rows in the shares of `mix`, each with an executed demonstration; see `draw_plan` for `wrong_first`.

    Calls run beside each other, trajectories come in the order of their rows.
    """
    train = split == "train"

    def make(row: Row) -> Demonstration:
        rng = rng_of(mix, "plan" if train else f"plan_{split}", row.index)
        return demonstrate(draw_plan(rng, row, wrong_first), row, tool)

    rows = draw_rows(mix, count, split, "sft" if train else f"sft_{split}")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        while batch := list(islice(rows, ROWS_AT_A_TIME)):
            yield from pool.map(make, batch)


Coarse = Callable[[np.random.Generator, Box, tuple[int, int]], Box]
"""From a box on a page of this size, both upright, to a window around it that is cropped first."""


def draw_plan(
    rng: np.random.Generator,
    row: Row,
    wrong_first: float,
    coarse: Coarse | None = None,
    coordinates: CoordinateSystem = CoordinateSystem.ORIGINAL,
) -> CallPlan:
    """What to do with a row.

    Args:
        rng: Decides on everything that the row leaves open.
        row: Its `applied` ops and `box` say what is needed.
        wrong_first: Share of the rows with a wrong orientation that first get a wrong orientation op, in [0, 1]. What
            the thought says fits the wrong op. The recovery is one op on the newest image where one op will do,
            else the right op on the first image.
        coarse: How the first of two crops is chosen; by default as the pages of the reading task are divided.
        coordinates: What coordinates are written in, `original` or `relative`.
    """
    looks = _applied_orientation(row)
    moves: list[PlannedCall] = []
    sample_type = SampleType.NO_TOOL
    if looks is not Orientation.ID:
        wrong = rng.random() < wrong_first
        moves = _recover(rng, looks) if wrong else [_orient(rng, looks)]
        sample_type = SampleType.ERROR_HANDLING if wrong else SampleType.SINGLE_TOOL
    if row.box is not None:
        windows = [geometry.map_box(row.box, geometry.inverse(looks), row.size)]
        if not moves and rng.random() < 0.5:
            page = geometry.map_size(geometry.inverse(looks), row.size)
            windows.insert(0, (coarse or _coarse_window)(rng, windows[0], page))
        crops = _zoom(rng, row, windows, len(moves), coordinates)
        sample_type = (
            SampleType.MULTI_CROP
            if len(crops) > 1
            else SampleType.SINGLE_TOOL
            if not moves
            else SampleType.MULTI_TOOL
            if sample_type is SampleType.SINGLE_TOOL
            else sample_type
        )
        moves += crops
    if moves and sample_type is not SampleType.ERROR_HANDLING and rng.random() < FAILING_SHARE:
        return CallPlan(sample_type=SampleType.ERROR_HANDLING, moves=(_break(rng, moves[0]), *moves))
    return CallPlan(sample_type=sample_type, moves=tuple(moves))


def demonstrate(
    plan: CallPlan, row: Row, tool: CodeTool, coordinates: CoordinateSystem = CoordinateSystem.ORIGINAL
) -> Demonstration:
    """Execute the plan: every image of the trajectory after the first is one that its code made.

    Raises:
        InfraError: A call didn't do what was planned: the plan, the sandbox or the provenance is broken.
    """
    history = ImageHistory([Image.open(io.BytesIO(png)).convert("RGB") for png in row.images], coordinates=coordinates)
    seen: list[ToolResult] = []
    for move in plan.moves:
        observation = tool.call(history, move.call)
        _check(move, observation, row)
        seen.append(observation)
    calls = [
        {"status": (step := observation.step).status, "net": step.net, "ops": list(step.ops)} for observation in seen
    ]
    return trajectory(row, plan.sample_type, list(plan.moves), seen, calls, plan.conclusion, coordinates)


def trajectory(
    row: Row,
    sample_type: SampleType,
    moves: list[PlannedCall],
    seen: list[ToolResult],
    calls: list[dict[str, Any]],
    conclusion: str | None = None,
    coordinates: CoordinateSystem = CoordinateSystem.ORIGINAL,
) -> Demonstration:
    """The turns of executed moves, then the answer behind a `conclusion`; `calls` is what the metadata says of them."""
    messages = [Message(role="user", content=user_text(row))]
    images = list(row.images)
    for move, observation in zip(moves, seen, strict=True):
        messages.append(Message(role="assistant", content=call_text(move.thought, move.call)))
        shown = "" if observation.image is None else IMAGE_TAG
        messages.append(Message(role="tool", content=observation.text + shown))
        images += [] if observation.image is None else [to_png(observation.image)]
    thought = LOOKS[Orientation.ID] if conclusion is None else conclusion
    if sample_type is SampleType.READ:
        thought = TOO_SMALL if row.box is not None else LOOKS[_applied_orientation(row)]
    messages.append(Message(role="assistant", content=answer_text(thought, row.answers[0])))
    return Demonstration(
        messages=tuple(messages),
        images=tuple(images),
        sample_type=sample_type,
        tools="" if sample_type is SampleType.READ else json.dumps([tool_schema(coordinates)]),
        metadata={
            "sample_type": sample_type,
            "answer": row.answers[0],
            "applied": list(row.applied),
            "box": row.box,
            "calls": calls,
        },
        source="" if row.source == SOURCE else row.source,
        licence=row.licence,
    )


def _applied_orientation(row: Row) -> Orientation:
    """What the ops applied to the row's image come to."""
    return geometry.compose_all(geometry.orientation_of(op) for op in row.applied if op != "crop")


def _orient(rng: np.random.Generator, looks: Orientation) -> PlannedCall:
    """The one op that puts the input image upright."""
    net = geometry.inverse(looks)
    return _move(rng, LOOKS[looks], _op_of(net), 0, net)


def _recover(rng: np.random.Generator, looks: Orientation) -> list[PlannedCall]:
    """A wrong op on the input image, then what still puts it upright."""
    right = geometry.inverse(looks)
    wrong_op = _pick(rng, tuple(op for op in ORIENTATION_OPS if geometry.orientation_of(op) is not right))
    wrong = geometry.orientation_of(wrong_op)
    now = geometry.compose(looks, wrong)
    first = _move(rng, LOOKS[geometry.inverse(wrong)], wrong_op, 0, wrong)
    back = geometry.inverse(now)
    if back in (Orientation.TRANSPOSE, Orientation.TRANSVERSE):
        return [first, _move(rng, LOOKS[now], _op_of(right), 0, right)]
    return [first, _move(rng, LOOKS[now], _op_of(back), 1, right)]


def _coarse_window(rng: np.random.Generator, cell: Box, _page: tuple[int, int]) -> Box:
    """Two by two cells of the page, the given one among them."""
    left, top = (
        int(np.clip(edge // step - rng.integers(2), 0, count - 2)) * step
        for edge, step, count in zip(cell[:2], CELL, GRID, strict=True)
    )
    return Box(left, top, left + 2 * CELL[0], top + 2 * CELL[1])


def _zoom(
    rng: np.random.Generator, row: Row, windows: list[Box], first_index: int, coordinates: CoordinateSystem
) -> list[PlannedCall]:
    """Crop one window after the other; windows are in pixels of the upright page, each inside the one before."""
    looks = _applied_orientation(row)
    page = geometry.map_size(geometry.inverse(looks), row.size)
    moves, now = [], Box(0, 0, *page)
    for index, window in enumerate(windows, start=first_index):
        written, cut = corners(
            _shifted(window, -now.x1, -now.y1), (int(now.x2 - now.x1), int(now.y2 - now.y1)), coordinates
        )
        now = _shifted(cut, now.x1, now.y1)
        styles = RELATIVE_CROPS if coordinates is CoordinateSystem.RELATIVE else STYLES["crop"]
        region = geometry.map_box(now, looks, page)
        moves.append(_move(rng, TOO_SMALL, "crop", index, geometry.inverse(looks), styles, region, written))
    return moves


def corners(window: Box, size: tuple[int, int], coordinates: CoordinateSystem) -> tuple[dict[str, int], Box]:
    """Returns the corners of a window as the model writes them, and the box that they cut out: it or a little more."""
    x1, y1, x2, y2 = map(int, window)
    if coordinates is CoordinateSystem.RELATIVE:
        left, top, right, bottom = scaled((x1, y1, x2, y2), size, RELATIVE_SIZE)
        x1, y1, x2, y2 = math.floor(left), math.floor(top), math.ceil(right), math.ceil(bottom)
        window = Box(*box_in_pixels((x1, y1, x2, y2), RELATIVE_SIZE, size))
    return {"x1": x1, "y1": y1, "x2": x2, "y2": y2}, window


def _shifted(box: Box, x: float, y: float) -> Box:
    return Box(box.x1 + x, box.y1 + y, box.x2 + x, box.y2 + y)


def _move(
    rng: np.random.Generator,
    thought: str,
    op: str,
    image_index: int,
    net: Orientation,
    styles: tuple[str, ...] = (),
    region: Box | None = None,
    written: Mapping[str, int] | None = None,
) -> PlannedCall:
    styles = styles or STYLES[op]
    code = styles[0] if rng.random() < PLAIN_SHARE else _pick(rng, styles[1:])
    call = ToolCall(code=code.format(**(written or {})), description=DESCRIPTIONS[op], image_index=image_index)
    return PlannedCall(thought=thought, call=call, net=net, region=region)


def _break(rng: np.random.Generator, move: PlannedCall) -> PlannedCall:
    """The same call with a mistake in its code."""
    good, bad = BREAKAGES[int(rng.integers(len(BREAKAGES)))]
    call = ToolCall(
        code=move.call.code.replace(good, bad, 1),
        description=move.call.description,
        image_index=move.call.image_index,
    )
    return PlannedCall(thought=move.thought, call=call, net=None)


def _check(move: PlannedCall, observation: ToolResult, row: Row) -> None:
    step = observation.step
    region = move.region or Box(0, 0, *row.size)
    done = step.ok and step.net is move.net and step.region == region
    failed = step.status is ExecStatus.ERROR and observation.image is None
    if not (failed if move.net is None else done):
        raise InfraError(
            f"row {row.index}: {move.call.code!r} was planned to give {move.net or 'an error'} {region}, "
            f"and gave {step.status} {step.net} {step.region}: {observation.text}"
        )


def _op_of(orientation: Orientation) -> str:
    return next(op for op in ORIENTATION_OPS if geometry.orientation_of(op) is orientation)


def _pick(rng: np.random.Generator, choices: tuple[str, ...]) -> str:
    return choices[int(rng.integers(len(choices)))]
