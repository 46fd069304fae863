"""Names operations that changed colours, sharpness or content, by comparing two images of the same view.

An explanation counts only if it accounts for nearly all of the difference:

1. A result with two colours is a `threshold`, or `edge_detect` if they mark edges; one without colours `grayscale`.
2. A linear model fits: grey after = gain * grey before + offset + changes of gain in bands of spatial frequency. Gain
   and offset give the change of tone, the bands give blur or sharpening. Chains of both are recognised.
3. A tone curve for each channel fits; the shape of the curves gives the name.
4. A filter gives the same result: median, minimum (`erode`), maximum (`dilate`), strong sharpening.
5. Only a part of the image changed: `draw`.

Operations that pixels can't distinguish share a name:

* blur, smooth, gaussian_blur, sharpness_down: `smooth` if only the finest detail is lost, else `blur`;
* sharpen, detail, edge_enhance, sharpness_up: `detail`, `sharpen` or `edge_enhance`, by the gain of the finest detail;
* autocontrast, contrast_up: `autocontrast` if the result just fills the range, else `contrast_up` (also CLAHE);
* gain and offset: `brightness_*` if the offset is 0 or the gain is 1, else `contrast_*`.

Invisible and unexplained changes (noise, compression, resampling, colour casts, channel swaps) have no name.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from codevision_ext.sandbox.provenance.compare import Floats, Pixels, correlation
from codevision_ext.sandbox.provenance.tone_curves import STRAIGHT, VISIBLE, Levels, tone_name

Filter = Callable[..., NDArray[Any]]
Explanation = tuple[float, tuple[str, ...]]
"""Share of the change that an explanation accounts for, and the names of its operations."""
UNEXPLAINED: Explanation = (-np.inf, ())

WINDOW = 192
"""Side of each of the four windows of a large image that are compared, pixels."""
SAMPLES = 1 << 14
"""Approximate number of pixels that are compared."""
BANDS = (3, 5, 9, 17, 31)
"""Sides of the box filters that separate the bands of spatial frequency, pixels."""
EXPLAINED = 0.9
"""Minimum share of the squared difference that an explanation must account for."""
EXACT = 0.98
"""Minimum share that a tone curve or a simulated filter must account for; neither fits noise."""
LOCAL_SHARE = 0.5
"""Minimum share that a local contrast change must account for, in which every band gains."""
MIN_UNCLIPPED = 0.2
"""Minimum share of unclipped pixels for distinguishing tone from sharpness."""
NEGLIGIBLE = 0.02
"""Share that is ignored when explanations are compared."""
BAND_GAIN = 0.25
"""Maximum distance of a band's gain from 1 that counts as no change."""
MIN_COARSE_GAIN = 0.2
"""Gain of the tone below which the result shows edges only."""
CHROMA_GAIN = 0.15
"""Maximum distance of the gain of saturation from 1 that counts as no change."""
SQUARE = {side: np.ones((side, side), np.uint8) for side in (3, 5, 7)}


def _blurred(window: Pixels, side: int) -> Floats:
    return np.asarray(cv2.blur(window.astype(np.float32), (side, side)))


def _sharpened(window: Pixels, gain: float) -> Floats:
    """Add `gain` times the difference from a 3x3 mean, as PIL's SHARPEN, EDGE_ENHANCE and EDGE_ENHANCE_MORE do."""
    return np.clip(window + gain * (window - _blurred(window, 3)), 0, 255)


FILTERS: tuple[tuple[str, Filter, Any], ...] = (
    *(("median_blur", cv2.medianBlur, side) for side in SQUARE),
    *(("erode", cv2.erode, square) for square in SQUARE.values()),
    *(("dilate", cv2.dilate, square) for square in SQUARE.values()),
    ("sharpen", _sharpened, 1.125),
    ("edge_enhance", _sharpened, 4.5),
    ("edge_enhance", _sharpened, 9.0),
)
"""Names, functions and settings of filters that are simulated; a linear model doesn't fit them."""


