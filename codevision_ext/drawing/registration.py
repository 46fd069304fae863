"""Finds the input in the made image: the scale and the shift that map pixels of the input to pixels of the made image.

The made image may have any size, padding, or the margins and axes of matplotlib. Rotations and mirror images aren't
searched for, because a drawing on a turned input counts as wrong.
"""

import cv2
import numpy as np

from codevision_ext.drawing.guesses import guesses, search
from codevision_ext.drawing.pixels import Gray, Pixels, largest_channel
from codevision_ext.drawing.placement import Pair, Placement, warp

_COARSE, _SMALL, _SHARP = 96, 200, 450
"""Longer side of an image, pixels, up to which placements are searched for, compared, and refined at the end."""
_UNMOVED = 0.8
"""Minimum share of unchanged pixels at which the input is taken to be at its place, and no other placement is tried."""
_BETTER, _BETTER_UNEVEN = 0.05, 0.15
"""Amount, in levels, by which the loss of a less probable placement must be smaller; and, if its scales of x and y
differ, the share of the loss."""
_GAIN = 0.995
"""Largest loss of a refined guess, as a share of the loss before; on a squared page, steps may lead anywhere."""
_SURE, _ENOUGH = 0.92, 0.55
"""Minimum agreement of the guesses that ends the search, and of any placement."""
_COVERED = (0.8, 0.4)
"""Minimum agreement of all pixels and of those with content: a large drawing may cover much of a sparse figure."""
_CLEARER = 0.1
"""Amount by which the agreement of a placement must be larger than that of one that explains as much."""
_AROUND = [(x, y) for x in (0, -1, 1) for y in (0, -1, 1)]


def register(image: Pixels, made: Pixels) -> tuple[Placement, float] | None:
    """Returns the placement of the input in the made image and its agreement in [0, 1]; None if it isn't found."""
    if (same := _same(image, made)) > _UNMOVED:
        return Placement(1, 1, 0, 0), same
    full = Pair(_gray(image), _gray(made))
    sharp = full.smaller(_SHARP)
    small = sharp.smaller(_SMALL)
    best = _best(small, guesses(full.made, image.shape, sharp))
    if not best.whole:
        best = small.refined(best, 5, _GAIN)
    shares = small.agreement(small.inner(best))
    if min(shares) < _SURE:
        found = [small.refined(place, 5) for place in search(small.smaller(_COARSE))]
        best = _best(small, [best, *found])
        shares = small.agreement(small.inner(best))
    quality = min(shares)
    if quality < _ENOUGH and not (shares[0] >= _COVERED[0] and shares[1] >= _COVERED[1]):
        return (Placement(1, 1, 0, 0), quality) if image.shape == made.shape else None
    if not best.whole:
        best = sharp.refined(best, 3)
        best = _on_whole_pixels(full, best) or best
    return best, quality


def residual(image: Pixels, made: Pixels, place: Placement) -> float:
    """Returns the mean difference of the input and the made image under a placement, in levels of at most 60."""
    by = max(1.0, max(image.shape[:2]) / _SMALL)
    size = int(image.shape[1] / by), int(image.shape[0] / by)
    back = Placement(1 / place.sx / by, 1 / place.sy / by, -place.tx / place.sx / by, -place.ty / place.sy / by)
    expected, seen = warp(image, Placement(1 / by, 1 / by, 0, 0), size), warp(made, back, size)
    return float(np.minimum(cv2.absdiff(expected, seen), 60).mean())


def _best(pair: Pair, places: list[Placement]) -> Placement:
    """Returns the first placement, or a later one that explains the made image much better."""
    best, least = places[0], pair.loss(pair.inner(places[0]))
    for place in places[1:]:
        loss = pair.loss(pair.inner(place))
        better = max(_BETTER, 0 if place.even else _BETTER_UNEVEN * least)
        clearer = (
            abs(loss - least) < _BETTER and place.even and _agreement(pair, place) > _agreement(pair, best) + _CLEARER
        )
        if loss < least - better or clearer:
            best, least = place, loss
    return best


def _agreement(pair: Pair, place: Placement) -> float:
    return min(pair.agreement(pair.inner(place)))


def _same(image: Pixels, made: Pixels) -> float:
    """Returns the share of unchanged pixels in [0, 1]; 0 if the images have different sizes.

    It is the lower of two shares: that of all pixels, and that of the pixels with content.
    """
    if image.shape != made.shape or min(image.shape[:2]) < 2:
        return 0.0
    one, other = np.ascontiguousarray(image[1::4, 1::4]), np.ascontiguousarray(made[1::4, 1::4])
    before = np.ascontiguousarray(image[::4, ::4][: one.shape[0], : one.shape[1]])
    equal = largest_channel(np.asarray(cv2.absdiff(one, other), np.uint8)) <= 4
    content = largest_channel(np.asarray(cv2.absdiff(one, before), np.uint8)) > 16
    return min(float(equal.mean()), float(equal[content].mean())) if content.sum() >= 50 else 0.0


def _on_whole_pixels(pair: Pair, place: Placement) -> Placement | None:
    """Returns the nearest placement on whole pixels without a change of scale; None if it explains the image less."""
    height, width = pair.image.shape
    if max(abs(place.sx - 1) * width, abs(place.sy - 1) * height) > 3:
        return None
    x, y = round(place.tx + (place.sx - 1) * width / 2), round(place.ty + (place.sy - 1) * height / 2)
    losses = {(x + dx, y + dy): _sampled_loss(pair, Placement(1, 1, x + dx, y + dy)) for dx, dy in _AROUND}
    best = min(losses, key=lambda shift: losses[shift])
    return Placement(1, 1, *best) if losses[best] <= 1.2 * _sampled_loss(pair, place) + 0.3 else None


def _sampled_loss(pair: Pair, place: Placement) -> float:
    """Returns the mean difference of a ninth of the pixels, without any smoothing, in levels."""
    x1, y1, x2, y2 = place.window(pair.image.shape, pair.made.shape)
    if min(x2 - x1, y2 - y1) < 8:
        return 255.0
    seen = pair.made[y1:y2, x1:x2]
    if place.whole:
        x, y = x1 - int(place.tx), y1 - int(place.ty)
        laid = pair.image[y : y + y2 - y1, x : x + x2 - x1]
    else:
        laid = warp(pair.image, place.moved(-x1, -y1), (x2 - x1, y2 - y1))
    difference = cv2.absdiff(np.ascontiguousarray(laid[1::3, 1::3]), np.ascontiguousarray(seen[1::3, 1::3]))
    return float(np.minimum(difference, 60).mean())


def _gray(image: Pixels) -> Gray:
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)
