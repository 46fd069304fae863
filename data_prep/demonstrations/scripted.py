"""Makes demonstrations for SFT without a model: draws a plan of calls for each row, then executes and checks each call.

Texts are short and use few words, so that a model with a few hundred thousand parameters can learn them.
"""

import io
import json
import math
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from codevision_ext import geometry
from codevision_ext.errors import InfraError
from codevision_ext.rollout.code_tool import CodeTool, ToolResult, tool_schema
from codevision_ext.rollout.image_history import ImageHistory
from codevision_ext.sandbox.coordinates import RELATIVE_SIZE, box_in_pixels, scaled
from codevision_ext.types import Box, CoordinateSystem, ExecStatus, Orientation, ToolCall
from data_prep.formats.image_files import png
from data_prep.formats.schema import IMAGE_TAG, Demonstration, Message, Row, SampleType, applied_orientation, user_text
from data_prep.formats.turn_text import answer_text, call_text
from data_prep.parallel.pipeline import map_threads
from data_prep.tasks.common import Rng, pick
from data_prep.tasks.reading.glyphs import (
    CELL,
    GRID,
    ORIENTATION_OPS,
    ORIENTATION_THOUGHTS,
    Mix,
    Writing,
    draw_rows,
    rng_of,
)

FAILING_SHARE = 0.05
"""Share of tool demonstrations whose first call fails and is repeated without the mistake."""
PLAIN_SHARE = 0.85
"""Share of calls in the first style of their op."""
TOO_SMALL = "too small"
"""Thought before a crop."""

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
"""Code of each op in several styles, the simplest first."""
RELATIVE_CROPS = (
    "image = image.crop(box({x1}, {y1}, {x2}, {y2}))",
    "x1, y1, x2, y2 = box({x1}, {y1}, {x2}, {y2})\nimage = Image.fromarray(np.array(image)[y1:y2, x1:x2])",
)
"""Code of a crop for a model that writes `relative` coordinates."""
BREAKAGES = (("image = ", "image = photo."), (")", ""))
"""Mistakes for calls that must fail: correct code and its wrong replacement."""
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
    """A planned call and its expected result."""

    thought: str
    call: ToolCall
    orientation: Orientation | None
    """Orientation of the new image relative to the input image; None if the call must fail."""
    region: Box | None = None
    """Part of the input image that the new image shows; None for the whole image."""
    mistake: bool = False
    """Whether the call is wrong on purpose, and corrected by the next call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallPlan:
    """Planned calls and last thought of a demonstration."""

    sample_type: SampleType
    calls: tuple[PlannedCall, ...] = ()
    conclusion: str | None = None
    """Thought before the answer; None for the thought about an upright image."""


def read_aloud(row: Row) -> Demonstration:
    """Return a demonstration that answers without the tool, for training before the model learns the tool."""
    thought = TOO_SMALL if row.box is not None else ORIENTATION_THOUGHTS[applied_orientation(row.applied)]
    return write_turns(row, SampleType.READ, [], [], thought)


def draw_demonstrations(
    mix: Mix, count: int, split: str, tool: CodeTool, wrong_first: float
) -> Iterator[Demonstration]:
    """Yield executed demonstrations of rows drawn from `mix`, in order; see `draw_plan` for `wrong_first`.

    Raises:
        InfraError: A call gave another result than planned.
    """
    train = split == "train"

    def run(row: Row) -> Demonstration:
        rng = rng_of(mix, "plan" if train else f"plan_{split}", row.index)
        return demonstrate(draw_plan(rng, row, wrong_first, without=mix.without), row, tool)

    return map_threads(run, draw_rows(mix, count, split, "sft" if train else f"sft_{split}"), os.cpu_count() or 1)


DrawWindow = Callable[[Rng, Box, tuple[int, int]], Box]
"""Function that draws the window of a first crop around a box on a page of a given size, both upright."""


def draw_plan(
    rng: Rng,
    row: Row,
    wrong_first: float,
    draw_window: DrawWindow | None = None,
    coordinates: CoordinateSystem = CoordinateSystem.ORIGINAL,
    without: Collection[str] = (),
) -> CallPlan:
    """Draw the calls for a row.

    Args:
        rng: Random generator.
        row: Task; `applied` and `box` determine the needed calls.
        wrong_first: Share of turned rows, in [0, 1], whose first call is a wrong orientation op, with a thought that
            fits the wrong op. The second call is one op on the newest image if one op is enough, else the right op on
            the input image.
        draw_window: Draws the window of the first of two crops; None: two by two cells of the reading task's page.
        coordinates: Coordinate system of the calls, `original` or `relative`.
        without: Operations that no call may use; the row must not require them.
    """
    orientation = applied_orientation(row.applied)
    calls: list[PlannedCall] = []
    sample_type = SampleType.NO_TOOL
    if orientation is not Orientation.ID:
        wrong = rng.random() < wrong_first and bool(_wrong_ops(geometry.inverse(orientation), without))
        calls = _recover(rng, orientation, without) if wrong else [_orient(rng, orientation)]
        sample_type = SampleType.ERROR_HANDLING if wrong else SampleType.SINGLE_TOOL
    if row.box is not None:
        windows = [geometry.map_box(row.box, geometry.inverse(orientation), row.size)]
        if not calls and rng.random() < 0.5:
            page = geometry.map_size(geometry.inverse(orientation), row.size)
            windows.insert(0, (draw_window or _draw_cells)(rng, windows[0], page))
        crops = _zoom(rng, row, windows, len(calls), coordinates)
        if len(crops) > 1:
            sample_type = SampleType.MULTI_CROP
        elif sample_type is not SampleType.ERROR_HANDLING:
            sample_type = SampleType.MULTI_TOOL if calls else SampleType.SINGLE_TOOL
        calls += crops
    if calls and sample_type is not SampleType.ERROR_HANDLING and rng.random() < FAILING_SHARE:
        return CallPlan(sample_type=SampleType.ERROR_HANDLING, calls=(_break(rng, calls[0]), *calls))
    return CallPlan(sample_type=sample_type, calls=tuple(calls))


def demonstrate(
    plan: CallPlan, row: Row, tool: CodeTool, coordinates: CoordinateSystem = CoordinateSystem.ORIGINAL
) -> Demonstration:
    """Execute a plan; all images of the demonstration but the input image come from executed calls.

    Raises:
        InfraError: A call gave another result than planned; the plan, the sandbox or the provenance is broken.
    """
    history = ImageHistory(
        [Image.open(io.BytesIO(data)).convert("RGB") for data in row.images], coordinates=coordinates
    )
    observations: list[ToolResult] = []
    for call in plan.calls:
        observation = tool.call(history, call.call)
        _check(call, observation, row)
        observations.append(observation)
    return write_turns(row, plan.sample_type, plan.calls, observations, plan.conclusion, coordinates)


def write_turns(
    row: Row,
    sample_type: SampleType,
    calls: Sequence[PlannedCall],
    observations: Sequence[ToolResult],
    conclusion: str | None = None,
    coordinates: CoordinateSystem = CoordinateSystem.ORIGINAL,
) -> Demonstration:
    """Return the demonstration with these calls and observations, a `conclusion` and the answer.

    Calls without an image and mistakes have `train` false.
    """
    messages = [Message(role="user", content=user_text(row))]
    images = list(row.images)
    for call, observation in zip(calls, observations, strict=True):
        learned = False if call.mistake or observation.image is None else None
        messages.append(Message(role="assistant", content=call_text(call.thought, call.call), train=learned))
        tag = "" if observation.image is None else IMAGE_TAG
        messages.append(Message(role="tool", content=observation.text + tag))
        images += [] if observation.image is None else [png(observation.image)]
    thought = ORIENTATION_THOUGHTS[Orientation.ID] if conclusion is None else conclusion
    steps = [observation.step for observation in observations]
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
            "calls": [{"status": step.status, "net": step.net, "ops": list(step.ops)} for step in steps],
        },
        source="" if row.source in tuple(Writing) else row.source,
        licence=row.licence,
    )


def _orient(rng: Rng, orientation: Orientation) -> PlannedCall:
    """Plan the op that turns the input image upright."""
    undo = geometry.inverse(orientation)
    return _plan_call(rng, ORIENTATION_THOUGHTS[orientation], _op_of(undo), 0, undo)


def _recover(rng: Rng, orientation: Orientation, without: Collection[str]) -> list[PlannedCall]:
    """Plan a wrong op on the input image, then an op that gives an upright image."""
    right = geometry.inverse(orientation)
    wrong_op = pick(rng, _wrong_ops(right, without))
    wrong = geometry.orientation_of(wrong_op)
    now = geometry.compose(orientation, wrong)
    first = replace(_plan_call(rng, ORIENTATION_THOUGHTS[geometry.inverse(wrong)], wrong_op, 0, wrong), mistake=True)
    back = geometry.inverse(now)
    if back in (Orientation.TRANSPOSE, Orientation.TRANSVERSE) or _op_of(back) in without:  # no single op does this
        return [first, _plan_call(rng, ORIENTATION_THOUGHTS[now], _op_of(right), 0, right)]
    return [first, _plan_call(rng, ORIENTATION_THOUGHTS[now], _op_of(back), 1, right)]


def _wrong_ops(right: Orientation, without: Collection[str]) -> tuple[str, ...]:
    """Return the allowed rotations and flips that don't turn the image upright."""
    return tuple(op for op in ORIENTATION_OPS if geometry.orientation_of(op) is not right and op not in without)


