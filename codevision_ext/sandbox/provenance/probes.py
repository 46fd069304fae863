"""Pictures on which code shows where it puts what: a map, and a texture for code that changes colours.

The map's red and green rise and fall along x and y, tile by tile, and its blue numbers the tiles: every pixel says
where it comes from, and interpolation keeps what it says. The texture is black and white spots of every size that
look alike nowhere: its corners are found again after whatever keeps edges where they are. Where the code looks at what
it is given, the texture is laid on the picture itself, too faint to be seen.
"""

from functools import lru_cache
from itertools import product

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from codevision_ext.sandbox.provenance.verify import LARGE, rivalled, shared, unscaled
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
"""Corners looked for in an output; in the texture, more."""
PARENT_SIDE = 1024
"""Corners of a parent are looked for at this size at most, pixels."""
FEATURE_SIDES = (560, 200)
"""The longer side of an output when corners are looked for, pixels: the smaller finds magnified parts."""
RATIO = 0.85
"""How much nearer the best match of a corner must be than the second."""
MATCHES = 10
"""Fewer corners that agree are chance."""
ENOUGH = 20
"""So many corners that agree, and are a quarter of those found, need no second look."""
BORDER = 32
"""Corners are looked for this close to the edge, pixels: ORB leaves out its own border."""


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
    us, vs = (
        np.unique(np.linspace(low, high - 1, GRID).round().astype(int))
        for low, high in ((content.x1, content.x2), (content.y1, content.y2))
    )
    colours = np.asarray(seen)[np.ix_(vs, us)].astype(np.float64).reshape(-1, 3)
    outs = np.stack([a.ravel() for a in np.meshgrid(us + 0.5, vs + 0.5)], axis=1)
    for order in ((0, 1, 2), (2, 1, 0)):
        view = _read(outs, colours[:, order], content, size)
        if view is not None:
            return view
    return None


def _read(outs: Array, colours: Array, content: Box, size: tuple[int, int]) -> View | None:
    tiles = _tiles(size[0]), _tiles(size[1])
    numbers = np.rint(colours[:, 2] / _number(size)).astype(np.int64)
    ins = np.empty_like(outs)
    for axis, tile in enumerate(np.divmod(numbers, tiles[1])):
        rise = colours[:, axis] / 255
        ins[:, axis] = (tile + np.where(tile % 2, 1 - rise, rise)) * size[axis] / tiles[axis]
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


