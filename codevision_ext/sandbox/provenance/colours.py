"""Names the operations that changed the colours, the sharpness or the content of an image, from its pixels.

The two images show the same view. An explanation counts only if it accounts for nearly all of the difference:

1. The result has only two colours: `threshold`, or `edge_detect` if they mark edges. It has no colours: `grayscale`.
2. A linear model fits: grey after = gain * grey before + offset + changes of gain in bands of spatial frequency. Gain
   and offset give the change of tone, and the bands give blur or sharpening; so chains of both are recognised.
3. A tone curve for each channel fits; the shape of the curves gives the name.
4. A filter gives the same result: median, minimum (`erode`), maximum (`dilate`), strong sharpening.
5. One part of the image changed and the rest didn't: `draw`.

If pixels can't distinguish several operations, the nearest name of their family is given:

* blur, smooth, gaussian_blur, sharpness_down: `smooth` where only the finest detail is lost, else `blur`;
* sharpen, detail, edge_enhance, sharpness_up: `detail`, `sharpen`, `edge_enhance`, by how much the finest detail gains;
* autocontrast, contrast_up: `autocontrast` where the result just fills the range; CLAHE is `contrast_up`;
* gain and offset: `brightness_*` through the origin or with gain 1, else `contrast_*`.

Changes that aren't explained (noise, compression, resampling, colour casts, channel swaps) or aren't visible have no
name.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from codevision_ext.sandbox.provenance.compare import Floats, Pixels
from codevision_ext.sandbox.provenance.tone_curves import LINE, VISIBLE, Levels, tone_name

Filter = Callable[..., NDArray[Any]]
Explanation = tuple[float, tuple[str, ...]]
"""Share of the change that an explanation accounts for, and the names."""
UNEXPLAINED: Explanation = (-np.inf, ())

WINDOW = 192
"""Side of the four parts of a large image that are compared, pixels."""
SAMPLES = 1 << 14
"""Number of pixels that are compared, about."""
BANDS = (3, 5, 9, 17, 31)
"""Sides of the box filters that separate the bands of spatial frequency, pixels."""
EXPLAINED = 0.9
"""Share of the squared difference that an explanation must account for."""
EXACT = 0.98
"""Share that a tone curve or a filter carried out must account for: they leave nothing open."""
LOCAL = 0.5
"""Share that is enough where every band gains, and each place by its own measure."""
ENOUGH = 0.2
"""Share of the pixels that must end between black and white to tell tone and sharpness from each other."""
NEGLIGIBLE = 0.02
"""Share that doesn't matter when explanations are compared."""
BAND_GAIN = 0.25
"""Distance of a band's gain from 1 up to which it is 1."""
FLAT = 0.2
"""Gain of the coarsest band under which an image shows nothing but edges."""
CHROMA_GAIN = 0.15
"""Distance from 1 up to which the gain of the distance of colours from grey is 1."""
SQUARE = {side: np.ones((side, side), np.uint8) for side in (3, 5, 7)}


def _blurred(window: Pixels, side: int) -> Floats:
    return np.asarray(cv2.blur(window.astype(np.float32), (side, side)))


def _sharpened(window: Pixels, gain: float) -> Floats:
    """Add the difference from a 3x3 mean, times `gain`, as PIL's SHARPEN, EDGE_ENHANCE and EDGE_ENHANCE_MORE do."""
    return np.clip(window + gain * (window - _blurred(window, 3)), 0, 255)


FILTERS: tuple[tuple[str, Filter, Any], ...] = (
    *(("median_blur", cv2.medianBlur, side) for side in SQUARE),
    *(("erode", cv2.erode, square) for square in SQUARE.values()),
    *(("dilate", cv2.dilate, square) for square in SQUARE.values()),
    ("sharpen", _sharpened, 1.125),
    ("edge_enhance", _sharpened, 4.5),
    ("edge_enhance", _sharpened, 9.0),
)
"""Filters that are carried out, with their setting: some aren't linear, others clip nearly all of a page of text."""


