"""Normalises names of knowledge and tools, and merges names that mean the same by hashed character n-grams."""

import unicodedata
from collections.abc import Iterable
from typing import Final
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

GRAM: Final = 3
"""Number of characters of an n-gram."""
SIZE: Final = 512
"""Number of entries of a vector, to which n-grams are hashed."""
SAME: Final = 0.75
"""Minimum cosine of two names that are merged, in [0, 1]; last layers of paths and whole paths must reach it."""

Vector = NDArray[np.float32]


def normal_name(text: str) -> str:
    """Return a name in lower case, with words of letters and digits and one space between them; empty without any."""
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return " ".join("".join(sign if sign.isalnum() else " " for sign in text).split())


def normal_path(path: str) -> str:
    """Return a path whose layers are normalised names, joined by `/`; layers without letters or digits are dropped."""
    return "/".join(filter(None, map(normal_name, path.split("/"))))


def gram_vector(text: str) -> Vector:
    """Return the counts of hashed character n-grams, of length 1; shape (SIZE,). An empty text gives zeros."""
    vector = np.zeros(SIZE, np.float32)
    padded = f" {text} ".encode()
    for start in range(len(padded) - GRAM + 1):
        vector[crc32(padded[start : start + GRAM]) % SIZE] += 1
    length = float(np.linalg.norm(vector))
    return vector / length if text and length else np.zeros(SIZE, np.float32)


class GramIndex:
    """Names with their vectors, to find the name that a new one is merged with."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._names: list[str] = []
        self._merged: dict[str, str] = {}
        self._vectors = np.zeros((2, 64, SIZE), np.float32)  # of the last layers, and of the wholes
        for name in names:
            self._add(name)

    def merged(self, name: str) -> str:
        """Return the known name that is most similar to a normalised name; a new name becomes known, and is returned.

        A name always has the same answer: it is kept, so that later names don't change it.
        """
        if name not in self._merged:
            last, whole = gram_vector(name.rpartition("/")[2]), gram_vector(name)
            count = len(self._names)
            alike = np.minimum(self._vectors[0, :count] @ last, self._vectors[1, :count] @ whole)
            best = int(np.argmax(alike)) if count else 0
            if count and alike[best] >= SAME:
                self._merged[name] = self._names[best]
            else:
                self._add(name)
        return self._merged[name]

    def _add(self, name: str) -> None:
        count = len(self._names)
        if count == self._vectors.shape[1]:
            self._vectors = np.concatenate([self._vectors, np.zeros_like(self._vectors)], axis=1)
        self._vectors[0, count], self._vectors[1, count] = gram_vector(name.rpartition("/")[2]), gram_vector(name)
        self._names.append(name)
        self._merged[name] = name
