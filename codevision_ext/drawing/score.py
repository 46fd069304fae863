"""Decides whether a drawing is right: by the recall of each primitive, the precision of the ink, and changed input."""

from dataclasses import dataclass, replace
from itertools import pairwise

import cv2
import numpy as np
from PIL import Image

from codevision_ext.drawing.forms import beads
from codevision_ext.drawing.ink import Ink, Mask, find_ink
from codevision_ext.drawing.labels import Drawn, Outside, judge_outside
from codevision_ext.drawing.markers import Marker, find_marker
from codevision_ext.drawing.pixels import Pixels, appearances, to_pixels
from codevision_ext.drawing.placement import Placement
from codevision_ext.drawing.registration import register, residual
from codevision_ext.drawing.shapes import (
    InkDistance,
    Places,
    along,
    band,
    corners,
    distance_to_ink,
    is_closed,
    lookup,
    normals,
    values_in,
)
from codevision_ext.drawing.targets import Circle, DrawingTarget, Point, Primitive, Region
from codevision_ext.geometry import tolerance

RECALL, PRECISION, PRESERVED = 0.9, 0.85, 0.98
"""Minimum recall of each primitive, precision, and unchanged share of the input in a right drawing, in [0, 1]."""
_HEDGED = 0.5
"""Precision below which the F1 of a drawing is 0."""
_WRONG_END = 0.5
"""Factor of the F1 of a drawing with a stroke that is too long or too short: near its end, ink can't be told apart."""
_VISIBLE, _VISIBLE_BLURRED = 24, 15
"""Minimum change of a visible stroke without and with interpolation, in levels of 0 to 255."""
_HIDDEN = 0.6
"""Noise at which a change can't be seen, as a share of the change."""
_SURE = 0.93
"""Minimum agreement of a registration that ends the search over appearances of the input."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawingVerdict:
    """Verdict on one drawing."""

    correct: bool | None
    """True if the drawing is right; None if the input isn't found in the made image."""
    f1: float
    """Harmonic mean of mean recall and precision, in [0, 1]; 0 for a drawing with foreign marks or a changed input."""
    recall: tuple[float, ...]
    """Share of each primitive that is drawn, in [0, 1], in the order of the target."""
    precision: float
    """Share of the ink that belongs to a primitive, in [0, 1]; labels don't count."""
    preserved: float
    """Share of the input outside of the drawing that is unchanged, in [0, 1]."""
    reason: str
    """Text: "right", or what is wrong with the drawing; begins with "unknown" if `correct` is None."""


def verify(image: Image.Image, made: Image.Image, target: DrawingTarget) -> DrawingVerdict:
    """Checks the drawing on `made`, which shows `image` and the target drawn on it."""
    nothing = (0.0,) * len(target.primitives)
    found = _register(image, to_pixels(made))
    if found is None:
        reason = "unknown: the made image can't be laid onto the input"
        return DrawingVerdict(correct=None, f1=0.0, recall=nothing, precision=0.0, preserved=0.0, reason=reason)
    return _score(find_ink(*found), target)


def _register(image: Image.Image, made: Pixels) -> tuple[Pixels, Pixels, Placement] | None:
    """Returns the appearance of the input that differs least from the made image, that image, and the placement."""
    best: Placement | None = None
    quality = 0.0
    shown = list(appearances(image))
    for pixels in shown:
        placed = register(pixels, made)
        if placed is not None and (best is None or placed[1] > quality):
            best, quality = placed
        if quality >= _SURE:
            break
    if best is None:
        return None
    place = best
    return min(shown, key=lambda pixels: residual(pixels, made, place)) if len(shown) > 1 else shown[0], made, place


@dataclass(frozen=True, slots=True)
class _Stroke:
    """Measurements of the stroke or the marker that draws a primitive."""

    recall: float
    half: float
    """Half of the width of the stroke in pixels, at most tau."""
    problem: str = ""
    marker: Marker | None = None


