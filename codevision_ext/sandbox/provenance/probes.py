"""Pictures on which code shows where it puts what: a map, and a texture for code that changes colours.

The map's red and green rise and fall along x and y, tile by tile, and its blue numbers the tiles: every pixel says
where it comes from, and interpolation keeps what it says. The texture is black and white spots of every size that
look alike nowhere: its corners (SIFT) are found again after whatever keeps edges where they are, at any scale, negative
and mirrored. Where the code looks at what it is given, the texture is laid on the picture itself, too faint to be seen.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from codevision_ext.sandbox.provenance.verify import LARGE, Floats, refined, rivalled, shared, unscaled
from codevision_ext.sandbox.provenance.view import COVERAGE, Array, View, area, content_of, fit_view, inside
from codevision_ext.types import Box

Pixels = NDArray[np.uint8]

TILES = 16
"""Tiles of the map per axis, at most; always even, so that an inverted map isn't a mirrored one."""
TILE_SIDE = 24
"""Tiles are at least this wide, pixels."""
GRID = 72
"""Samples per axis when a map is read."""
TEXTURE_SIDE = 1024
"""The texture's side, pixels; larger pictures get it magnified by a whole number."""
DARK, BRIGHT = 48, 232
LOUDNESS = (2, 24)
"""Grey levels by which the marks on a picture are brighter or darker: too faint to be seen, and to be dithered."""
THIN, THICK = 3, 9
"""Outlines of the spots, pixels: what filters that look for edges leave, and adaptive thresholds on the dark side."""
FEATURES = 800
"""Corners looked for in an output; in a parent four times as many, in the texture all there are."""
PARENT_SIDE = 1024
"""Corners of a parent are looked for at this size at most, pixels."""
FEATURE_SIDE = 448
"""The longer side of an output when corners are looked for, pixels, at most."""
MAGNIFIED = 4.0
"""How far an output is magnified for that, at most."""
CHECKS = 64
"""Leaves of the search trees that are looked at for each corner."""
RATIO = 0.85
"""How much nearer the best match of a corner must be than the second."""
TILT = 0.2
"""How far the turn between two corners that belong together may be from one of the four, in quarters."""
UNEVEN = 3.0
"""How much more than along the other axis a texture is looked for along one."""
STRETCH = 0.5
"""How far the scale between them may be from that of the others, in octaves."""
MATCHES = 8
"""Fewer corners that agree are chance."""
AGREEING = 0.5
"""Share of the corners found again in a texture that must agree: where a warp moved the others, fewer do."""
REARRANGED = 0.9
"""Share of an output's pixels with colours of the map, and with neighbours from near by, from which it is a collage."""
MANY_TILES = 8
"""Per axis, from which a map can tell that."""


@lru_cache(maxsize=16)
def coordinate_map(size: tuple[int, int]) -> Image.Image:
    """The map for a picture of `size`."""
    columns, rows = (_wave(length) for length in size)
    numbers = _number(size)
    pixels = np.empty((size[1], size[0], 3), np.uint8)
    pixels[..., 0] = columns[1]
    pixels[..., 1] = rows[1][:, None]
    pixels[..., 2] = (columns[0] * _tiles(size[1]) + rows[0][:, None]) * numbers
    return Image.fromarray(pixels)


