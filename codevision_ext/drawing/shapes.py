"""Converts primitives to points along their strokes and to masks, in pixels of the input."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
import numpy.typing as npt

from codevision_ext.drawing.ink import Mask
from codevision_ext.drawing.targets import Circle, Line, Outline, Point, Polyline, Primitive, Region

Places = npt.NDArray[np.float64]
"""Coordinates (x, y) in pixels, shape (n, 2)."""
_SUBPIXEL = 3
"""Number of fractional bits of OpenCV's coordinates."""


def corners(primitive: Primitive) -> Places:
    """Returns the corners of a primitive as a polyline; a closed primitive repeats its first corner."""
    match primitive:
        case Point(x=x, y=y):
            return np.array([[x, y]], float)
        case Circle(cx=x, cy=y, r=r):
            angles = np.linspace(0, 2 * np.pi, int(np.clip(r, 24, 180)) + 1)
            return np.stack([x + r * np.cos(angles), y + r * np.sin(angles)], axis=1)
        case Outline(x1=x1, y1=y1, x2=x2, y2=y2):
            return np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2], [x1, y1]], float)
        case Polyline(points=points, closed=closed):
            return np.array([*points, *points[:1]] if closed else points, float)
        case Region(points=points):
            return np.array([*points, *points[:1]], float)
    return np.array([[primitive.x1, primitive.y1], [primitive.x2, primitive.y2]], float)


def is_closed(primitive: Primitive) -> bool:
    """Returns whether the stroke of a primitive has no ends."""
    return isinstance(primitive, Circle | Outline | Region) or (isinstance(primitive, Polyline) and primitive.closed)


def along(path: Places, step: float = 1.0) -> Places:
    """Returns points along a polyline, at most `step` pixels apart, including all corners."""
    parts = [path[:1]]
    for one, other in pairwise(path):
        number = max(1, int(np.ceil(np.hypot(*(other - one)) / step)))
        parts.append(one + (other - one) * (np.arange(1, number + 1) / number)[:, None])
    return np.concatenate(parts)


def normals(path: Places) -> Places:
    """Returns the unit vector across the path at each of its points."""
    tangent = np.gradient(path, axis=0)
    across = np.stack([-tangent[:, 1], tangent[:, 0]], axis=1)
    return np.asarray(across / np.maximum(1e-9, np.hypot(*tangent.T))[:, None], np.float64)


def band(shape: tuple[int, int], primitive: Primitive, radius: float) -> Mask:
    """Returns the mask of the pixels within `radius` of a primitive; a region is filled, a line is infinite."""
    mask = np.zeros(shape, np.uint8)
    if isinstance(primitive, Point):
        fill_disc(mask, (primitive.x, primitive.y), radius)
        return mask
    path = corners(primitive)
    if isinstance(primitive, Line):
        direction = (path[1] - path[0]) / np.hypot(*(path[1] - path[0]))
        reach = float(np.hypot(*shape))
        path = np.stack([path[0] - reach * direction, path[1] + reach * direction])
    fixed = _fixed(path)
    if isinstance(primitive, Region):
        cv2.fillPoly(mask, [fixed], (1,), cv2.LINE_8, _SUBPIXEL)
    cv2.polylines(mask, [fixed], False, (1,), max(1, round(2 * radius)), cv2.LINE_8, _SUBPIXEL)
    return mask


def fill_disc(mask: Mask, centre: Sequence[float], radius: float) -> None:
    """Sets a disc of a mask to 1."""
    scale = 2**_SUBPIXEL
    at = round(centre[0] * scale), round(centre[1] * scale)
    cv2.circle(mask, at, max(1, round(radius * scale)), (1,), -1, cv2.LINE_8, _SUBPIXEL)


def lookup(values: npt.NDArray[np.generic], places: Places, outside: float) -> npt.NDArray[np.float64]:
    """Returns the values of an image at points, and `outside` for points beyond the image."""
    height, width = values.shape
    x, y = np.round(places).astype(int).T
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    found = values[y.clip(0, height - 1), x.clip(0, width - 1)].astype(float)
    return np.where(inside, found, outside)


def values_in(values: npt.NDArray[np.uint8], mask: Mask) -> npt.NDArray[np.uint8]:
    """Returns the values of an image at the pixels of a mask; reads the box around the mask only."""
    x, y, width, height = cv2.boundingRect(mask)
    box = np.s_[y : y + height, x : x + width]
    return values[box][mask[box] > 0]


@dataclass(frozen=True, slots=True)
class InkDistance:
    """Distance of every pixel to the ink."""

    values: npt.NDArray[np.float32]
    by: int
    """Side of a pixel of `values`, pixels of the input."""

    def at(self, places: Places, outside: float) -> npt.NDArray[np.float64]:
        """Returns the distances at points, in pixels of the input, and `outside` for points beyond the image."""
        return lookup(self.values, (places - (self.by - 1) / 2) / self.by, outside / self.by) * self.by


def distance_to_ink(mask: Mask) -> InkDistance:
    """Returns the distances to the ink; for large images in blocks of 2 x 2 pixels."""
    by = 2 if mask.size > 4e5 else 1
    if by == 2:
        mask = np.asarray(cv2.dilate(mask, np.ones((2, 2), np.uint8), anchor=(0, 0))[::2, ::2], np.uint8)
    free = np.asarray(1 - mask, np.uint8)
    if free.all():
        return InkDistance(np.full(mask.shape, 1e6, np.float32), by)
    return InkDistance(np.asarray(cv2.distanceTransform(free, cv2.DIST_L2, 3), np.float32), by)


def _fixed(path: Places) -> npt.NDArray[np.int32]:
    return np.asarray(np.round(path * 2**_SUBPIXEL), np.int32)
