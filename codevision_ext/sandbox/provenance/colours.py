"""Which named operations changed the colours, the sharpness or the content of a picture, read from its pixels.

The two pictures show the same view. Each explanation is carried out or fitted, and counts only where it accounts for
nearly all of the difference:

1. Two colours left: `threshold`, or `edge_detect` where they mark edges. No colours left: `grayscale`.
2. One linear model: grey after = gain * grey before + offset + changes of gain in four bands of spatial frequency.
   The gain and the offset are a tone curve, the bands tell blur from sharpening; so chains of these are seen as well.
3. A tone curve for each channel, or for grey: whatever shape it has gives the name.
4. Filters that aren't linear, carried out: median, minimum (`erode`), maximum (`dilate`), edges.
5. A part changed, the rest didn't: `draw`.

What pixels can't tell apart gets the nearest name of its family:

* blur, smooth, gaussian_blur, sharpness_down: `smooth` where only the finest detail is lost, else `blur`;
* sharpen, detail, edge_enhance, sharpness_up: `detail`, `sharpen`, `edge_enhance`, by how much the finest detail gains;
* autocontrast, contrast_up: `autocontrast` where the result just fills the range; CLAHE is `contrast_up`;
* gain and offset: `brightness_*` through the origin or with gain 1, else `contrast_*`.

Nothing is named for what isn't explained (noise, compression, resampling, casts, channel swaps) or too little to see.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]
Levels = NDArray[np.float64]
"""One number for each of the 256 levels."""
Filter = Callable[..., NDArray[Any]]
Explanation = tuple[float, tuple[str, ...]]
"""The share of the change that it accounts for, and the names."""

WINDOW = 192
"""Side of the four parts of a large picture that are looked at, pixels."""
SAMPLES = 1 << 14
"""About how many pixels are compared."""
BANDS = (3, 5, 9, 17, 31)
"""Sides of the box filters that part the bands of spatial frequency, pixels."""
VISIBLE = 6.0
"""Grey levels by which at least one pixel in a hundred must change."""
EXPLAINED = 0.9
"""Share of the squared difference that an explanation must account for."""
SAME = 0.98
"""The same for a tone curve or a filter carried out, which leave nothing open."""
LOCAL = 0.5
"""The same where every band gains, and each place by its own measure."""
ENOUGH = 0.2
"""Share of the pixels that must end between black and white to tell tone and sharpness from each other."""
UNEXPLAINED = 0.02
"""Share that doesn't matter when explanations are compared."""
GREY = np.array([0.299, 0.587, 0.114], np.float32)
"""What red, green and blue add to grey (ITU-R BT.601)."""
LINE = 4.0
"""How far a tone curve may be from a straight line, grey levels."""
GAIN = 0.06
"""A tone curve's gain closer than this to 1 is 1."""
BAND_GAIN = 0.25
"""The same for the gain of a band of spatial frequency."""
FLAT = 0.2
"""Gain of the coarsest band under which a picture shows nothing but edges."""
CHROMA_GAIN = 0.15
"""The same for the distance of colours from grey."""
STRETCHED = ("autocontrast", "contrast_up", "equalize")
"""Names that the channels may share out among them."""
USED = 1e-4
"""Share of the pixels that a level needs to have a say."""
SQUARE = {side: np.ones((side, side), np.uint8) for side in (3, 5, 7)}
_WHOLE = np.diag(np.array([0, 1, 0], np.float32))
_BEYOND = _WHOLE - np.full((3, 3), 1 / 9, np.float32)


def _convolved(window: Pixels, kernel: Floats) -> Pixels:
    return np.asarray(cv2.filter2D(window, -1, kernel), dtype=np.uint8)


FILTERS: tuple[tuple[str, Filter, Any], ...] = (
    *(("median_blur", cv2.medianBlur, side) for side in SQUARE),
    *(("erode", cv2.erode, square) for square in SQUARE.values()),
    *(("dilate", cv2.dilate, square) for square in SQUARE.values()),
    ("sharpen", _convolved, _WHOLE + 1.125 * _BEYOND),
    ("sharpen", _convolved, np.array([[0, -1, 0], [-1, 5, -1], [0, -1, 0]], np.float32)),
    ("edge_enhance", _convolved, _WHOLE + 4.5 * _BEYOND),
    ("edge_enhance", _convolved, _WHOLE + 9 * _BEYOND),
)
"""What is carried out: filters that aren't linear, and some that leave hardly a pixel of a page of text unclipped."""


