"""Draws and reads the probes: images on which code shows where it puts which pixels.

The coordinate map's red and green rise and fall along x and y, tile by tile, and its blue numbers the tiles: every
pixel tells where it comes from, and interpolation keeps that. The texture is black and white spots of every size that
look alike nowhere: its corners (SIFT) are matched again after whatever keeps edges where they are, at any scale,
negative and mirrored. Where the code depends on what an image shows, the texture is added to the image itself as marks,
too faint to be seen.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from codevision_ext.sandbox.provenance.align import find_unscaled, refined
from codevision_ext.sandbox.provenance.compare import Floats, Pixels
from codevision_ext.sandbox.provenance.placement import COVERAGE, Array, View, content_of, fit_view
from codevision_ext.sandbox.provenance.verify import is_covered
from codevision_ext.types import Box

TILES = 16
"""Largest number of the map's tiles per axis; always even, so that an inverted map isn't a mirrored one."""
TILE_SIDE = 24
"""Smallest width of a tile, pixels."""
GRID = 72
"""Samples per axis when a map is read."""
TEXTURE_SIDE = 1024
"""The texture's side, pixels; larger images get it magnified by a whole number."""
DARK, BRIGHT = 48, 232
"""Grey levels of the texture."""
LOUDNESS = (2, 24)
"""Grey levels by which marks change an image, tried in turn: too faint to be seen, and too strong for dithering."""
LARGE = 96
"""Side of a part, in pixels, under which marks of the coarse texture may look alike by chance."""
FEATURES = 800
"""Number of corners in an output; four times as many in a parent, all there are in the texture."""
PARENT_SIDE = 1024
"""Largest side of a parent when corners are searched, pixels."""
FEATURE_SIDE = 448
"""Largest side of an output when corners are searched, pixels."""
MAGNIFIED = 4.0
"""Largest factor by which an output is magnified for that."""
CHECKS = 64
"""Leaves of the search trees that are visited for each corner."""
RATIO = 0.85
"""Largest distance of a corner's best match, as a share of the distance of the second."""
TILT = 0.2
"""Largest difference of the rotation between two matched corners from one of the four rotations, in quarters."""
STRETCH = 0.5
"""Largest difference of the scale between two matched corners from the others' scale, in octaves."""
UNEVEN = 3.0
"""Largest factor by which one axis of an output of the texture is shrunk against the other."""
MATCHES = 8
"""Number of matched corners that agree under which the match is chance."""
AGREEING = 0.5
"""Least share of the corners matched in a texture that must agree: where a warp moved the others, fewer do."""
REARRANGED = 0.9
"""Share of an output's pixels with colours of the map, and with neighbours from near by, from which it is a collage."""
MANY_TILES = 8
"""Number of tiles per axis from which a map can show that."""


@lru_cache(maxsize=16)
def coordinate_map(size: tuple[int, int]) -> Image.Image:
    """Draw the map for an image of `size`."""
    columns, rows = (_wave(length) for length in size)
    pixels = np.empty((size[1], size[0], 3), np.uint8)
    pixels[..., 0] = columns[1]
    pixels[..., 1] = rows[1][:, None]
    pixels[..., 2] = (columns[0] * _tiles(size[1]) + rows[0][:, None]) * _blue_step(size)
    return Image.fromarray(pixels)


