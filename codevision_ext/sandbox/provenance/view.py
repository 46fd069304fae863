"""Where the pixels of a picture come from: which part of its parent it shows, and how that is turned."""

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from codevision_ext.geometry import compose, inverse, map_box, map_size
from codevision_ext.types import Box, Orientation

Array = NDArray[np.float64]

STRAIGHT = 0.008
"""How far a line may tilt, as a share of the visible part; half a degree is more."""
WHOLE = 0.3
"""An end this close to a whole pixel, in pixels, is meant to be one."""
NEAR_EDGE = 0.004
"""An end this close to the edge of the picture, as a share of its side or a pixel, is meant to be there."""
COVERAGE = 0.9
"""Share of the output, without plain margins, that must come from one place."""
PLAIN = 12
"""Greatest difference within a margin, in grey levels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """`shown` of the output is `box` of the parent, turned by `net`; both in pixels."""

    net: Orientation
    box: Box
    shown: Box

    @property
    def corners(self) -> tuple[int, int, int, int]:
        """`box` in whole pixels."""
        x1, y1, x2, y2 = map(round, self.box)
        return x1, y1, x2, y2

    @property
    def scale(self) -> Array:
        """Pixels of the parent per pixel of the output, along the parent's axes."""
        (x1, y1, x2, y2), (u1, v1, u2, v2) = self.box, self.shown
        wide, high = map_size(inverse(self.net), (u2 - u1, v2 - v1))  # type: ignore[arg-type]
        return np.array([(x2 - x1) / wide, (y2 - y1) / high])

    @property
    def is_exact(self) -> bool:
        """Nothing was resized: a pixel of the output is one of the parent."""
        return bool((self.scale == 1.0).all())

    def others(self, size: tuple[int, int]) -> "list[View]":
        """What would look like this in a symmetric parent of `size`."""
        turns = [turn for turn in Orientation if turn is not Orientation.ID and map_size(turn, size) == size]
        return [
            replace(self, net=compose(inverse(turn), self.net), box=map_box(self.box, turn, size)) for turn in turns
        ]

    def extended(self, shown: Box, size: tuple[int, int]) -> "View":
        """The same for as much of `shown` as lies in a parent of `size`; only where nothing was resized."""
        corners = self.source(np.array(shown).reshape(2, 2))
        (x1, y1), (x2, y2) = corners.min(axis=0).round().tolist(), corners.max(axis=0).round().tolist()
        box = overlap(Box(x1, y1, x2, y2), Box(0, 0, *size))
        inner = map_box(Box(box.x1 - x1, box.y1 - y1, box.x2 - x1, box.y2 - y1), self.net, (int(x2 - x1), int(y2 - y1)))
        u, v = shown[:2]
        return View(net=self.net, box=box, shown=Box(u + inner.x1, v + inner.y1, u + inner.x2, v + inner.y2))

    def source(self, outs: Array) -> Array:
        """Where points of the output come from, in pixels of the parent; shape (n, 2) both."""
        swapped, falls_u, falls_v = next(key for key, net in _NETS.items() if net is self.net)
        (low, high), (start, end) = (np.array(box).reshape(2, 2) for box in (self.shown, self.box))
        part = (outs - low) / (high - low)
        part = np.where([falls_u, falls_v], 1 - part, part)
        return np.asarray(start + (part[:, ::-1] if swapped else part) * (end - start))


_NETS = {
    (False, False, False): Orientation.ID,
    (False, True, False): Orientation.FH,
    (False, False, True): Orientation.FV,
    (False, True, True): Orientation.R180,
    (True, False, False): Orientation.TRANSPOSE,
    (True, True, True): Orientation.TRANSVERSE,
    (True, False, True): Orientation.R90,
    (True, True, False): Orientation.R270,
}
"""Axes swapped, input falls along the output's u, input falls along the output's v: what that orientation is called."""