def colour_ops(before: Pixels, after: Pixels, *, exact: bool) -> tuple[str, ...]:
    """Canonical names of the optional operations that turned `before` into `after`; empty where that is unknown.

    Args:
        before: What the view alone predicts, RGB, shape (H, W, 3).
        after: What is there, of the same shape.
        exact: Pixels lie upon each other. Otherwise `after` was resampled and may be half a pixel off: then only half
            of the resolution is looked at, and fine detail and small drawings say nothing.

    Raises:
        ValueError: the shapes differ.
    """
    if before.shape != after.shape or before.ndim != 3 or before.shape[2] != 3:
        raise ValueError(f"Two RGB pictures of one shape are needed, not {before.shape} and {after.shape}.")
    if min(before.shape[:2]) < 16:
        return ()
    if not exact:
        half = (before.shape[1] // 2, before.shape[0] // 2)
        before, after = (
            np.asarray(cv2.resize(side, half, interpolation=cv2.INTER_AREA), dtype=np.uint8) for side in (before, after)
        )
    pair = _Pair.sample(before, after)
    named = _global(pair, exact=exact) if pair.visible else ()
    return named or _local(before, after, exact=exact)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pair:
    """Windows of both pictures, and the pixels of them that are compared.

    One number stands for a pixel: green, since channels are clipped one by one, or grey where no colours are left.
    """

    before: Pixels
    """The whole picture, shape (H, W, 3)."""
    windows: Sequence[Pixels]
    """Numbers before, whole windows, so that filters can be carried out."""
    pick: Callable[[NDArray[np.generic]], Floats]
    """What is compared of a window, shape (m,): no margins, about SAMPLES pixels in all at most."""
    rgb: Floats
    """Before, shape (3, n)."""
    made: Floats
    """After, shape (3, n)."""
    grey: bool
    """There were colours, and there are none."""
    x: Floats
    """Numbers before, shape (n,)."""
    y: Floats
    """Numbers after."""

    @classmethod
    def sample(cls, before: Pixels, after: Pixels) -> "_Pair":
        parts = [(rows, columns) for rows in _parts(before.shape[0]) for columns in _parts(before.shape[1])]
        high, wide = before[parts[0]].shape[:2]
        margin = min(BANDS[-1] // 2, high // 8, wide // 8)
        step = max(1, round((len(parts) * (high - 2 * margin) * (wide - 2 * margin) / SAMPLES) ** 0.5))
        inner = (slice(margin, high - margin, step), slice(margin, wide - margin, step))

        def pick(window: NDArray[np.generic]) -> Floats:
            return window[inner].astype(np.float32).ravel()

        rgb, made = (
            np.stack([np.concatenate([pick(side[part][..., i]) for part in parts]) for i in range(3)])
            for side in (before, after)
        )
        colourless = not _seen(np.ptp(made, axis=0))
        windows = [_grey(before[part]) if colourless else before[part][..., 1].copy() for part in parts]
        return cls(
            before=before,
            windows=windows,
            pick=pick,
            rgb=rgb,
            made=made,
            grey=colourless and _seen(np.ptp(rgb, axis=0)),
            x=np.concatenate([pick(window) for window in windows]),
            y=made[1],
        )

    @property
    def visible(self) -> bool:
        return _seen(np.abs(self.rgb - self.made).max(axis=0))

    @property
    def free(self) -> NDArray[np.bool_]:
        """Which pixels ended in neither the least nor the greatest level of any channel, shape (n,)."""
        return np.asarray((self.made.min(axis=0) > 1) & (self.made.max(axis=0) < 254))

    def filtered(self, apply: Filter, *settings: Any) -> Floats:
        """A filter's result on the numbers before, shape (n,)."""
        return np.concatenate([self.pick(apply(window, *settings)) for window in self.windows])

    def explained(self, predicted: Floats) -> float:
        """Share of the squared change, and of the variance after, that a prediction accounts for: the lesser one."""
        return _explained(self.x, self.y, predicted)


def _global(pair: _Pair, *, exact: bool) -> tuple[str, ...]:
    """What was done to the whole picture."""
    names = ("grayscale",) if pair.grey else ()
    edges = pair.filtered(_gradient)
    if exact and _has_two_colours(pair.made) and not _has_two_colours(pair.rgb):
        detail = pair.x - pair.filtered(_blurred, 15)
        on_edges = abs(_correlation(pair.y, edges)) > abs(_correlation(pair.y, detail))
        return (*names, "edge_detect" if on_edges else "threshold")
    if not _seen(np.abs(pair.x - pair.y)):
        return names or (() if _is_cast(pair, pair.y) else _saturation(pair, 1.0))
    explanations = [_lines(pair, exact=exact), _curves(pair, exact=exact)]
    if exact and all(share < 1 - UNEXPLAINED for share, found in explanations if found):
        explanations.append(_filters(pair))
    best: Explanation = (-np.inf, ())
    for share, found in explanations:
        if found and 1 - share < (1 - best[0]) / 2:
            best = share, found
    if best[0] >= EXPLAINED:
        return (*names, *best[1])
    return (*names, *(("edge_detect",) if _edges_only(pair, edges) else explanations[0][1]))


def _lines(pair: _Pair, *, exact: bool) -> Explanation:
    """How much a tone line, changed bands of spatial frequency, or both explain, and their names."""
    blurred = [pair.x, *(pair.filtered(_blurred, side) for side in BANDS)]
    bands = np.stack([fine - coarse for fine, coarse in itertools.pairwise(blurred)], axis=1)
    tone = np.column_stack([*pair.rgb, pair.rgb.max(axis=0), np.full_like(pair.x, 128)])
    shift = np.zeros((len(pair.x), 0), np.float32)
    if not exact:
        shift = np.stack([pair.filtered(_sloped, *way) for way in ((1, 0), (0, 1))], axis=1)
    free = (pair.y > 1) & (pair.y < 254)
    if free.sum() < 200:
        return -np.inf, ()
    none = np.zeros_like(pair.x)
    features = np.hstack([tone, bands, shift])
    known = features[free]
    gram = (known.T @ known).astype(np.float64) + 0.01 * len(known) * np.eye(features.shape[1])

    def fit(columns: Sequence[int], base: Floats) -> tuple[float, Floats, NDArray[np.float64]]:
        """Least squares by these columns: the share explained, the prediction before clipping, the weights."""
        weights = np.zeros(features.shape[1])
        right = (known.T @ (pair.y - base)[free]).astype(np.float64)
        weights[columns] = np.linalg.solve(gram[np.ix_(columns, columns)], right[columns])
        predicted = base + features @ weights.astype(np.float32)
        return pair.explained(np.clip(predicted, 0, 255)), predicted, weights

    tones, spatial, shifts = np.split(np.arange(features.shape[1]), [5, 5 + len(BANDS)])
    fits = [
        fit([*tones, *shifts], none),
        fit([*spatial, *shifts], pair.x),
        fit([*tones, *spatial, *shifts], none),
    ]
    best = fits[-1][0]
    which = next(i for i, (share, *_) in enumerate(fits) if 1 - share <= 1.5 * (1 - best) + UNEXPLAINED)
    share, predicted, weights = fits[which]
    if share < LOCAL or _is_cast(pair, predicted):
        return -np.inf, ()
    if share < EXPLAINED:
        gains = (weights[:4].sum() + weights[spatial])[bands.std(axis=0) > 2]
        lifted = len(gains) > 2 and gains.min() > 1 + BAND_GAIN
        return share, ("contrast_up",) if lifted else ()
    if which == 1:
        return share, _spatial(weights[spatial], bands, exact=exact)
    gain, offset = float(weights[:4].sum()), float(weights[4] * 128)
    names = _tone(np.clip(gain * np.arange(256) + offset, 0, 255), _counts(pair.x.astype(np.uint8)))
    if which == 0:
        return share, (*names, *(() if pair.grey else _saturation(pair, gain)))
    if abs(gain) < FLAT:
        return share, ("edge_detect",)
    known_tone = names if free.mean() >= ENOUGH else ()
    return share, (*known_tone, *_spatial(weights[spatial] / gain, bands, exact=exact))


def _spatial(change: NDArray[np.float64], bands: Floats, *, exact: bool) -> tuple[str, ...]:
    """The name of a change of gain in the bands, finest first."""
    if not exact:
        change = change * (np.arange(len(change)) > 0)
    most = int(np.argmax(np.abs(change) * bands.std(axis=0)))
    if abs(change[most]) < BAND_GAIN:
        return ()
    if change[most] < 0:
        return ("smooth" if most == 0 and change[1] > -BAND_GAIN else "blur",)
    return ("detail" if change[most] < 0.5 else "sharpen" if change[most] < 1.5 else "edge_enhance",)


def _is_cast(pair: _Pair, predicted: Floats) -> bool:
    """Colours were shifted: the result isn't what `predicted` numbers, shape (n,), and the old hues would make."""
    if pair.grey:
        return False
    old, new = pair.rgb - pair.rgb[1], pair.made - pair.made[1]
    free = pair.free
    power = float((old[:, free] ** 2).sum())
    gain = float((old[:, free] * new[:, free]).sum()) / power if power > free.sum() else 1.0
    error = pair.made - np.clip(predicted + gain * old, 0, 255)
    return bool(np.ptp(error.mean(axis=1)) > VISIBLE)


def _curves(pair: _Pair, *, exact: bool) -> Explanation:
    """The tone curves of the channels, or that of grey."""
    enough = SAME if exact else EXPLAINED
    curves = np.stack([_curve(before, after) for before, after in zip(pair.rgb, pair.made, strict=True)])
    predicted = np.stack([curve[before.astype(np.uint8)] for before, curve in zip(pair.rgb, curves, strict=True)])
    share = _explained(pair.rgb, pair.made, predicted)
    if share >= enough and not pair.grey:
        return share, _agreed(curves, np.stack([_counts(pair.before[..., channel]) for channel in range(3)]))
    old, new = GREY @ pair.rgb, GREY @ pair.made
    guide = _mixed(pair) if pair.grey else np.rint(old)
    curve = _curve(guide, new)
    mapped = curve[guide.astype(np.uint8)]
    share = _explained(guide, new, mapped)
    if share < enough or _is_cast(pair, pair.rgb[1] + mapped - guide):
        return -np.inf, ()
    return share, _tone(curve, _counts(guide.astype(np.uint8)))


def _agreed(curves: Levels, counts: Levels) -> tuple[str, ...]:
    """The name of the curves of red, green and blue, shape (3, 256): of all in one where they coincide."""
    there = np.isfinite(curves)
    low, high = np.where(there, curves, np.inf).min(axis=0), np.where(there, curves, -np.inf).max(axis=0)
    if (high - low).max() <= LINE / 2:
        return _tone(np.where(there.any(axis=0), low, np.nan), counts.mean(axis=0))
    named = [names for curve, share in zip(curves, counts, strict=True) if (names := _tone(curve, share))]
    one = {names if names[0] not in STRETCHED else STRETCHED for names in named}
    return max(named, key=named.count) if len(named) >= 2 and len(one) == 1 else ()


def _mixed(pair: _Pair) -> Floats:
    """The mixture of red, green and blue before, whole levels, that the grey after most nearly follows."""
    colours = np.stack([*pair.rgb, np.full_like(pair.x, 128)])
    gram = (colours @ colours.T).astype(np.float64) + 0.01 * len(pair.x) * np.eye(4)
    weights = np.linalg.solve(gram, (colours @ pair.y).astype(np.float64))[:3]
    if not weights.sum() or (weights / weights.sum()).min() < -0.2:
        weights = GREY
    mixed = (weights / weights.sum()) @ pair.rgb
    return np.asarray(np.clip(np.rint(mixed), 0, 255), dtype=np.float32)


def _curve(before: Floats, after: Floats) -> Levels:
    """Mean level after for each level before, NaN for those that aren't there."""
    levels = before.astype(np.uint8)
    counts = np.bincount(levels, minlength=256).astype(np.float64)
    sums = np.bincount(levels, weights=after, minlength=256)
    return np.asarray(np.divide(sums, counts, out=np.full(256, np.nan), where=counts > 0))


def _counts(levels: Pixels) -> Levels:
    """The share of the pixels that has each level."""
    return cv2.calcHist([np.ascontiguousarray(levels)], [0], None, [256], [0, 256]).ravel() / np.float64(levels.size)


def _tone(levels: Levels, counts: Levels) -> tuple[str, ...]:
    """The name of a tone curve, from the level after for each level before (NaN: unknown) and its share of pixels."""
    at = np.flatnonzero((counts >= USED) & np.isfinite(levels))
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
        return ("invert", *_tone(255 - levels, counts))
    if _is_posterized(at, curve, share):
        return ("posterize",)
    if len(at) >= 4 and _is_equalized(curve, share):
        return ("equalize",)
    if np.abs(np.clip(gain * at + offset, 0, 255) - curve).max() <= LINE:
        low, high = gain * at[0] + offset, gain * at[-1] + offset
        if gain > 1 + GAIN and offset < -LINE and abs(low) <= 2 * LINE and abs(high - 255) <= 2 * LINE:
            return ("autocontrast",)
        if abs(offset) <= LINE:
            return ("brightness_up" if gain > 1 else "brightness_down",)
        shifted = abs(gain - 1) * at.std() < abs(change.mean()) / 2
    elif len(at) < 5 or np.diff(curve).min() < -LINE:
        return ()
    else:
        shifted = change.min() >= -LINE or change.max() <= LINE
    if shifted:
        return ("brightness_up" if change.mean() > 0 else "brightness_down",)
    return ("contrast_up" if gain > 1 else "contrast_down",)


def _is_posterized(at: NDArray[np.int64], curve: Levels, share: Levels) -> bool:
    """The low bits are gone, or the middle of what they can say stands for them; or there are stairs of any height."""
    for bits in range(3, 8):
        above = curve - (at & (256 - (1 << bits)))
        mean = float((share * above).sum())
        if -1 < mean < (1 << bits) / 2 + 1 and float((share * (above - mean) ** 2).sum()) < 1:
            return True
    stairs, wide = np.unique(np.rint(curve[(curve > 1) & (curve < 254)]), return_counts=True)
    return (
        len(at) > 12
        and (wide >= 3).sum() >= max(2, 0.8 * len(stairs))
        and bool(np.abs(curve - at).max() <= 1.5 * max(np.diff(stairs).max(), at[0], 255 - at[-1]))
    )


def _is_equalized(curve: Levels, share: Levels) -> bool:
    """The curve is the cumulative histogram, as PIL counts it (but for the last level) or OpenCV (the first)."""
    below = np.cumsum(share)
    counted = (below - share) / (1 - share[-1]), (below - share[0]) / (1 - share[0])
    return any(float((share * (curve - 255 * levels) ** 2).sum()) < VISIBLE**2 for levels in counted)


def _is_solarized(at: NDArray[np.int64], curve: Levels, share: Levels) -> bool:
    """The curve is inverted from some level on and kept below it."""
    kept = np.cumsum(share * (curve - at) ** 2)
    inverted = share * (curve - 255 + at) ** 2
    error = kept + inverted.sum() - np.cumsum(inverted)
    below = np.cumsum(share)
    parted = (below > 0.01) & (below < 0.99)
    return bool(parted.any() and error[parted].min() < (LINE / 2) ** 2)


def _saturation(pair: _Pair, gain: float) -> tuple[str, ...]:
    """How much the distance of colours from grey changed, beyond the gain of the grey values."""
    before, after = ((side - side.mean(axis=0))[:, pair.free] for side in (pair.rgb, pair.made))
    power = float((before**2).sum())
    if power < before.size / 3 or _correlation(before.ravel(), after.ravel()) < EXPLAINED:
        return ()
    found = float((before * after).sum()) / power
    beyond = found / max(gain, 0.1)
    if min(found, beyond) > 1 + CHROMA_GAIN:
        return ("color_up",)
    return ("color_down",) if max(found, beyond) < 1 - CHROMA_GAIN else ()


def _filters(pair: _Pair) -> Explanation:
    """The filter carried out that explains most, if it leaves nothing open."""
    best = max((pair.explained(pair.filtered(apply, setting)), (name,)) for name, apply, setting in FILTERS)
    return best if best[0] >= SAME else (-np.inf, ())


def _edges_only(pair: _Pair, edges: Floats) -> bool:
    """What is bright is where `before` has edges, and not what it shows."""
    same = _correlation(pair.y, pair.x)
    return same < 0.3 and _correlation(pair.y, edges) > max(0.7, 0.1 - same)


def _local(before: Pixels, after: Pixels, *, exact: bool) -> tuple[str, ...]:
    """`draw` where a part that can be seen was changed and the rest wasn't."""
    if not exact:
        return ()
    red, green, blue = cv2.split(cv2.absdiff(before, after))
    change = cv2.max(cv2.max(red, green), blue)
    touched, strong = change > 2, (change > 24).astype(np.uint8)
    if touched.mean() > 0.5 or strong.sum() < 0.5 * touched.sum():
        return ()
    textured = _blocks(cv2.morphologyEx(before[..., 1], cv2.MORPH_GRADIENT, SQUARE[3]) > 16)
    if (_blocks(touched) & textured).sum() > 0.5 * textured.sum() or _follows_colour(before, touched):
        return ()
    _, _, stats, _ = cv2.connectedComponentsWithStats(strong)
    parts = stats[1:]
    sizes = parts[np.maximum(parts[:, cv2.CC_STAT_WIDTH], parts[:, cv2.CC_STAT_HEIGHT]) >= 8, cv2.CC_STAT_AREA]
    return ("draw",) if sizes.sum() >= max(40, 2e-4 * change.size) else ()


def _follows_colour(before: Pixels, touched: NDArray[np.bool_]) -> bool:
    """Most of what was touched has colours that were touched everywhere: a recolouring, not a drawing."""
    red, green, blue = (before[..., channel].astype(np.int32) >> 3 for channel in range(3))
    colours = ((red << 10) + (green << 5) + blue).ravel()
    all_over = np.bincount(colours, minlength=1 << 15)
    there = np.bincount(colours[touched.ravel()], minlength=1 << 15)
    return bool(there[there > 0.7 * all_over].sum() > 0.5 * there.sum())


def _blocks(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which blocks of 16x16 pixels have a pixel in the mask; what is left over at the edges is dropped."""
    high, wide = (side // 16 for side in mask.shape)
    return np.asarray(mask[: high * 16, : wide * 16].reshape(high, 16, wide, 16).any(axis=(1, 3)))


def _parts(side: int) -> list[slice]:
    if side <= 2 * WINDOW:
        return [slice(0, side)]
    return [slice(start, start + WINDOW) for start in (side // 4 - WINDOW // 2, side - side // 4 - WINDOW // 2)]


def _seen(change: Floats) -> bool:
    return bool(np.mean(change >= VISIBLE) >= 0.01)


def _has_two_colours(rgb: Floats) -> bool:
    codes = np.array([1, 256, 65536], np.float32) @ rgb
    low, high = codes.min(), codes.max()
    return bool(low < high and ((codes == low) | (codes == high)).all())


def _grey(rgb: Pixels) -> Pixels:
    return np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY))


def _blurred(window: Pixels, side: int) -> Floats:
    return np.asarray(cv2.blur(window.astype(np.float32), (side, side)))


def _sloped(window: Pixels, right: int, down: int) -> Floats:
    """Levels per pixel in one direction."""
    return np.asarray(cv2.Sobel(window, cv2.CV_32F, right, down, scale=1 / 8))


def _gradient(window: Pixels) -> Floats:
    return np.hypot(_sloped(window, 1, 0), _sloped(window, 0, 1))


def _explained(before: Floats, after: Floats, predicted: NDArray[np.floating]) -> float:
    """Share of the squared change, and of the variance after, that a prediction accounts for: the lesser one."""
    error = float(((after - predicted) ** 2).sum())
    least = min(float(((after - before) ** 2).sum()), float(((after - after.mean(axis=-1, keepdims=True)) ** 2).sum()))
    return 1 - error / least if least else -np.inf


def _correlation(one: Floats, other: Floats) -> float:
    a, b = one - one.mean(), other - other.mean()
    power = float((a * a).sum() * (b * b).sum())
    return float((a * b).sum()) / power**0.5 if power else 0.0
