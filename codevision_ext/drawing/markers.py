"""Finds the marker of a point: a blob of ink whose centre lies at the point."""

import itertools
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from codevision_ext.drawing.ink import Mask

_LARGEST, _LARGEST_FILLED = 6.0, 3.5
"""Largest width of a marker and of a filled marker, in units of tau."""
_RADII = (1.0, 1.5, 2.0, 3.0, 4.5)
"""Radii within which the ink of a marker is searched for, in units of tau; the corners of the largest are at 4.2."""
_DASH = 0.85
"""Share of a part on a stroke, in [0, 1], above which the part is a dash of the stroke and no marker."""
_ANGLES = np.linspace(0, 2 * np.pi, 96, endpoint=False)


@dataclass(frozen=True, slots=True)
class Blobs:
    """Connected parts of the ink."""

    labels: np.ndarray
    """Part number of every pixel in the box around all ink, 0 without ink; shape (height, width)."""
    stats: np.ndarray
    """x, y, width, height and area of every part, shape (n, 5)."""
    centres: np.ndarray
    """Centre of mass of every part, shape (n, 2)."""
    origin: tuple[int, int]
    """Left and top of the box around all ink."""


@dataclass(frozen=True, slots=True)
class Marker:
    """Marker of a point."""

    x: float
    y: float
    radius: float
    """Half of the longer side, pixels."""
    box: tuple[int, int, int, int]
    """Left, top, right and bottom of the marker's ink, pixels."""
    shape: Mask
    """Ink of the marker in its box."""


def blobs(mask: Mask) -> Blobs:
    """Returns the connected parts of a mask."""
    x, y, width, height = cv2.boundingRect(mask)
    crop = np.ascontiguousarray(mask[y : y + height, x : x + width])
    if not width:
        return Blobs(np.zeros((0, 0), np.int32), np.zeros((1, 5), np.int32), np.zeros((1, 2)), (0, 0))
    _, labels, stats, centres = cv2.connectedComponentsWithStats(crop, connectivity=8)
    stats, centres = stats + np.array([x, y, 0, 0, 0]), centres + np.array([x, y])
    return Blobs(np.asarray(labels), np.asarray(stats), np.asarray(centres), (x, y))


def find_marker(
    ink: Mask, others: Mask, point: tuple[float, float], tau: float, used: set[tuple[int, int, int, int]]
) -> Marker | None:
    """Returns the marker at a point; None without a marker.

    Args:
        ink: All ink.
        others: Strokes of the target's other primitives, which may run through the point.
        point: Coordinates, pixels.
        tau: Tolerance, pixels.
        used: Boxes of the markers of other points; the box of the marker that is taken is added.
    """
    reach = int((_LARGEST + 1) * tau) + 2  # a part that reaches further is no marker
    x, y = max(0, round(point[0]) - reach), max(0, round(point[1]) - reach)
    parts = blobs(ink[y : round(point[1]) + reach + 1, x : round(point[0]) + reach + 1])
    boxes = parts.stats[1:, :4] + np.array([x, y, 0, 0])
    middles = parts.centres[1:] + np.array([x, y])
    centres = np.stack([boxes[:, :2] + (boxes[:, 2:] - 1) / 2, middles])
    distance = np.hypot(*(centres - np.array(point)).transpose(2, 0, 1)).min(axis=0)
    sides = boxes[:, 2:].max(axis=1)
    filled = parts.stats[1:, 4] > 0.6 * boxes[:, 2] * boxes[:, 3]
    fits = (distance <= tau) & (sides <= np.where(filled, _LARGEST_FILLED, _LARGEST) * tau + 2)
    fits &= parts.stats[1:, 4] >= 2
    # a ring counts rather than the dot inside it; otherwise the nearest marker counts
    for best in sorted(np.flatnonzero(fits), key=lambda at: 2 * distance[at] - sides[at]):
        left, top, width, height = map(int, boxes[best])
        box = left, top, left + width, top + height
        left, top = left - x - parts.origin[0], top - y - parts.origin[1]
        shape = (parts.labels[top : top + height, left : left + width] == best + 1).astype(np.uint8)
        within = others[box[1] : box[3], box[0] : box[2]] & shape
        if box in used or within.sum() > _DASH * shape.sum():
            continue
        used.add(box)
        return Marker(float(middles[best, 0]), float(middles[best, 1]), sides[best] / 2, box, shape)
    return _joined(ink, others, point, tau)


