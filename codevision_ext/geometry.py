"""Computes with the eight orientations of an image (the group D4), and with boxes.

Rotations are counter-clockwise, coordinates are pixels with y pointing down, sizes are (width, height).
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from typing import Final

from PIL import Image

from codevision_ext.errors import InputError
from codevision_ext.types import Box, Orientation

MAX_ASPECT_RATIO: Final = 200.0
"""Maximum ratio of the longer to the shorter side of an image; the image processors of Qwen-VL models refuse more."""
ORIENTATION_OPS: Final[Mapping[str, Orientation]] = {
    "rotate_90": Orientation.R90,
    "rotate_180": Orientation.R180,
    "rotate_270": Orientation.R270,
    "flip_horizontal": Orientation.FH,
    "flip_vertical": Orientation.FV,
}
"""Orientation of each operation that has a name; transpose and transverse take two operations."""

_Matrix = tuple[tuple[int, int], tuple[int, int]]

_MATRIX: Final[Mapping[Orientation, _Matrix]] = {
    Orientation.ID: ((1, 0), (0, 1)),
    Orientation.R90: ((0, 1), (-1, 0)),
    Orientation.R180: ((-1, 0), (0, -1)),
    Orientation.R270: ((0, -1), (1, 0)),
    Orientation.FH: ((-1, 0), (0, 1)),
    Orientation.FV: ((1, 0), (0, -1)),
    Orientation.TRANSPOSE: ((0, 1), (1, 0)),
    Orientation.TRANSVERSE: ((0, -1), (-1, 0)),
}
"""Matrix of each orientation, about the centre of the image; its rows give the new x and the new y of a point."""
_ORIENTATION: Final = {matrix: orientation for orientation, matrix in _MATRIX.items()}

_TRANSPOSE: Final[Mapping[Orientation, Image.Transpose]] = {
    Orientation.R90: Image.Transpose.ROTATE_90,
    Orientation.R180: Image.Transpose.ROTATE_180,
    Orientation.R270: Image.Transpose.ROTATE_270,
    Orientation.FH: Image.Transpose.FLIP_LEFT_RIGHT,
    Orientation.FV: Image.Transpose.FLIP_TOP_BOTTOM,
    Orientation.TRANSPOSE: Image.Transpose.TRANSPOSE,
    Orientation.TRANSVERSE: Image.Transpose.TRANSVERSE,
}


def orientation_of(op: str) -> Orientation:
    """Returns the orientation that an operation gives to an upright image.

    Raises:
        InputError: `op` isn't an orientation operation.
    """
    if op not in ORIENTATION_OPS:
        raise InputError(f"{op!r} is not an orientation op; these are: {', '.join(ORIENTATION_OPS)}.")
    return ORIENTATION_OPS[op]


def compose(a: Orientation, b: Orientation) -> Orientation:
    """Returns the orientation of an image after `a` and then `b`."""
    (a11, a12), (a21, a22) = _MATRIX[a]
    (b11, b12), (b21, b22) = _MATRIX[b]
    return _ORIENTATION[
        (b11 * a11 + b12 * a21, b11 * a12 + b12 * a22),
        (b21 * a11 + b22 * a21, b21 * a12 + b22 * a22),
    ]


def compose_all(orientations: Iterable[Orientation]) -> Orientation:
    """Returns the orientation of an image after all orientations were applied in order."""
    return reduce(compose, orientations, Orientation.ID)


def inverse(o: Orientation) -> Orientation:
    """Returns the orientation that undoes `o`."""
    (m11, m12), (m21, m22) = _MATRIX[o]
    return _ORIENTATION[(m11, m21), (m12, m22)]


def map_size(o: Orientation, size: tuple[int, int]) -> tuple[int, int]:
    """Returns the size that an image of `size` has after `o`."""
    width, height = size
    return (width, height) if _MATRIX[o][0][0] else (height, width)


def map_box(box: Box, o: Orientation, size: tuple[int, int]) -> Box:
    """Returns the box after `o` was applied to its image; `size` is the size of the image before `o`."""
    along = {
        (1, 0): (box.x1, box.x2),
        (-1, 0): (size[0] - box.x2, size[0] - box.x1),
        (0, 1): (box.y1, box.y2),
        (0, -1): (size[1] - box.y2, size[1] - box.y1),
    }
    row_x, row_y = _MATRIX[o]
    (x1, x2), (y1, y2) = along[row_x], along[row_y]
    return Box(x1, y1, x2, y2)


def box_area(box: Box) -> float:
    """Returns the area of a box in square pixels; 0 for a reversed box."""
    return max(0.0, box.x2 - box.x1) * max(0.0, box.y2 - box.y1)


def intersection(one: Box, other: Box) -> Box:
    """Returns the part that both boxes cover; its area is 0 if they don't meet."""
    return Box(max(one.x1, other.x1), max(one.y1, other.y1), min(one.x2, other.x2), min(one.y2, other.y2))


def iou(a: Sequence[float], b: Sequence[float]) -> float:
    """Returns intersection over union of two boxes, in [0, 1]; 0 for a box without four numbers or without an area."""
    if len(a) != 4 or len(b) != 4:
        return 0.0
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    common = width * height
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common
    return common / (union if union > 0 else 1e-6)


def tolerance(size: tuple[int, int]) -> float:
    """Returns tau, the maximum error of a place in pixels: 1.5 percent of the image's diagonal, and at least 3."""
    return max(3.0, 0.015 * math.hypot(*size))


def apply(o: Orientation, image: Image.Image) -> Image.Image:
    """Returns a copy of the image after `o`; no pixel is interpolated."""
    return image.copy() if o is Orientation.ID else image.transpose(_TRANSPOSE[o])