@lru_cache(maxsize=1)
def _texture() -> Pixels:
    """Black and white spots of five sizes; shape (TEXTURE_SIDE, TEXTURE_SIDE)."""
    rng = np.random.default_rng(0)
    side = TEXTURE_SIDE
    field = np.zeros((side, side), np.float32)
    for size in (6, 12, 24, 48, 96):
        coarse = rng.standard_normal((side // size + 2, side // size + 2)).astype(np.float32)
        field += cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)
    return np.where(field > 0, BRIGHT, DARK).astype(np.uint8)


def _magnified(size: tuple[int, int]) -> int:
    return -(-max(size) // TEXTURE_SIDE)


def texture(size: tuple[int, int]) -> Image.Image:
    """The texture for a picture of `size`."""
    times = _magnified(size)
    pixels = _texture()[: -(-size[1] // times), : -(-size[0] // times)]
    grey = Image.fromarray(pixels.repeat(times, axis=0).repeat(times, axis=1)[: size[1], : size[0]])
    return grey.convert("RGB")


def marks(size: tuple[int, int], loudness: int) -> Image.Image:
    """The texture, to be added to a picture of `size`: grey values of `loudness` or minus that (mode F)."""
    bright = np.asarray(texture(size).convert("L")) == BRIGHT
    return Image.fromarray(np.where(bright, loudness, -loudness).astype(np.float32))


def marked(picture: Image.Image, loudness: int) -> Image.Image:
    """The picture, RGB, with the marks on it."""
    grey = np.asarray(marks(picture.size, loudness)).astype(np.int16)[..., None]
    return Image.fromarray(np.clip(np.asarray(picture.convert("RGB")) + grey, 0, 255).astype(np.uint8))


@lru_cache(maxsize=3)
def _texture_corners(outlines: int) -> tuple[Array, Pixels]:
    grey, square = _texture(), np.ones((outlines, outlines), np.uint8)
    if outlines == THIN:
        grey = np.asarray(cv2.morphologyEx(grey, cv2.MORPH_GRADIENT, square))
    elif outlines:
        grey = np.asarray(cv2.dilate(grey, square) - grey)
    return corners(grey, 6 * FEATURES)


def corners(grey: Pixels, count: int = FEATURES) -> tuple[Array, Pixels]:
    """Points, shape (n, 2), pixels, and their descriptors, shape (n, 32)."""
    orb = cv2.ORB.create(nfeatures=count, fastThreshold=10)
    keys, descriptors = orb.detectAndCompute(np.pad(grey, BORDER, mode="reflect"), None)
    points = np.array([key.pt for key in keys], dtype=np.float64).reshape(-1, 2) - BORDER + 0.5
    return points, np.asarray(descriptors, np.uint8) if len(keys) else np.empty((0, 32), np.uint8)


def read_texture(seen: Image.Image, size: tuple[int, int]) -> View | None:
    """What `seen`, made of the texture for a picture of `size`, shows of it; None where it isn't found again."""
    content = content_of(seen)
    if content is None:
        return None
    times, ground = _magnified(size), texture(size)
    view = unscaled(ground, seen, content)
    if view is not None and _covered(ground, seen, view, content):
        telling = min(view.box.x2 - view.box.x1, view.box.y2 - view.box.y1) >= LARGE
        return None if telling and rivalled(ground, seen, view, recoloured=True) else view
    for outlines in (0, THIN, THICK):
        points, descriptors = _texture_corners(outlines)
        there = inside(Box(0, 0, size[0] / times, size[1] / times), points)
        known = points[there] * times, descriptors[there]
        view = register(seen, content, ground, known, outlined=outlines > 0)
        if view is not None:
            return None if rivalled(ground, seen, view, recoloured=True) else view
    return None


def register_pair(seen: Image.Image, parent: Image.Image) -> View | None:
    """The view of `parent` that `seen` shows, by its own corners; None where there are too few."""
    content = Box(0, 0, *seen.size)
    view = unscaled(parent, seen, content)
    if view is not None and _covered(parent, seen, view, content):
        return view
    grey = np.asarray(parent.convert("L"))
    zoom = min(1.0, PARENT_SIDE / max(grey.shape))
    points, descriptors = corners(_zoomed(grey, zoom), 4 * FEATURES)
    return register(seen, content, parent, (points / zoom, descriptors))


def register(
    seen: Image.Image, content: Box, parent: Image.Image, known: tuple[Array, Pixels], *, outlined: bool = False
) -> View | None:
    """The view of `parent`, whose corners are `known`, that the content of `seen` shows.

    None where few corners are found, or where other things are to be seen as well. `outlined`: the corners are those
    of the parent's outlines.
    """
    grey = np.asarray(seen.convert("L").crop(content))
    if outlined:
        grey = cv2.absdiff(grey, np.full_like(grey, np.median(grey)))
    most, best = MATCHES - 1, None
    for side, inverted, mirrored in product(FEATURE_SIDES, (False,) if outlined else (False, True), (False, True)):
        zoom = side / max(grey.shape)
        turned = _zoomed(255 - grey if inverted else grey, zoom)
        points, descriptors = corners(turned[:, ::-1] if mirrored else turned)
        pairs = _matches(descriptors, known[1])
        outs = points[pairs[:, 0]]
        if mirrored:
            outs = [turned.shape[1], 0] + outs * [-1, 1]
        outs, ins = outs / zoom + content[:2], known[0][pairs[:, 1]]
        view, agreeing = fit_view(outs, ins, content, parent.size, tolerance=max(2.0, 2 / zoom))
        if agreeing > most:
            most, best = agreeing, view
        if agreeing >= max(ENOUGH, len(pairs) / 4):
            break
    return best if best is not None and _covered(parent, seen, best, content) else None


def _covered(parent: Image.Image, seen: Image.Image, view: View, content: Box) -> bool:
    """Hardly anything else is to be seen in the content."""
    return shared(parent, seen, view) * area(view.shown) >= COVERAGE * area(content)


def _zoomed(grey: Pixels, zoom: float) -> Pixels:
    """With the contrast stretched."""
    method = cv2.INTER_AREA if zoom < 1 else cv2.INTER_CUBIC
    size = max(2, round(grey.shape[1] * zoom)), max(2, round(grey.shape[0] * zoom))
    return np.asarray(ImageOps.autocontrast(Image.fromarray(np.asarray(cv2.resize(grey, size, interpolation=method)))))


def _matches(one: Pixels, other: Pixels) -> NDArray[np.int64]:
    """Pairs of indices, shape (n, 2), of descriptors that clearly belong together."""
    if not len(one) or len(other) < 2:
        return np.empty((0, 2), np.int64)
    nearest = cv2.BFMatcher(cv2.NORM_HAMMING).knnMatch(one, other, k=2)
    pairs = [(first.queryIdx, first.trainIdx) for first, second in nearest if first.distance < RATIO * second.distance]
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)
