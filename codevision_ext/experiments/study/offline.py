"""Computes the tables of studies that need no training, from records of rollouts or by arithmetic."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from itertools import product
from statistics import fmean

import numpy as np

from codevision_ext.geometry import ORIENTATION_OPS
from codevision_ext.io.records import Record
from codevision_ext.rewards.similarity import SIMILARITIES
from codevision_ext.rewards.terms import benefit as measured_benefit
from codevision_ext.rewards.terms import used_any
from codevision_ext.sandbox.coordinates import RELATIVE_SIZE, Size, box_in_pixels, scaled
from codevision_ext.task.image_ops import CORE_OPS, CROP, required_ops
from codevision_ext.types import Box, CoordinateSystem

WINDOWS = 4
"""Number of parts of a training in which operations are counted."""
TARGETS = (0.01, 0.02, 0.05, 0.1, 0.3)
"""Sides of targets, as shares of the image's side."""
PAGE: Size = (3840, 2160)
SEEN_PIXELS = 1_003_520
"""Number of pixels of an image that the model sees: 1,280 tokens, as Qwen's model cards suggest."""
SLIP = 0.005
"""Standard deviation of the position of a box's side, as a share of the image's side."""
_DRAWS = 2000
Row = tuple[str, ...]


def emergent_tools(records: Iterable[Record]) -> tuple[Row, list[Row]]:
    """Counts executed operations that no task required, by step, with the accuracy of their rollouts.

    Returns a header and rows. `right beside them`: accuracy of other rollouts of these prompts, without the operation.
    """
    valid = [record for record in records if record.observed.valid]
    last = max((record.step or 0 for record in valid), default=0)
    counts: dict[str, Counter[int]] = defaultdict(Counter)
    used: dict[str, list[Record]] = defaultdict(list)
    groups: dict[str, list[Record]] = defaultdict(list)
    totals: Counter[int] = Counter()
    for record in valid:
        window = min(WINDOWS - 1, WINDOWS * ((record.step or 1) - 1) // max(1, last))
        totals[window] += 1
        groups[record.group].append(record)
        for op in {op for step in record.observed.steps if step.ok for op in step.ops} - CORE_OPS:
            counts[op][window] += 1
            used[op].append(record)
    rows = []
    for op, them in sorted(used.items(), key=lambda pair: -len(pair[1])):
        ids = {record.id for record in them}
        beside = [r for group in {r.group for r in them} for r in groups[group] if r.id not in ids]
        shares = [f"{100 * counts[op][window] / totals[window]:.1f}" for window in range(WINDOWS) if totals[window]]
        first = str(min(record.step or 0 for record in them))
        rows.append((op, first, *shares, _right(them), _right(beside), str(len(them))))
    parts = [f"% in part {window + 1}" for window in range(WINDOWS) if totals[window]]
    return ("operation", "first at step", *parts, "% right", "% right beside them", "rollouts"), rows


def benefit_by_requirement(records: Iterable[Record]) -> tuple[Row, list[Row]]:
    """Returns the benefit of tool calls as a table, with a row for each kind of required operations of a prompt."""
    groups: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        if record.observed.valid:
            groups[record.group].append(record)
    kinds: dict[str, list[list[Record]]] = defaultdict(list)
    for group in groups.values():
        operations = required_ops(group[0].task.applied)
        turn, crop = any(op in ORIENTATION_OPS for op in operations), CROP in operations
        kinds[" and ".join([*["turn"] * turn, *["crop"] * crop]) or "nothing"].append(group)
    rows = []
    for kind, prompts in sorted(kinds.items()):
        both = [group for group in prompts if any(map(used_any, group)) and not all(map(used_any, group))]
        gains = [max(measured_benefit(group), key=abs) for group in both]  # equal for all callers, 0 for the others
        every = [record for group in prompts for record in group]
        shares = [sum(gain > 0 for gain in gains), sum(gain == 0 for gain in gains), sum(gain < 0 for gain in gains)]
        rows.append(
            (
                kind,
                str(len(prompts)),
                _right([record for record in every if used_any(record)]),
                _right([record for record in every if not used_any(record)]),
                str(len(both)),
                *map(str, shares),
            )
        )
    names = ("required", "prompts", "% right with a call", "without", "prompts with both", "helps", "neither", "harms")
    return names, rows


def crop() -> tuple[Row, list[Row]]:
    """Computes the score of each similarity by the coordinates of a box and the size of its target.

    `exact`: the right box, rounded to integers of the frame. `slips`: every side has a normal error of SLIP of the
    image. The image has PAGE pixels, of which the model sees SEEN_PIXELS.
    """
    shrunk = math.sqrt(SEEN_PIXELS / (PAGE[0] * PAGE[1]))
    frames: Mapping[CoordinateSystem, Size] = {
        CoordinateSystem.ORIGINAL: PAGE,
        CoordinateSystem.RELATIVE: RELATIVE_SIZE,
        CoordinateSystem.SEEN: (round(PAGE[0] * shrunk / 28) * 28, round(PAGE[1] * shrunk / 28) * 28),
    }
    rng = np.random.default_rng(0)
    rows = []
    for target, (frame, size) in product(TARGETS, frames.items()):
        cells: list[str] = []
        side = target * min(PAGE)
        corners = rng.uniform((0, 0), (PAGE[0] - side, PAGE[1] - side), (_DRAWS, 2))
        slips = rng.normal(0, SLIP, (_DRAWS, 4)) * (*PAGE, *PAGE)
        boxes = [Box(x, y, x + side, y + side) for x, y in corners]
        for errors in (np.zeros_like(slips), slips):
            regions = [_written(box, error, size) for box, error in zip(boxes, errors, strict=True)]
            for measure in SIMILARITIES.values():
                pairs = zip(regions, boxes, strict=True)
                cells.append(f"{fmean(measure(region, box) if region else 0.0 for region, box in pairs):.2f}")
        rows.append((f"{100 * target:g} %", str(frame), *cells))
    kinds = [f"{name}, {way}" for way in ("exact", "slips") for name in SIMILARITIES]
    return ("target's side", "frame", *kinds), rows


def _written(box: Box, error: np.ndarray, frame: Size) -> Box | None:
    """Returns the cropped region of a box with an error of `error` pixels, written in integers."""
    x1, y1, x2, y2 = scaled((box.x1 + error[0], box.y1 + error[1], box.x2 + error[2], box.y2 + error[3]), PAGE, frame)
    try:
        return Box(*box_in_pixels((round(x1), round(y1), round(x2), round(y2)), frame, PAGE))
    except ValueError:  # reversed, or outside: the call fails
        return None


def _right(records: list[Record]) -> str:
    return f"{100 * fmean(record.observed.correct for record in records):.1f}" if records else "-"
