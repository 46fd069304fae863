"""Whether two pictures bear out what a view says of them."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from codevision_ext.geometry import apply, inverse, map_size
from codevision_ext.sandbox.provenance.view import View

Floats = NDArray[np.float32]

COMPARE_SIDE = 144
"""Pictures are compared at this many pixels per axis at most."""
BLOCK_SIDE = 16
"""Side of a block when pictures are compared, pixels."""
TEXTURE = 2.0
"""Standard deviation of a block, in grey levels, under which it is plain and says nothing."""
NEAR = 6.0
"""Grey levels by which plain blocks of one colour may differ."""
SPEAKING = 0.25
"""Share of the parent's blocks with texture that must have texture in a recoloured output."""
SAME = 0.5
"""Median correlation, and share of the blocks that correlate, from which two pictures show the same."""
SHIFT = 1.3
"""How far the output may be off at the compared size, pixels."""
PEAK = 0.12
"""Height of the peak of phase correlation, in [0, 1], under which two pictures have nothing in common."""
PART_PEAK = 0.5
"""The same for a quarter of a picture, which may be plain: a lower peak says nothing."""
SMALL = 16
"""Pictures and parts whose sides are shorter can't tell a shift, pixels."""


def borne_out(parent: Image.Image, made: Image.Image, view: View, *, recoloured: bool) -> float:
    """How well the output agrees with the view, in [0, 1]; 0: it doesn't.

    The edges of the predicted and of the actual picture must lie upon each other, all over, and most blocks with
    texture must correlate.
    """
    if view.shown == (0, 0, *made.size) and view.scale.tolist() == [1.0, 1.0]:
        exact = apply(view.net, parent.crop(view.corners))
        if exact.tobytes() == made.tobytes():
            return 1.0
    source, target = _greys(parent, made, view, recoloured=recoloured)
    likeness = max(
        _likenesses(source, target, recoloured=recoloured), key=lambda like: min(like.correlation, like.share)
    )
    if min(likeness.correlation, likeness.share) < SAME:
        return 0.0
    return likeness.correlation if likeness.plain or _aligned(_edges(source), _edges(target)) else 0.0


def shared(parent: Image.Image, made: Image.Image, view: View) -> float:
    """How much of the shown part is what the view predicts, in [0, 1], where the parent has texture everywhere.

    The share of the blocks that correlate, or all where most do and the edges of every quarter lie upon each other.
    """
    source, target = _greys(parent, made, view, recoloured=True)
    share = max(like.share for like in _likenesses(source, target, recoloured=True))
    return 1.0 if share >= SAME and _aligned(_edges(source), _edges(target), PEAK) else share


def predicted(parent: Image.Image, view: View, size: tuple[int, int], method: Image.Resampling) -> Image.Image:
    """What `view` says that the shown part of the output looks like, at `size`."""
    part = parent.resize(map_size(inverse(view.net), size), method, box=view.box, reducing_gap=2.0)
    return apply(view.net, part)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Likeness:
    """How much two pictures show the same."""

    correlation: float
    """Median of |correlation| over blocks that have texture, in [0, 1]."""
    share: float
    """Share of those blocks that correlate by at least half, in [0, 1]."""
    plain: bool = False
    """Neither has texture; then both numbers tell whether their grey values are near."""


def _greys(parent: Image.Image, made: Image.Image, view: View, *, recoloured: bool) -> tuple[Floats, Floats]:
    """The predicted and the actual picture, small and grey.

    Where colours changed, the predicted one is the mixture of red, green and blue that is nearest to the actual one.
    """
    (u1, v1, u2, v2) = view.shown
    size = max(2, min(COMPARE_SIDE, round(u2 - u1))), max(2, min(COMPARE_SIDE, round(v2 - v1)))
    actual = made.resize(size, Image.Resampling.BILINEAR, box=view.shown, reducing_gap=2.0)
    target = np.asarray(actual.convert("L"), dtype=np.float32)
    colours = np.asarray(predicted(parent, view, size, Image.Resampling.BILINEAR), dtype=np.float32)
    if not recoloured:
        return np.asarray(cv2.cvtColor(colours, cv2.COLOR_RGB2GRAY), dtype=np.float32), target
    parts = np.column_stack([colours.reshape(-1, 3), np.ones(target.size, np.float32)])
    weights = np.linalg.lstsq(parts, target.ravel(), rcond=None)[0]
    return (parts @ weights).reshape(target.shape).astype(np.float32), target


