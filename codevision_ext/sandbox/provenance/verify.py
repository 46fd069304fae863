"""Verifies a claimed view on the real images, and searches other views that fit nearly as well."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from codevision_ext.geometry import apply, box_area, intersection, inverse, map_size
from codevision_ext.sandbox.provenance.compare import (
    BLOCK_SIDE,
    COMPARE_SIDE,
    LEVELS,
    NEAR_LEVELS,
    PLAIN_SPREAD,
    SAME_CONTENT,
    Floats,
    aligned_pair,
    at_least_two,
    compared_size,
    contrast_to_median,
    correlation_map,
    correlations,
    edges,
    grey_of,
    grey_pair,
    high_pass,
    is_aligned,
    likeness,
    predicted,
)
from codevision_ext.sandbox.provenance.placement import COVERAGE, View, content_of
from codevision_ext.types import Box, Orientation

WHOLE_SIDE = 1024
"""Largest side of a second comparison of recoloured images that weren't resized, pixels; it keeps fine texture."""
MIN_PIXELS_SIDE = 128
"""Side of the smallest square image with enough pixels for a tone curve of 256 levels, pixels."""
MARKS_AGREE = 0.8
"""Minimum median correlation of blocks with marks at which blocks are counted; also the share that must correlate."""
RIVAL_MARKS = 0.4
"""Correlation with turned marks, as a share of that with the predicted marks, above which turned marks are visible."""
CHANCE_CORRELATION = 0.08
"""Maximum |correlation| with marks by chance, when a few hundred spots are compared."""
DITHERED_CORRELATION = 0.25
"""Maximum |correlation| with turned marks by chance, when dithering scatters the changes."""
KEPT_SHARE = 0.8
"""Share of the parent's blocks with texture that must correlate if colours are kept."""
QUARTER_PEAK = 0.3
"""Minimum peak of phase correlation of each quarter for a parent with texture everywhere."""
RIVAL_FIT = 0.6
"""Correlation of another view, as a share of that of the claimed view, from which the claim has a rival."""
RIVAL_SIDE = 256
"""Largest side of the resized parent in which rivals are searched, pixels."""
RIVAL_DISTANCE = 6
"""Maximum distance of positions that count as equal in the search for rivals, pixels of the resized parent."""


def view_score(parent: Image.Image, output: Image.Image, view: View, *, recoloured: bool) -> float:
    """Score the agreement of the output with the view, in [0, 1]; 0 if the view is refuted.

    The view must cover everything but margins, edges of the predicted and of the actual image must coincide in every
    quarter, and most blocks with texture must correlate (if colours are kept, KEPT_SHARE of the parent's blocks).
    """
    content = content_of(output)
    if content is not None and box_area(intersection(view.shown, content)) < COVERAGE * box_area(content):
        return 0.0
    if view.shown == (0, 0, *output.size) and view.is_exact:
        exact = apply(view.net, parent.crop(view.corners))
        if exact.tobytes() == output.tobytes():
            return 1.0
    recoloured = recoloured and not _same_colours(parent, output, view)
    for most in (COMPARE_SIDE, *([WHOLE_SIDE] if recoloured and view.is_exact else [])):
        for toned in (True, False) if recoloured else (False,):
            pair = grey_pair(parent, output, view, recoloured=recoloured, toned=toned, most=most)
            if score := _agreement(*pair, recoloured=recoloured):
                return score
    return 0.0


def _agreement(source: Floats, target: Floats, *, recoloured: bool) -> float:
    """Score the agreement of two grey images, in [0, 1], by grey values and, with `recoloured`, also by edges."""
    outlines = [(edges(source), edges(target))]
    if recoloured:
        outlines.append((edges(source), contrast_to_median(target)))
    pairs = [(source, target), *(outlines if recoloured else ())]
    likenesses = [likeness(*pair, recoloured=recoloured) for pair in pairs]
    best = max(likenesses, key=lambda each: min(each.correlation, each.share))
    if best.correlation < SAME_CONTENT or best.share < (SAME_CONTENT if recoloured else KEPT_SHARE):
        return 0.0
    return best.correlation if best.plain or any(is_aligned(*pair) for pair in outlines) else 0.0


def _same_colours(parent: Image.Image, output: Image.Image, view: View) -> bool:
    """Tell whether the predicted and the actual part have the same colours, in any arrangement."""
    one, other = (np.sort(side.reshape(-1, 3), axis=0).astype(np.int16) for side in aligned_pair(parent, output, view))
    return bool(np.abs(one - other).mean(axis=0).max() <= NEAR_LEVELS / 2)


