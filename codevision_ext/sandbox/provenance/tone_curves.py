"""Names the operation behind a tone curve, which maps each grey level to its new level."""

import numpy as np
from numpy.typing import NDArray

Levels = NDArray[np.float64]
"""One number for each of the 256 levels."""

VISIBLE = 6.0
"""Minimum change that is visible, grey levels."""
STRAIGHT = 4.0
"""Maximum distance of a linear tone curve from its line, grey levels."""
GAIN = 0.06
"""Maximum distance of a gain from 1 that counts as no gain."""
MIN_SHARE = 1e-4
"""Minimum share of pixels at a level for the level to count."""


def tone_name(levels: Levels, counts: Levels) -> tuple[str, ...]:
    """Name a tone curve; empty if it has no name or the change is invisible.

    Args:
        levels: New level for each old level, NaN if unknown.
        counts: Share of the pixels with each old level.
    """
    at = np.flatnonzero((counts >= MIN_SHARE) & np.isfinite(levels))
    if len(at) < 2:
        return ()
    curve, share = levels[at], counts[at] / counts[at].sum()
    change = curve - at
    if np.abs(change).max() < VISIBLE:
        return ()
    if _is_solarized(at, curve, share):
        return ("solarize",)
    inner = (curve > 1) & (curve < 254)
    if inner.sum() < 2 or np.ptp(at[inner]) < 8:
        inner = np.ones_like(inner)
    gain, offset = np.polyfit(at[inner], curve[inner], 1)
    if gain < -0.3:
        return ("invert", *tone_name(255 - levels, counts))
    if _is_posterized(at, curve, share):
        return ("posterize",)
    if len(at) >= 4 and _is_equalized(curve, share):
        return ("equalize",)
    if np.abs(np.clip(gain * at + offset, 0, 255) - curve).max() <= STRAIGHT:
        low, high = gain * at[0] + offset, gain * at[-1] + offset
        if gain > 1 + GAIN and offset < -STRAIGHT and abs(low) <= 2 * STRAIGHT and abs(high - 255) <= 2 * STRAIGHT:
            return ("autocontrast",)
        if abs(offset) <= STRAIGHT:
            return ("brightness_up" if gain > 1 else "brightness_down",)
        shifted = abs(gain - 1) * at.std() < abs(change.mean()) / 2
    elif len(at) < 5 or np.diff(curve).min() < -STRAIGHT:
        return ()
    else:
        shifted = change.min() >= -STRAIGHT or change.max() <= STRAIGHT
    if shifted:
        return ("brightness_up" if change.mean() > 0 else "brightness_down",)
    return ("contrast_up" if gain > 1 else "contrast_down",)


def _is_posterized(at: NDArray[np.int64], curve: Levels, share: Levels) -> bool:
    """Tell whether low bits were cleared or replaced by the middle of their range, or the curve is a staircase."""
    for bits in range(3, 8):
        above = curve - (at & (256 - (1 << bits)))
        mean = float((share * above).sum())
        if -1 < mean < (1 << bits) / 2 + 1 and float((share * (above - mean) ** 2).sum()) < 1:
            return True
    stairs, step_widths = np.unique(np.rint(curve[(curve > 1) & (curve < 254)]), return_counts=True)
    return (
        len(at) > 12
        and (step_widths >= 3).sum() >= max(2, 0.8 * len(stairs))
        and bool(np.abs(curve - at).max() <= 1.5 * max(np.diff(stairs).max(), at[0], 255 - at[-1]))
    )


def _is_equalized(curve: Levels, share: Levels) -> bool:
    """Tell whether the curve is the cumulative histogram: OpenCV's, or PIL's, which leaves out the last level."""
    below = np.cumsum(share)
    counted = (below - share) / (1 - share[-1]), (below - share[0]) / (1 - share[0])
    return any(float((share * (curve - 255 * levels) ** 2).sum()) < VISIBLE**2 for levels in counted)


def _is_solarized(at: NDArray[np.int64], curve: Levels, share: Levels) -> bool:
    """Tell whether the curve is the identity below some level and inverted above it."""
    unchanged = np.cumsum(share * (curve - at) ** 2)
    inverted = share * (curve - 255 + at) ** 2
    error = unchanged + inverted.sum() - np.cumsum(inverted)
    below = np.cumsum(share)
    parted = (below > 0.01) & (below < 0.99)
    return bool(parted.any() and error[parted].min() < (STRAIGHT / 2) ** 2)
