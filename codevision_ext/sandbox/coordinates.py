"""Where do coordinates that a model writes lie on the image that its code gets? Arithmetic only: children run it too.

In its frame every image has a size: (0, 0) is the upper left corner, the size is the lower right one, and the pixels
lie evenly in between. So one linear map for each axis serves every model family.
"""

import math

Size = tuple[int, int]
"""Width and height, both at least 1."""
RELATIVE_SIZE: Size = (1000, 1000)
"""Of every image in the frame `relative`."""
Box4 = tuple[float, float, float, float]


def scaled(box: Box4, old: Size, new: Size) -> Box4:
    """The box (x1, y1, x2, y2) on an image that has size `old` in one frame, in the frame where it has size `new`."""
    x1, y1, x2, y2 = box
    return (x1 * new[0] / old[0], y1 * new[1] / old[1], x2 * new[0] / old[0], y2 * new[1] / old[1])


def box_in_pixels(box: Box4, frame: Size, size: Size) -> tuple[int, int, int, int]:
    """The box on an image of `size` pixels, clipped to it and at least one pixel wide and high.

    Each side is off by at most half a pixel of the image, of a box that had to be widened by at most one.

    Args:
        box: x1, y1, x2, y2 where the image has the size `frame`; x2 and y2 are exclusive.
        frame: The image's size in the coordinates of `box`.
        size: The image's size, pixels.

    Raises:
        ValueError: something isn't a finite number, the box is empty or reversed, or lies outside of the image.
    """
    x1, y1, x2, y2 = (_number(*pair) for pair in zip(("x1", "y1", "x2", "y2"), box, strict=True))
    for axis, low, high, most in (("x", x1, x2, frame[0]), ("y", y1, y2, frame[1])):
        if low >= high:
            raise ValueError(f"{axis}1 must be less than {axis}2, they are {low:g} and {high:g}")
        if high <= 0 or low >= most:
            raise ValueError(f"the box lies outside of the image, which is {frame[0]}x{frame[1]}")
    left, right = _span(x1, x2, frame[0], size[0])
    top, bottom = _span(y1, y2, frame[1], size[1])
    return left, top, right, bottom


def point_in_pixels(point: tuple[float, float], frame: Size, size: Size) -> Size:
    """The pixel (x, y) of an image of `size` at a point of its frame; points outside are moved to the rim.

    Raises:
        ValueError: a coordinate isn't a finite number.
    """
    x, y = (_number(*pair) for pair in zip(("x", "y"), point, strict=True))
    return _pixel(x, frame[0], size[0]), _pixel(y, frame[1], size[1])


def _number(name: str, value: object) -> float:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{name} must be a number, it is {value!r}")
    return number


def _span(low: float, high: float, frame: int, size: int) -> Size:
    low, high = (_along(value, frame, size) for value in (low, high))
    first, last = round(low), round(high)
    if first < last:
        return first, last
    first = min(math.floor((low + high) / 2), size - 1)
    return first, first + 1


def _pixel(value: float, frame: int, size: int) -> int:
    return min(round(_along(value, frame, size)), size - 1)


def _along(value: float, frame: int, size: int) -> float:
    return min(max(value, 0), frame) * size / frame
