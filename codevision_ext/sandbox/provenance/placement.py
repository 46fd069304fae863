"""Defines a view: the part of the parent that an output shows, and the part's orientation."""

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from codevision_ext.geometry import compose, intersection, inverse, map_box, map_size
from codevision_ext.types import Box, Orientation

Array = NDArray[np.float64]

MAX_TILT = 0.008
"""Maximum tilt of an axis, as a share of the visible part; a rotation by half a degree exceeds it."""
ROUNDING = 0.3
"""Maximum distance of a coordinate from a whole number to which it is rounded, pixels."""
NEAR_EDGE = 0.004
"""Maximum distance of a coordinate from the image's edge to which it is moved, as a share of the side."""
COVERAGE = 0.9
"""Minimum share of the output, without plain margins, that the view must cover."""
TINY = 32
"""Side of a part, in pixels, below which half a pixel is much of it and only marks of single pixels are unique."""
MAX_RIM = 4
"""Maximum width of the plain rim that an edge filter leaves, pixels: half the side of its kernel."""
MARGIN_RANGE = 12
"""Maximum difference of levels within one row or column of a plain margin."""

ORIENTATION_BY_FLAGS = {
    (False, False, False): Orientation.ID,
    (False, True, False): Orientation.FH,
    (False, False, True): Orientation.FV,
    (False, True, True): Orientation.R180,
    (True, False, False): Orientation.TRANSPOSE,
    (True, True, True): Orientation.TRANSVERSE,
    (True, True, False): Orientation.R90,
    (True, False, True): Orientation.R270,
}
"""Orientations, by three flags: axes swapped, parent's x axis reversed in the output, parent's y axis reversed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """Claim that the part `shown` of the output is the part `box` of the parent, turned by `net`; both in pixels."""

    net: Orientation
    box: Box
    shown: Box

    @property
    def corners(self) -> tuple[int, int, int, int]:
        """Edges of `box` in whole pixels."""
        x1, y1, x2, y2 = map(round, self.box)
        return x1, y1, x2, y2

    @property
    def scale(self) -> Array:
        """Pixels of the parent per pixel of the output, along the parent's axes, shape (2,)."""
        (x1, y1, x2, y2), (u1, v1, u2, v2) = self.box, self.shown
        width, height = map_size(inverse(self.net), (u2 - u1, v2 - v1))  # type: ignore[arg-type]
        return np.array([(x2 - x1) / width, (y2 - y1) / height])

    @property
    def is_exact(self) -> bool:
        """True if nothing was resized: a pixel of the output is a pixel of the parent."""
        return bool((self.scale == 1.0).all())

    @property
    def is_sharp(self) -> bool:
        """False for a part of a few pixels whose ends aren't whole pixels: half a pixel is much of such a part."""
        (x1, y1, x2, y2) = self.box
        return min(x2 - x1, y2 - y1) >= TINY or all(float(end).is_integer() for end in self.box)

    def symmetric_views(self, size: tuple[int, int]) -> "list[View]":
        """Return the views that show the same image as this view if a parent of `size` is symmetric."""
        turns = [turn for turn in Orientation if turn is not Orientation.ID and map_size(turn, size) == size]
        return [
            replace(self, net=compose(inverse(turn), self.net), box=map_box(self.box, turn, size)) for turn in turns
        ]

    def extended(self, shown: Box, size: tuple[int, int]) -> "View":
        """Return an exact view extended to the part of `shown` that a parent of `size` covers."""
        corners = self.source(np.array(shown).reshape(2, 2))
        (x1, y1), (x2, y2) = corners.min(axis=0).round().tolist(), corners.max(axis=0).round().tolist()
        box = intersection(Box(x1, y1, x2, y2), Box(0, 0, *size))
        inner = map_box(Box(box.x1 - x1, box.y1 - y1, box.x2 - x1, box.y2 - y1), self.net, (int(x2 - x1), int(y2 - y1)))
        u, v = shown[:2]
        return View(net=self.net, box=box, shown=Box(u + inner.x1, v + inner.y1, u + inner.x2, v + inner.y2))

    def completed(self, output: tuple[int, int], parent: tuple[int, int]) -> "View":
        """Return the view of the whole parent in the whole output if at most `MAX_RIM` pixels are missing on a side.

        An edge filter leaves a plain rim around the whole image, and moves the content by a pixel.

        Args:
            output: Width and height of the output.
            parent: Width and height of the parent.
        """
        if self.is_exact and output != map_size(self.net, parent):
            return self
        whole = View(net=self.net, box=Box(0, 0, *parent), shown=Box(0, 0, *output))
        missing = np.abs(np.array(self.shown) - whole.shown).max(), np.abs(np.array(self.box) - whole.box).max()
        return whole if max(missing[0], missing[1] / self.scale.max()) <= MAX_RIM else self

    def source(self, points: Array) -> Array:
        """Map points of the output to the parent, both shape (n, 2), pixels."""
        swapped, x_reversed, y_reversed = next(key for key, net in ORIENTATION_BY_FLAGS.items() if net is self.net)
        (low, high), (start, end) = (np.array(box).reshape(2, 2) for box in (self.shown, self.box))
        part = (points - low) / (high - low)
        part = part[:, ::-1] if swapped else part
        return np.asarray(start + np.where([x_reversed, y_reversed], 1 - part, part) * (end - start))


