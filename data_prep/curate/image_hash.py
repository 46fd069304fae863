"""Finds images that look alike, turned or mirrored or not, by a hash of their brightness."""

import io
from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from codevision_ext import geometry
from codevision_ext.types import Orientation

EDGE: Final = 16
"""Rows and columns of a hash, which has a bit for each pair of neighbours: 256 bits."""
WORDS: Final = EDGE * EDGE // 32
"""Number of 32-bit words of a hash."""
MARGIN: Final = 2
"""Grey values by which the left neighbour must be brighter, so that JPEG noise on blank paper sets no bits."""
MAX_BITS: Final = 16
"""Maximum number of the 256 bits in which near duplicates differ; other images differ in 80 and more. Only hashes that
share a word are compared: all pairs that differ in fewer than WORDS bits share one, and most other near duplicates."""
_MAX_CANDIDATES: Final = 64
"""Maximum number of hashes with the same word that are compared: blank pages share their words with all others."""

Hash = NDArray[np.uint32]


def hashes(data: bytes) -> Hash:
    """Return difference hashes of an image file in its eight orientations, as it stands first; shape (8, WORDS).

    As Krawetz' dHash, but larger and with a margin: a bit says that a pixel of the shrunken image is brighter than its
    right neighbour.
    """
    image = Image.open(io.BytesIO(data))
    image.draft("L", (8 * EDGE, 8 * EDGE))
    small = image.convert("L").convert("F").resize((2 * EDGE, 2 * EDGE), Image.Resampling.BOX)
    return np.stack([_hash(geometry.apply(orientation, small)) for orientation in Orientation])


def _hash(small: Image.Image) -> Hash:
    grey = np.asarray(small.resize((EDGE + 1, EDGE), Image.Resampling.BOX), dtype=np.float32)
    bits = grey[:, :-1] - grey[:, 1:] > MARGIN
    return np.packbits(bits).view(np.uint32)


def near(known: Hash, queries: Hash) -> Iterator[tuple[int, int]]:
    """Yield pairs (number in `known`, number in `queries`) of images that look alike in some orientation, each once.

    Args:
        known: Hashes of images as they stand, shape (n, WORDS).
        queries: Hashes in eight orientations, shape (m, 8, WORDS).
    """
    pairs: set[tuple[int, int]] = set()
    for word in range(WORDS if len(known) and len(queries) else 0):
        order = np.argsort(known[:, word], kind="stable")
        values = known[order, word]
        for orientation in range(queries.shape[1]):
            words = queries[:, orientation, word]
            starts, ends = np.searchsorted(values, words), np.searchsorted(values, words, side="right")
            for number in np.flatnonzero(ends > starts):
                candidates = order[starts[number] : min(ends[number], starts[number] + _MAX_CANDIDATES)]
                bits = np.bitwise_count(known[candidates] ^ queries[number, orientation]).sum(axis=1)
                for candidate in candidates[bits <= MAX_BITS]:
                    pair = int(candidate), int(number)
                    if pair not in pairs:
                        pairs.add(pair)
                        yield pair