def colour_ops(before: Pixels, after: Pixels, *, exact: bool) -> tuple[str, ...]:
    """Return the canonical names of the optional operations that turned `before` into `after`; empty where unknown.

    Args:
        before: What the view alone predicts, RGB, shape (H, W, 3).
        after: The actual image, of the same shape.
        exact: True where pixels lie upon each other. Otherwise `after` was resampled and may be half a pixel off: then
            only half of the resolution is compared, and fine detail and small drawings are ignored.

    Raises:
        ValueError: the shapes differ.
    """
    if before.shape != after.shape or before.ndim != 3 or before.shape[2] != 3:
        raise ValueError(f"Two RGB images of one shape are needed, not {before.shape} and {after.shape}.")
    if min(before.shape[:2]) < 16:
        return ()
    if not exact:
        half = (before.shape[1] // 2, before.shape[0] // 2)
        before, after = (
            np.asarray(cv2.resize(side, half, interpolation=cv2.INTER_AREA), dtype=np.uint8) for side in (before, after)
        )
    pair = _Pair.sample(before, after)
    names = _global(pair, exact=exact) if pair.visible else ()
    return names or (_local(before, after) if exact else ())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pair:
    """Windows of both images, and the pixels of them that are compared.

    One number stands for a pixel: green, since channels are clipped one by one, or grey where no colours are left.
    """

    before: Pixels
    """The whole image before, shape (H, W, 3)."""
    windows: Sequence[Pixels]
    """Numbers before in whole windows, so that filters can be carried out."""
    pick: Callable[[NDArray[np.generic]], Floats]
    """Function that returns the compared pixels of a window, shape (m,): no margins, about SAMPLES pixels in all."""
    old: Floats
    """Colours before, shape (3, n)."""
    new: Floats
    """Colours after, shape (3, n)."""
    grey: bool
    """True where there were colours, and there are none."""
    x: Floats
    """Numbers before, shape (n,)."""
    y: Floats
    """Numbers after, shape (n,)."""

    @classmethod
    def sample(cls, before: Pixels, after: Pixels) -> "_Pair":
        parts = [(rows, columns) for rows in _parts(before.shape[0]) for columns in _parts(before.shape[1])]
        high, wide = before[parts[0]].shape[:2]
        margin = min(BANDS[-1] // 2, high // 8, wide // 8)
        step = max(1, round((len(parts) * (high - 2 * margin) * (wide - 2 * margin) / SAMPLES) ** 0.5))
        inner = (slice(margin, high - margin, step), slice(margin, wide - margin, step))

        def pick(window: NDArray[np.generic]) -> Floats:
            return window[inner].astype(np.float32).ravel()

        old, new = (
            np.stack([np.concatenate([pick(side[part][..., i]) for part in parts]) for i in range(3)])
            for side in (before, after)
        )
        colourless = not _visible(np.ptp(new, axis=0))
        windows = [_grey(before[part]) if colourless else before[part][..., 1].copy() for part in parts]
        return cls(
            before=before,
            windows=windows,
            pick=pick,
            old=old,
            new=new,
            grey=colourless and _visible(np.ptp(old, axis=0)),
            x=np.concatenate([pick(window) for window in windows]),
            y=new[1],
        )

    @property
    def visible(self) -> bool:
        """True where the change can be seen."""
        return _visible(np.abs(self.old - self.new).max(axis=0))

    @property
    def free(self) -> NDArray[np.bool_]:
        """Pixels that ended in neither the least nor the greatest level of any channel, shape (n,)."""
        return np.asarray((self.new.min(axis=0) > 1) & (self.new.max(axis=0) < 254))

    def filtered(self, apply: Filter, *settings: Any) -> Floats:
        """Return a filter's result on the numbers before, shape (n,)."""
        return np.concatenate([self.pick(apply(window, *settings)) for window in self.windows])

    def explained(self, predicted: Floats) -> float:
        """Return the share of the change that a prediction of the numbers after accounts for."""
        return _explained(self.x, self.y, predicted)


def _global(pair: _Pair, *, exact: bool) -> tuple[str, ...]:
    """Name the operations that changed the whole image."""
    names = ("grayscale",) if pair.grey else ()
    edges = pair.filtered(_gradient)
    if exact and _has_two_colours(pair.new) and not _has_two_colours(pair.old):
        detail = pair.x - pair.filtered(_blurred, 15)
        on_edges = abs(_correlation(pair.y, edges)) > abs(_correlation(pair.y, detail))
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
    """Explain the change by a tone line, changed bands of spatial frequency, or both."""
    blurred = [pair.x, *(pair.filtered(_blurred, side) for side in BANDS)]
    bands = np.stack([fine - coarse for fine, coarse in itertools.pairwise(blurred)], axis=1)
    tone = np.column_stack([*pair.old, pair.old.max(axis=0), np.full_like(pair.x, 128)])
    free = (pair.y > 1) & (pair.y < 254)
    if free.sum() < 200:
        return UNEXPLAINED
    none = np.zeros_like(pair.x)
    features = np.hstack([tone, bands])
    known = features[free]
    gram = (known.T @ known).astype(np.float64) + 0.01 * len(known) * np.eye(features.shape[1])

    def fit(columns: Sequence[int], base: Floats) -> tuple[float, Floats, NDArray[np.float64]]:
        """Fit these columns by least squares: the share explained, the prediction before clipping, the weights."""
        weights = np.zeros(features.shape[1])
        right = (known.T @ (pair.y - base)[free]).astype(np.float64)
        weights[columns] = np.linalg.solve(gram[np.ix_(columns, columns)], right[columns])
        predicted = base + features @ weights.astype(np.float32)
        return pair.explained(np.clip(predicted, 0, 255)), predicted, weights

    tones, spatial = np.split(np.arange(features.shape[1]), [5])
    fits = [fit(tones, none), fit(spatial, pair.x), fit([*tones, *spatial], none)]
    best = fits[-1][0]
    which = next(i for i, (share, *_) in enumerate(fits) if 1 - share <= 1.5 * (1 - best) + NEGLIGIBLE)
    share, predicted, weights = fits[which]
    if share < LOCAL or _is_cast(pair, predicted):
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
    if abs(gain) < FLAT:
        return share, ("edge_detect",)
    known_tone = names if free.mean() >= ENOUGH else ()
    return share, (*known_tone, *_sharpness(weights[spatial] / gain, bands, exact=exact))


def _sharpness(change: NDArray[np.float64], bands: Floats, *, exact: bool) -> tuple[str, ...]:
    """Name a change of gain in the bands, finest first."""
    if not exact:
        change = change * (np.arange(len(change)) > 0)
    most = int(np.argmax(np.abs(change) * bands.std(axis=0)))
    if abs(change[most]) < BAND_GAIN:
        return ()
    if change[most] < 0:
        return ("smooth" if most == 0 and change[1] > -BAND_GAIN else "blur",)
    return ("detail" if change[most] < 0.5 else "sharpen" if change[most] < 1.5 else "edge_enhance",)


def _is_cast(pair: _Pair, predicted: Floats) -> bool:
    """Tell whether hues shifted: the result isn't what `predicted` numbers, shape (n,), and the old hues would make."""
    if pair.grey:
        return False
    old, new = pair.old - pair.old[1], pair.new - pair.new[1]
    free = pair.free
    power = float((old[:, free] ** 2).sum())
    gain = float((old[:, free] * new[:, free]).sum()) / power if power > free.sum() else 1.0
    error = pair.new - np.clip(predicted + gain * old, 0, 255)
    return bool(np.ptp(error.mean(axis=1)) > VISIBLE)


def _curves(pair: _Pair, *, exact: bool) -> Explanation:
    """Explain the change by one tone curve, or by one of each channel that all have the same name."""
    curves = np.stack([_curve(before, after) for before, after in zip(pair.old, pair.new, strict=True)])
    predicted = np.stack([curve[before.astype(np.uint8)] for before, curve in zip(pair.old, curves, strict=True)])
    share = _explained(pair.old, pair.new, predicted)
    if pair.grey or share < (EXACT if exact else EXPLAINED):
        return UNEXPLAINED
    shares = np.stack([_shares(pair.before[..., channel]) for channel in range(3)])
    known = np.isfinite(curves)
    low, high = np.where(known, curves, np.inf).min(axis=0), np.where(known, curves, -np.inf).max(axis=0)
    if (high - low).max() <= LINE / 2:  # one curve for all channels
        return share, tone_name(np.where(known.any(axis=0), low, np.nan), shares.mean(axis=0))
    names = [ops for curve, counts in zip(curves, shares, strict=True) if (ops := tone_name(curve, counts))]
    return share, names[0] if len(names) >= 2 and len(set(names)) == 1 else ()


def _curve(before: Floats, after: Floats) -> Levels:
    """Return the mean level after for each level before, NaN for levels that no pixel has."""
    levels = before.astype(np.uint8)
    counts = np.bincount(levels, minlength=256).astype(np.float64)
    sums = np.bincount(levels, weights=after, minlength=256)
    return np.asarray(np.divide(sums, counts, out=np.full(256, np.nan), where=counts > 0))


def _shares(levels: Pixels) -> Levels:
    return cv2.calcHist([np.ascontiguousarray(levels)], [0], None, [256], [0, 256]).ravel() / np.float64(levels.size)


def _saturation(pair: _Pair, gain: float) -> tuple[str, ...]:
    """Name a change of the distance of colours from grey, beyond the gain of the grey values."""
    before, after = ((side - side.mean(axis=0))[:, pair.free] for side in (pair.old, pair.new))
    power = float((before**2).sum())
    if power < before.size / 3 or _correlation(before.ravel(), after.ravel()) < EXPLAINED:
        return ()
    chroma = float((before * after).sum()) / power
    beyond = chroma / max(gain, 0.1)
    if min(chroma, beyond) > 1 + CHROMA_GAIN:
        return ("color_up",)
    return ("color_down",) if max(chroma, beyond) < 1 - CHROMA_GAIN else ()


def _filters(pair: _Pair) -> Explanation:
    """Explain the change by the filter carried out that accounts for most, if it leaves nothing open."""
    best = max((pair.explained(pair.filtered(apply, setting)), (name,)) for name, apply, setting in FILTERS)
    return best if best[0] >= EXACT else UNEXPLAINED


def _edges_only(pair: _Pair, edges: Floats) -> bool:
    """Tell whether the image is bright where it had edges, and shows nothing else of what it had."""
    same = _correlation(pair.y, pair.x)
    return same < 0.3 and _correlation(pair.y, edges) > max(0.7, 0.1 - same)


def _local(before: Pixels, after: Pixels) -> tuple[str, ...]:
    """Return `draw` where a part that can be seen was changed and the rest wasn't."""
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
    """Tell whether most touched pixels have colours that were touched everywhere: a recolouring, not a drawing."""
    red, green, blue = (before[..., channel].astype(np.int32) >> 3 for channel in range(3))
    colours = ((red << 10) + (green << 5) + blue).ravel()
    all_over = np.bincount(colours, minlength=1 << 15)
    there = np.bincount(colours[touched.ravel()], minlength=1 << 15)
    return bool(there[there > 0.7 * all_over].sum() > 0.5 * there.sum())


def _parts(side: int) -> list[slice]:
    """Return the windows along an axis of `side` pixels."""
    if side <= 2 * WINDOW:
        return [slice(0, side)]
    return [slice(start, start + WINDOW) for start in (side // 4 - WINDOW // 2, side - side // 4 - WINDOW // 2)]


def _visible(change: Floats) -> bool:
    """Tell whether at least one pixel in a hundred changed by VISIBLE."""
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
    """Return the share of the squared change, and of the variance after, that a prediction explains: the lesser one."""
    error = float(((after - predicted) ** 2).sum())
    least = min(float(((after - before) ** 2).sum()), float(((after - after.mean(axis=-1, keepdims=True)) ** 2).sum()))
    return 1 - error / least if least else -np.inf


def _correlation(one: Floats, other: Floats) -> float:
    a, b = one - one.mean(), other - other.mean()
    power = float((a * a).sum() * (b * b).sum())
    return float((a * b).sum()) / power**0.5 if power else 0.0
