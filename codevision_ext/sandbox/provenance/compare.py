"""Measures the similarity of two images: by blocks, by edges, by shift, and at every position in a larger image."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from codevision_ext.geometry import apply, inverse, map_size
from codevision_ext.sandbox.provenance.placement import View
from codevision_ext.types import Box

Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]

COMPARE_SIDE = 144
"""Largest side at which images are compared, pixels."""
BLOCK_SIDE = 16
"""Side of a compared block, pixels; no shift is measured in smaller images and parts."""
LEVELS = 24
"""Number of grey levels of a fitted tone curve."""
PLAIN_SPREAD = 2.0
"""Maximum standard deviation of a plain block, in grey levels."""
SMOOTHED_SPREAD = 5.0
"""Maximum standard deviation of a block that smoothing may have made plain, in grey levels."""
NEAR_LEVELS = 6.0
"""Maximum difference between plain blocks of equal colour, in grey levels."""
SAME_CONTENT = 0.5
"""Minimum correlation of two blocks with the same content; also the minimum share of such blocks in two images."""
SHIFT = 1.3
"""Maximum shift between two aligned images at the compared size, pixels."""
PEAK = 0.12
"""Minimum peak of phase correlation between two aligned images, in [0, 1]."""
PART_PEAK = 0.5
"""Minimum peak of phase correlation at which the shift of a quarter counts; plain quarters have lower peaks."""
WEAK_EDGES = 0.1
"""Spread of a quarter's edges, as a share of the whole image's spread, below which the quarter is ignored."""
UNSHIFTED = 0.95
"""Minimum correlation at which a quarter counts as unshifted, whatever phase correlation gives."""
HIGH_PASS_SIGMA = 4.0
"""Standard deviation of the Gaussian of the high-pass filter, pixels."""


def predicted(parent: Image.Image, view: View, size: tuple[int, int], method: Image.Resampling) -> Image.Image:
    """Return the shown part of the output as `view` predicts it, at `size`."""
    return apply(view.net, resized(parent, view.box, map_size(inverse(view.net), size), method))


def resized(image: Image.Image, part: Box, size: tuple[int, int], method: Image.Resampling) -> Image.Image:
    """Resize a part of an image from its own pixels only; `reducing_gap` alone would mix in pixels around the part."""
    x, y = np.floor(part[:2])
    whole = image.crop((int(x), int(y), *np.ceil(part[2:]).astype(int).tolist()))
    within = part.x1 - x, part.y1 - y, part.x2 - x, part.y2 - y
    return whole.resize(size, method, box=within, reducing_gap=2.0)


def at_least_two(width: float, height: float) -> tuple[int, int]:
    """Round a size to whole pixels, at least two in each direction."""
    return max(2, round(width)), max(2, round(height))


def grey_of(image: Image.Image) -> Floats:
    """Return the grey values, shape (H, W)."""
    return np.asarray(image.convert("L"), dtype=np.float32)


def aligned_pair(parent: Image.Image, output: Image.Image, view: View) -> tuple[Pixels, Pixels]:
    """Return the predicted and the actual shown part: RGB, shape (H, W, 3), at the lower of the two resolutions."""
    (x1, y1, x2, y2), (u1, v1, u2, v2) = view.box, view.shown
    width, height = map_size(view.net, at_least_two(x2 - x1, y2 - y1))
    size = at_least_two(min(width, u2 - u1), min(height, v2 - v1))
    actual = resized(output, view.shown, size, Image.Resampling.BILINEAR)
    return np.asarray(predicted(parent, view, size, Image.Resampling.BILINEAR)), np.asarray(actual)


def compared_size(view: View, most: int = COMPARE_SIDE) -> tuple[int, int]:
    """Return the size at which the shown part is compared, at most `most`; the parent is magnified at most twice."""
    (x1, y1, x2, y2), (u1, v1, u2, v2) = view.box, view.shown
    width, height = map_size(view.net, at_least_two(2 * (x2 - x1), 2 * (y2 - y1)))
    return at_least_two(min(most, u2 - u1, width), min(most, v2 - v1, height))


def grey_pair(
    parent: Image.Image,
    output: Image.Image,
    view: View,
    *,
    recoloured: bool,
    toned: bool = True,
    most: int = COMPARE_SIDE,
) -> tuple[Floats, Floats]:
    """Return the predicted and the actual image in grey at the compared size, both of shape (h, w).

    With `recoloured`, the predicted image is the linear combination of red, green and blue that is nearest to the
    actual image. With `toned`, a tone curve of LEVELS levels is then fitted to the actual image.
    """
    size = compared_size(view, most)
    target = grey_of(resized(output, view.shown, size, Image.Resampling.BILINEAR))
    colours = np.asarray(predicted(parent, view, size, Image.Resampling.BILINEAR), dtype=np.float32)
    if not recoloured:
        return np.asarray(cv2.cvtColor(colours, cv2.COLOR_RGB2GRAY), dtype=np.float32), target
    parts = np.column_stack([colours.reshape(-1, 3), np.ones(target.size, np.float32)])
    weights = np.linalg.lstsq(parts, target.ravel(), rcond=None)[0]
    grey = parts @ weights
    if not toned:
        return grey.reshape(target.shape).astype(np.float32), target
    levels = np.quantile(grey, np.linspace(0, 1, LEVELS + 1))
    at = np.clip(np.searchsorted(levels, grey, side="right") - 1, 0, LEVELS - 1)
    counts = np.maximum(np.bincount(at, minlength=LEVELS), 1)
    middles, tone = (np.bincount(at, side.ravel(), minlength=LEVELS) / counts for side in (grey, target))
    known = np.unique(at)
    return np.interp(grey, middles[known], tone[known]).reshape(target.shape).astype(np.float32), target


@dataclass(frozen=True, slots=True, kw_only=True)
class Likeness:
    """Agreement of two images by blocks."""

    correlation: float
    """Median of |correlation| over the blocks with texture, in [0, 1]."""
    share: float
    """Share of blocks with a correlation of at least SAME_CONTENT; counts the parent's blocks if colours are kept."""
    plain: bool = False
    """True if neither image has texture; then `correlation` and `share` are 1 for near grey values, else 0."""


