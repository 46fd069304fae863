"""Measures how alike two images are: by blocks, by edges, by shift, and at every place of a larger one."""

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
"""Side of a block when images are compared, pixels; a smaller image or part can't show a shift."""
LEVELS = 24
"""Number of grey levels that may each become another one where colours changed."""
TEXTURE = 2.0
"""Standard deviation of a block, in grey levels, up to which it is plain and shows nothing."""
SMOOTHED = 5.0
"""Standard deviation of a block, in grey levels, up to which smoothing may make it plain where colours are kept."""
NEAR = 6.0
"""Grey levels by which plain blocks of one colour may differ."""
SAME = 0.5
"""Correlation from which two blocks show the same, and share of the blocks from which two images do."""
SHIFT = 1.3
"""Largest shift of the output at the compared size, pixels."""
PEAK = 0.12
"""Height of the peak of phase correlation, in [0, 1], under which two images have nothing in common."""
PART_PEAK = 0.5
"""Height of that peak for a quarter of an image, from which a shift counts: a plain quarter has a lower one."""
FEEBLE = 0.1
"""Strength of a quarter's edges, as a share of the whole image's, under which the quarter shows nothing."""
STILL = 0.95
"""Correlation of the edges of a quarter from which it isn't shifted, whatever phase correlation gives."""
COARSE = 4.0
"""Standard deviation of the Gaussian that removes what is the same in many places, pixels."""


def predicted(parent: Image.Image, view: View, size: tuple[int, int], method: Image.Resampling) -> Image.Image:
    """Return what the shown part of the output looks like if `view` is right, at `size`."""
    return apply(view.net, resized(parent, view.box, map_size(inverse(view.net), size), method))


def resized(image: Image.Image, part: Box, size: tuple[int, int], method: Image.Resampling) -> Image.Image:
    """Resize a part from its own pixels only; `reducing_gap` alone would mix in pixels around it."""
    x, y = np.floor(part[:2])
    whole = image.crop((int(x), int(y), *np.ceil(part[2:]).astype(int).tolist()))
    within = part.x1 - x, part.y1 - y, part.x2 - x, part.y2 - y
    return whole.resize(size, method, box=within, reducing_gap=2.0)


def at_least_two(width: float, height: float) -> tuple[int, int]:
    """Round a size to whole pixels, at least two each way."""
    return max(2, round(width)), max(2, round(height))


def grey_of(image: Image.Image) -> Floats:
    """Return the grey values, shape (H, W)."""
    return np.asarray(image.convert("L"), dtype=np.float32)


def aligned_pair(parent: Image.Image, output: Image.Image, view: View) -> tuple[Pixels, Pixels]:
    """Return the shown part as predicted and as it is: RGB, shape (H, W, 3), at the lower of the two resolutions."""
    (x1, y1, x2, y2), (u1, v1, u2, v2) = view.box, view.shown
    wide, high = map_size(view.net, at_least_two(x2 - x1, y2 - y1))
    size = at_least_two(min(wide, u2 - u1), min(high, v2 - v1))
    actual = resized(output, view.shown, size, Image.Resampling.BILINEAR)
    return np.asarray(predicted(parent, view, size, Image.Resampling.BILINEAR)), np.asarray(actual)


def compared_size(view: View, most: int = COMPARE_SIDE) -> tuple[int, int]:
    """Return the size at which the shown part is compared; the parent is magnified twice at most."""
    (x1, y1, x2, y2), (u1, v1, u2, v2) = view.box, view.shown
    wide, high = map_size(view.net, at_least_two(2 * (x2 - x1), 2 * (y2 - y1)))
    return at_least_two(min(most, u2 - u1, wide), min(most, v2 - v1, high))


def grey_pair(
    parent: Image.Image,
    output: Image.Image,
    view: View,
    *,
    recoloured: bool,
    toned: bool = True,
    most: int = COMPARE_SIDE,
) -> tuple[Floats, Floats]:
    """Return the predicted and the actual image, small and grey, shape (h, w) both.

    Where colours changed, the predicted one is the mixture of red, green and blue that is nearest to the actual one;
    with `toned` each of its levels becomes the mean of the actual levels there.
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
    there = np.maximum(np.bincount(at, minlength=LEVELS), 1)
    middles, tone = (np.bincount(at, side.ravel(), minlength=LEVELS) / there for side in (grey, target))
    known = np.unique(at)
    return np.interp(grey, middles[known], tone[known]).reshape(target.shape).astype(np.float32), target


@dataclass(frozen=True, slots=True, kw_only=True)
class Likeness:
    """How much two images show the same."""

    correlation: float
    """Median of |correlation| over the blocks with texture, in [0, 1]."""
    share: float
    """Share of those blocks, or of the parent's alone where colours are kept, whose correlation is at least SAME."""
    plain: bool = False
    """True where neither has texture; then both numbers say whether their grey values are near."""


