"""Verifies a claimed view on the real pair of images, and that no other view fits as well."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from codevision_ext.geometry import apply, box_area, intersection, inverse, map_size
from codevision_ext.sandbox.provenance.compare import (
    BLOCK_SIDE,
    COMPARE_SIDE,
    LEVELS,
    NEAR,
    SAME,
    TEXTURE,
    Floats,
    aligned_pair,
    at_least_two,
    compared_size,
    contrast_to_median,
    correlations,
    edges,
    fine,
    fits,
    grey_of,
    grey_pair,
    is_aligned,
    likeness,
    predicted,
)
from codevision_ext.sandbox.provenance.placement import COVERAGE, View, content_of
from codevision_ext.types import Box, Orientation

WHOLE_SIDE = 1024
"""Largest side at which recoloured images that weren't resized are also compared, pixels: fine texture may be left."""
FEW = 128
"""Side of a square image with too few pixels for a tone curve of 256 levels, pixels."""
TELLING = 0.8
"""Median correlation of blocks with marks from which every block counts, and share of blocks that must correlate."""
MIXED = 0.4
"""Share of the correlation with marks from which turned marks are there as well."""
CHANCE = 0.08
"""|Correlation| with marks up to which it may be chance; some hundred spots are compared."""
FAINT = 0.25
"""|Correlation| with turned marks up to which it may be chance, as where dithering scatters the marks' changes."""
KEPT = 0.8
"""Share of the parent's blocks with texture that must correlate where colours are kept."""
THERE = 0.3
"""Least peak of phase correlation of each quarter, where the parent has texture everywhere."""
RIVAL = 0.6
"""Fit of another view, as a share of the fit of the claimed one, from which the claim is doubtful."""
RIVAL_SIDE = 256
"""Largest side of the parent in which rivals are searched, pixels."""
NEAR_BY = 6
"""Distance up to which two places are the same place, pixels of that parent."""


def borne_out(parent: Image.Image, output: Image.Image, view: View, *, recoloured: bool) -> float:
    """Score how well the output agrees with the view, in [0, 1]; 0 where it doesn't.

    What isn't shown must be margin, the edges of the predicted and of the actual image must lie upon each other, all
    over, and most blocks with texture must correlate; where colours are kept, nearly all of those of the parent.
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
    """Score two grey images, in [0, 1]; by their grey values and, where colours changed, by their edges as well."""
    outlines = [(edges(source), edges(target))]
    if recoloured:
        outlines.append((edges(source), contrast_to_median(target)))
    pairs = [(source, target), *(outlines if recoloured else ())]
    best = max((likeness(*pair, recoloured=recoloured) for pair in pairs), key=lambda it: min(it.correlation, it.share))
    if best.correlation < SAME or best.share < (SAME if recoloured else KEPT):
        return 0.0
    return best.correlation if best.plain or any(is_aligned(*pair) for pair in outlines) else 0.0


def _same_colours(parent: Image.Image, output: Image.Image, view: View) -> bool:
    """Tell whether the predicted and the actual part have the same colours, wherever they are."""
    one, other = (np.sort(side.reshape(-1, 3), axis=0).astype(np.int16) for side in aligned_pair(parent, output, view))
    return bool(np.abs(one - other).mean(axis=0).max() <= NEAR / 2)


def shared(parent: Image.Image, output: Image.Image, view: View) -> float:
    """Return the share of the shown part that is as predicted, in [0, 1]; the parent has texture everywhere.

    It is the share of the blocks with texture that correlate, or the mean correlation where that is less; or 1 where it
    is half and the edges of every quarter lie upon each other.
    """
    source, target = grey_pair(parent, output, view, recoloured=True)
    outlines = edges(source), edges(target)
    share = 0.0
    for pair in ((source, target), outlines):
        correlation, power, _ = correlations(*pair)
        known = correlation[power > TEXTURE**2]
        if len(known):
            share = max(share, min(likeness(*pair, recoloured=True).share, float(known.mean())))
    return 1.0 if share >= SAME and is_aligned(*outlines, THERE) else share


def is_covered(parent: Image.Image, output: Image.Image, view: View, content: Box) -> bool:
    """Tell whether the content of `output` shows hardly anything else than the view; for a parent with texture."""
    return shared(parent, output, view) * box_area(view.shown) >= COVERAGE * box_area(content)


def rivalled(parent: Image.Image, output: Image.Image, view: View) -> bool:
    """Tell whether the output could nearly as well show the parent turned otherwise, or another part of it."""
    zoom = min(1.0, RIVAL_SIDE / max(parent.size))
    (x1, y1, x2, y2) = np.array(view.box) * zoom
    room = at_least_two(parent.width * zoom, parent.height * zoom)
    size = map_size(view.net, at_least_two(x2 - x1, y2 - y1))
    ground = fine(grey_of(parent.convert("L").resize(room, Image.Resampling.BILINEAR)))
    part = output.convert("L").resize(size, Image.Resampling.BILINEAR, box=view.shown)
    by_net = {net: fits(ground, fine(grey_of(apply(inverse(net), part)))) for net in Orientation}
    rows, columns = (slice(max(0, round(at) - NEAR_BY), round(at) + NEAR_BY + 1) for at in (y1, x1))
    near = by_net[view.net][rows, columns]
    own = float(near.max(initial=0.0))
    near.fill(0.0)
    return max(float(fit.max(initial=0.0)) for fit in by_net.values()) >= RIVAL * own


def follows_marks(marks: Image.Image, output: Image.Image, marked: Image.Image, view: View) -> bool | None:
    """Tell whether what marks on the parent changed in the output lies where the view puts them.

    Args:
        marks: What was added to the parent, in its size (mode F).
        output: The output.
        marked: The output of the parent with the marks, in the size of `output`.
        view: What the output is claimed to show.

    Returns:
        None where too little changed.
    """
    few = output.width * output.height < FEW**2
    levels = np.asarray(output.convert("L")) // (256 // LEVELS if few else 1)
    change = (np.asarray(marked, dtype=np.float32) - np.asarray(output, dtype=np.float32)).sum(axis=2)
    there = np.bincount(levels.ravel(), minlength=256)
    tone = np.bincount(levels.ravel(), change.ravel(), minlength=256) / np.maximum(there, 1)
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
        heard = [_heard(*pair) for pair in ((grey, plain), ([edges(each) for each in grey], filtered))]
        turned = max((rival for own, rival in {heard[0], max(heard)} if rival > MIXED * own), default=0.0)
        if turned > FAINT:
            return False
        if turned > CHANCE or max(heard)[0] <= CHANCE:
            return None
        if heard[1] > heard[0]:
            source, target = edges(grey[0]), filtered
    correlation, mixed, moved = correlations(source, target)
    speaking = correlation[(mixed > mixed.max() / 4) & (moved > moved.max() / 256)]
    if len(speaking) and np.median(speaking) >= TELLING:
        return bool((speaking >= SAME).mean() >= TELLING)
    return True if min(size) >= BLOCK_SIDE and is_aligned(source, target) else None


def _heard(marks: Sequence[Floats], change: Floats) -> tuple[float, float]:
    """Return |correlation| of the change with the first of the marks, and the highest with the others."""
    if not np.ptp(change):
        return 0.0, 0.0
    own, *others = np.abs(np.corrcoef([each.ravel() for each in (change, *marks)])[0, 1:])
    return float(own), float(max(others))
