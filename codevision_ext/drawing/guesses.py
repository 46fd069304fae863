"""Guesses where the input lies in the made image, from the sizes, the frames and the edges of both."""

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
import numpy.typing as npt

from codevision_ext.drawing.pixels import Gray
from codevision_ext.drawing.placement import Pair, Placement

_STEP, _SMALLEST = 0.965, 0.25
"""Ratio of the scales that are searched, and the smallest one as a share of that at which the input fills the image."""
_TRIED = 5
"""Number of placements that a search returns."""
_WHITE = 250
"""Smallest gray value of the canvas of matplotlib."""

Box = tuple[int, int, int, int]
"""Left, top, right and bottom, pixels."""


def guesses(made: Gray, shape: Sequence[int], small: Pair) -> list[Placement]:
    """Returns placements that explain the size and the frame of the made image, the most probable first.

    Args:
        made: The made image.
        shape: Shape of the input.
        small: Both images, which may be smaller.
    """
    (height, width), (made_height, made_width) = shape[:2], made.shape
    full = Placement(made_width / width, made_height / height, 0, 0)
    boxes = _boxes(made, 1)
    framed = [
        _between(one, other)
        for one, other in zip([(0, 0, width, height), *_boxes(small.image, small.by)], boxes[:1] + boxes, strict=False)
    ]
    layouts = _layouts((width, height), (made_width, made_height)) if made[0, 0] >= _WHITE else ()
    scale = min(full.sx, full.sy)
    middle = Placement(scale, scale, (made_width - scale * width) / 2, (made_height - scale * height) / 2)
    even = [place for place in (*framed[:1], full, *framed[1:], *layouts) if _is_even(place, shape)]
    uneven = [place for place in (full, *framed) if place not in even and 0.5 < place.sx / place.sy < 2]
    return [*([full] if full.whole else []), *even, *uneven, middle]


def _is_even(place: Placement, shape: Sequence[int]) -> bool:
    """Returns whether the scales of x and y are equal, up to an error of two pixels of the made image."""
    return abs(place.sx / place.sy - 1) < 2 / min(place.sx * shape[1], place.sy * shape[0]) + 0.002


def _between(one: Box, other: Box) -> Placement:
    """Returns the placement that maps a box of the input to a box of the made image."""
    sx, sy = (other[2] - other[0]) / (one[2] - one[0]), (other[3] - other[1]) / (one[3] - one[1])
    return Placement(sx, sy, other[0] - sx * one[0], other[1] - sy * one[1])


def _boxes(gray: Gray, by: int) -> list[Box]:
    """Returns the frame of an image and the box around all its content; nothing if the content reaches the border.

    The canvas has the colour of the corner. The frame is spanned by long rows and columns of other colours, those of an
    image on the canvas or of the axes around it. Text has gaps, so it isn't part of the frame. The boxes are in pixels
    of an image that is `by` times as large.
    """
    canvas = int(gray[0, 0])
    other = np.asarray(cv2.bitwise_not(cv2.inRange(gray, canvas - 4, canvas + 4)), np.uint8)
    x, y, width, height = cv2.boundingRect(other)
    if min(width, height) < 16 or (width, height) == gray.shape[::-1]:
        return []
    content = other[y : y + height, x : x + width]
    rows, columns = _span(content), _span(np.asarray(cv2.transpose(content), np.uint8))
    box = by * x, by * y, by * (x + width), by * (y + height)
    if rows is None or columns is None:
        return [box, box]
    return [(by * (x + columns[0]), by * (y + rows[0]), by * (x + columns[1]), by * (y + rows[1])), box]


def _span(mask: Gray) -> tuple[int, int] | None:
    """Returns the first of the rows with a long run of the mask, and the row after the last one; None without any."""
    run = max(12, mask.shape[1] // 5)
    chosen = np.flatnonzero(cv2.reduce(mask, 1, cv2.REDUCE_SUM, dtype=cv2.CV_32S).ravel() >= 255 * run)
    first, last = _first(mask, chosen, run), _first(mask, chosen[::-1], run)
    return (first, last + 1) if first is not None and last is not None and last > first else None


def _first(mask: Gray, rows: npt.NDArray[np.intp], run: int) -> int | None:
    """Returns the first one of `rows` with a run of the mask that is at least `run` pixels long."""
    for start in range(0, len(rows), 50):
        some = rows[start : start + 50]
        means = cv2.boxFilter(np.ascontiguousarray(mask[some]), -1, (run, 1), borderType=cv2.BORDER_CONSTANT)
        full = np.flatnonzero(cv2.reduce(means, 1, cv2.REDUCE_MAX).ravel() >= 250)
        if len(full):
            return int(some[full[0]])
    return None


def _layouts(size: tuple[int, int], made_size: tuple[int, int]) -> Iterator[Placement]:
    """Yields placements of matplotlib without axes: a tight box, with or without a title, and default axes."""
    (width, height), (made_width, made_height) = size, made_size
    for dpi, margin in [(dpi, dpi / 10) for dpi in (100, 72, 150, 200, 300)] + [(72, 0.0), (100, 0.0), (150, 0.0)]:
        sx, sy = (made_width - 2 * margin) / width, (made_height - 2 * margin) / height
        top = made_height - margin - sx * height
        if min(sx, sy) > 0 and abs(sx - sy) * max(size) < 2.5:
            yield Placement(sx, sy, margin, margin)
        elif sx > 0 and dpi / 6 < top - margin < 0.7 * dpi:
            yield Placement(sx, sx, margin, top)
    scale = min(0.775 * made_width / width, 0.77 * made_height / height)
    yield Placement(scale, scale, 0.5125 * made_width - scale * width / 2, 0.505 * made_height - scale * height / 2)


def search(pair: Pair) -> list[Placement]:
    """Returns the placements of equal scales whose edges correlate best and explain most edges, the best first."""
    edges = _edges(pair.made)
    height, width = pair.image.shape
    energy = float(np.square(edges).sum())
    if _edges(pair.image).std() < 0.5 or not energy:
        return []
    fit = min(edges.shape[1] / width, edges.shape[0] / height)
    scales = [fit * _STEP**step for step in range(int(np.log(_SMALLEST) / np.log(_STEP)))]
    scales.append(pair.by / pair.made_by)  # no change of scale
    scored: list[tuple[float, Placement]] = []
    for scale in scales:
        size = round(width * scale), round(height * scale)
        if min(size) < 8 or size[0] > edges.shape[1] or size[1] > edges.shape[0]:
            continue
        template = _edges(np.asarray(cv2.resize(pair.image, size, interpolation=cv2.INTER_AREA), np.uint8))
        if template.std() < 0.5:
            continue
        scores = np.nan_to_num(cv2.matchTemplate(edges, template, cv2.TM_CCOEFF_NORMED))
        _, score, _, (x, y) = cv2.minMaxLoc(scores)
        share = float(np.square(edges[y : y + size[1], x : x + size[0]]).sum()) / energy
        scored.append((score * share**0.5, Placement(size[0] / width, size[1] / height, x, y)))
    scored.sort(key=lambda one: -one[0])
    return [pair.outer(place) for _, place in scored[:_TRIED]]


def _edges(gray: Gray) -> npt.NDArray[np.float32]:
    dx, dy = cv2.Sobel(gray, cv2.CV_32F, 1, 0), cv2.Sobel(gray, cv2.CV_32F, 0, 1)
    return np.asarray(np.sqrt(cv2.magnitude(dx, dy)), np.float32)