def likeness(one: Floats, other: Floats, *, recoloured: bool) -> Likeness:
    """Compare two grey images block by block.

    If colours are kept, the output must have texture where the parent has texture, and two plain images are compared by
    grey values. With `recoloured`, only blocks with texture in the output count.
    """
    correlation, power_a, power_b = correlations(one, other)
    textured_a, textured_b = power_a > PLAIN_SPREAD**2, power_b > PLAIN_SPREAD**2
    textured = textured_b if recoloured else textured_a | textured_b
    near = np.abs(_blocks(one).mean(axis=1) - _blocks(other).mean(axis=1)) <= NEAR_LEVELS
    if not textured.any():
        same = not recoloured and near.all()
        return Likeness(correlation=float(same), share=float(same), plain=True)
    counted = textured_b if recoloured else textured_a & ~(near & ~textured_b & (power_a < SMOOTHED_SPREAD**2))
    if not counted.any():
        return Likeness(correlation=0.0, share=0.0)
    return Likeness(
        correlation=float(np.median(correlation[textured])), share=float((correlation[counted] >= SAME_CONTENT).mean())
    )


def correlations(one: Floats, other: Floats) -> tuple[Floats, Floats, Floats]:
    """Return |correlation| of each pair of blocks (0 for a block of one colour) and both variances, each shape (n,)."""
    a, b = (blocks - blocks.mean(axis=1, keepdims=True) for blocks in (_blocks(one), _blocks(other)))
    power_a, power_b = (a * a).mean(axis=1), (b * b).mean(axis=1)
    scale = np.sqrt(power_a * power_b)
    correlation = np.divide(np.abs((a * b).mean(axis=1)), scale, out=np.zeros_like(scale), where=scale > 0)
    return correlation, power_a, power_b


def _blocks(grey: Floats) -> Floats:
    """Return grey values with one row per block; incomplete blocks at the right and the bottom are dropped."""
    down, right = (max(1, side // BLOCK_SIDE) for side in grey.shape)
    height, width = grey.shape[0] // down, grey.shape[1] // right
    grey = grey[: down * height, : right * width].reshape(down, height, right, width)
    return grey.swapaxes(1, 2).reshape(down * right, height * width)


def correlation(one: Floats, other: Floats) -> float:
    """Return the correlation over all pixels; 0 if an image has one colour."""
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1]) if np.ptp(one) and np.ptp(other) else 0.0


def is_aligned(source: Floats, target: Floats, part_peak: float | None = None) -> bool:
    """Tell whether two images are aligned, as a whole and in each quarter.

    Without `part_peak`, the shift of a quarter counts from PART_PEAK on. With it, the peak of every quarter must reach
    `part_peak`.
    """
    height, width = source.shape
    if min(height, width) < BLOCK_SIDE:
        return True
    shift, peak = _shift(source, target)
    if shift > SHIFT or peak < PEAK:
        return False
    for rows in (slice(height // 2), slice(height // 2, None)):
        for columns in (slice(width // 2), slice(width // 2, None)):
            one, other = source[rows, columns], target[rows, columns]
            if min(one.shape) < BLOCK_SIDE or correlation(one, other) >= UNSHIFTED:
                continue
            if part_peak is None and one.std() < WEAK_EDGES * source.std() and other.std() < WEAK_EDGES * target.std():
                continue
            shift, peak = _shift(one, other)
            if (shift > SHIFT and peak >= PART_PEAK) if part_peak is None else (shift > SHIFT or peak < part_peak):
                return False
    return True


def _shift(source: Floats, target: Floats) -> tuple[float, float]:
    """Return the shift of the target in pixels and the peak of phase correlation, about [0, 1]."""
    if not np.ptp(source) or not np.ptp(target):
        return 0.0, 0.0
    window = cv2.createHanningWindow(source.shape[::-1], cv2.CV_32F)
    (dx, dy), peak = cv2.phaseCorrelate(source - source.mean(), target - target.mean(), window)
    return float(np.hypot(dx, dy)), float(peak)


def edges(grey: Floats) -> Floats:
    """Return the slightly blurred gradient magnitude."""
    strength = cv2.magnitude(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1))
    return np.asarray(cv2.GaussianBlur(strength, (0, 0), 1.0), dtype=np.float32)


def contrast_to_median(grey: Floats) -> Floats:
    """Return the slightly blurred distance from the median level: the edges in the output of an edge filter."""
    return np.asarray(cv2.GaussianBlur(np.abs(grey - np.median(grey)), (0, 0), 1.0), dtype=np.float32)


def high_pass(grey: Floats) -> Floats:
    """Return the image without low frequencies."""
    return np.asarray(grey - cv2.GaussianBlur(grey, (0, 0), HIGH_PASS_SIGMA), dtype=np.float32)


def correlation_map(image: Floats, part: Floats) -> Floats:
    """Return |correlation| of the part at every position in the image, shape (positions down, positions right)."""
    down, right = (max(0, room - side + 1) for room, side in zip(image.shape, part.shape, strict=True))
    if not down or not right or not np.ptp(part):
        return np.zeros((down, right), np.float32)
    return np.abs(np.asarray(cv2.matchTemplate(image, part, cv2.TM_CCOEFF_NORMED), dtype=np.float32))
