"""Draws the probes, images on which code reveals where it moves pixels, and reads views from its output.

In the coordinate map, red and green rise and fall along x and y, tile by tile, and blue numbers the tiles. So each
pixel encodes its position, also after interpolation. The texture consists of black and white spots of several sizes
and repeats nowhere. Its corners (SIFT) can be matched after any operation that keeps edges in place, at any scale, in
negatives and in mirror images. For code that depends on image content, the texture is added to the image as faint
marks.
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
from codevision_ext.sandbox.provenance.placement import COVERAGE, TINY, Array, View, content_of, fit_view
from codevision_ext.sandbox.provenance.verify import is_covered
from codevision_ext.types import Box

TILES = 16
"""Maximum number of tiles per axis; even, so that the negative of a map differs from its mirror image."""
TILE_SIDE = 24
"""Minimum width of a tile, pixels."""
GRID = 72
"""Number of samples per axis when a map is read."""
TEXTURE_SIDE = 1024
"""Side of the texture, pixels; for larger images it is magnified by a whole number."""
DARK, BRIGHT = 48, 232
"""Grey levels of the texture."""
MARK_LEVELS = (2, 24)
"""Grey levels by which marks change an image, tried in turn: invisible ones, then ones that survive dithering."""
FINE_MARKS_SIDE = 96
"""Side of a part below which marks are drawn with the fine texture, pixels; coarse marks may agree by chance."""
FEATURES = 800
"""Maximum number of corners in an output; a parent has up to four times as many, the texture has no limit."""
PARENT_SIDE = 1024
"""Largest side of a parent when corners are searched, pixels."""
FEATURE_SIDE = 448
"""Largest side of an output when corners are searched, pixels."""
MAGNIFIED = 4.0
"""Maximum factor by which an output is magnified when corners are searched."""
TREE_CHECKS = 64
"""Number of leaves of the search trees that are visited for each corner."""
RATIO = 0.85
"""Maximum distance of a corner's best match, as a share of the distance of its second match (Lowe's ratio test)."""
TILT = 0.2
"""Maximum deviation of a match's rotation from a multiple of 90 degrees, as a share of 90 degrees."""
STRETCH = 0.5
"""Maximum difference between the scales of two matches that agree, in octaves."""
MAX_UNEVENNESS = 3.0
"""Maximum factor by which one axis of an output of the texture is shrunk more than the other."""
MATCHES = 8
"""Minimum number of matched corners that must agree."""
AGREEING = 0.5
"""Minimum share of the corners matched in a texture that must agree; after a warp fewer agree."""
REARRANGED = 0.9
"""Minimum share of pixels with colours of the map, and of pixels with near neighbours, in a collage."""
MANY_TILES = 8
"""Minimum number of tiles per axis of a map on which a collage is recognised."""


@lru_cache(maxsize=16)
def coordinate_map(size: tuple[int, int]) -> Image.Image:
    """Draw the coordinate map for an image of `size`."""
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
    """Return the difference in blue between two tiles with consecutive numbers."""
    return 255 // (_tiles(size[0]) * _tiles(size[1]) - 1)