def _joined(ink: Mask, others: Mask, point: tuple[float, float], tau: float) -> Marker | None:
    """Returns the marker at a point if it is connected to a stroke, a label or an arrow; None without such a marker."""
    reach = int(np.ceil(_RADII[-1] * tau)) + 2
    x, y = round(point[0]), round(point[1])
    left, top = max(0, x - reach), max(0, y - reach)
    window = ink[top : y + reach + 1, left : x + reach + 1]
    free = (window & (1 - others[top : y + reach + 1, left : x + reach + 1])).astype(np.uint8)
    centre = np.array([point[0] - left, point[1] - top])
    rows, columns = np.indices(window.shape)
    away = np.hypot(columns - centre[0], rows - centre[1])
    inner = np.asarray(cv2.distanceTransform(np.pad(window, 1), cv2.DIST_L2, 5)[1:-1, 1:-1], np.float32)
    for radius, reach_of_parts in itertools.product(np.array(_RADII) * tau, (tau, 1.8 * tau)):
        # the parts that come near the point; the rest is a label or another marker
        _, labels = cv2.connectedComponents((free * (away <= radius)).astype(np.uint8), connectivity=8)
        labels = np.asarray(labels)
        near = np.unique(labels[(away <= reach_of_parts) & (labels > 0)])
        blob = np.isin(labels, near) & (labels > 0)
        area = int(blob.sum())
        if area < 3:
            continue
        middle = np.array([columns[blob].mean(), rows[blob].mean()])
        if np.hypot(*(middle - centre)) > tau:
            continue
        rim = np.round(centre + radius * np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1)).astype(int)
        visible = ((rim >= 0) & (rim < window.shape[::-1])).all(axis=1)
        rim = rim.clip(0, np.array(window.shape[::-1]) - 1)
        crossed = visible & (free[rim[:, 1], rim[:, 0]] > 0)
        runs = int((crossed & ~np.roll(crossed, 1)).sum())
        arc = float(crossed.mean()) * 2 * np.pi * radius
        thick = float(inner[blob].max())
        if (crossed.mean() < 0.3 and runs <= 1) or (
            runs >= 1 and thick > 1.4 * arc / runs / 2 + 0.5 and thick <= _LARGEST_FILLED * tau / 2 + 1
        ):
            x1, y1, x2, y2 = columns[blob].min(), rows[blob].min(), columns[blob].max() + 1, rows[blob].max() + 1
            box = int(x1) + left, int(y1) + top, int(x2) + left, int(y2) + top
            shape = blob[y1:y2, x1:x2].astype(np.uint8)
            if area > 0.5 * shape.size and max(shape.shape) > _LARGEST_FILLED * tau + 2:
                return None
            if max(shape.shape) > _LARGEST * tau + 2:
                continue
            return Marker(middle[0] + left, middle[1] + top, max(shape.shape) / 2, box, shape)
    return _thick_place(window, inner, away, (left, top), centre, tau)


def _thick_place(
    window: Mask,
    inner: npt.NDArray[np.float32],
    away: npt.NDArray[np.float64],
    origin: tuple[int, int],
    centre: npt.NDArray[np.float64],
    tau: float,
) -> Marker | None:
    """Returns a marker that is visible only as a thicker part of a stroke; None without such a marker."""
    thick = float(inner[away <= tau].max(initial=0))
    rim = np.round(centre + 3 * tau * np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1)).astype(int)
    rim = rim[((rim >= 0) & (rim < np.array(window.shape[::-1]))).all(axis=1)]
    crossed = window[rim[:, 1], rim[:, 0]] > 0
    runs = int((crossed & ~np.roll(crossed, 1)).sum())
    if not runs or thick > _LARGEST_FILLED * tau / 2 + 1:
        return None
    half = float(crossed.sum()) * 2 * np.pi * 3 * tau / len(_ANGLES) / runs / 2
    if thick <= 1.3 * half + 0.4:
        return None
    y, x = np.unravel_index(int(np.argmax(np.where(away <= tau, inner, 0))), inner.shape)
    left, top = int(x + origin[0] - thick), int(y + origin[1] - thick)
    side = int(2 * thick) + 1
    return Marker(
        float(x + origin[0]),
        float(y + origin[1]),
        thick,
        (left, top, left + side, top + side),
        np.ones((side, side), "u1"),
    )