def fit_view(outs: Array, ins: Array, content: Box, size: tuple[int, int], tolerance: float) -> tuple[View | None, int]:
    """The view that most pairs of points agree on, and their number; None where it isn't one of the eight orientations.

    Args:
        outs: Points of the output, shape (n, 2), pixels; the centre of the first pixel is (0.5, 0.5).
        ins: The points of the parent that they show, shape (n, 2).
        content: The part of the output that isn't margin.
        size: Width and height of the parent.
        tolerance: How far a pair may be off, pixels of the parent.
    """
    if len(outs) < 4:
        return None, 0
    matrix, inliers = cv2.estimateAffine2D(outs, ins, ransacReprojThreshold=tolerance, maxIters=1000)
    if matrix is None:
        return None, 0
    keep = inliers.ravel().astype(bool)
    scale = np.abs(matrix[:, :2] * [content.x2 - content.x1, content.y2 - content.y1])
    swapped = bool(scale[0, 1] > scale[0, 0])
    along, across = (scale[:, ::-1], scale) if swapped else (scale, scale[:, ::-1])
    agreeing = int(keep.sum())
    if any(across[i, i] > STRAIGHT * along[i, i] + WHOLE for i in (0, 1)) or along.diagonal().min() < 1:
        return None, agreeing
    edges = np.array(content).reshape(2, 2).T
    lines = [_line(outs[keep, axis ^ swapped], ins[keep, axis], edges[axis ^ swapped]) for axis in (0, 1)]
    ends, shown = [], [(0.0, 0.0), (0.0, 0.0)]
    for axis, line in enumerate(lines):
        if line is None:
            return None, agreeing
        (slope, offset), out = line, axis ^ swapped
        low, high = sorted(_end(slope * edge + offset, size[axis], snap=abs(slope) != 1) for edge in edges[out])
        if high - low < 1:
            return None, agreeing
        ends.append((low, high))
        first, last = sorted(_whole((end - offset) / slope) for end in (low, high))
        shown[out] = max(first, float(edges[out][0])), min(last, float(edges[out][1]))
        if shown[out][1] - shown[out][0] < 1:
            return None, agreeing
    falls_u, falls_v = (line[0] < 0 for line in (lines[::-1] if swapped else lines))  # type: ignore[index]
    (x1, x2), (y1, y2) = ends
    (u1, u2), (v1, v2) = shown
    view = View(net=_NETS[swapped, falls_u, falls_v], box=Box(x1, y1, x2, y2), shown=Box(u1, v1, u2, v2))
    return view, agreeing


def _line(at: Array, values: Array, ends: Array) -> tuple[float, float] | None:
    """Slope and offset by least squares; pixel to pixel where that is less than a pixel off between the ends."""
    if np.ptp(at) < 1:
        return None
    slope, offset = np.polyfit(at, values, 1)
    sign = np.sign(slope)
    if np.abs((slope - sign) * ends + offset - (whole := round(float(np.mean(values - sign * at))))).max() < 1:
        return float(sign), float(whole)
    return (float(slope), float(offset)) if abs(slope) > 1e-3 else None


def _end(value: float, limit: int, *, snap: bool) -> float:
    """Within the picture; with `snap` on its edge where that is near, else on a whole pixel."""
    near = max(1.0, NEAR_EDGE * limit) if snap else 0.0
    return 0.0 if value < near else float(limit) if value > limit - near else _whole(value)


def ends_of(corners: Array, size: tuple[int, int]) -> Box:
    """The box between two corners, shape (2, 2), in a picture of `size`; its edges and whole pixels where near."""
    (x1, y1), (x2, y2) = (
        [_end(float(at), side, snap=True) for at, side in zip(corner, size, strict=True)]
        for corner in (corners.min(axis=0), corners.max(axis=0))
    )
    return Box(x1, y1, x2, y2)


def _whole(value: float) -> float:
    return float(round(value) if abs(value - round(value)) < WHOLE else value)


def content_of(picture: Image.Image) -> Box | None:
    """The picture without rows and columns of one colour at its edges, None where nothing is left."""
    pixels = np.asarray(picture)
    y1, y2 = _varied(pixels)
    x1, x2 = _varied(pixels[y1:y2].swapaxes(0, 1))
    return Box(x1, y1, x2, y2) if x1 < x2 and y1 < y2 else None


def _varied(rows: NDArray[np.uint8]) -> tuple[int, int]:
    """First and one past the last row that has more than one colour."""
    if not rows.size:
        return 0, 0
    if all(np.ptp(row, axis=0).max() > PLAIN for row in (rows[0], rows[-1])):
        return 0, len(rows)
    varied = np.flatnonzero(np.ptp(rows, axis=1).max(axis=1) > PLAIN)
    return (int(varied[0]), int(varied[-1]) + 1) if len(varied) else (0, 0)


def inside(box: Box, points: Array) -> NDArray[np.bool_]:
    """Which points, shape (n, 2), lie in the box."""
    return np.asarray(np.all((points >= box[:2]) & (points < box[2:]), axis=1))


def area(box: Box) -> float:
    """Pixels; 0 where there is nothing in it."""
    return max(0.0, box.x2 - box.x1) * max(0.0, box.y2 - box.y1)


def overlap(one: Box, other: Box) -> Box:
    """What both cover; without area where they don't meet."""
    return Box(max(one.x1, other.x1), max(one.y1, other.y1), min(one.x2, other.x2), min(one.y2, other.y2))
