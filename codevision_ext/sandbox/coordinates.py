"""Maps coordinates that a model writes to pixels of the image that its code gets.

A coordinate system gives every image a size: (0, 0) is the upper left corner, the size is the lower right corner, and
the pixels lie evenly in between. So one linear map for each axis serves every model family. This module only does
arithmetic and imports nothing of the package, because the sandbox's children load it too.
"""

import math
from typing import Any

Size = tuple[int, int]
"""Width and height, both at least 1."""
RELATIVE_SIZE: Size = (1000, 1000)
"""Size of every image in the coordinate system `relative`."""
FEW_PIXELS = 10
"""Largest side of an image of which parts of a pixel may be meant."""
Box4 = tuple[float, float, float, float]


def scaled(box: Box4, old: Size, new: Size) -> Box4:
    """Returns a box (x1, y1, x2, y2) on an image of size `old`, in coordinates where the image has size `new`."""
    x1, y1, x2, y2 = box
    return (x1 * new[0] / old[0], y1 * new[1] / old[1], x2 * new[0] / old[0], y2 * new[1] / old[1])


def box_in_pixels(box: Box4, space: Size, size: Size) -> tuple[int, int, int, int]:
    """Returns the box in pixels of the image, clipped to the image, at least one pixel wide and high.

    Rounding moves each side by at most half a pixel of the image, or by at most one pixel where the box had to be
    widened.

    Args:
        box: x1, y1, x2, y2 in coordinates where the image has the size `space`; x2 and y2 are exclusive.
        space: Size of the image in the coordinates of `box`.
        size: Size of the image, pixels.

    Raises:
        ValueError: a side isn't a finite number, or the box is empty, reversed, outside of the image or in fractions.
    """
    x1, y1, x2, y2 = (_number(*pair) for pair in zip(("x1", "y1", "x2", "y2"), box, strict=True))
    if are_fractions(box, space):
        raise ValueError(f"x must be from 0 to {space[0]} and y from 0 to {space[1]}, not fractions of the image")
    for axis, low, high, most in (("x", x1, x2, space[0]), ("y", y1, y2, space[1])):
        if low >= high:
            raise ValueError(f"{axis}1 must be less than {axis}2, they are {low:g} and {high:g}")
        if high <= 0 or low >= most:
            raise ValueError(f"the box lies outside of the image, which is {space[0]}x{space[1]}")
    left, right = _span(x1, x2, space[0], size[0])
    top, bottom = _span(y1, y2, space[1], size[1])
    return left, top, right, bottom


def point_in_pixels(point: tuple[float, float], space: Size, size: Size) -> Size:
    """Returns the pixel (x, y) at a point; a point outside of the image gives the nearest pixel.

    Args:
        point: x, y in coordinates where the image has the size `space`.
        space: Size of the image in the coordinates of `point`.
        size: Size of the image, pixels.

    Raises:
        ValueError: a coordinate isn't a finite number.
    """
    x, y = (_number(*pair) for pair in zip(("x", "y"), point, strict=True))
    return _pixel(x, space[0], size[0]), _pixel(y, space[1], size[1])


def are_fractions(box: tuple[Any, ...], size: Size) -> bool:
    """Returns whether a box is written in fractions of an image of that size: from 0 to 1, not all of a whole type."""
    whole = all(hasattr(side, "__index__") for side in box)
    return max(size) > FEW_PIXELS and not whole and all(0 <= float(side) <= 1 for side in box)


def _number(name: str, value: object) -> float:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{name} must be a number, it is {value!r}")
    return number


def _span(low: float, high: float, space: int, size: int) -> Size:
    """Returns the first pixel of an interval on one axis, and the pixel after its last; at least one pixel."""
    low, high = (_along(value, space, size) for value in (low, high))
    first, last = round(low), round(high)
    if first < last:
        return first, last
    first = min(math.floor((low + high) / 2), size - 1)
    return first, first + 1


def _pixel(value: float, space: int, size: int) -> int:
    return min(round(_along(value, space, size)), size - 1)


def _along(value: float, space: int, size: int) -> float:
    """Returns the position on one axis in pixels, moved into the image."""
    return min(max(value, 0), space) * size / space
