"""Finds the input in the made image: the scale and the shift that map pixels of the input to pixels of the made image.

The made image may have any size, padding, or the margins and axes of matplotlib. Rotations and mirror images aren't
searched for, because a drawing on a turned input counts as wrong.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from codevision_ext.drawing.pixels import Gray, Pixels

Floats = npt.NDArray[np.floating[Any]]

_COARSE = 88
"""Longer side of the made image in the search over scales, pixels."""
_FINE = 288
"""Longer side of the made image where placements are refined and compared, pixels."""
_SMALLEST = 0.25
"""Smallest scale that is tried, as a share of the scale at which the input fills the made image."""
_UNMOVED = 0.8
"""Minimum share of unchanged pixels at which the input is taken to be at its place, and no other placement is tried."""
_BETTER = 0.1
"""Amount by which the agreement of a less probable placement must exceed that of a more probable one."""
_SURE, _PROBABLE, _GOOD, _ENOUGH = 0.92, 0.65, 0.85, 0.55
"""Minimum agreement that ends the search: at once; after the probable placements; after the improbable ones; at all."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Map from coordinates of the input to those of the made image: scale * x + shift. Pixel i covers [i, i + 1]."""

    sx: float
    sy: float
    tx: float
    ty: float

    @property
    def whole(self) -> bool:
        """True if every pixel of the input is one pixel of the made image, so that nothing is interpolated."""
        return self.sx == self.sy == 1 and self.tx == int(self.tx) and self.ty == int(self.ty)


