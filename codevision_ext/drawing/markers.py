"""Finds the marker of a point: a blob of ink whose centre lies at the point."""

import itertools
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from codevision_ext.drawing.ink import Mask

_LARGEST, _LARGEST_FILLED = 6.0, 3.0
"""Largest width of a marker and of a filled marker, in units of tau."""
_ANGLES = np.linspace(0, 2 * np.pi, 96, endpoint=False)


@dataclass(frozen=True, slots=True)
class Blobs:
    """The connected parts of the ink."""

    labels: np.ndarray
    """Number of the part of every pixel in the box around all ink, 0 without ink; shape (height, width)."""
    stats: np.ndarray
    """x, y, width, height and area of every part, shape (n, 5)."""
    centres: np.ndarray
    """Centre of mass of every part, shape (n, 2)."""
    origin: tuple[int, int]
    """Left and top of the box around all ink."""


@dataclass(frozen=True, slots=True)
class Marker:
    """The marker of a point."""

    x: float
    y: float
    radius: float
    """Half of its larger side, pixels."""
    box: tuple[int, int, int, int]
    """Left, top, right and bottom of its ink, pixels."""
    shape: Mask
    """Its ink in that box."""


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
    ink: Mask, parts: Blobs, others: Mask, point: tuple[float, float], tau: float, used: set[int]
) -> Marker | None:
    """Returns the marker at a point; None if there is none.

    Args:
        ink: All ink.
        parts: Its connected parts.
        others: Strokes of the target's other primitives, which may run through the point.
        point: Coordinates, pixels.
        tau: Tolerance, pixels.
        used: Parts that are markers of other points; the part that is taken is added.
    """
    boxes = parts.stats[1:, :4].astype(float)
    if not len(boxes):
        return None
    centres = np.stack([boxes[:, :2] + (boxes[:, 2:] - 1) / 2, parts.centres[1:]])
    distance = np.hypot(*(centres - np.array(point)).transpose(2, 0, 1)).min(axis=0)
    sides = boxes[:, 2:].max(axis=1)
    filled = parts.stats[1:, 4] > 0.6 * boxes[:, 2] * boxes[:, 3]
    fits = (distance <= tau) & (sides <= np.where(filled, _LARGEST_FILLED, _LARGEST) * tau + 2)
    fits &= parts.stats[1:, 4] >= 2
    fits[[number - 1 for number in used]] = False
    candidates = np.flatnonzero(fits)
    if len(candidates):
        # a ring counts rather than the dot inside it; otherwise the nearest marker counts
        best = int(candidates[np.argmax(sides[candidates] - 2 * distance[candidates])])
        used.add(best + 1)
        left, top, width, height = map(int, parts.stats[best + 1, :4])
        box = left, top, left + width, top + height
        x, y = parts.origin
        shape = (parts.labels[top - y : box[3] - y, left - x : box[2] - x] == best + 1).astype(np.uint8)
        middle_x, middle_y = map(float, parts.centres[best + 1])
        return Marker(middle_x, middle_y, sides[best] / 2, box, shape)
    return _joined(ink, others, point, tau)


def _joined(ink: Mask, others: Mask, point: tuple[float, float], tau: float) -> Marker | None:
    """Returns the marker at a point if a stroke, a label or an arrow touches it; None if there is none."""
    reach = int(np.ceil(3 * tau)) + 2
    x, y = round(point[0]), round(point[1])
    left, top = max(0, x - reach), max(0, y - reach)
    window = ink[top : y + reach + 1, left : x + reach + 1]
    free = (window & (1 - others[top : y + reach + 1, left : x + reach + 1])).astype(np.uint8)
    centre = np.array([point[0] - left, point[1] - top])
    rows, columns = np.indices(window.shape)
    away = np.hypot(columns - centre[0], rows - centre[1])
    inner = np.asarray(cv2.distanceTransform(np.pad(window, 1), cv2.DIST_L2, 5)[1:-1, 1:-1], np.float32)
    for radius, reach_of_parts in itertools.product((tau, 1.5 * tau, 2 * tau, 3 * tau), (tau, 1.8 * tau)):
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
        rim = rim.clip(0, np.array(window.shape[::-1]) - 1)
        crossed = free[rim[:, 1], rim[:, 0]] > 0
        runs = int((crossed & ~np.roll(crossed, 1)).sum())
        arc = float(crossed.mean()) * 2 * np.pi * radius
        thick = float(inner[blob].max())
        if (crossed.mean() < 0.3 and runs <= 1) or (
            runs >= 1 and thick > 1.4 * arc / runs / 2 + 0.5 and thick <= 1.7 * tau
        ):
            x1, y1, x2, y2 = columns[blob].min(), rows[blob].min(), columns[blob].max() + 1, rows[blob].max() + 1
            box = int(x1) + left, int(y1) + top, int(x2) + left, int(y2) + top
            shape = blob[y1:y2, x1:x2].astype(np.uint8)
            if area > 0.5 * shape.size and max(shape.shape) > _LARGEST_FILLED * tau + 2:
                return None
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
    """Returns a marker that is only visible as a place where a stroke is thicker than elsewhere; None without one."""
    thick = float(inner[away <= tau].max(initial=0))
    rim = np.round(centre + 3 * tau * np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1)).astype(int)
    rim = rim[((rim >= 0) & (rim < np.array(window.shape[::-1]))).all(axis=1)]
    crossed = window[rim[:, 1], rim[:, 0]] > 0
    runs = int((crossed & ~np.roll(crossed, 1)).sum())
    if not runs or thick > 1.7 * tau:
        return None
    half = float(crossed.sum()) * 2 * np.pi * 3 * tau / len(_ANGLES) / runs / 2
    if thick <= 1.4 * half + 0.5:
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
