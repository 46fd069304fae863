"""Which images look alike, turned and mirrored or not? By a hash of what they show."""

import io
from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from codevision_ext import geometry
from codevision_ext.types import Orientation

EDGE: Final = 16
"""The hash compares EDGE x EDGE neighbours: 256 bits."""
WORDS: Final = EDGE * EDGE // 32
MARGIN: Final = 2
"""Grey values by which the left neighbour must be brighter: paper stays paper after another JPEG."""
MOST_BITS: Final = 16
"""In how many of the 256 bits near duplicates may differ; other images differ in 80 and more. Candidates share one of
the WORDS words, so that all that differ in fewer bits than there are words are found, and most others."""
_LOOKED_AT: Final = 64
"""Candidates that share a word are compared up to this number: blank pages share it with all others."""

Hash = NDArray[np.uint32]


def hashes(data: bytes) -> Hash:
    """Difference hashes of an image file in its eight orientations, the first as it is; shape (8, WORDS).

    After Krawetz' dHash, larger and with a margin: a bit says that a pixel of the shrunken image is brighter than
    its right neighbour.
    """
    image = Image.open(io.BytesIO(data))
    image.draft("L", (8 * EDGE, 8 * EDGE))
    small = image.convert("L").convert("F").resize((2 * EDGE, 2 * EDGE), Image.Resampling.BOX)
    return np.stack([_hash(geometry.apply(orientation, small)) for orientation in Orientation])


def _hash(small: Image.Image) -> Hash:
    grey = np.asarray(small.resize((EDGE + 1, EDGE), Image.Resampling.BOX), dtype=np.float32)
    bits = grey[:, :-1] - grey[:, 1:] > MARGIN
    return np.packbits(bits).view(np.uint32)


def near(known: Hash, asked: Hash) -> Iterator[tuple[int, int]]:
    """Pairs (number in `known`, number in `asked`) of images that look alike in some orientation, each once.

    Args:
        known: Hashes of images as they are, shape (n, WORDS).
        asked: Hashes in eight orientations, shape (m, 8, WORDS).
    """
    told: set[tuple[int, int]] = set()
    for word in range(WORDS if len(known) and len(asked) else 0):
        order = np.argsort(known[:, word], kind="stable")
        values = known[order, word]
        for orientation in range(asked.shape[1]):
            wanted = asked[:, orientation, word]
            starts, ends = np.searchsorted(values, wanted), np.searchsorted(values, wanted, side="right")
            for number in np.flatnonzero(ends > starts):
                candidates = order[starts[number] : min(ends[number], starts[number] + _LOOKED_AT)]
                differ = np.bitwise_count(known[candidates] ^ asked[number, orientation]).sum(axis=1)
                for candidate in candidates[differ <= MOST_BITS]:
                    pair = int(candidate), int(number)
                    if pair not in told:
                        told.add(pair)
                        yield pair