def colour_ops(before: Pixels, after: Pixels, *, exact: bool) -> tuple[str, ...]:
    """Return the canonical names of the operations that turned `before` into `after`; empty if unknown.

    Args:
        before: Image that the view alone predicts, RGB, shape (H, W, 3).
        after: Actual image, of the same shape.
        exact: True if pixels are aligned. False if `after` was resampled and may be shifted by half a pixel; then the
            images are compared at half the resolution, and fine detail and small drawings are ignored.

    Raises:
        ValueError: the shapes differ.
    """
    if before.shape != after.shape or before.ndim != 3 or before.shape[2] != 3:
        raise ValueError(f"expected two RGB images of equal shape, not {before.shape} and {after.shape}")
    if min(before.shape[:2]) < 16:
        return ()
    if not exact:
        half = (before.shape[1] // 2, before.shape[0] // 2)
        before, after = (
            np.asarray(cv2.resize(side, half, interpolation=cv2.INTER_AREA), dtype=np.uint8) for side in (before, after)
        )
    pair = _Pair.sample(before, after)
    names = _global_ops(pair, exact=exact) if pair.visible else ()
    return names or (_local_ops(before, after) if exact else ())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pair:
    """Compared pixels of both images.

    `x`, `y` and `windows` hold one number per pixel: green, because channels are clipped separately, or grey if the
    result has no colours.
    """

    before: Pixels
    """Whole image before the change, shape (H, W, 3)."""
    windows: Sequence[Pixels]
    """Numbers before the change in whole windows, to which filters can be applied."""
    sampled: Callable[[NDArray[np.generic]], Floats]
    """Function that returns the compared pixels of a window, shape (m,), without margins."""
    old: Floats
    """Colours before, shape (3, n)."""
    new: Floats
    """Colours after, shape (3, n)."""
    grey: bool
    """True if the image lost its colours."""
    x: Floats
    """Numbers before, shape (n,)."""
    y: Floats
    """Numbers after, shape (n,)."""

    @classmethod
    def sample(cls, before: Pixels, after: Pixels) -> "_Pair":
        parts = [(rows, columns) for rows in _parts(before.shape[0]) for columns in _parts(before.shape[1])]
        height, width = before[parts[0]].shape[:2]
        margin = min(BANDS[-1] // 2, height // 8, width // 8)
        step = max(1, round((len(parts) * (height - 2 * margin) * (width - 2 * margin) / SAMPLES) ** 0.5))
        inner = (slice(margin, height - margin, step), slice(margin, width - margin, step))

        def sampled(window: NDArray[np.generic]) -> Floats:
            return window[inner].astype(np.float32).ravel()

        old, new = (
            np.stack([np.concatenate([sampled(side[part][..., i]) for part in parts]) for i in range(3)])
            for side in (before, after)
        )
        colourless = not _visible(np.ptp(new, axis=0))
        windows = [_grey(before[part]) if colourless else before[part][..., 1].copy() for part in parts]
        return cls(
            before=before,
            windows=windows,
            sampled=sampled,
            old=old,
            new=new,
            grey=colourless and _visible(np.ptp(old, axis=0)),
            x=np.concatenate([sampled(window) for window in windows]),
            y=new[1],
        )

    @property
    def visible(self) -> bool:
        """True if the change is visible."""
        return _visible(np.abs(self.old - self.new).max(axis=0))

    @property
    def unclipped(self) -> NDArray[np.bool_]:
        """Mask of the pixels whose channels are neither black nor white after the change, shape (n,)."""
        return np.asarray((self.new.min(axis=0) > 1) & (self.new.max(axis=0) < 254))

    def filtered(self, apply: Filter, *settings: Any) -> Floats:
        """Apply a filter to the numbers before, shape (n,)."""
        return np.concatenate([self.sampled(apply(window, *settings)) for window in self.windows])

    def explained(self, predicted: Floats) -> float:
        """Return the share of the change that a prediction of `y` accounts for."""
        return _explained(self.x, self.y, predicted)


def _global_ops(pair: _Pair, *, exact: bool) -> tuple[str, ...]:
    """Name the operations that changed the whole image."""
    names = ("grayscale",) if pair.grey else ()
    edges = pair.filtered(_gradient)
    if exact and _has_two_colours(pair.new) and not _has_two_colours(pair.old):
        detail = pair.x - pair.filtered(_blurred, 15)
        on_edges = abs(correlation(pair.y, edges)) > abs(correlation(pair.y, detail))
        return (*names, "edge_detect" if on_edges else "threshold")
    if not _visible(np.abs(pair.x - pair.y)):
        return names or (() if _is_cast(pair, pair.y) else _saturation(pair, 1.0))
    explanations = [_lines(pair, exact=exact), _curves(pair, exact=exact)]
    if exact and all(share < 1 - NEGLIGIBLE for share, ops in explanations if ops):
        explanations.append(_filters(pair))
    best = UNEXPLAINED
    for share, ops in explanations:
        if ops and 1 - share < (1 - best[0]) / 2:
            best = share, ops
    if best[0] >= EXPLAINED:
        return (*names, *best[1])
    return (*names, *(("edge_detect",) if _edges_only(pair, edges) else explanations[0][1]))


def _lines(pair: _Pair, *, exact: bool) -> Explanation:
    """Explain the change by a linear tone curve, by gains of bands of spatial frequency, or both."""
    blurred = [pair.x, *(pair.filtered(_blurred, side) for side in BANDS)]
    bands = np.stack([fine - coarse for fine, coarse in itertools.pairwise(blurred)], axis=1)
    tone = np.column_stack([*pair.old, pair.old.max(axis=0), np.full_like(pair.x, 128)])
    unclipped = (pair.y > 1) & (pair.y < 254)
    if unclipped.sum() < 200:
        return UNEXPLAINED
    none = np.zeros_like(pair.x)
    features = np.hstack([tone, bands])
    known = features[unclipped]
    gram = (known.T @ known).astype(np.float64) + 0.01 * len(known) * np.eye(features.shape[1])

    def fit(columns: Sequence[int], base: Floats) -> tuple[float, Floats, NDArray[np.float64]]:
        """Fit columns by least squares; return the explained share, the unclipped prediction and the weights."""
        weights = np.zeros(features.shape[1])
        right = (known.T @ (pair.y - base)[unclipped]).astype(np.float64)
        weights[columns] = np.linalg.solve(gram[np.ix_(columns, columns)], right[columns])
        predicted = base + features @ weights.astype(np.float32)
        return pair.explained(np.clip(predicted, 0, 255)), predicted, weights

    tones, spatial = np.split(np.arange(features.shape[1]), [5])
    fits = [fit(tones, none), fit(spatial, pair.x), fit([*tones, *spatial], none)]
    best = fits[-1][0]
    which = next(i for i, (share, *_) in enumerate(fits) if 1 - share <= 1.5 * (1 - best) + NEGLIGIBLE)
    share, predicted, weights = fits[which]
    if share < LOCAL_SHARE or _is_cast(pair, predicted):
        return UNEXPLAINED
    if share < EXPLAINED:
        gains = (weights[:4].sum() + weights[spatial])[bands.std(axis=0) > 2]
        lifted = len(gains) > 2 and gains.min() > 1 + BAND_GAIN
        return share, ("contrast_up",) if lifted else ()
    if which == 1:
        return share, _sharpness(weights[spatial], bands, exact=exact)
    gain, offset = float(weights[:4].sum()), float(weights[4] * 128)
    names = tone_name(np.clip(gain * np.arange(256) + offset, 0, 255), _shares(pair.x.astype(np.uint8)))
    if which == 0:
        return share, (*names, *(() if pair.grey else _saturation(pair, gain)))
    if abs(gain) < MIN_COARSE_GAIN:
        return share, ("edge_detect",)
    known_tone = names if unclipped.mean() >= MIN_UNCLIPPED else ()
    return share, (*known_tone, *_sharpness(weights[spatial] / gain, bands, exact=exact))


def _sharpness(change: NDArray[np.float64], bands: Floats, *, exact: bool) -> tuple[str, ...]:
    """Name the change of gain in the bands, which are ordered from fine to coarse."""
    if not exact:
        change = change * (np.arange(len(change)) > 0)
    most = int(np.argmax(np.abs(change) * bands.std(axis=0)))
    if abs(change[most]) < BAND_GAIN:
        return ()
    if change[most] < 0:
        return ("smooth" if most == 0 and change[1] > -BAND_GAIN else "blur",)
    return ("detail" if change[most] < 0.5 else "sharpen" if change[most] < 1.5 else "edge_enhance",)


def _is_cast(pair: _Pair, predicted: Floats) -> bool:
    """Tell whether hues shifted: the result differs from `predicted`, shape (n,), combined with the old hues."""
    if pair.grey:
        return False
    old, new = pair.old - pair.old[1], pair.new - pair.new[1]
    unclipped = pair.unclipped
    power = float((old[:, unclipped] ** 2).sum())
    gain = float((old[:, unclipped] * new[:, unclipped]).sum()) / power if power > unclipped.sum() else 1.0
    error = pair.new - np.clip(predicted + gain * old, 0, 255)
    return bool(np.ptp(error.mean(axis=1)) > VISIBLE)


def _curves(pair: _Pair, *, exact: bool) -> Explanation:
    """Explain the change by one tone curve, or by a curve for each channel if their names agree."""
    curves = np.stack([_curve(before, after) for before, after in zip(pair.old, pair.new, strict=True)])
    predicted = np.stack([curve[before.astype(np.uint8)] for before, curve in zip(pair.old, curves, strict=True)])
    share = _explained(pair.old, pair.new, predicted)
    if pair.grey or share < (EXACT if exact else EXPLAINED):
        return UNEXPLAINED
    shares = np.stack([_shares(pair.before[..., channel]) for channel in range(3)])
    known = np.isfinite(curves)
    low, high = np.where(known, curves, np.inf).min(axis=0), np.where(known, curves, -np.inf).max(axis=0)
    if (high - low).max() <= STRAIGHT / 2:  # one curve for all channels
        return share, tone_name(np.where(known.any(axis=0), low, np.nan), shares.mean(axis=0))
    names = [ops for curve, counts in zip(curves, shares, strict=True) if (ops := tone_name(curve, counts))]
    return share, names[0] if len(names) >= 2 and len(set(names)) == 1 else ()


def _curve(before: Floats, after: Floats) -> Levels:
    """Return the mean new level for each old level, NaN for levels that no pixel has."""
    levels = before.astype(np.uint8)
    counts = np.bincount(levels, minlength=256).astype(np.float64)
    sums = np.bincount(levels, weights=after, minlength=256)
    return np.asarray(np.divide(sums, counts, out=np.full(256, np.nan), where=counts > 0))


def _shares(levels: Pixels) -> Levels:
    return cv2.calcHist([np.ascontiguousarray(levels)], [0], None, [256], [0, 256]).ravel() / np.float64(levels.size)


def _saturation(pair: _Pair, gain: float) -> tuple[str, ...]:
    """Name a change of saturation that exceeds the gain of the grey values."""
    before, after = ((side - side.mean(axis=0))[:, pair.unclipped] for side in (pair.old, pair.new))
    power = float((before**2).sum())
    if power < before.size / 3 or correlation(before.ravel(), after.ravel()) < EXPLAINED:
        return ()
    chroma = float((before * after).sum()) / power
    beyond = chroma / max(gain, 0.1)
    if min(chroma, beyond) > 1 + CHROMA_GAIN:
        return ("color_up",)
    return ("color_down",) if max(chroma, beyond) < 1 - CHROMA_GAIN else ()


def _filters(pair: _Pair) -> Explanation:
    """Explain the change by the best of FILTERS if it accounts for EXACT."""
    best = max((pair.explained(pair.filtered(apply, setting)), (name,)) for name, apply, setting in FILTERS)
    return best if best[0] >= EXACT else UNEXPLAINED


def _edges_only(pair: _Pair, edges: Floats) -> bool:
    """Tell whether the result correlates with the edges of the image before, and not with its grey values."""
    same = correlation(pair.y, pair.x)
    return same < 0.3 and correlation(pair.y, edges) > max(0.7, 0.1 - same)


def _local_ops(before: Pixels, after: Pixels) -> tuple[str, ...]:
    """Return `draw` if a visible part changed and the rest didn't."""
    red, green, blue = cv2.split(cv2.absdiff(before, after))
    change = cv2.max(cv2.max(red, green), blue)
    touched, strong = change > 2, (change > 24).astype(np.uint8)
    if touched.mean() > 0.5 or strong.sum() < 0.5 * touched.sum() or _follows_colour(before, touched):
        return ()
    _, _, stats, _ = cv2.connectedComponentsWithStats(strong)
    parts = stats[1:]
    sizes = parts[np.maximum(parts[:, cv2.CC_STAT_WIDTH], parts[:, cv2.CC_STAT_HEIGHT]) >= 8, cv2.CC_STAT_AREA]
    return ("draw",) if sizes.sum() >= max(40, 2e-4 * change.size) else ()


def _follows_colour(before: Pixels, touched: NDArray[np.bool_]) -> bool:
    """Tell whether whole colours were changed, wherever they occur: a recolouring, not a drawing."""
    red, green, blue = (before[..., channel].astype(np.int32) >> 3 for channel in range(3))
    colours = ((red << 10) + (green << 5) + blue).ravel()
    counts = np.bincount(colours, minlength=1 << 15)
    touched_counts = np.bincount(colours[touched.ravel()], minlength=1 << 15)
    return bool(touched_counts[touched_counts > 0.7 * counts].sum() > 0.5 * touched_counts.sum())


def _parts(side: int) -> list[slice]:
    """Return the windows along an axis of `side` pixels."""
    if side <= 2 * WINDOW:
        return [slice(0, side)]
    return [slice(start, start + WINDOW) for start in (side // 4 - WINDOW // 2, side - side // 4 - WINDOW // 2)]


def _visible(change: Floats) -> bool:
    """Tell whether at least 1 % of the pixels changed by VISIBLE levels."""
    return bool(np.mean(change >= VISIBLE) >= 0.01)


def _has_two_colours(rgb: Floats) -> bool:
    codes = np.array([1, 256, 65536], np.float32) @ rgb
    low, high = codes.min(), codes.max()
    return bool(low < high and ((codes == low) | (codes == high)).all())


def _grey(rgb: Pixels) -> Pixels:
    return np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY))


def _gradient(window: Pixels) -> Floats:
    return np.hypot(*(cv2.Sobel(window, cv2.CV_32F, *way, scale=1 / 8) for way in ((1, 0), (0, 1))))


def _explained(before: Floats, after: Floats, predicted: NDArray[np.floating]) -> float:
    """Return the share that a prediction explains of the squared change, or of the variance after if that is less."""
    error = float(((after - predicted) ** 2).sum())
    least = min(float(((after - before) ** 2).sum()), float(((after - after.mean(axis=-1, keepdims=True)) ** 2).sum()))
    return 1 - error / least if least else -np.inf