def likeness(one: Floats, other: Floats, *, recoloured: bool) -> Likeness:
    """Compare two grey images block by block.

    Where colours are kept, the output must have texture where the parent has it, and two plain images are alike when
    their grey values are; where colours changed, only the texture of the output counts.
    """
    correlation, power_a, power_b = correlations(one, other)
    textured_a, textured_b = power_a > TEXTURE**2, power_b > TEXTURE**2
    textured = textured_b if recoloured else textured_a | textured_b
    near = np.abs(_blocks(one).mean(axis=1) - _blocks(other).mean(axis=1)) <= NEAR
    if not textured.any():
        same = not recoloured and near.all()
        return Likeness(correlation=float(same), share=float(same), plain=True)
    counted = textured_b if recoloured else textured_a & ~(near & ~textured_b & (power_a < SMOOTHED**2))
    if not counted.any():
        return Likeness(correlation=0.0, share=0.0)
    return Likeness(
        correlation=float(np.median(correlation[textured])), share=float((correlation[counted] >= SAME).mean())
    )


def correlations(one: Floats, other: Floats) -> tuple[Floats, Floats, Floats]:
    """Return for each block |correlation|, 0 where one is plain, and the variances of both; shape (n,) each."""
    a, b = (blocks - blocks.mean(axis=1, keepdims=True) for blocks in (_blocks(one), _blocks(other)))
    power_a, power_b = (a * a).mean(axis=1), (b * b).mean(axis=1)
    scale = np.sqrt(power_a * power_b)
    correlation = np.divide(np.abs((a * b).mean(axis=1)), scale, out=np.zeros_like(scale), where=scale > 0)
    return correlation, power_a, power_b


def _blocks(grey: Floats) -> Floats:
    """Return grey values with one row per block; what is left over at the right and the bottom is dropped."""
    down, right = (max(1, side // BLOCK_SIDE) for side in grey.shape)
    high, wide = grey.shape[0] // down, grey.shape[1] // right
    grey = grey[: down * high, : right * wide].reshape(down, high, right, wide)
    return grey.swapaxes(1, 2).reshape(down * right, high * wide)


def correlation(one: Floats, other: Floats) -> float:
    """Correlate all pixels; 0 where one side is plain."""
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1]) if np.ptp(one) and np.ptp(other) else 0.0


def is_aligned(source: Floats, target: Floats, part_peak: float | None = None) -> bool:
    """Tell whether two images lie upon each other, as a whole and in each quarter.

    Without `part_peak` a quarter whose peak is lower than PART_PEAK may be off; with it no quarter may have a lower
    peak.
    """
    high, wide = source.shape
    if min(high, wide) < BLOCK_SIDE:
        return True
    shift, peak = _shift(source, target)
    if shift > SHIFT or peak < PEAK:
        return False
    for rows in (slice(high // 2), slice(high // 2, None)):
        for columns in (slice(wide // 2), slice(wide // 2, None)):
            one, other = source[rows, columns], target[rows, columns]
            if min(one.shape) < BLOCK_SIDE or correlation(one, other) >= STILL:
                continue
            if part_peak is None and one.std() < FEEBLE * source.std() and other.std() < FEEBLE * target.std():
                continue
            shift, peak = _shift(one, other)
            if (shift > SHIFT and peak >= PART_PEAK) if part_peak is None else (shift > SHIFT or peak < part_peak):
                return False
    return True


def _shift(source: Floats, target: Floats) -> tuple[float, float]:
    """Return how far the target is off, pixels, and the height of the peak that shows it, about [0, 1]."""
    if not np.ptp(source) or not np.ptp(target):
        return 0.0, 0.0
    window = cv2.createHanningWindow(source.shape[::-1], cv2.CV_32F)
    (dx, dy), peak = cv2.phaseCorrelate(source - source.mean(), target - target.mean(), window)
    return float(np.hypot(dx, dy)), float(peak)


def edges(grey: Floats) -> Floats:
    """Return the strength of the edges, blurred a little."""
    strength = cv2.magnitude(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1))
    return np.asarray(cv2.GaussianBlur(strength, (0, 0), 1.0), dtype=np.float32)


def contrast_to_median(grey: Floats) -> Floats:
    """Return the distance from the median level, blurred a little: what an edge filter leaves, bright, dark or both."""
    return np.asarray(cv2.GaussianBlur(np.abs(grey - np.median(grey)), (0, 0), 1.0), dtype=np.float32)


def fine(grey: Floats) -> Floats:
    """Return the image without its coarse parts."""
    return np.asarray(grey - cv2.GaussianBlur(grey, (0, 0), COARSE), dtype=np.float32)


def fits(ground: Floats, part: Floats) -> Floats:
    """Return |correlation| of the part with every place of the ground, shape (places down, places right), or empty."""
    down, right = (max(0, room - side + 1) for room, side in zip(ground.shape, part.shape, strict=True))
    if not down or not right or not np.ptp(part):
        return np.zeros((down, right), np.float32)
    return np.abs(np.asarray(cv2.matchTemplate(ground, part, cv2.TM_CCOEFF_NORMED), dtype=np.float32))
