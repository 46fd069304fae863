"""Finds near-duplicate images in any orientation, by a hash of their brightness."""

import io
from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from codevision_ext import geometry
from codevision_ext.types import Orientation

EDGE: Final = 16
"""Number of rows and of columns of a hash: 256 bits, one for each pair of horizontal neighbours."""
WORDS: Final = EDGE * EDGE // 32
"""Number of 32-bit words of a hash."""
MARGIN: Final = 2
"""Grey values by which the left neighbour must be brighter to set a bit; JPEG noise on blank paper sets none."""
MAX_BITS: Final = 16
"""Maximum number of bits in which near duplicates differ; different images differ in 80 or more of 256. Only hashes
that share a word are compared. All pairs that differ in fewer than WORDS bits share a word, most others too."""
_MAX_CANDIDATES: Final = 64
"""Maximum number of compared hashes that share a word; the words of blank pages are very common."""

Hash = NDArray[np.uint32]


def hashes(data: bytes) -> Hash:
    """Return difference hashes of an image file in eight orientations, the unchanged first; shape (8, WORDS).

    A bit is set if a pixel of the shrunken image is brighter than its right neighbour, as in Krawetz' dHash, but with
    more bits and a margin.
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
    """Yield index pairs (in `known`, in `queries`) of near duplicates in any orientation, each pair once.

    Args:
        known: Hashes of unturned images, shape (n, WORDS).
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