def _likenesses(source: Floats, target: Floats, *, recoloured: bool) -> list[_Likeness]:
    """By grey values and, where colours changed, by edges as well.

    Where colours are kept, the output must have texture where the parent has it, and two plain pictures are alike when
    their grey values are; where they changed, only the texture of the output speaks.
    """
    pairs = [(source, target)]
    if recoloured:
        pairs += [(_edges(source), _edges(target)), (_edges(source), target)]
    return [_alike(*pair, recoloured=recoloured) for pair in pairs]


def _aligned(source: Floats, target: Floats, part_peak: float | None = None) -> bool:
    """The pictures lie upon each other, as a whole and in each quarter.

    Without `part_peak` a quarter with a peak lower than PART_PEAK may be off, with it none may have a lower peak.
    """
    high, wide = source.shape
    if min(high, wide) < SMALL:
        return True
    shift, peak = _shift(source, target)
    if shift > SHIFT or peak < PEAK:
        return False
    rows, columns = (slice(high // 2), slice(high // 2, None)), (slice(wide // 2), slice(wide // 2, None))
    if min(high, wide) < 2 * SMALL:
        parts = (
            [(slice(None), half) for half in columns] if wide >= 2 * SMALL else [(half, slice(None)) for half in rows]
        )
    else:
        parts = [(row, column) for row in rows for column in columns]
    found = [_shift(source[part], target[part]) for part in parts if min(source[part].shape) >= SMALL]
    if part_peak is None:
        return all(shift <= SHIFT or peak < PART_PEAK for shift, peak in found)
    return all(shift <= SHIFT and peak >= part_peak for shift, peak in found)


def _shift(source: Floats, target: Floats) -> tuple[float, float]:
    """How far the target is off, pixels, and how clear that is, about [0, 1]."""
    window = cv2.createHanningWindow(source.shape[::-1], cv2.CV_32F)
    (dx, dy), peak = cv2.phaseCorrelate(source - source.mean(), target - target.mean(), window)
    return float(np.hypot(dx, dy)), float(peak)


def _edges(grey: Floats) -> Floats:
    strength = cv2.magnitude(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1))
    return np.asarray(cv2.GaussianBlur(strength, (0, 0), 1.0), dtype=np.float32)


def _alike(one: Floats, other: Floats, *, recoloured: bool) -> _Likeness:
    a, b = _blocks(one), _blocks(other)
    mean_a, mean_b = a.mean(axis=1, keepdims=True), b.mean(axis=1, keepdims=True)
    a, b = a - mean_a, b - mean_b
    power_a, power_b = (a * a).mean(axis=1), (b * b).mean(axis=1)
    textured_a, textured_b = power_a > TEXTURE**2, power_b > TEXTURE**2
    textured = textured_b if recoloured else textured_a | textured_b
    if not textured.any():
        same = not recoloured and np.abs(mean_a - mean_b).max() <= NEAR
        return _Likeness(correlation=float(same), share=float(same), plain=True)
    if textured.sum() < SPEAKING * textured_a.sum():
        return _Likeness(correlation=0.0, share=0.0)
    scale = np.sqrt(power_a * power_b)
    correlation = np.divide(np.abs((a * b).mean(axis=1)), scale, out=np.zeros_like(scale), where=scale > 0)[textured]
    return _Likeness(correlation=float(np.median(correlation)), share=float((correlation >= 0.5).mean()))


def _blocks(grey: Floats) -> Floats:
    """Grey values as one row per block; what is left over at the right and the bottom is dropped."""
    down, right = (max(1, side // BLOCK_SIDE) for side in grey.shape)
    high, wide = grey.shape[0] // down, grey.shape[1] // right
    grey = grey[: down * high, : right * wide].reshape(down, high, right, wide)
    return grey.swapaxes(1, 2).reshape(down * right, high * wide)