def _score(ink: Ink, target: DrawingTarget) -> DrawingVerdict:
    shape = (ink.mask.shape[0], ink.mask.shape[1])
    tau = tolerance(shape[::-1])
    distance = distance_to_ink(ink.mask)
    least = _VISIBLE if ink.grain == 1 and ink.exact else _VISIBLE_BLURRED
    points = np.array([(p.x, p.y) for p in target.primitives if isinstance(p, Point)]).reshape(-1, 2)
    strokes: dict[int, _Stroke] = {}
    for index, primitive in enumerate(target.primitives):
        if not isinstance(primitive, Point):
            strokes[index] = _stroke(primitive, points, ink, distance, tau, least)
    lines = np.zeros(shape, np.uint8)
    for index, stroke in strokes.items():
        lines |= band(shape, target.primitives[index], stroke.half + (0.5 if ink.exact else 1.0))
    used: set[tuple[int, int, int, int]] = set()
    allowed = np.zeros(shape, np.uint8)
    for index, primitive in enumerate(target.primitives):
        if isinstance(primitive, Point):
            marker = find_marker(ink.mask, lines, (primitive.x, primitive.y), tau, used)
            strokes[index] = _marked(marker, ink, least)
            if marker is not None:
                left, top, right, bottom = marker.box
                allowed[max(0, top - 2) : bottom + 2, max(0, left - 2) : right + 2] = 1
        radius = tau + strokes[index].half + 0.5 * ink.grain + 0.5
        allowed |= band(shape, primitive, tau + 1.0 if isinstance(primitive, Point | Region) else radius)
    ordered = [strokes[index] for index in range(len(target.primitives))]
    markers = [stroke.marker for stroke in ordered if stroke.marker]
    halves = [stroke.half for stroke in ordered]
    drawn = Drawn(ink=ink, target=target, allowed=allowed, markers=markers, halves=halves, tau=tau)
    outside = judge_outside(drawn)
    outside = replace(outside, marks=outside.marks + _beads(drawn, points))
    return _verdict(ink, ordered, allowed, outside)


def _beads(drawn: Drawn, points: Places) -> int:
    """Returns the number of markers on strokes that no point of the target asks for.

    At an end, a corner or a crossing of strokes, an arrowhead or the strokes themselves may be as wide.
    """
    inner = np.asarray(cv2.distanceTransform(drawn.ink.mask, cv2.DIST_L2, 3), np.float32)
    strokes = [
        (along(corners(primitive)), corners(primitive)[: 0 if isinstance(primitive, Circle) else None], half)
        for primitive, half in zip(drawn.target.primitives, drawn.halves, strict=True)
        if not isinstance(primitive, Point | Region)
    ]
    number = 0
    for at, (path, turns, half) in enumerate(strokes):
        known = np.concatenate([points, turns, *(other for index, (other, _, _) in enumerate(strokes) if index != at)])
        for place, radius in beads(inner, path, half, drawn.tau):
            number += not (np.hypot(*(known - place).T) <= 2 * radius + 2 * drawn.tau).any()
    return number


def _verdict(ink: Ink, strokes: list[_Stroke], allowed: Mask, outside: Outside) -> DrawingVerdict:
    inside = int(cv2.countNonZero(ink.mask & allowed))
    precision = inside / max(1, inside + outside.area)
    preserved = _preserved(ink, allowed, outside)
    recall = tuple(round(stroke.recall, 4) for stroke in strokes)
    mean = sum(recall) / len(recall)
    f1 = 2 * mean * precision / (mean + precision) if mean + precision else 0.0
    reason = "right"
    if not cv2.countNonZero(ink.mask):
        reason = "there is no ink that can be seen"
    elif preserved < PRESERVED:
        reason, f1 = f"only {preserved:.1%} of the rest of the input is unchanged", 0.0
    elif problem := next((s.problem for s in strokes if s.problem), ""):
        reason, f1 = problem, 0.0 if "wider" in problem else f1 * _WRONG_END
    elif min(recall) < RECALL:
        worst = recall.index(min(recall))
        reason = f"primitive {worst} is drawn to {recall[worst]:.0%} only"
    if outside.marks or precision < _HEDGED:
        f1 = 0.0
    if reason == "right" and outside.marks:
        reason = f"marks that belong to no primitive: {outside.marks}"
    elif reason == "right" and precision < PRECISION:
        reason = f"only {precision:.0%} of the ink belongs to a primitive"
    return DrawingVerdict(
        correct=reason == "right",
        f1=round(f1, 4),
        recall=recall,
        precision=round(precision, 4),
        preserved=round(preserved, 4),
        reason=reason,
    )


