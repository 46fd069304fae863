"""Finds items that were accepted before, and items that a suite has, by image, text and code."""

import ast
import hashlib
import io
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from codevision_ext import geometry
from codevision_ext.errors import InputError
from codevision_ext.types import Orientation
from data_prep.convert.convert import Options, Target, jobs, plan_conversion, read_chunk
from data_prep.curate import image_hash
from data_prep.evolve.checks import Rejection, RejectReason
from data_prep.evolve.item import Item
from data_prep.evolve.names import normal_name
from data_prep.formats.readers import choose
from data_prep.formats.row_errors import ReadCounts
from data_prep.formats.schema import IMAGE_TAG, Row
from data_prep.formats.sources import find_sources

SIDE: Final = 64
"""Rows and columns of the edges that two images are compared by."""
ALIKE: Final = 0.97
"""Minimum share of edges that near duplicates have in common, in [0, 1]; a bar of another height changes more."""
LEAST_CHARS: Final = 30
"""Minimum length of a question, in characters, that counts as leaked without its image."""
_CANDIDATES: Final = 64
"""Maximum number of compared images that share a word of the hash."""
_EDGE: Final = 24
"""Minimum difference of two neighbours at an edge, levels of 0 to 255."""
_SUITE: Final = -1
"""Family of the images of a suite."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    family: int
    edges: NDArray[np.uint8]
    """Pixels with edges, SIDE x SIDE bits."""
    texts: set[str]
    """Normalised questions on this image."""
    name: str


class SeenItems:
    """The images, questions and codes of accepted items and of suites.

    A family is a call and all that was expanded from its items. Its items may share image and code, but not the
    question. Line drawings on paper have similar hashes, so a near hash counts only where the edges agree as well.
    """

    def __init__(self) -> None:
        self._images: list[_Seen] = []
        self._hashes = np.zeros((64, image_hash.WORDS), np.uint32)
        self._equal: dict[bytes, int] = {}
        self._words: list[defaultdict[int, list[int]]] = [defaultdict(list) for _ in range(image_hash.WORDS)]
        self._codes: dict[bytes, tuple[int, str]] = {}
        self._texts: dict[bytes, str] = {}
        self._ids: set[str] = set()

    def check(self, item: Item, image: bytes, family: int) -> Rejection | None:
        """Return why an item isn't new; a new one is remembered.

        Args:
            item: An item that passed all other checks.
            image: The item's original image, an image file.
            family: Number of the call that the item comes from, at least 0.
        """
        if item.id in self._ids:
            return Rejection(reason=RejectReason.SAME_ID, detail=f"there is an item {item.id} already")
        text, code = normal_text(item.question), _digest(normal_code(item.original_code))
        if len(text) >= LEAST_CHARS and (suite := self._texts.get(_digest(text))):
            return Rejection(reason=RejectReason.LEAKED_TEXT, detail=f"{suite} has the question")
        hashes, edges = image_hash.hashes(image), _edges(image)
        own: _Seen | None = None
        for seen in self._near(hashes, edges):
            if seen.family == _SUITE:
                return Rejection(reason=RejectReason.LEAKED_IMAGE, detail=f"{seen.name} has the image")
            if text in seen.texts:
                return Rejection(reason=RejectReason.SAME_TEXT, detail=f"{seen.name} has the question and the image")
            if seen.family != family:
                return Rejection(reason=RejectReason.SAME_IMAGE, detail=f"{seen.name} has the image")
            own = seen if np.array_equal(seen.edges, edges[0]) else own
        other = self._codes.get(code)
        if other is not None and other[0] != family:
            return Rejection(reason=RejectReason.SAME_CODE, detail=f"{other[1]} has the code")
        self._ids.add(item.id)
        self._codes.setdefault(code, (family, item.id))
        if own is not None:
            own.texts.add(text)
        else:
            self._add(_Seen(family=family, edges=edges[0], texts={text}, name=item.id), hashes[0])
        return None

    def add_suite(self, path: Path) -> int:
        """Remember the images and questions of a suite's files, and return the number of its rows.

        Raises:
            InputError: A file can't be read, or no reader fits it.
        """
        count = 0
        for source in find_sources([path]):
            target = Target.SFT if choose(source, None).turns else Target.RL
            for job in jobs(plan_conversion([source], Options(target=target))):
                for number, row, _ in read_chunk(job, ReadCounts()):
                    name = f"{Path(job.chunk.file).name}, row {number}"
                    turns = () if isinstance(row, Row) else row.messages
                    question = (
                        row.question
                        if isinstance(row, Row)
                        else next((turn.content for turn in turns if turn.role == "user"), "")
                    )
                    text = normal_text(question.replace(IMAGE_TAG, " "))
                    self._texts.setdefault(_digest(text), name)
                    for image in row.images[:1]:
                        self._add_suite_image(image, name)
                    count += 1
        if not count:
            raise InputError(f"--suite {path}: has no rows that can be read")
        return count

    def _add_suite_image(self, image: bytes, name: str) -> None:
        hashes, edges = image_hash.hashes(image), _edges(image)
        self._add(_Seen(family=_SUITE, edges=edges[0], texts=set(), name=name), hashes[0])

    def _near(self, hashes: image_hash.Hash, edges: Sequence[NDArray[np.uint8]]) -> Iterator[_Seen]:
        """Yield the images that are near duplicates in some orientation, oldest first."""
        near: set[int] = set()
        for turned, turned_edges in zip(hashes, edges, strict=True):
            same = {number for word, value in enumerate(turned) for number in self._words[word].get(int(value), ())}
            same |= {number for number in (self._equal.get(_digest(turned_edges)),) if number is not None}
            candidates = np.array(sorted(same - near), dtype=np.int64)
            bits = np.bitwise_count(self._hashes[candidates] ^ turned).sum(axis=1)
            for number in candidates[bits <= image_hash.MAX_BITS].tolist():
                if _alike(self._images[number].edges, turned_edges) >= ALIKE:
                    near.add(number)
        return (self._images[number] for number in sorted(near))

    def _add(self, seen: _Seen, own: image_hash.Hash) -> None:
        """Remember an image; `own` is the hash of the unturned image, shape (WORDS,)."""
        number = len(self._images)
        for word, value in enumerate(own):
            numbers = self._words[word][int(value)]
            if len(numbers) < _CANDIDATES:
                numbers.append(number)
        if number == len(self._hashes):
            self._hashes = np.concatenate([self._hashes, np.zeros_like(self._hashes)])
        self._hashes[number] = own
        self._equal.setdefault(_digest(seen.edges), number)
        self._images.append(seen)


def normal_text(text: str) -> str:
    """Return a question as it is compared: words and numbers in lower case, with single spaces."""
    return normal_name(re.sub(r"(?<=\d)[.,](?=\d)", "point", text))


def normal_code(code: str) -> str:
    """Return a program without comments and layout, as Python writes it; text that isn't Python stays as it is."""
    try:
        return ast.unparse(ast.parse(code))
    except (SyntaxError, ValueError, RecursionError):
        return code


