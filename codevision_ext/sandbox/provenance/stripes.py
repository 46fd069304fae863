"""Reads a view from runs on black and white stripes, for small images in which a texture has too few corners.

The stripes are the bits of each pixel's coordinates in Gray code, so that neighbouring pixels differ in a single bit.
Each run is compared with a run on its negative, which shows the bit under nearly any change of colours.
"""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from codevision_ext.sandbox.provenance.compare import Floats, grey_of
from codevision_ext.sandbox.provenance.placement import COVERAGE, Array, View, fit_view
from codevision_ext.types import Box

LARGEST = 256
"""Largest side of an image whose stripes are tried, pixels; larger images have enough corners."""
VISIBLE = 8.0
"""Least difference of grey levels between a run and the run on its negative."""
SAMPLES = 96
"""Pixels per axis from which the view is fitted."""
TOLERANCE = 1.5
"""Largest error of a pixel that agrees with the view, pixels of the image."""

Run = Callable[[Image.Image], Image.Image | None]
"""Function that runs the code on an image in place of its own; None where the code fails."""


def read_stripes(run: Run, size: tuple[int, int], output: tuple[int, int]) -> View | None:
    """Read which view of an image of `size` the code shows in an output of size `output`; None if it can't be read."""
    if max(size) > LARGEST:
        return None
    whole = _difference(run, Image.new("RGB", size, "white"), output)
    if whole is None:
        return None
    sign = -1.0 if np.median(whole) < 0 else 1.0  # a negative changes black into white
    places: list[Array] = []
    shown = np.zeros(whole.shape, dtype=bool)
    for axis in (0, 1):
        code = np.zeros(whole.shape, dtype=np.int64)
        for stripes in _stripes(size, axis):
            change = _difference(run, stripes, output)
            if change is None:
                return None
            shown |= np.abs(change) >= VISIBLE
            code = 2 * code + (sign * change > 0)
        places.append(_from_gray(code).astype(np.float64) + 0.5)
    content = _bounds(shown)
    if content is None:
        return None
    us, vs = (
        np.unique(np.linspace(low, high - 1, SAMPLES).round().astype(int))
        for low, high in ((content.x1, content.x2), (content.y1, content.y2))
    )
    at = np.ix_(vs, us)
    outs = np.stack(np.meshgrid(us + 0.5, vs + 0.5), axis=-1).reshape(-1, 2)
    ins = np.stack([place[at] for place in places], axis=-1).reshape(-1, 2)
    view, agreeing = fit_view(outs, ins, content, size, TOLERANCE)
    return view if view is not None and agreeing >= COVERAGE * len(outs) else None


def _stripes(size: tuple[int, int], axis: int) -> Iterator[Image.Image]:
    """Yield the images of the bits of the coordinate along an axis, the highest bit first."""
    at = np.arange(size[axis])
    gray = at ^ (at >> 1)
    for bit in reversed(range(max(1, (size[axis] - 1).bit_length()))):
        line = np.where(gray >> bit & 1, 255, 0).astype(np.uint8)
        pixels = np.tile(line, (size[1], 1)) if axis == 0 else np.tile(line[:, None], (1, size[0]))
        yield Image.fromarray(pixels).convert("RGB")


def _from_gray(code: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the numbers that Gray codes stand for."""
    number = code.copy()
    while (code := code >> 1).any():
        number ^= code
    return number


def _difference(run: Run, image: Image.Image, output: tuple[int, int]) -> Floats | None:
    """Return the grey levels of a run less those of the run on the negative; None where the code fails on one."""
    results = [run(each) for each in (image, image.point(lambda level: 255 - level))]
    one, other = (None if result is None or result.size != output else grey_of(result) for result in results)
    return None if one is None or other is None else np.asarray(one - other, dtype=np.float32)


def _bounds(shown: NDArray[np.bool_]) -> Box | None:
    """Return the part of an output in which most pixels show the image; None if there is none."""
    rows, columns = (np.flatnonzero(shown.mean(axis=axis) > 0.5) for axis in (1, 0))
    if not len(rows) or not len(columns):
        return None
    return Box(int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