def _stroke(primitive: Primitive, points: Places, ink: Ink, distance: InkDistance, tau: float, least: int) -> _Stroke:
    """Measures the stroke of a primitive that isn't a point."""
    shape = (ink.mask.shape[0], ink.mask.shape[1])
    path = along(corners(primitive))
    near = band(shape, primitive, 0 if isinstance(primitive, Region) else 2.5 * tau)
    near &= ink.mask
    changes = values_in(ink.change, near)
    if not len(changes) or np.percentile(changes, 75) < least:
        return _Stroke(0.0, tau)
    if isinstance(primitive, Region):
        return _Stroke(_filled(primitive, ink, float(np.median(changes)), tau), tau)
    away = distance.at(path, 0.0)
    gap = tau + 4
    covered = _bridged(away <= tau, gap, closed=is_closed(primitive))
    recall = float(covered.mean())
    drawn = away <= tau
    width = _width(ink.mask, path, drawn, tau)
    problem = ""
    if width > 2.3 * tau + 2 + (0 if ink.exact else 1 + ink.grain):
        problem = "a stroke is wider than 2 tau"
    half = float(np.clip(width / 2, 0.5, tau))
    if not is_closed(primitive) and recall >= RECALL and not problem:
        problem = _ends(primitive, points, path, distance, half, tau)
    return _Stroke(recall, half, problem)


def _filled(region: Region, ink: Ink, change: float, tau: float) -> float:
    """Returns the share of a region that is filled, in [0, 1].

    Gaps are filled if they are smaller than the tolerance; twice that size where the contrast of the input hides a
    change as small as `change`, as the letters below a transparent region do.
    """
    shape = (ink.mask.shape[0], ink.mask.shape[1])
    inner = cv2.erode(band(shape, region, 0), np.ones((3, 3), np.uint8), iterations=max(1, int(tau / 2)))
    inner = inner if inner.any() else band(shape, region, 0)
    closed, far = (
        np.asarray(cv2.morphologyEx(ink.mask, cv2.MORPH_CLOSE, np.ones((2 * size + 1, 2 * size + 1), np.uint8)), bool)
        for size in (int(tau / 2), int(tau))
    )
    filled = closed | (far & (ink.limit >= _HIDDEN * change))
    return float(filled[inner > 0].mean())