def _draw_cells(rng: Rng, cell: Box, _page: tuple[int, int]) -> Box:
    """Draw a window of two by two cells of the page that contains `cell`."""
    left, top = (
        int(np.clip(edge // step - rng.integers(2), 0, count - 2)) * step
        for edge, step, count in zip(cell[:2], CELL, GRID, strict=True)
    )
    return Box(left, top, left + 2 * CELL[0], top + 2 * CELL[1])


def _zoom(rng: Rng, row: Row, windows: list[Box], first_index: int, coordinates: CoordinateSystem) -> list[PlannedCall]:
    """Plan crops to nested windows, in pixels of the upright page, from large to small."""
    orientation = applied_orientation(row.applied)
    undo = geometry.inverse(orientation)
    page = geometry.map_size(undo, row.size)
    calls, now = [], Box(0, 0, *page)
    for index, window in enumerate(windows, start=first_index):
        written, cut = written_corners(
            _shifted(window, -now.x1, -now.y1), (int(now.x2 - now.x1), int(now.y2 - now.y1)), coordinates
        )
        now = _shifted(cut, now.x1, now.y1)
        styles = RELATIVE_CROPS if coordinates is CoordinateSystem.RELATIVE else STYLES["crop"]
        region = geometry.map_box(now, orientation, page)
        calls.append(_plan_call(rng, TOO_SMALL, "crop", index, undo, styles, region, written))
    return calls


def written_corners(window: Box, size: tuple[int, int], coordinates: CoordinateSystem) -> tuple[dict[str, int], Box]:
    """Return the corners of a window as the model writes them, and the box that they denote, which may be larger."""
    x1, y1, x2, y2 = map(int, window)
    if coordinates is CoordinateSystem.RELATIVE:
        left, top, right, bottom = scaled((x1, y1, x2, y2), size, RELATIVE_SIZE)
        x1, y1, x2, y2 = math.floor(left), math.floor(top), math.ceil(right), math.ceil(bottom)
        window = Box(*box_in_pixels((x1, y1, x2, y2), RELATIVE_SIZE, size))
    return {"x1": x1, "y1": y1, "x2": x2, "y2": y2}, window


def _shifted(box: Box, x: float, y: float) -> Box:
    return Box(box.x1 + x, box.y1 + y, box.x2 + x, box.y2 + y)


def _plan_call(
    rng: Rng,
    thought: str,
    op: str,
    image_index: int,
    orientation: Orientation,
    styles: tuple[str, ...] = (),
    region: Box | None = None,
    written: Mapping[str, int] | None = None,
) -> PlannedCall:
    styles = styles or STYLES[op]
    code = styles[0] if rng.random() < PLAIN_SHARE else pick(rng, styles[1:])
    call = ToolCall(code=code.format(**(written or {})), description=DESCRIPTIONS[op], image_index=image_index)
    return PlannedCall(thought=thought, call=call, orientation=orientation, region=region)


def _break(rng: Rng, planned: PlannedCall) -> PlannedCall:
    right, wrong = pick(rng, BREAKAGES)
    call = replace(planned.call, code=planned.call.code.replace(right, wrong, 1))
    return PlannedCall(thought=planned.thought, call=call, orientation=None, mistake=True)


def _check(planned: PlannedCall, observation: ToolResult, row: Row) -> None:
    step = observation.step
    region = planned.region or Box(0, 0, *row.size)
    done = step.ok and step.net is planned.orientation and step.region == region
    failed = step.status is ExecStatus.ERROR and observation.image is None
    if not (failed if planned.orientation is None else done):
        raise InfraError(
            f"row {row.index}: {planned.call.code!r} was planned to give {planned.orientation or 'an error'} {region}, "
            f"and gave {step.status} {step.net} {step.region}: {observation.text}"
        )


def _op_of(orientation: Orientation) -> str:
    return next(op for op in ORIENTATION_OPS if geometry.orientation_of(op) is orientation)