def _tiles(length: int) -> int:
    return 2 * max(1, min(TILES, length // TILE_SIDE) // 2)


def _number(size: tuple[int, int]) -> int:
    """Grey levels between the blues of two tiles."""
    return 255 // (_tiles(size[0]) * _tiles(size[1]) - 1)


def _wave(length: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The tile of every pixel along an axis, and its level: up in even tiles, down in odd ones."""
    at = (np.arange(length) + 0.5) / length * _tiles(length)
    tile = at.astype(np.int64)
    rise = np.where(tile % 2, tile + 1 - at, at - tile)
    return tile, np.rint(rise * 255).astype(np.int64)


def read_map(seen: Image.Image, size: tuple[int, int]) -> View | None:
    """What `seen`, made of the map for a picture of `size`, shows of it; None where it can't be read."""
    content = content_of(seen)
    if content is None:
        return None
    outs, colours = (samples.reshape(-1, samples.shape[-1]) for samples in _sampled(seen, content))
    for order in ((0, 1, 2), (2, 1, 0)):
        view = _read(outs, colours[:, order], content, size)
        if view is not None:
            return view
    return None


def is_rearranged(seen: Image.Image, size: tuple[int, int]) -> bool:
    """Whether `seen`, made of the map for a picture of `size`, is made of large pieces of it, as a collage is.

    Then the map tells the whole truth: where no view can be read from it, there is none. Nearly all colours must be the
    map's own, and neighbours come from neighbouring places: in a negative, colours are the map's as well, but every
    tile comes from elsewhere. False for a map with few tiles, which can't tell.
    """
    content = content_of(seen)
    if content is None or min(map(_tiles, size)) < MANY_TILES:
        return False
    _, colours = _sampled(seen, content)
    known, found = (
        pixels.reshape(-1, 3).astype(np.int64) @ (1, 1 << 8, 1 << 16)
        for pixels in (np.asarray(coordinate_map(size)), colours)
    )
    near = np.array(size) / GRID / 4 + 1
    bends = (np.abs(np.diff(_places(colours, size), 2, axis=axis)) <= near for axis in (0, 1))
    pieces = min(smooth.all(axis=-1).mean() for smooth in bends)
    return bool(min(np.isin(found, known).mean(), pieces) >= REARRANGED)


def _sampled(seen: Image.Image, content: Box) -> tuple[Array, Array]:
    """Points all over the content, shape (rows, columns, 2), pixels, and their colours, shape (rows, columns, 3)."""
    us, vs = (
        np.unique(np.linspace(low, high - 1, GRID).round().astype(int))
        for low, high in ((content.x1, content.x2), (content.y1, content.y2))
    )
    outs = np.stack(np.meshgrid(us + 0.5, vs + 0.5), axis=-1)
    return outs, np.asarray(seen)[np.ix_(vs, us)].astype(np.float64)


def _places(colours: Array, size: tuple[int, int]) -> Array:
    """Where colours of the map for a picture of `size`, shape (..., 3), stand in it, shape (..., 2), pixels."""
    tiles = _tiles(size[0]), _tiles(size[1])
    numbers = np.rint(colours[..., 2] / _number(size)).astype(np.int64)
    ins = np.empty((*colours.shape[:-1], 2))
    for axis, tile in enumerate(np.divmod(numbers, tiles[1])):
        rise = colours[..., axis] / 255
        ins[..., axis] = (tile + np.where(tile % 2, 1 - rise, rise)) * size[axis] / tiles[axis]
    return ins


def _read(outs: Array, colours: Array, content: Box, size: tuple[int, int]) -> View | None:
    tiles = _tiles(size[0]), _tiles(size[1])
    ins = _places(colours, size)
    view, _ = fit_view(outs, ins, content, size, tolerance=max(1.0, max(size) / 512))
    if view is None:
        return None
    at = view.source(outs) / size * tiles
    waves, where = 255 * (1 - np.abs(np.mod(at, 2) - 1)), at.astype(np.int64)
    expected = np.column_stack([waves, (where[:, 0] * tiles[1] + where[:, 1]) * _number(size)])
    slack = 16 + 255 * np.array(tiles) / size * (1 + view.scale)
    slack = np.array([*np.minimum(slack, 90), max(3.5, _number(size) / 2)])
    right = np.abs(expected - colours) <= slack
    seam = np.abs(at - np.rint(at)) * size / tiles <= 2 * (1 + view.scale)
    right[:, 2] |= seam.any(axis=1)
    return view if (inside(view.shown, outs) & right.all(axis=1)).mean() >= COVERAGE else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Corners:
    """Places of a picture that can be found again, and what they look like (SIFT)."""

    points: Array
    """Shape (n, 2), pixels."""
    sizes: Array
    """Shape (n,), pixels."""
    angles: Array
    """Which way each points, shape (n,), degrees."""
    looks: Floats
    """Shape (n, 128)."""

    @classmethod
    def of(cls, grey: Pixels, count: int) -> "Corners":
        """The `count` clearest ones of a picture, shape (H, W)."""
        keys, found = cv2.SIFT.create(nfeatures=count).detectAndCompute(grey, None)
        rows = np.array([(*key.pt, key.size, key.angle) for key in keys], dtype=np.float64).reshape(-1, 4)
        looks: Floats = np.asarray(found, np.float32) if len(keys) else np.empty((0, 128), np.float32)
        return cls(points=rows[:, :2] + 0.5, sizes=rows[:, 2], angles=rows[:, 3], looks=looks)

    def changed(self, *, inverted: bool, mirrored: bool) -> "Corners":
        """What they look like in the negative and in the mirror; the points stay."""
        looks, angles = self.looks.reshape(-1, 4, 4, 8), self.angles
        if inverted:
            looks, angles = looks[:, ::-1, ::-1], angles + 180
        if mirrored:
            looks, angles = looks[:, ::-1, :, -np.arange(8)], -angles
        return replace(self, looks=np.ascontiguousarray(looks).reshape(-1, 128), angles=angles)


class Known:
    """A picture's corners, ready to be looked up."""

    def __init__(self, grey: Pixels, zoom: float, count: int) -> None:
        """`grey` is the picture at `zoom`."""
        self._corners, self._zoom = Corners.of(grey, count), zoom
        self._matcher = cv2.FlannBasedMatcher({"algorithm": 1, "trees": 4}, {"checks": CHECKS})
        if len(self._corners.looks) >= 2:
            self._matcher.add([self._corners.looks])
            self._matcher.train()

    def matches(self, seen: Corners) -> tuple[NDArray[np.int64], Array, float]:
        """Indices of those that clearly are one of the known, shape (n,), where, shape (n, 2), pixels, and the scale.

        Only those that agree on one of four turns, and roughly on the scale.
        """
        if not len(seen.looks) or len(self._corners.looks) < 2:
            return np.empty(0, np.int64), np.empty((0, 2)), 1.0
        nearest = self._matcher.knnMatch(seen.looks, k=2)
        pairs = [(one.queryIdx, one.trainIdx) for one, two in nearest if one.distance < RATIO * two.distance]
        at, to = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
        turns = (seen.angles[at] - self._corners.angles[to]) / 90
        scales = np.log2(seen.sizes[at] / self._corners.sizes[to])
        straight = np.abs(turns - np.rint(turns)) <= TILT
        agreeing = straight[:, None] & (np.rint(turns)[:, None] % 4 == np.rint(turns) % 4)
        agreeing &= np.abs(scales[:, None] - scales) <= STRETCH
        keep = agreeing[:, np.argmax(agreeing.sum(axis=0))] if len(at) else np.empty(0, bool)
        scale = float(np.exp2(-np.median(scales[keep]))) / self._zoom if keep.any() else 1.0
        return at[keep], self._corners.points[to[keep]] / self._zoom, scale


@dataclass(frozen=True, slots=True, kw_only=True)
class Texture:
    """Black and white spots of several sizes, which look alike nowhere."""

    spots: tuple[int, ...]
    """Their sizes, pixels."""
    outlines: tuple[int, ...]
    """Corners of the spots are known (0), and of outlines so wide, pixels."""
    zoom: float
    """At this scale."""

    def __call__(self, size: tuple[int, int]) -> Image.Image:
        """The texture for a picture of `size`."""
        times = _magnified(size)
        pixels = _spotted(self)[: -(-size[1] // times), : -(-size[0] // times)]
        grey = Image.fromarray(pixels.repeat(times, axis=0).repeat(times, axis=1)[: size[1], : size[0]])
        return grey.convert("RGB")

    def read(self, seen: Image.Image, size: tuple[int, int]) -> View | None:
        """What `seen`, made of the texture for a picture of `size`, shows of it; None where it isn't found again."""
        content = content_of(seen)
        if content is None:
            return None
        ground, times = self(size), _magnified(size)
        view = unscaled(ground, seen, content)
        if view is None or not _covered(ground, seen, view, content):
            found = (_register(seen, content, ground, _corners(self, wide), times) for wide in self.outlines)
            view = next((view for view in found if view is not None), None)
        if view is None:
            return None
        telling = min(view.box.x2 - view.box.x1, view.box.y2 - view.box.y1) >= LARGE
        return None if telling and rivalled(ground, seen, view, recoloured=True) else view


@lru_cache(maxsize=2)
def _spotted(texture: Texture) -> Pixels:
    """Shape (TEXTURE_SIDE, TEXTURE_SIDE)."""
    rng = np.random.default_rng(0)
    side = TEXTURE_SIDE
    field = np.zeros((side, side), np.float32)
    for size in texture.spots:
        coarse = rng.standard_normal((side // size + 2, side // size + 2)).astype(np.float32)
        field += cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)
    return np.where(field > 0, BRIGHT, DARK).astype(np.uint8)


@lru_cache(maxsize=6)
def _corners(texture: Texture, outlines: int) -> Known:
    grey, square = _spotted(texture), np.ones((outlines, outlines), np.uint8)
    if outlines == THIN:
        grey = np.asarray(cv2.morphologyEx(grey, cv2.MORPH_GRADIENT, square))
    elif outlines:
        grey = np.asarray(cv2.dilate(grey, square) - grey)
    return Known(_zoomed(grey, (texture.zoom, texture.zoom)), texture.zoom, 0)


texture = Texture(spots=(6, 12, 24, 48, 96), outlines=(0, THIN, THICK), zoom=0.5)
"""For whole pictures and large parts."""
fine_texture = Texture(spots=(3, 5, 10, 20, 40), outlines=(0,), zoom=1.0)
"""For details."""


def _magnified(size: tuple[int, int]) -> int:
    return -(-max(size) // TEXTURE_SIDE)


def marks(size: tuple[int, int], loudness: int, box: Box) -> Image.Image:
    """A texture that tells of `box`, for a picture of `size`: grey values of `loudness` or minus that (mode F)."""
    small = min(box.x2 - box.x1, box.y2 - box.y1) < max(LARGE, max(size) / 16)
    spots = (fine_texture if small else texture)(size)
    bright = np.asarray(spots.convert("L")) == BRIGHT
    return Image.fromarray(np.where(bright, loudness, -loudness).astype(np.float32))


def marked(picture: Image.Image, marks: Image.Image) -> Image.Image:
    """The picture, RGB, with the marks on it."""
    grey = np.asarray(marks).astype(np.int16)[..., None]
    return Image.fromarray(np.clip(np.asarray(picture.convert("RGB")) + grey, 0, 255).astype(np.uint8))


def register_pair(seen: Image.Image, parent: Image.Image) -> View | None:
    """The view of `parent` that `seen` shows, by its own corners; None where there are too few."""
    content = Box(0, 0, *seen.size)
    view = unscaled(parent, seen, content)
    if view is not None and _covered(parent, seen, view, content):
        return view
    grey = np.asarray(parent.convert("L"))
    zoom = min(1.0, PARENT_SIDE / max(grey.shape))
    return _register(seen, content, parent, Known(_zoomed(grey, (zoom, zoom)), zoom, 4 * FEATURES))


def _register(
    seen: Image.Image, content: Box, parent: Image.Image, known: Known, times: int | None = None
) -> View | None:
    """The view of `parent`, whose corners are `known`, that the content of `seen` shows.

    None where few corners are found, or where other things are to be seen as well. With `times`, `parent` is a texture
    and so many times as large as what is known: as it looks alike along both axes, stretching can be undone.
    """
    grey = np.asarray(seen.convert("L").crop(content))
    zoom = np.full(2, min(MAGNIFIED, FEATURE_SIDE / max(grey.shape)))
    if times is not None:
        zoom *= _evening(grey)
    found = Corners.of(_zoomed(grey, zoom), FEATURES)
    most, best, each = MATCHES - 1, None, times or 1
    for inverted, mirrored in product((False, True), repeat=2):
        at, ins, scale = known.matches(found.changed(inverted=inverted, mirrored=mirrored))
        outs = found.points[at] / zoom + content[:2]
        view, agreeing = fit_view(outs, ins * each, content, parent.size, tolerance=1.5 * each * max(1.0, scale))
        if agreeing > most and (times is None or agreeing >= AGREEING * len(at)):
            most, best = agreeing, view
    if best is None:
        return None
    best = refined(parent, seen, best)
    return best if _covered(parent, seen, best, content) else None


def _evening(grey: Pixels) -> Array:
    """How much to shrink each axis, shape (2,), for what is seen to vary as much along both."""
    if min(grey.shape) < 2:  # a line varies along one axis only
        return np.ones(2)
    varying = np.array([np.abs(np.diff(grey.astype(np.int16), axis=axis)).mean() for axis in (1, 0)]) + 1e-6
    return np.asarray(np.maximum(varying / varying.max(), 1 / UNEVEN))


def _covered(parent: Image.Image, seen: Image.Image, view: View, content: Box) -> bool:
    """Hardly anything else is to be seen in the content."""
    return shared(parent, seen, view) * area(view.shown) >= COVERAGE * area(content)


def _zoomed(grey: Pixels, zoom: Sequence[float] | Array) -> Pixels:
    """Zoomed along x and y, with the contrast stretched."""
    method = cv2.INTER_AREA if min(zoom) < 1 else cv2.INTER_CUBIC
    size = max(2, round(grey.shape[1] * zoom[0])), max(2, round(grey.shape[0] * zoom[1]))
    return np.asarray(ImageOps.autocontrast(Image.fromarray(np.asarray(cv2.resize(grey, size, interpolation=method)))))