def _edges(image: bytes) -> list[NDArray[np.uint8]]:
    """Return the edges of an image file in eight orientations, the unchanged first, in the order of its hashes.

    An edge is a pixel that differs from a neighbour; bars of other heights have other edges, and much ink in common.
    """
    with Image.open(io.BytesIO(image)) as opened:
        pixels = np.asarray(opened.convert("RGB"), dtype=np.int16)
    edges = np.zeros(pixels.shape[:2], bool)
    edges[:, 1:] |= np.abs(np.diff(pixels, axis=1)).max(axis=2) > _EDGE
    edges[1:] |= np.abs(np.diff(pixels, axis=0)).max(axis=2) > _EDGE
    small = Image.fromarray(edges.astype(np.uint8) * 255).resize((SIDE, SIDE), Image.Resampling.BOX)
    return [np.packbits(np.asarray(geometry.apply(turn, small)) > 0) for turn in Orientation]


def _alike(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Return the share of the edges of either image that are within a pixel of edges of the other, in [0, 1]."""
    first, second = (np.unpackbits(edges).reshape(SIDE, SIDE) for edges in (one, other))
    near_first, near_second = (cv2.dilate(edges, np.ones((3, 3), np.uint8)) for edges in (first, second))
    shares = (
        float(own[edges > 0].mean()) for edges, own in ((first, near_second), (second, near_first)) if edges.any()
    )
    return min(shares, default=1.0)


def _digest(content: str | NDArray[np.uint8]) -> bytes:
    raw = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content.tobytes()
    return hashlib.blake2b(raw, digest_size=16).digest()