def _width(mask: Mask, path: Places, drawn: np.ndarray, tau: float) -> float:
    """Returns the median width of the ink across the path, pixels, up to 3.5 tau on each side."""
    if len(path) < 2:
        return 0.0
    chosen = np.flatnonzero(drawn)
    chosen = chosen[:: max(1, len(chosen) // 150)]
    step = max(1.0, tau / 10)
    steps = np.arange(-35, 36) * step if step > 1 else np.arange(-int(3.5 * tau), int(3.5 * tau) + 1)
    places = path[chosen, None] + normals(path)[chosen, None] * steps[None, :, None]
    across = lookup(mask, places.reshape(-1, 2), 0.0).reshape(len(chosen), len(steps)) > 0
    runs = _runs(across, near=int(np.ceil(tau / step)))
    runs = runs[runs > 0]
    return float(np.median(runs)) * step if len(runs) else 0.0


def _runs(across: np.ndarray, near: int) -> np.ndarray:
    """Returns the length of the run of True in every row that is nearest to its middle, in samples; 0 without any.

    Gaps of one sample are bridged. The run begins at most `near` samples from the middle: other strokes don't count.
    """
    size = across.shape[1]
    filled = across.copy()
    filled[:, 1:-1] |= across[:, :-2] & across[:, 2:]
    at = np.arange(size)
    away = np.where(filled, np.abs(at - size // 2), size)
    start = away.argmin(axis=1)[:, None]
    after = np.where(~filled & (at > start), at, size).min(axis=1)
    before = np.where(~filled & (at < start), at, -1).max(axis=1)
    return np.where(away.min(axis=1) <= near, after - before - 1, 0)


def _bridged(covered: np.ndarray, gap: float, *, closed: bool) -> np.ndarray:
    """Fills gaps between dashes of up to `gap` pixels."""
    if not covered.any() or covered.all():
        return covered
    size = len(covered)
    at = np.flatnonzero(covered)
    result = covered.copy()
    for one, other in pairwise(at):
        if 1 < other - one <= gap + 1:
            result[one:other] = True
    if closed and at[0] + size - at[-1] <= gap + 1:
        result[: at[0]] = result[at[-1] :] = True
    return result


def _ends(primitive: Primitive, points: Places, path: Places, distance: InkDistance, half: float, tau: float) -> str:
    """Returns the fault of a stroke's ends as text; empty if both ends are near the ends of the primitive."""
    size = int(min(len(path) - 1, 2 * tau))
    away = distance.at(path, 0.0)
    at = np.flatnonzero(away <= tau)
    gap = int(np.diff(at).max(initial=1))  # of a dashed stroke, less what the tolerance covers
    missing = max(tau / 2 + 4, gap + tau + 2 if gap > 1 else 0)
    for order in (1, -1):
        places, distances = path[::order], away[::order]
        if np.flatnonzero(distances <= tau)[0] > missing:
            return "an end of a stroke is missing"
        if primitive.kind == "line":
            continue
        direction = (places[0] - places[size]) / max(1e-9, float(np.hypot(*(places[0] - places[size]))))
        across = np.array([-direction[1], direction[0]])
        # a marker at the end may be wider than the stroke
        first = 3 * tau if (np.hypot(*(points - places[0]).T) <= tau).any() else 0.0
        beyond = places[0] + direction * (first + np.arange(0, 1.5 * tau + half + 2))[:, None]
        straight = distance.at(beyond, 9.0) <= (1 if gap > 1 else 0.5)
        wide = [distance.at(beyond + side * across * (half + 2.5), 9.0) <= 0.5 for side in (-1, 1)]
        if straight.all() and not (wide[0] & wide[1])[int(tau / 2) :].any():
            return "a stroke goes on beyond its end"
    return ""


def _marked(marker: Marker | None, ink: Ink, least: int) -> _Stroke:
    """Returns the recall of a point."""
    if marker is None:
        return _Stroke(0.0, 0.0)
    reach = int(marker.radius) + 1
    x, y = round(marker.x), round(marker.y)
    part = np.s_[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1]
    changes = ink.change[part][ink.mask[part] > 0]
    visible = len(changes) > 0 and np.percentile(changes, 75) >= least
    return _Stroke(float(visible), 0.0, marker=marker if visible else None)


def _preserved(ink: Ink, allowed: Mask, outside: Outside) -> float:
    """Returns the unchanged share of the input, without the pixels that the drawing may cover."""
    drawn = (ink.mask & (allowed | outside.excused)).astype(np.uint8)
    block = max(1, round((8 if ink.exact else 16) * ink.grain))
    size = max(1, drawn.shape[1] // block), max(1, drawn.shape[0] // block)
    near = drawn
    if not ink.lossless:
        whole = drawn[: size[1] * block, : size[0] * block]  # whole blocks are averaged fast
        blocks = np.asarray(cv2.resize(whole * 255, size, interpolation=cv2.INTER_AREA) > 0, np.uint8)
        blocks = np.asarray(cv2.dilate(blocks, np.ones((3, 3), np.uint8)), np.uint8)
        near = drawn.copy()
        near[: whole.shape[0], : whole.shape[1]] = cv2.resize(
            blocks, whole.shape[::-1], interpolation=cv2.INTER_NEAREST
        )
    rest = np.asarray((allowed | outside.excused) ^ 1, np.uint8)
    changed = rest & (ink.strong | (ink.tampered & (near ^ 1)))
    share = 1 - cv2.countNonZero(changed) / max(1, cv2.countNonZero(rest))
    content = rest & ink.content
    if (number := cv2.countNonZero(content)) >= 50:
        of_content = 1 - cv2.countNonZero(changed & content) / number
        share = min(share, of_content) if of_content < 0.9 else share
    return float(share) * (1 - ink.outside if ink.outside > 0.01 else 1.0)
