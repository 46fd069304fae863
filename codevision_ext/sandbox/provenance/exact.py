"""Where a picture stands, pixel for pixel, in another one that may be turned or mirrored."""

from itertools import product

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from codevision_ext.geometry import apply, inverse
from codevision_ext.sandbox.provenance.view import View
from codevision_ext.types import Box, Orientation

MAX_TRIES = 200
"""Candidate places looked at before the search gives up."""

_NETS = {
    (False, False, False): Orientation.ID,
    (False, False, True): Orientation.FH,
    (False, True, False): Orientation.FV,
    (False, True, True): Orientation.R180,
    (True, False, False): Orientation.TRANSPOSE,
    (True, False, True): Orientation.R90,
    (True, True, False): Orientation.R270,
    (True, True, True): Orientation.TRANSVERSE,
}
"""What an output is whose rows and columns, swapped or not, then reversed or not, stand as in the parent."""


def find_exact(parent: Image.Image, made: Image.Image) -> list[View]:
    """Every place where `made` stands in the parent; none when there are too many (a plain picture).

    One row of `made`, as it would stand in the parent, is looked up in the parent's bytes.
    """
    data, width = parent.tobytes(), parent.width
    ground = np.frombuffer(data, np.uint8).reshape(parent.height, width, 3)
    pixels = np.asarray(made)
    shown = Box(0, 0, *made.size)
    places: list[View] = []
    tries = 0
    for swapped, mirrored in product((False, True), repeat=2):
        wanted = (pixels.swapaxes(0, 1) if swapped else pixels)[:, :: -1 if mirrored else 1]
        high, wide = wanted.shape[:2]
        if wide > width or high > parent.height:
            continue
        row = _telling(wanted)
        needle, at = wanted[row].tobytes(), -1
        upright: dict[bool, NDArray[np.uint8]] = {}
        while (at := data.find(needle, at + 1)) >= 0:
            tries += 1
            if tries > MAX_TRIES:
                return []
            for flipped in (False, True):
                y, x = divmod(at // 3, width)
                y -= high - 1 - row if flipped else row
                if at % 3 or y < 0 or y + high > parent.height or x + wide > width:
                    continue
                net = _NETS[swapped, flipped, mirrored]
                if flipped not in upright:  # turned for good: a turned view is slow to compare
                    upright[flipped] = np.asarray(apply(inverse(net), made))
                if np.array_equal(ground[y : y + high, x : x + wide], upright[flipped]):
                    places.append(View(net=net, box=Box(x, y, x + wide, y + high), shown=shown))
    return places


def _telling(pixels: NDArray[np.uint8]) -> int:
    """The row, of a few, that differs most from a plain one."""
    rows = np.unique(np.linspace(0, len(pixels) - 1, 24).astype(int))
    return int(rows[np.argmax([np.abs(np.diff(pixels[row].astype(np.int16), axis=0)).sum() for row in rows])])