def agreeing_share(parent: Image.Image, output: Image.Image, view: View) -> float:
    """Return the share of the shown part that agrees with the view, in [0, 1], for a parent with texture everywhere.

    This is the share of correlating blocks or their mean correlation, whichever is less. It is 1 if it reaches
    SAME_CONTENT and the edges of every quarter are aligned.
    """
    source, target = grey_pair(parent, output, view, recoloured=True)
    outlines = edges(source), edges(target)
    share = 0.0
    for pair in ((source, target), outlines):
        correlation, power, _ = correlations(*pair)
        known = correlation[power > PLAIN_SPREAD**2]
        if len(known):
            share = max(share, min(likeness(*pair, recoloured=True).share, float(known.mean())))
    return 1.0 if share >= SAME_CONTENT and is_aligned(*outlines, QUARTER_PEAK) else share


def is_covered(parent: Image.Image, output: Image.Image, view: View, content: Box) -> bool:
    """Tell whether the view covers nearly all content of `output`, for a parent with texture everywhere."""
    return agreeing_share(parent, output, view) * box_area(view.shown) >= COVERAGE * box_area(content)


def has_rival(parent: Image.Image, output: Image.Image, view: View) -> bool:
    """Tell whether another orientation or part of the parent fits the output nearly as well."""
    zoom = min(1.0, RIVAL_SIDE / max(parent.size))
    (x1, y1, x2, y2) = np.array(view.box) * zoom
    room = at_least_two(parent.width * zoom, parent.height * zoom)
    size = map_size(view.net, at_least_two(x2 - x1, y2 - y1))
    image = high_pass(grey_of(parent.convert("L").resize(room, Image.Resampling.BILINEAR)))
    part = output.convert("L").resize(size, Image.Resampling.BILINEAR, box=view.shown)
    by_net = {net: correlation_map(image, high_pass(grey_of(apply(inverse(net), part)))) for net in Orientation}
    rows, columns = (slice(max(0, round(at) - RIVAL_DISTANCE), round(at) + RIVAL_DISTANCE + 1) for at in (y1, x1))
    near = by_net[view.net][rows, columns]
    own = float(near.max(initial=0.0))
    near.fill(0.0)
    return max(float(fit.max(initial=0.0)) for fit in by_net.values()) >= RIVAL_FIT * own


def follows_marks(marks: Image.Image, output: Image.Image, marked_output: Image.Image, view: View) -> bool | None:
    """Tell whether marks on the parent change the output where the view predicts; None if too little changed.

    Args:
        marks: Grey levels added to the parent, in its size (mode F).
        output: Output of the code on the parent.
        marked_output: Output of the code on the parent with marks, in the size of `output`.
        view: Claimed view.
    """
    few = output.width * output.height < MIN_PIXELS_SIDE**2
    levels = np.asarray(output.convert("L")) // (256 // LEVELS if few else 1)
    change = (np.asarray(marked_output, dtype=np.float32) - np.asarray(output, dtype=np.float32)).sum(axis=2)
    counts = np.bincount(levels.ravel(), minlength=256)
    tone = np.bincount(levels.ravel(), change.ravel(), minlength=256) / np.maximum(counts, 1)
    change -= tone[levels].astype(np.float32)  # the marks' effect on the tone curve of the whole image
    size = compared_size(view)
    views = (view, *view.symmetric_views(marks.size))
    grey = [np.asarray(predicted(marks, each, size, Image.Resampling.BILINEAR), dtype=np.float32) for each in views]
    filtered, plain = (
        np.asarray(Image.fromarray(each).resize(size, Image.Resampling.BILINEAR, box=view.shown))
        for each in (np.abs(change), change)
    )
    if not np.ptp(grey[0]) or not np.ptp(plain):
        return None
    source, target = grey[0], plain
    if min(size) >= BLOCK_SIDE:
        strengths = [_mark_correlations(*pair) for pair in ((grey, plain), ([edges(each) for each in grey], filtered))]
        turned = max((rival for own, rival in {strengths[0], max(strengths)} if rival > RIVAL_MARKS * own), default=0.0)
        if turned > DITHERED_CORRELATION:
            return False
        if turned > CHANCE_CORRELATION or max(strengths)[0] <= CHANCE_CORRELATION:
            return None
        if strengths[1] > strengths[0]:
            source, target = edges(grey[0]), filtered
    correlation, mark_power, change_power = correlations(source, target)
    marked_blocks = correlation[(mark_power > mark_power.max() / 4) & (change_power > change_power.max() / 256)]
    if len(marked_blocks) and np.median(marked_blocks) >= MARKS_AGREE:
        return bool((marked_blocks >= SAME_CONTENT).mean() >= MARKS_AGREE)
    return True if min(size) >= BLOCK_SIDE and is_aligned(source, target) else None


def _mark_correlations(marks: Sequence[Floats], change: Floats) -> tuple[float, float]:
    """Return |correlation| of the change with the first marks, and the highest |correlation| with the other marks."""
    if not np.ptp(change):
        return 0.0, 0.0
    own, *others = np.abs(np.corrcoef([each.ravel() for each in (change, *marks)])[0, 1:])
    return float(own), float(max(others))