def _tiles(length: int) -> int:
    """Return the number of tiles along an axis of `length` pixels."""
    return 2 * max(1, min(TILES, length // TILE_SIDE) // 2)


def _blue_step(size: tuple[int, int]) -> int:
    """Return the difference of the blues of two tiles with neighbouring numbers."""
    return 255 // (_tiles(size[0]) * _tiles(size[1]) - 1)


def _wave(length: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the tile of every pixel along an axis, and its level: rising in even tiles, falling in odd ones."""
    at = (np.arange(length) + 0.5) / length * _tiles(length)
    tile = at.astype(np.int64)
    rise = np.where(tile % 2, tile + 1 - at, at - tile)
    return tile, np.rint(rise * 255).astype(np.int64)


def read_map(output: Image.Image, size: tuple[int, int]) -> View | None:
    """Read which view `output`, made of the map for an image of `size`, shows; None where it can't be read."""
    content = content_of(output)
    if content is None:
        return None
    outs, colours = (samples.reshape(-1, samples.shape[-1]) for samples in _sampled(output, content))
    tiles = _tiles(size[0]), _tiles(size[1])
    view, _ = fit_view(outs, _places(colours, size), content, size, tolerance=max(1.0, max(size) / 512))
    if view is None:
        return None
    at = view.source(outs) / size * tiles
    waves, where = 255 * (1 - np.abs(np.mod(at, 2) - 1)), at.astype(np.int64)
    expected = np.column_stack([waves, (where[:, 0] * tiles[1] + where[:, 1]) * _blue_step(size)])
    slack = [*(16 + 255 * np.array(tiles) / size * (1 + view.scale)), max(3.5, _blue_step(size) / 2)]
    right = np.abs(expected - colours) <= slack
    seam = np.abs(at - np.rint(at)) * size / tiles <= 2 * (1 + view.scale)
    right[:, 2] |= seam.any(axis=1)
    inside = ((outs >= view.shown[:2]) & (outs < view.shown[2:])).all(axis=1)
    return view if (inside & right.all(axis=1)).mean() >= COVERAGE else None


def is_rearranged(output: Image.Image, size: tuple[int, int]) -> bool:
    """Tell whether `output`, made of the map for an image of `size`, consists of large pieces of it, as a collage does.

    Then the map tells the whole truth: where no view can be read from it, there is none. Nearly all colours must be the
    map's own, and neighbours come from neighbouring places: in a negative, colours are the map's as well, but every
    tile comes from elsewhere. False for a map with few tiles, which can't tell.
    """
    content = content_of(output)
    if content is None or min(map(_tiles, size)) < MANY_TILES:
        return False
    _, colours = _sampled(output, content)
    known, codes = (
        pixels.reshape(-1, 3).astype(np.int64) @ (1, 1 << 8, 1 << 16)
        for pixels in (np.asarray(coordinate_map(size)), colours)
    )
    near = np.array(size) / GRID / 4 + 1
    bends = (np.abs(np.diff(_places(colours, size), 2, axis=axis)) <= near for axis in (0, 1))
    pieces = min(smooth.all(axis=-1).mean() for smooth in bends)
    return bool(min(np.isin(codes, known).mean(), pieces) >= REARRANGED)


def _sampled(output: Image.Image, content: Box) -> tuple[Array, Array]:
    """Return points all over the content, shape (rows, columns, 2), pixels, and their colours, (rows, columns, 3)."""
    us, vs = (
        np.unique(np.linspace(low, high - 1, GRID).round().astype(int))
        for low, high in ((content.x1, content.x2), (content.y1, content.y2))
    )
    outs = np.stack(np.meshgrid(us + 0.5, vs + 0.5), axis=-1)
    return outs, np.asarray(output)[np.ix_(vs, us)].astype(np.float64)


def _places(colours: Array, size: tuple[int, int]) -> Array:
    """Return where colours, shape (..., 3), stand in the map for an image of `size`, shape (..., 2), pixels."""
    tiles = _tiles(size[0]), _tiles(size[1])
    numbers = np.rint(colours[..., 2] / _blue_step(size)).astype(np.int64)
    ins = np.empty((*colours.shape[:-1], 2))
    for axis, tile in enumerate(np.divmod(numbers, tiles[1])):
        rise = colours[..., axis] / 255
        ins[..., axis] = (tile + np.where(tile % 2, 1 - rise, rise)) * size[axis] / tiles[axis]
    return ins


@dataclass(frozen=True, slots=True, kw_only=True)
class Corners:
    """Corners of an image that can be matched, and their descriptors (SIFT)."""

    points: Array
    """Places, shape (n, 2), pixels."""
    sizes: Array
    """Diameters, shape (n,), pixels."""
    angles: Array
    """Directions, shape (n,), degrees."""
    looks: Floats
    """Descriptors, shape (n, 128)."""

    @classmethod
    def of(cls, grey: Pixels, count: int) -> "Corners":
        """Detect the `count` clearest corners of an image, shape (H, W); 0 means all."""
        keys, looks = cv2.SIFT.create(nfeatures=count).detectAndCompute(grey, None)
        rows = np.array([(*key.pt, key.size, key.angle) for key in keys], dtype=np.float64).reshape(-1, 4)
        descriptors: Floats = np.asarray(looks, np.float32) if len(keys) else np.empty((0, 128), np.float32)
        return cls(points=rows[:, :2] + 0.5, sizes=rows[:, 2], angles=rows[:, 3], looks=descriptors)

    def changed(self, *, inverted: bool, mirrored: bool) -> "Corners":
        """Return the descriptors of the negative and of the mirror image; the points stay."""
        looks, angles = self.looks.reshape(-1, 4, 4, 8), self.angles
        if inverted:
            looks, angles = looks[:, ::-1, ::-1], angles + 180
        if mirrored:
            looks, angles = looks[:, ::-1, :, -np.arange(8)], -angles
        return replace(self, looks=np.ascontiguousarray(looks).reshape(-1, 128), angles=angles)


class CornerIndex:
    """Corners of an image, indexed by descriptor."""

    def __init__(self, grey: Pixels, zoom: float, count: int) -> None:
        """`grey` is the image resized by `zoom`."""
        self._corners, self._zoom = Corners.of(grey, count), zoom
        self._matcher = cv2.FlannBasedMatcher({"algorithm": 1, "trees": 4}, {"checks": CHECKS})
        if len(self._corners.looks) >= 2:
            self._matcher.add([self._corners.looks])
            self._matcher.train()

    def matches(self, corners: Corners) -> tuple[NDArray[np.int64], Array, float]:
        """Match corners of an output, as far as they agree on one of four rotations and roughly on the scale.

        Returns:
            Indices of the matched corners, shape (n,), their places in the indexed image, shape (n, 2), pixels, and the
            pixels of the indexed image per pixel of the output.
        """
        if not len(corners.looks) or len(self._corners.looks) < 2:
            return np.empty(0, np.int64), np.empty((0, 2)), 1.0
        nearest = self._matcher.knnMatch(corners.looks, k=2)
        pairs = [(one.queryIdx, one.trainIdx) for one, two in nearest if one.distance < RATIO * two.distance]
        at, to = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
        turns = (corners.angles[at] - self._corners.angles[to]) / 90
        scales = np.log2(corners.sizes[at] / self._corners.sizes[to])
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
    """Sizes of the spots, pixels."""
    zoom: float
    """Scale at which the corners of the spots are indexed."""

    def __call__(self, size: tuple[int, int]) -> Image.Image:
        """Draw the texture for an image of `size`."""
        times = _magnification(size)
        pixels = _spotted(self)[: -(-size[1] // times), : -(-size[0] // times)]
        grey = Image.fromarray(pixels.repeat(times, axis=0).repeat(times, axis=1)[: size[1], : size[0]])
        return grey.convert("RGB")

    def read(self, output: Image.Image, size: tuple[int, int]) -> View | None:
        """Read which view `output`, made of the texture for an image of `size`, shows; None where it can't be read."""
        content = content_of(output)
        if content is None:
            return None
        ground = self(size)
        view = find_unscaled(ground, output, content)
        if view is not None and is_covered(ground, output, view, content):
            return view
        return _register(output, content, ground, _corner_index(self), _magnification(size))


@lru_cache(maxsize=2)
def _spotted(texture: Texture) -> Pixels:
    """Draw the whole texture, shape (TEXTURE_SIDE, TEXTURE_SIDE)."""
    rng = np.random.default_rng(0)
    side = TEXTURE_SIDE
    field = np.zeros((side, side), np.float32)
    for size in texture.spots:
        coarse = rng.standard_normal((side // size + 2, side // size + 2)).astype(np.float32)
        field += cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)
    return np.where(field > 0, BRIGHT, DARK).astype(np.uint8)


@lru_cache(maxsize=2)
def _corner_index(texture: Texture) -> CornerIndex:
    return CornerIndex(_zoomed(_spotted(texture), (texture.zoom, texture.zoom)), texture.zoom, 0)


texture = Texture(spots=(6, 12, 24, 48, 96), zoom=0.5)
"""Texture for whole images and large parts."""
fine_texture = Texture(spots=(3, 5, 10, 20, 40), zoom=1.0)
"""Texture for details."""


def _magnification(size: tuple[int, int]) -> int:
    """Return the whole number by which the texture is magnified to fill an image of `size`."""
    return -(-max(size) // TEXTURE_SIDE)


def draw_marks(size: tuple[int, int], loudness: int, box: Box) -> Image.Image:
    """Draw marks for an image of `size`, fine enough for `box`: grey values of plus or minus `loudness` (mode F)."""
    small = min(box.x2 - box.x1, box.y2 - box.y1) < max(LARGE, max(size) / 16)
    spots = (fine_texture if small else texture)(size)
    bright = np.asarray(spots.convert("L")) == BRIGHT
    return Image.fromarray(np.where(bright, loudness, -loudness).astype(np.float32))


def with_marks(image: Image.Image, marks: Image.Image) -> Image.Image:
    """Return the image, RGB, with the marks added."""
    grey = np.asarray(marks).astype(np.int16)[..., None]
    return Image.fromarray(np.clip(np.asarray(image.convert("RGB")) + grey, 0, 255).astype(np.uint8))


def register_pair(output: Image.Image, parent: Image.Image) -> View | None:
    """Return the view of `parent` that `output` shows, by the parent's own corners; None where there are too few."""
    content = Box(0, 0, *output.size)
    view = find_unscaled(parent, output, content)
    if view is not None and is_covered(parent, output, view, content):
        return view
    grey = np.asarray(parent.convert("L"))
    zoom = min(1.0, PARENT_SIDE / max(grey.shape))
    return _register(output, content, parent, CornerIndex(_zoomed(grey, (zoom, zoom)), zoom, 4 * FEATURES))


def _register(
    output: Image.Image, content: Box, parent: Image.Image, index: CornerIndex, times: int | None = None
) -> View | None:
    """Return the view of `parent`, whose corners are indexed, that the content of `output` shows.

    None where few corners match, or where other things are to be seen as well. With `times`, `parent` is a texture,
    magnified by that number: as it looks alike along both axes, stretching can be undone.
    """
    grey = np.asarray(output.convert("L").crop(content))
    zoom = np.full(2, min(MAGNIFIED, FEATURE_SIDE / max(grey.shape)))
    if times is not None:
        zoom *= _evening(grey)
    corners = Corners.of(_zoomed(grey, zoom), FEATURES)
    most, best, each = MATCHES - 1, None, times or 1
    for inverted, mirrored in product((False, True), repeat=2):
        at, ins, scale = index.matches(corners.changed(inverted=inverted, mirrored=mirrored))
        outs = corners.points[at] / zoom + content[:2]
        view, agreeing = fit_view(outs, ins * each, content, parent.size, tolerance=1.5 * each * max(1.0, scale))
        if agreeing > most and (times is None or agreeing >= AGREEING * len(at)):
            most, best = agreeing, view
    if best is None:
        return None
    best = refined(parent, output, best)
    return best if is_covered(parent, output, best, content) else None


def _evening(grey: Pixels) -> Array:
    """Return the factors, shape (2,), that shrink an output of the texture until both axes vary as much."""
    if min(grey.shape) < 2:  # a line varies along one axis only
        return np.ones(2)
    varying = np.array([np.abs(np.diff(grey.astype(np.int16), axis=axis)).mean() for axis in (1, 0)]) + 1e-6
    return np.asarray(np.maximum(varying / varying.max(), 1 / UNEVEN))


def _zoomed(grey: Pixels, zoom: Sequence[float] | Array) -> Pixels:
    """Resize along x and y, and stretch the contrast."""
    method = cv2.INTER_AREA if min(zoom) < 1 else cv2.INTER_CUBIC
    size = max(2, round(grey.shape[1] * zoom[0])), max(2, round(grey.shape[0] * zoom[1]))
    return np.asarray(ImageOps.autocontrast(Image.fromarray(np.asarray(cv2.resize(grey, size, interpolation=method)))))
