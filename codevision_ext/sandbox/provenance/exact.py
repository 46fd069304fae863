"""Finds exact, turned or mirrored copies of an image inside a larger image."""

from itertools import product

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from codevision_ext.geometry import apply, inverse
from codevision_ext.sandbox.provenance.placement import ORIENTATION_BY_FLAGS, View
from codevision_ext.types import Box

MAX_TRIES = 200
"""Number of candidate positions compared before the search gives up."""


def find_exact(parent: Image.Image, output: Image.Image) -> list[View]:
    """Return every position of `output` in the parent; empty if there are too many candidates (a plain image).

    One row of the turned output is searched in the parent's bytes.
    """
    data, width = parent.tobytes(), parent.width
    ground = np.frombuffer(data, np.uint8).reshape(parent.height, width, 3)
    pixels = np.asarray(output)
    shown = Box(0, 0, *output.size)
    places: list[View] = []
    tries = 0
    for swapped, x_reversed in product((False, True), repeat=2):
        candidate = (pixels.swapaxes(0, 1) if swapped else pixels)[:, :: -1 if x_reversed else 1]
        high, wide = candidate.shape[:2]
        if wide > width or high > parent.height:
            continue
        row = _most_varied_row(candidate)
        needle, at = candidate[row].tobytes(), -1
        upright: dict[bool, NDArray[np.uint8]] = {}
        while (at := data.find(needle, at + 1)) >= 0:
            tries += 1
            if tries > MAX_TRIES:
                return []
            for y_reversed in (False, True):
                y, x = divmod(at // 3, width)
                y -= high - 1 - row if y_reversed else row
                if at % 3 or y < 0 or y + high > parent.height or x + wide > width:
                    continue
                net = ORIENTATION_BY_FLAGS[swapped, x_reversed, y_reversed]
                if y_reversed not in upright:  # cached: comparing with a turned numpy view is slow
                    upright[y_reversed] = np.asarray(apply(inverse(net), output))
                if np.array_equal(ground[y : y + high, x : x + wide], upright[y_reversed]):
                    places.append(View(net=net, box=Box(x, y, x + wide, y + high), shown=shown))
    return places


def _most_varied_row(pixels: NDArray[np.uint8]) -> int:
    """Return the row with the largest differences between neighbouring pixels, out of 24 rows."""
    rows = np.unique(np.linspace(0, len(pixels) - 1, 24).astype(int))
    return int(rows[np.argmax([np.abs(np.diff(pixels[row].astype(np.int16), axis=0)).sum() for row in rows])])