def _wave(length: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return tile and level of every pixel along an axis; levels rise in even tiles and fall in odd tiles."""
    at = (np.arange(length) + 0.5) / length * _tiles(length)
    tile = at.astype(np.int64)
    rise = np.where(tile % 2, tile + 1 - at, at - tile)
    return tile, np.rint(rise * 255).astype(np.int64)


def read_map(output: Image.Image, size: tuple[int, int]) -> View | None:
    """Read the view from the code's output on the map for an image of `size`; None if there is no view."""
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
    """Tell whether the code's output on the map for an image of `size` consists of large pieces of the map (a collage).

    Nearly all colours must occur in the map, and neighbouring pixels must come from neighbouring positions. A negative
    has the map's colours too, but its tiles come from other positions. A map with few tiles gives False.
    """
    content = content_of(output)
    if content is None or min(map(_tiles, size)) < MANY_TILES:
        return False
    _, colours = _sampled(output, content)
    if min(colours.shape[:2]) < 3:
        return False
    known, codes = (
        pixels.reshape(-1, 3).astype(np.int64) @ (1, 1 << 8, 1 << 16)
        for pixels in (np.asarray(coordinate_map(size)), colours)
    )
    near = np.array(size) / GRID / 4 + 1
    bends = (np.abs(np.diff(_places(colours, size), 2, axis=axis)) <= near for axis in (0, 1))
    pieces = min(smooth.all(axis=-1).mean() for smooth in bends)
    return bool(min(np.isin(codes, known).mean(), pieces) >= REARRANGED)


def _sampled(output: Image.Image, content: Box) -> tuple[Array, Array]:
    """Return a grid of points in the content, shape (rows, columns, 2), pixels, and colours, (rows, columns, 3)."""
    us, vs = (
        np.unique(np.linspace(low, high - 1, GRID).round().astype(int))
        for low, high in ((content.x1, content.x2), (content.y1, content.y2))
    )
    outs = np.stack(np.meshgrid(us + 0.5, vs + 0.5), axis=-1)
    return outs, np.asarray(output)[np.ix_(vs, us)].astype(np.float64)


def _places(colours: Array, size: tuple[int, int]) -> Array:
    """Return the positions, shape (..., 2), pixels, that colours, shape (..., 3), encode for an image of `size`."""
    tiles = _tiles(size[0]), _tiles(size[1])
    numbers = np.rint(colours[..., 2] / _blue_step(size)).astype(np.int64)
    ins = np.empty((*colours.shape[:-1], 2))
    for axis, tile in enumerate(np.divmod(numbers, tiles[1])):
        rise = colours[..., axis] / 255
        ins[..., axis] = (tile + np.where(tile % 2, 1 - rise, rise)) * size[axis] / tiles[axis]
    return ins


@dataclass(frozen=True, slots=True, kw_only=True)
class Corners:
    """Corners of an image and their SIFT descriptors."""

    points: Array
    """Positions, shape (n, 2), pixels."""
    sizes: Array
    """Diameters, shape (n,), pixels."""
    angles: Array
    """Directions, shape (n,), degrees."""
    descriptors: Floats
    """Descriptors, shape (n, 128)."""

    @classmethod
    def of(cls, grey: Pixels, count: int) -> "Corners":
        """Detect the `count` strongest corners of an image, shape (H, W); 0 means all."""
        keys, vectors = cv2.SIFT.create(nfeatures=count).detectAndCompute(grey, None)
        rows = np.array([(*key.pt, key.size, key.angle) for key in keys], dtype=np.float64).reshape(-1, 4)
        descriptors: Floats = np.asarray(vectors, np.float32) if len(keys) else np.empty((0, 128), np.float32)
        return cls(points=rows[:, :2] + 0.5, sizes=rows[:, 2], angles=rows[:, 3], descriptors=descriptors)

    def changed(self, *, inverted: bool, mirrored: bool) -> "Corners":
        """Return the corners with the descriptors of the negative or the mirror image; points stay unchanged."""
        descriptors, angles = self.descriptors.reshape(-1, 4, 4, 8), self.angles
        if inverted:
            descriptors, angles = descriptors[:, ::-1, ::-1], angles + 180
        if mirrored:
            descriptors, angles = descriptors[:, ::-1, :, -np.arange(8)], -angles
        return replace(self, descriptors=np.ascontiguousarray(descriptors).reshape(-1, 128), angles=angles)


class CornerIndex:
    """Corners of an image, indexed by descriptor."""

    def __init__(self, grey: Pixels, zoom: float, count: int) -> None:
        """`grey` is the image resized by `zoom`."""
        self._corners, self._zoom = Corners.of(grey, count), zoom
        self._matcher = cv2.FlannBasedMatcher({"algorithm": 1, "trees": 4}, {"checks": TREE_CHECKS})
        if len(self._corners.descriptors) >= 2:
            self._matcher.add([self._corners.descriptors])
            self._matcher.train()

    def matches(self, corners: Corners) -> tuple[NDArray[np.int64], Array, float]:
        """Match corners of an output; keep the largest set of matches that agree on rotation and scale.

        Returns:
            Indices of the matched corners, shape (n,); their positions in the indexed image, shape (n, 2), pixels; and
            the pixels of the indexed image per pixel of the output.
        """
        if not len(corners.descriptors) or len(self._corners.descriptors) < 2:
            return np.empty(0, np.int64), np.empty((0, 2)), 1.0
        nearest = self._matcher.knnMatch(corners.descriptors, k=2)
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
    """Black and white spots of several sizes that repeat nowhere."""

    spots: tuple[int, ...]
    """Sizes of the spots, pixels."""
    zoom: float
    """Scale at which corners are detected in the texture."""

    def __call__(self, size: tuple[int, int]) -> Image.Image:
        """Draw the texture for an image of `size`."""
        times = _magnification(size)
        pixels = _spotted(self)[: -(-size[1] // times), : -(-size[0] // times)]
        grey = Image.fromarray(pixels.repeat(times, axis=0).repeat(times, axis=1)[: size[1], : size[0]])
        return grey.convert("RGB")

    def read(self, output: Image.Image, size: tuple[int, int]) -> View | None:
        """Read the view from the code's output on the texture for an image of `size`; None if there is no view."""
        content = content_of(output)
        if content is None:
            return None
        image = self(size)
        view = find_unscaled(image, output, content)
        if view is not None and is_covered(image, output, view, content):
            return view
        return _register(output, content, image, _corner_index(self), _magnification(size))


@lru_cache(maxsize=3)
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
pixel_texture = Texture(spots=(1,), zoom=1.0)
"""Texture for marks in details of a few pixels, which have too few spots of any other."""


def _magnification(size: tuple[int, int]) -> int:
    """Return the whole number by which the texture is magnified to fill an image of `size`."""
    return -(-max(size) // TEXTURE_SIDE)


def textures_for(box: Box, size: tuple[int, int]) -> tuple[Texture, ...]:
    """Return the textures that are fine enough for marks in a box of an image of `size`, in the order to try them."""
    side = min(box.x2 - box.x1, box.y2 - box.y1)
    if side < TINY:
        return pixel_texture, fine_texture
    return (fine_texture,) if side < max(FINE_MARKS_SIDE, max(size) / 16) else (texture,)


def draw_marks(size: tuple[int, int], mark_level: int, spots: Texture) -> Image.Image:
    """Draw marks for an image of `size`: grey values of plus or minus `mark_level` (mode F)."""
    bright = np.asarray(spots(size).convert("L")) == BRIGHT
    return Image.fromarray(np.where(bright, mark_level, -mark_level).astype(np.float32))


def with_marks(image: Image.Image, marks: Image.Image) -> Image.Image:
    """Return the image, RGB, with the marks added."""
    grey = np.asarray(marks).astype(np.int16)[..., None]
    return Image.fromarray(np.clip(np.asarray(image.convert("RGB")) + grey, 0, 255).astype(np.uint8))


def register_pair(output: Image.Image, parent: Image.Image) -> View | None:
    """Return the view of `parent` that `output` shows, by matching corners; None if too few corners match."""
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
    """Return the view of `parent`, whose corners are in `index`, that the content of `output` shows.

    None if few corners match, or if the view doesn't cover the content. `times` is the magnification of a texture, None
    for other images. A texture varies equally along both axes, so stretching can be undone.
    """
    grey = np.asarray(output.convert("L").crop(content))
    zoom = np.full(2, min(MAGNIFIED, FEATURE_SIDE / max(grey.shape)))
    if times is not None:
        zoom *= _evening_factors(grey)
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


def _evening_factors(grey: Pixels) -> Array:
    """Return the factors, shape (2,), that shrink a stretched texture until it varies equally along both axes."""
    if min(grey.shape) < 2:  # a single row or column varies along one axis only
        return np.ones(2)
    varying = np.array([np.abs(np.diff(grey.astype(np.int16), axis=axis)).mean() for axis in (1, 0)]) + 1e-6
    return np.asarray(np.maximum(varying / varying.max(), 1 / MAX_UNEVENNESS))


def _zoomed(grey: Pixels, zoom: Sequence[float] | Array) -> Pixels:
    """Resize by the factors along x and y, and stretch the contrast."""
    method = cv2.INTER_AREA if min(zoom) < 1 else cv2.INTER_CUBIC
    size = max(2, round(grey.shape[1] * zoom[0])), max(2, round(grey.shape[0] * zoom[1]))
    return np.asarray(ImageOps.autocontrast(Image.fromarray(np.asarray(cv2.resize(grey, size, interpolation=method)))))