def lay(image: npt.NDArray[np.uint8], placement: Placement, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Returns the input as a made image of `size` (width, height) shows it; pixels outside repeat its border."""
    return _warped(_smoothed(image, placement), placement, size)


def _smoothed(image: npt.NDArray[np.uint8], placement: Placement) -> npt.NDArray[np.uint8]:
    """Returns the image without the details that are lost if the placement makes it smaller."""
    sigmas = [0.42 * float(np.sqrt(max(0.0, s**-2 - 1))) for s in (placement.sx, placement.sy)]
    if max(sigmas) < 0.2:
        return image
    return np.asarray(cv2.GaussianBlur(image, (0, 0), max(sigmas[0], 0.1), sigmaY=max(sigmas[1], 0.1)), np.uint8)


def _warped(image: npt.NDArray[np.uint8], placement: Placement, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    sx, sy = placement.sx, placement.sy
    matrix = np.array([[sx, 0, sx / 2 + placement.tx - 0.5], [0, sy, sy / 2 + placement.ty - 0.5]])
    laid = cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(laid, np.uint8)


def local_range(image: npt.NDArray[np.uint8], side: int = 3) -> npt.NDArray[np.uint8]:
    """Returns the difference of the largest and the smallest value in the square around every pixel."""
    square = np.ones((side, side), np.uint8)
    return np.asarray(cv2.subtract(cv2.dilate(image, square), cv2.erode(image, square)), np.uint8)


def register(image: Pixels, made: Pixels) -> tuple[Placement, float] | None:
    """Returns the placement of the input in the made image and its agreement in [0, 1]; None if it isn't found."""
    if (same := _same(image, made)) > _UNMOVED:
        return Placement(1, 1, 0, 0), same
    by = min(1.0, _FINE / max(made.shape[:2]))
    small_made = _gray(made, by)
    # the input at about the resolution at which it is compared
    shrink = min(1.0, _FINE / max(image.shape[:2]))
    small = _gray(image, shrink)
    fx, fy = image.shape[1] / small.shape[1], image.shape[0] / small.shape[0]
    gx, gy = small_made.shape[1] / made.shape[1], small_made.shape[0] / made.shape[0]

    def full(placement: Placement) -> Placement:
        return Placement(placement.sx / fx / gx, placement.sy / fy / gy, placement.tx / gx, placement.ty / gy)

    best: tuple[Placement, float] | None = None
    searches = (_probable(image, made), _PROBABLE), (_coarse(image, small_made, (gx, gy)), _GOOD)
    for guesses, least in (*searches, (_improbable(image, made), _GOOD)):
        for guess in guesses:
            tried = [guess]
            if not guess.whole or guess.tx or guess.ty:
                start = Placement(guess.sx * fx * gx, guess.sy * fy * gy, guess.tx * gx, guess.ty * gy)
                refined = full(_refine(small, small_made, start))
                snapped = _snapped(image, refined)
                tried = [refined] if snapped is None else [snapped, refined]
            for place in tried:
                quality = _agreement(
                    small, small_made, Placement(place.sx * fx * gx, place.sy * fy * gy, place.tx * gx, place.ty * gy)
                )
                if best is None or quality > best[1] + (_BETTER if best[1] >= _ENOUGH else 0):
                    best = place, quality
            if best is not None and best[1] >= _SURE:
                break
        if best is not None and best[1] >= least:
            break
    if best is None or best[1] < _ENOUGH:
        same = image.shape == made.shape
        return (Placement(1, 1, 0, 0), best[1] if best else 0.0) if same else None
    placement, quality = best
    return (placement if placement.whole else _sharpen(image, made, placement)), quality


def _same(image: Pixels, made: Pixels) -> float:
    """Returns the share of unchanged pixels in [0, 1]; 0 if the images have different sizes.

    It is the lower of two shares: that of all pixels, and that of the pixels with content.
    """
    if image.shape != made.shape:
        return 0.0
    one, other = image[1::4, 1::4].astype(np.int16), made[1::4, 1::4].astype(np.int16)
    equal = np.abs(one - other).max(axis=2) <= 4
    content = np.abs(one - image[::4, ::4][: one.shape[0], : one.shape[1]]).max(axis=2) > 16
    return min(float(equal.mean()), float(equal[content].mean())) if content.sum() >= 50 else 0.0


def _snapped(image: Pixels, placement: Placement) -> Placement | None:
    """Returns the nearest placement on whole pixels without a change of scale; None if it isn't near."""
    near = abs(placement.sx - 1) * image.shape[1] < 1.5 and abs(placement.sy - 1) * image.shape[0] < 1.5
    if near and max(abs(t - round(t)) for t in (placement.tx, placement.ty)) < 0.45:
        return Placement(1, 1, round(placement.tx), round(placement.ty))
    return None


def _probable(image: Pixels, made: Pixels) -> Iterator[Placement]:
    """Yields placements that explain the size of the made image, the most probable first."""
    height, width = image.shape[:2]
    made_height, made_width = made.shape[:2]
    full = Placement(made_width / width, made_height / height, 0, 0)
    if full.whole:
        yield full
    framed = _framed(image, made)
    if framed is not None and abs(framed.sx / framed.sy - 1) < 0.02:
        yield framed
    if abs(full.sx / full.sy - 1) < 0.02 and not full.whole:
        yield full
    if made_width - width + made_height - height > 0 and made_width >= width and made_height >= height:
        yield _pasted(image, made)
    yield from _layouts((width, height), (made_width, made_height))


def _improbable(image: Pixels, made: Pixels) -> Iterator[Placement]:
    """Yields placements whose scales of x and y differ."""
    framed = _framed(image, made)
    if framed is not None:
        yield framed
    yield Placement(made.shape[1] / image.shape[1], made.shape[0] / image.shape[0], 0, 0)


def _framed(image: Pixels, made: Pixels) -> Placement | None:
    """Returns the placement in the frame of the made image; None if there is no frame.

    The canvas has the colour of the corner of the made image. The frame is spanned by long rows and columns of other
    colours, those of an image on the canvas or of the axes around it. Text has gaps, so it isn't part of the frame.
    """
    height, width = made.shape[:2]
    low, high = (np.clip(made[0, 0].astype(float) + d, 0, 255) for d in (-4, 4))
    other = cv2.bitwise_not(cv2.inRange(made, low, high))
    spans = []
    for axis, size in ((1, width), (0, height)):
        run = max(12, size // 5)
        shape = (run, 1) if axis else (1, run)
        full = cv2.boxFilter(other, -1, shape, borderType=cv2.BORDER_CONSTANT) >= 250
        lines = np.flatnonzero(full.any(axis=axis))
        if not len(lines):
            return None
        spans.append((int(lines[0]), int(lines[-1]) + 1))
    (y1, y2), (x1, x2) = spans
    if (x1, y1, x2, y2) == (0, 0, width, height) or min(x2 - x1, y2 - y1) < 16:
        return None
    return Placement((x2 - x1) / image.shape[1], (y2 - y1) / image.shape[0], x1, y1)


def _layouts(size: tuple[int, int], made_size: tuple[int, int]) -> Iterator[Placement]:
    """Yields the placements of matplotlib: its default axes, and no axes in a tight box with the default margin."""
    (width, height), (made_width, made_height) = size, made_size
    scale = min(0.775 * made_width / width, 0.77 * made_height / height)
    left, top = 0.5125 * made_width - scale * width / 2, 0.505 * made_height - scale * height / 2
    yield Placement(scale, scale, left, top)
    for dpi in (100, 72, 150, 200, 300):
        margin = dpi / 10
        sx, sy = (made_width - 2 * margin) / width, (made_height - 2 * margin) / height
        if min(sx, sy) > 0 and abs(sx - sy) * max(size) < 2.5:
            yield Placement(sx, sy, margin, margin)


def _pasted(image: Pixels, made: Pixels) -> Placement:
    """Returns the best placement without a change of scale."""
    by = min(1.0, 160 / max(made.shape[:2]))
    template, edges = _edges(_gray(image, by)), _edges(_gray(made, by))
    template = template[: edges.shape[0], : edges.shape[1]]
    scores = np.nan_to_num(cv2.matchTemplate(edges, template, cv2.TM_CCOEFF_NORMED))
    _, _, _, (x, y) = cv2.minMaxLoc(scores)
    return Placement(1.0, 1.0, round(x / by), round(y / by))


def _coarse(image: Pixels, small_made: Gray, small_scale: tuple[float, float]) -> Iterator[Placement]:
    """Yields the best placements of a search over equal scales of x and y, by the correlation of edges."""
    by = min(1.0, _COARSE / max(small_made.shape))
    made_edges = _edges(_gray(small_made, by))
    by_x, by_y = (
        small_scale[0] * made_edges.shape[1] / small_made.shape[1],
        small_scale[1] * (made_edges.shape[0] / small_made.shape[0]),
    )
    height, width = image.shape[:2]
    fit = min(made_edges.shape[1] / width, made_edges.shape[0] / height)
    gray = _gray(image, min(1.0, 2 * fit))
    tried: list[tuple[float, Placement]] = []
    scales = [fit * 0.965**step for step in range(40) if 0.965**step >= _SMALLEST]
    if 1 * by_x < fit * 1.001:
        scales.append(by_x)
    for scale in scales:
        size = max(1, round(width * scale)), max(1, round(height * scale * by_y / by_x))
        if min(size) < 8 or size[0] > made_edges.shape[1] or size[1] > made_edges.shape[0]:
            continue
        template = _edges(np.asarray(cv2.resize(gray, size, interpolation=cv2.INTER_AREA), np.uint8))
        scores = np.nan_to_num(cv2.matchTemplate(made_edges, template, cv2.TM_CCOEFF_NORMED))
        _, score, _, (x, y) = cv2.minMaxLoc(scores)
        place = Placement(size[0] / width / by_x, size[1] / height / by_y, x / by_x, y / by_y)
        tried.append((score + 0.1 * (size[0] / made_edges.shape[1]), place))
    tried.sort(key=lambda pair: -pair[0])
    yield from (place for _, place in tried[:5])


def _edges(gray: Gray) -> npt.NDArray[np.float32]:
    values = gray.astype(np.float32)
    dx, dy = cv2.Sobel(values, cv2.CV_32F, 1, 0), cv2.Sobel(values, cv2.CV_32F, 0, 1)
    return np.asarray(np.sqrt(cv2.magnitude(dx, dy)), np.float32)


def _gray(image: npt.NDArray[np.uint8], by: float) -> Gray:
    if image.ndim == 3:
        image = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)
    if by < 1:
        size = max(1, round(image.shape[1] * by)), max(1, round(image.shape[0] * by))
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    return image


def _window(shape: tuple[int, ...], placement: Placement, size: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Returns the box that an input of shape `shape` covers in a made image of shape `size`."""
    x1, y1 = max(0, round(placement.tx)), max(0, round(placement.ty))
    x2 = min(size[1], round(placement.tx + placement.sx * shape[1]))
    y2 = min(size[0], round(placement.ty + placement.sy * shape[0]))
    return x1, y1, x2, y2


def window(image: Pixels, placement: Placement, made: Pixels) -> tuple[int, int, int, int]:
    """Returns the box (x1, y1, x2, y2) of the made image that the input covers, whole pixels."""
    return _window(image.shape, placement, made.shape)


def _refine(image: Gray, made: Gray, placement: Placement, rounds: int = 6) -> Placement:
    """Returns a placement with a smaller residual, found by Gauss-Newton steps in which small residuals weigh more."""
    limit = 40.0
    smoothed = _smoothed(image, placement)
    for _ in range(rounds):
        x1, y1, x2, y2 = _window(image.shape, placement, made.shape)
        if min(x2 - x1, y2 - y1) < 8:
            return placement
        shifted = Placement(placement.sx, placement.sy, placement.tx - x1, placement.ty - y1)
        laid = cv2.GaussianBlur(_warped(smoothed, shifted, (x2 - x1, y2 - y1)), (3, 3), 0).astype(np.float32)
        seen = cv2.GaussianBlur(made[y1:y2, x1:x2], (3, 3), 0).astype(np.float32)
        dx, dy = cv2.Scharr(laid, cv2.CV_32F, 1, 0) / 32, cv2.Scharr(laid, cv2.CV_32F, 0, 1) / 32
        difference = seen - laid
        weights = np.square(np.clip(1 - np.square(difference / limit), 0, None))
        u, v = np.linspace(-1, 1, x2 - x1, dtype=np.float32), np.linspace(-1, 1, y2 - y1, dtype=np.float32)[:, None]
        columns = np.stack([-dx, -dx * u, -dy, -dy * v]).reshape(4, -1)
        weighted = columns * weights.reshape(-1)
        normal, right = (weighted @ columns.T).astype(float), (weighted @ difference.reshape(-1)).astype(float)
        step = np.linalg.solve(normal + np.eye(4) * (1e-3 * np.trace(normal) / 4 + 1e-6), right)
        step = np.clip(step, -3, 3)
        # a shift that grows along the axis is a change of scale: u runs from -1 to 1 over the window
        gain_x, gain_y = 2 * step[1] / (x2 - x1), 2 * step[3] / (y2 - y1)
        middle_x, middle_y = (x1 + x2) / 2, (y1 + y2) / 2
        placement = Placement(
            placement.sx * (1 + gain_x),
            placement.sy * (1 + gain_y),
            middle_x + (placement.tx - middle_x) * (1 + gain_x) + step[0],
            middle_y + (placement.ty - middle_y) * (1 + gain_y) + step[2],
        )
        limit = max(24.0, limit * 0.85)
        if np.abs(step).max() < 0.01:
            break
    return placement


def _sharpen(image: Pixels, made: Pixels, placement: Placement) -> Placement:
    """Refines a placement at the resolution of the images."""
    by = min(1.0, 2 * _FINE / max(made.shape[:2]))
    shrink = min(1.0, 2 * _FINE / max(image.shape[:2]))
    small, small_made = _gray(image, shrink), _gray(made, by)
    fx, fy = image.shape[1] / small.shape[1], image.shape[0] / small.shape[0]
    gx, gy = small_made.shape[1] / made.shape[1], small_made.shape[0] / made.shape[0]
    start = Placement(placement.sx * fx * gx, placement.sy * fy * gy, placement.tx * gx, placement.ty * gy)
    fine = _refine(small, small_made, start, rounds=3)
    return Placement(fine.sx / fx / gx, fine.sy / fy / gy, fine.tx / gx, fine.ty / gy)


def _agreement(image: Gray, made: Gray, placement: Placement) -> float:
    """Returns the share of pixels that agree, in both directions, in [0, 1].

    It is the lower of two shares: that of all pixels, and that of the pixels with content.
    """
    x1, y1, x2, y2 = _window(image.shape, placement, made.shape)
    whole = placement.sx * image.shape[1] * placement.sy * image.shape[0]
    if min(x2 - x1, y2 - y1) < 8 or (x2 - x1) * (y2 - y1) < 0.9 * whole:
        return 0.0
    shifted = Placement(placement.sx, placement.sy, placement.tx - x1, placement.ty - y1)
    laid = np.asarray(cv2.GaussianBlur(lay(image, shifted, (x2 - x1, y2 - y1)), (3, 3), 0), np.uint8)
    seen = np.asarray(cv2.GaussianBlur(made[y1:y2, x1:x2], (3, 3), 0), np.uint8)
    spread = local_range(laid)
    agrees = cv2.absdiff(laid, seen) <= np.minimum(12 + 0.35 * spread, 60)
    content = spread > 16
    share = float(agrees.mean())
    if content.sum() >= 20:
        share = min(share, float(agrees[content].mean()))
    return share
