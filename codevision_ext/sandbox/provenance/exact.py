"""Where a picture stands, pixel for pixel, in another one that may be turned or mirrored."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from codevision_ext.sandbox.provenance.view import View
from codevision_ext.types import Box, Orientation

MAX_TRIES = 200
"""Candidate places looked at before the search gives up."""

_AS_PARENT = {
    Orientation.ID: (False, slice(None), slice(None)),
    Orientation.FH: (False, slice(None), slice(None, None, -1)),
    Orientation.FV: (False, slice(None, None, -1), slice(None)),
    Orientation.R180: (False, slice(None, None, -1), slice(None, None, -1)),
    Orientation.TRANSPOSE: (True, slice(None), slice(None)),
    Orientation.R90: (True, slice(None), slice(None, None, -1)),
    Orientation.R270: (True, slice(None, None, -1), slice(None)),
    Orientation.TRANSVERSE: (True, slice(None, None, -1), slice(None, None, -1)),
}
"""How the rows and columns of an output are read so that they stand as in the parent: swapped, then rows, columns."""


def upright(pixels: NDArray[np.uint8], net: Orientation) -> NDArray[np.uint8]:
    """A view of `pixels`, shape (rows, columns, channels), with the orientation undone."""
    swapped, rows, columns = _AS_PARENT[net]
    return (pixels.swapaxes(0, 1) if swapped else pixels)[rows, columns]


def find_exact(parent: Image.Image, made: Image.Image) -> list[View]:
    """Every place where `made` stands in the parent; none when there are too many (a plain picture).

    One row of `made`, as it would stand in the parent, is looked up in the parent's bytes.
    """
    pixels, ground = np.asarray(made), np.asarray(parent)
    data, width = ground.tobytes(), parent.width
    shown = Box(0, 0, *made.size)
    places: list[View] = []
    tries = 0
    for net in Orientation:
        wanted = upright(pixels, net)
        high, wide = wanted.shape[:2]
        if wide > width or high > parent.height:
            continue
        row = _telling(wanted)
        needle, at = wanted[row].tobytes(), -1
        while (at := data.find(needle, at + 1)) >= 0:
            tries += 1
            if tries > MAX_TRIES:
                return []
            y, x = divmod(at // 3, width)
            y -= row
            window = ground[max(y, 0) : y + high, x : x + wide]
            if at % 3 == 0 and y >= 0 and np.array_equal(window, wanted):
                places.append(View(net=net, box=Box(x, y, x + wide, y + high), shown=shown))
    return places


def _telling(pixels: NDArray[np.uint8]) -> int:
    """The row, of a few, that differs most from a plain one."""
    rows = np.unique(np.linspace(0, len(pixels) - 1, 24).astype(int))
    return int(rows[np.argmax([np.abs(np.diff(pixels[row].astype(np.int16), axis=0)).sum() for row in rows])])