def fit_view(outs: Array, ins: Array, content: Box, size: tuple[int, int], tolerance: float) -> tuple[View | None, int]:
    """Fit the view that most pairs of points agree on.

    Args:
        outs: Points of the output, shape (n, 2), pixels; the centre of the first pixel is (0.5, 0.5).
        ins: Matching points of the parent, shape (n, 2), pixels.
        content: Part of the output that isn't margin.
        size: Width and height of the parent, pixels.
        tolerance: Maximum error of a pair that agrees, pixels of the parent.

    Returns:
        The view, None if the fit isn't one of the eight orientations; and the number of pairs that agree.
    """
    if len(outs) < 4:
        return None, 0
    matrix, inliers = cv2.estimateAffine2D(outs, ins, ransacReprojThreshold=tolerance, maxIters=1000)
    if matrix is None:
        return None, 0
    agree = inliers.ravel().astype(bool)
    count = int(agree.sum())
    scale = np.abs(matrix[:, :2] * [content.x2 - content.x1, content.y2 - content.y1])
    swapped = bool(scale[0, 1] > scale[0, 0])
    along, across = (scale[:, ::-1], scale) if swapped else (scale, scale[:, ::-1])
    if any(across[i, i] > MAX_TILT * along[i, i] + ROUNDING for i in (0, 1)) or along.diagonal().min() < 1:
        return None, count
    edges = np.array(content).reshape(2, 2).T
    ends, shown, reversed_axes = np.zeros((2, 2)), np.zeros((2, 2)), [False, False]
    for axis in (0, 1):
        out = axis ^ swapped
        line = _line(outs[agree, out], ins[agree, axis], edges[out])
        if line is None:
            return None, count
        slope, offset = line
        low, high = sorted(_end(slope * edge + offset, size[axis], snap=abs(slope) != 1) for edge in edges[out])
        first, last = sorted(_whole((end - offset) / slope) for end in (low, high))
        ends[axis] = low, high
        shown[out] = max(first, float(edges[out][0])), min(last, float(edges[out][1]))
        reversed_axes[axis] = slope < 0
    if min(np.diff(ends).min(), np.diff(shown).min()) < 1:
        return None, count
    net = ORIENTATION_BY_FLAGS[swapped, reversed_axes[0], reversed_axes[1]]
    return View(net=net, box=Box(*ends.T.ravel().tolist()), shown=Box(*shown.T.ravel().tolist())), count


def _line(at: Array, values: Array, ends: Array) -> tuple[float, float] | None:
    """Fit slope and offset by least squares; use slope 1 or -1 if its error at both ends is less than a pixel."""
    if np.ptp(at) < 1:
        return None
    slope, offset = np.polyfit(at, values, 1)
    sign = np.sign(slope)
    whole = round(float(np.mean(values - sign * at)))
    if np.abs((slope - sign) * ends + offset - whole).max() < 1:
        return float(sign), float(whole)
    return (float(slope), float(offset)) if abs(slope) > 1e-3 else None


def _end(value: float, limit: int, *, snap: bool) -> float:
    """Clip a coordinate to [0, limit]; with `snap`, move it to a near edge. Round other values that are near whole."""
    near = max(1.0, NEAR_EDGE * limit) if snap else 0.0
    return 0.0 if value < near else float(limit) if value > limit - near else _whole(value)


def ends_of(corners: Array, size: tuple[int, int]) -> Box:
    """Return the box between two corners, shape (2, 2), snapped to edges and whole pixels of an image of `size`."""
    (x1, y1), (x2, y2) = (
        [_end(float(at), side, snap=True) for at, side in zip(corner, size, strict=True)]
        for corner in (corners.min(axis=0), corners.max(axis=0))
    )
    return Box(x1, y1, x2, y2)


def _whole(value: float) -> float:
    """Round a number that is near a whole number."""
    return float(round(value) if abs(value - round(value)) < ROUNDING else value)


def content_of(image: Image.Image) -> Box | None:
    """Return the box inside margins of one colour; None if the whole image has one colour."""
    pixels = np.asarray(image)
    y1, y2 = _varied(pixels)
    x1, x2 = _varied(pixels[y1:y2].swapaxes(0, 1))
    return Box(x1, y1, x2, y2) if x1 < x2 and y1 < y2 else None


def _varied(rows: NDArray[np.uint8]) -> tuple[int, int]:
    """Return the range of rows, end exclusive, from the first to the last row with more than one colour."""
    if not rows.size:
        return 0, 0
    if all(np.ptp(row, axis=0).max() > MARGIN_RANGE for row in (rows[0], rows[-1])):
        return 0, len(rows)
    varied = np.flatnonzero(np.ptp(rows, axis=1).max(axis=1) > MARGIN_RANGE)
    return (int(varied[0]), int(varied[-1]) + 1) if len(varied) else (0, 0)
