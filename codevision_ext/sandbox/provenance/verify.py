"""Whether two pictures bear out what a view says of them, and nothing else as well."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from codevision_ext.geometry import apply, inverse, map_size
from codevision_ext.sandbox.provenance.view import COVERAGE, View, area, content_of, ends_of, overlap
from codevision_ext.types import Box, Orientation

Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]

COMPARE_SIDE = 144
"""Pictures are compared at this many pixels per axis at most."""
WHOLE_SIDE = 1024
"""What was recoloured and not resized is also compared at this many: fine texture may be all that is left."""
BLOCK_SIDE = 16
"""Side of a block when pictures are compared, pixels."""
LEVELS = 24
"""Levels of grey that may each become another where colours changed."""
FEW = 64
"""Pixels of a level under which neighbouring levels are taken together."""
TEXTURE = 2.0
"""Standard deviation of a block, in grey levels, under which it is plain and says nothing."""
SMOOTHED = 5.0
"""The same up to which a block may have become plain by smoothing, where colours are kept."""
NEAR = 6.0
"""Grey levels by which plain blocks of one colour may differ."""
SPEAKING = 0.25
"""Share of the parent's blocks with texture that must have texture in a recoloured output."""
SAME = 0.5
"""Median correlation, and share of the blocks that correlate, from which two pictures show the same."""
TELLING = 0.8
"""Median correlation from which marks tell of every block, and not only of the whole."""
MIXED = 0.4
"""Share of the correlation with marks from which turned marks are there as well."""
CHANCE = 0.08
"""|Correlation| with marks up to which it may be chance: some hundred spots are seen."""
FAINT = 0.25
"""The same up to which turned marks may be heard by chance, as where dithering scatters what the marks changed."""
LARGE = 96
"""On a smaller part, turned marks may look alike by chance; pixels."""
KEPT = 0.8
"""Share of the parent's blocks with texture that must correlate where colours are kept."""
SHIFT = 1.3
"""How far the output may be off at the compared size, pixels."""
PEAK = 0.12
"""Height of the peak of phase correlation, in [0, 1], under which two pictures have nothing in common."""
PART_PEAK = 0.5
"""The same for a quarter of a picture, which may be plain: a lower peak says nothing."""
THERE = 0.3
"""The same for a quarter of a picture with texture everywhere that isn't painted over."""
FEEBLE = 0.1
"""Edges of a quarter weaker than this, as a share of the whole's, tell nothing; where that isn't asked of all."""
STILL = 0.95
"""Correlation of the edges of a quarter from which it isn't off, whatever phase correlation says of so little."""
SMALL = 16
"""Pictures and parts whose sides are shorter can't tell a shift, pixels."""
RIVAL = 0.6
"""Another view must fit less than this, as a share of how the claimed one fits."""
RIVAL_SIDE = 256
"""Rivals are looked for in a parent of this size at most, pixels."""
COARSE = 4.0
"""Standard deviation of the Gaussian that takes off what is the same in many places, pixels of that parent."""
NEAR_BY = 6
"""Places this close are the same place, pixels of that parent."""
MATCH_SIDE = 512
"""What wasn't resized is looked for in a parent of this size at most, pixels."""
MIDDLE_SIDE = 128
"""Side of the part of it that is looked for, pixels of that parent."""
FOUND = 0.8
"""How well it must correlate."""
FOUND_EDGES = 0.7
"""How well it must correlate with edges, where a filter left nothing else."""
NUDGE = 2
"""How far a box may be moved to where it fits better, pixels."""
NUDGE_SIDE = 256
"""Side of the part of the output that says where, pixels."""
MOVED = 0.04
"""How far the ends of a box may be moved to where it fits better, as a share of it."""
CLEAR = 0.9
"""How well it must fit there."""
EVEN = 1e-4
"""How much better, a pixel of the way."""


def borne_out(parent: Image.Image, made: Image.Image, view: View, *, recoloured: bool) -> float:
    """How well the output agrees with the view, in [0, 1]; 0: it doesn't.

    What isn't shown must be margin, the edges of the predicted and of the actual picture must lie upon each other, all
    over, and most blocks with texture must correlate; where colours are kept, nearly all of those of the parent.
    """
    content = content_of(made)
    if content is not None and area(overlap(view.shown, content)) < COVERAGE * area(content):
        return 0.0
    if view.shown == (0, 0, *made.size) and view.is_exact:
        exact = apply(view.net, parent.crop(view.corners))
        if exact.tobytes() == made.tobytes():
            return 1.0
    recoloured = recoloured and not _same_colours(parent, made, view)
    tried = (
        _greys(parent, made, view, recoloured=recoloured, toned=toned, most=most)
        for most in (COMPARE_SIDE, *([WHOLE_SIDE] if recoloured and view.is_exact else []))
        for toned in {False, recoloured}
    )
    return max(_agreeing(*pair, recoloured=recoloured) for pair in tried)


def _agreeing(source: Floats, target: Floats, *, recoloured: bool) -> float:
    likeness = max(
        _likenesses(source, target, recoloured=recoloured), key=lambda like: min(like.correlation, like.share)
    )
    if likeness.correlation < SAME or likeness.share < (SAME if recoloured else KEPT):
        return 0.0
    outlines = (_edges(target), *([_standing_out(target)] if recoloured else []))
    return likeness.correlation if likeness.plain or any(_aligned(_edges(source), o) for o in outlines) else 0.0


def shared(parent: Image.Image, made: Image.Image, view: View) -> float:
    """How much of the shown part is what the view predicts, in [0, 1], where the parent has texture everywhere.

    The share of the blocks with texture that correlate, or how much those of the parent do where that is less; or 1
    where it is half and the edges of every quarter lie upon each other.
    """
    source, target = _greys(parent, made, view, recoloured=True)
    share = 0.0
    for pair in ((source, target), (_edges(source), _edges(target)), (_edges(source), _standing_out(target))):
        correlation, power, _ = _correlations(*pair)
        known = correlation[power > TEXTURE**2]
        if len(known):
            share = max(share, min(_alike(*pair, recoloured=True).share, float(known.mean())))
    return 1.0 if share >= SAME and _aligned(_edges(source), _edges(target), THERE) else share


def rivalled(parent: Image.Image, made: Image.Image, view: View, *, recoloured: bool) -> bool:
    """The output could nearly as well show the parent turned otherwise, or another part of it: it can't tell."""
    zoom = min(1.0, RIVAL_SIDE / max(parent.size))
    (x1, y1, x2, y2) = np.array(view.box) * zoom
    room = _at_least_two(parent.width * zoom, parent.height * zoom)
    size = map_size(view.net, _at_least_two(x2 - x1, y2 - y1))
    ground = np.asarray(parent.convert("L").resize(room, Image.Resampling.BILINEAR), dtype=np.float32)
    part = made.convert("L").resize(size, Image.Resampling.BILINEAR, box=view.shown)
    rows, columns = (slice(max(0, round(at) - NEAR_BY), round(at) + NEAR_BY + 1) for at in (y1, x1))
    best, rival = 0.0, 0.0
    for of_parent, of_part in ((_fine, _fine), *(((_outlines, _outlines), (_outlines, _traced)) if recoloured else ())):
        fits = {
            net: _fits(of_parent(ground), of_part(np.asarray(apply(inverse(net), part), dtype=np.float32)))
            for net in Orientation
        }
        near = fits[view.net][rows, columns]
        own = float(near.max(initial=0.0))
        near.fill(0.0)
        if own > best:
            best, rival = own, max(float(others.max(initial=0.0)) for others in fits.values())
    return rival >= RIVAL * best


def followed(marks: Image.Image, made: Image.Image, marked: Image.Image, view: View) -> bool | None:
    """What marks on the parent changed in the output lies where the view puts them; None where too little changed.

    Args:
        marks: What was added to the parent, in its size (mode F).
        made: The output.
        marked: The output of the parent with the marks, in the size of `made`.
        view: What the output is said to show.
    """
    few = made.width * made.height < FEW * 256
    levels = np.asarray(made.convert("L")) // (256 // LEVELS if few else 1)
    change = (np.asarray(marked, dtype=np.float32) - np.asarray(made, dtype=np.float32)).sum(axis=2)
    there = np.bincount(levels.ravel(), minlength=256)
    tone = np.bincount(levels.ravel(), change.ravel(), minlength=256) / np.maximum(there, 1)
    change -= tone[levels].astype(np.float32)  # what the whole picture's colours changed, not the marks in place
    size = _compared(view)
    laid = [predicted(marks, each, size, Image.Resampling.BILINEAR) for each in (view, *view.others(marks.size))]
    grey = [np.asarray(each, dtype=np.float32) for each in laid]
    filtered = np.asarray(Image.fromarray(np.abs(change)).resize(size, Image.Resampling.BILINEAR, box=view.shown))
    kept = np.asarray(Image.fromarray(change).resize(size, Image.Resampling.BILINEAR, box=view.shown))
    if not np.ptp(grey[0]) or not np.ptp(kept):
        return None
    source, target = grey[0], kept
    if min(size) >= SMALL:
        heard = [_heard(*pair) for pair in ((grey, kept), ([_edges(each) for each in grey], filtered))]
        turned = max((rival for own, rival in {heard[0], max(heard)} if rival > MIXED * own), default=0.0)
        if turned > FAINT:
            return False
        if turned > CHANCE or max(heard)[0] <= CHANCE:
            return None
        if heard[1] > heard[0]:
            source, target = _edges(grey[0]), filtered
    correlation, mixed, moved = _correlations(source, target)
    speaking = correlation[(mixed > mixed.max() / 4) & (moved > moved.max() / 256)]
    if len(speaking) and np.median(speaking) >= TELLING:
        return bool((speaking >= SAME).mean() >= KEPT)
    return True if min(size) >= SMALL and _aligned(source, target) else None


def _heard(marks: Sequence[Floats], change: Floats) -> tuple[float, float]:
    """|Correlation| of the change with the first of the marks, and with the others at most."""
    if not np.ptp(change):
        return 0.0, 0.0
    own, *others = np.abs(np.corrcoef([each.ravel() for each in (change, *marks)])[0, 1:])
    return float(own), float(max(others))


def unscaled(parent: Image.Image, seen: Image.Image, content: Box) -> View | None:
    """The view that the content of `seen` shows if nothing was resized; None where its middle isn't in the parent.

    Correlation finds it under most changes of colour, whatever the size of the part.
    """
    zoom = min(1.0, MATCH_SIDE / max(parent.size))
    (u1, v1, u2, v2), half = map(round, content), round(MIDDLE_SIDE / 2 / zoom)
    u, v = (u1 + u2) // 2, (v1 + v2) // 2
    middle = Box(max(u1, u - half), max(v1, v - half), min(u2, u + half), min(v2, v + half))
    part = seen.convert("L").crop(middle)
    if min(part.size) * zoom < SMALL:
        return None
    room = _at_least_two(parent.width * zoom, parent.height * zoom)
    whole = np.asarray(parent.convert("L").resize(room, Image.Resampling.BOX), dtype=np.float32)
    ground, edges = _fine(whole), _outlines(whole)
    best, view = 1.0, None
    for net in Orientation:
        turned = apply(inverse(net), part)
        small = turned.resize(_at_least_two(turned.width * zoom, turned.height * zoom), Image.Resampling.BOX)
        shown = np.asarray(small, dtype=np.float32)
        for fits in (_fits(ground, _fine(shown)) / FOUND, _fits(edges, _traced(shown)) / FOUND_EDGES):
            if fits.max(initial=0.0) <= best:
                continue
            best = float(fits.max())
            y, x = (round(float(at) / zoom) for at in np.unravel_index(np.argmax(fits), fits.shape))
            x, y = max(0, min(x, parent.width - turned.width)), max(0, min(y, parent.height - turned.height))
            view = View(net=net, box=Box(x, y, x + turned.width, y + turned.height), shown=middle)
    if view is None:
        return None
    view = nudged(parent, seen, view)
    most = view.extended(Box(0, 0, *seen.size), parent.size)
    bare = most.shown == (0, 0, *seen.size) and content_of(apply(view.net, parent.crop(most.corners))) == content
    return most if bare else view.extended(content, parent.size)


def elsewhere(parent: Image.Image, made: Image.Image, view: View) -> View | None:
    """The view moved to where the output fits the parent best, at the scale and the turn that it has.

    None where it can't be moved.
    """
    whole = Box(0, 0, *parent.size)
    sides, room = np.array(view.box[2:]) - view.box[:2], whole
    if (sides >= np.array(parent.size) - NUDGE).all():
        return None
    zoom = min(1.0, MATCH_SIDE / max(parent.size))
    for scale in sorted({zoom, 1.0}):
        size = _at_least_two(*sides * scale)
        part = _resized(made, view.shown, map_size(view.net, size), Image.Resampling.BILINEAR)
        ground = _resized(
            parent, room, _at_least_two(*(np.array(room[2:]) - room[:2]) * scale), Image.Resampling.BILINEAR
        )
        fits = _fits(*(_grey(side) for side in (ground, apply(inverse(view.net), part))))
        if not fits.size:
            return None
        y, x = np.unravel_index(np.argmax(fits), fits.shape)
        start = np.array([x, y]) / scale + room[:2]
        slack = np.ceil(1 / scale)
        room = overlap(Box(*np.floor(start - slack), *np.ceil(start + sides + slack)), whole)
    return replace(view, box=overlap(Box(*start.tolist(), *(start + sides).tolist()), whole))


def _grey(picture: Image.Image) -> Floats:
    return np.asarray(picture.convert("L"), dtype=np.float32)


def nudged(parent: Image.Image, made: Image.Image, view: View) -> View:
    """The view moved by a pixel or two to where its middle fits better; only where nothing was resized."""
    if not view.is_exact:
        return view
    x1, y1, x2, y2 = view.corners
    left, top = max(x1, (x1 + x2 - NUDGE_SIDE) // 2), max(y1, (y1 + y2 - NUDGE_SIDE) // 2)
    right, bottom = min(x2, left + NUDGE_SIDE), min(y2, top + NUDGE_SIDE)
    west, north, east, south = (
        max(0, min(NUDGE, at)) for at in (left, top, parent.width - right, parent.height - bottom)
    )
    ground = parent.crop((left - west, top - north, right + east, bottom + south))
    part = apply(inverse(view.net), made.crop(view.shown)).crop((left - x1, top - y1, right - x1, bottom - y1))
    fits = _fits(*(np.asarray(side.convert("L"), dtype=np.float32) for side in (ground, part)))
    if fits.max(initial=0.0) < CLEAR:
        return view
    moved = np.abs(np.indices(fits.shape) - np.array([north, west])[:, None, None]).sum(axis=0)
    y, x = np.unravel_index(np.argmax(fits - EVEN * moved), fits.shape)
    dx, dy = int(x) - west, int(y) - north
    box = Box(x1 + dx, y1 + dy, x2 + dx, y2 + dy)
    ends = (0.0 if low <= 2 * NUDGE else low for low in view.shown[:2])
    reach = (
        float(side) if high >= side - 2 * NUDGE else high for high, side in zip(view.shown[2:], made.size, strict=True)
    )
    return replace(view, box=box).extended(Box(*ends, *reach), parent.size)


def refined(parent: Image.Image, made: Image.Image, view: View) -> View:
    """The view with its box moved and stretched to where the two pictures correlate best (ECC).

    Evangelidis and Psarakis, Parametric Image Alignment Using Enhanced Correlation Coefficient Maximization, 2008.
    """
    source, target = _greys(parent, made, view, recoloured=True)
    stop = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 30, 1e-4)
    try:
        fits, warp = cv2.findTransformECC(target, source, np.eye(2, 3, dtype=np.float32), cv2.MOTION_AFFINE, stop)
    except cv2.error:  # it doesn't converge: nothing to align
        return view
    (u1, v1, u2, v2), size = view.shown, np.array(target.shape[::-1])
    ends = np.array([(0, 0), size]) - 0.5  # the middle of the first pixel is 0
    ends = (ends * np.diag(warp[:, :2]) + warp[:, 2] + 0.5) / size
    if fits < SAME or np.abs(ends - [(0, 0), (1, 1)]).max() > MOVED:
        return view
    corners = view.source(np.array([u1, v1]) + ends * [u2 - u1, v2 - v1])
    return replace(view, box=ends_of(corners, parent.size))


def predicted(parent: Image.Image, view: View, size: tuple[int, int], method: Image.Resampling) -> Image.Image:
    """What `view` says that the shown part of the output looks like, at `size`."""
    return apply(view.net, _resized(parent, view.box, map_size(inverse(view.net), size), method))


def _resized(picture: Image.Image, part: Box, size: tuple[int, int], method: Image.Resampling) -> Image.Image:
    """The part at `size`, from its own pixels only: `reducing_gap` alone would mix in what lies around it."""
    x, y = np.floor(part[:2])
    whole = picture.crop((int(x), int(y), *np.ceil(part[2:]).astype(int).tolist()))
    within = part.x1 - x, part.y1 - y, part.x2 - x, part.y2 - y
    return whole.resize(size, method, box=within, reducing_gap=2.0)


def aligned_pair(parent: Image.Image, made: Image.Image, view: View) -> tuple[Pixels, Pixels]:
    """What is shown as the view predicts it, and as it is: RGB, shape (H, W, 3), at the lower of the resolutions."""
    (x1, y1, x2, y2), (u1, v1, u2, v2) = view.box, view.shown
    wide, high = map_size(view.net, _at_least_two(x2 - x1, y2 - y1))
    size = _at_least_two(min(wide, u2 - u1), min(high, v2 - v1))
    actual = _resized(made, view.shown, size, Image.Resampling.BILINEAR)
    return np.asarray(predicted(parent, view, size, Image.Resampling.BILINEAR)), np.asarray(actual)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Likeness:
    """How much two pictures show the same."""

    correlation: float
    """Median of |correlation| over blocks that have texture, in [0, 1]."""
    share: float
    """Share of those blocks, or of the parent's alone where colours are kept, that correlate by at least half."""
    plain: bool = False
    """Neither has texture; then both numbers tell whether their grey values are near."""


def _compared(view: View, most: int = COMPARE_SIDE) -> tuple[int, int]:
    """The size at which what is shown is compared; the parent is magnified twice at most."""
    (x1, y1, x2, y2), (u1, v1, u2, v2) = view.box, view.shown
    wide, high = map_size(view.net, _at_least_two(2 * (x2 - x1), 2 * (y2 - y1)))
    return _at_least_two(min(most, u2 - u1, wide), min(most, v2 - v1, high))


def _at_least_two(width: float, height: float) -> tuple[int, int]:
    return max(2, round(width)), max(2, round(height))


def _same_colours(parent: Image.Image, made: Image.Image, view: View) -> bool:
    """What is predicted and what is there have the same colours, wherever they are."""
    one, other = (np.sort(side.reshape(-1, 3), axis=0).astype(np.int16) for side in aligned_pair(parent, made, view))
    return bool(np.abs(one - other).mean(axis=0).max() <= NEAR / 2)


def _greys(
    parent: Image.Image,
    made: Image.Image,
    view: View,
    *,
    recoloured: bool,
    toned: bool = True,
    most: int = COMPARE_SIDE,
) -> tuple[Floats, Floats]:
    """The predicted and the actual picture, small and grey.

    Where colours changed, the predicted one is the mixture of red, green and blue that is nearest to the actual one,
    and with `toned` each of its levels the mean of what is there.
    """
    size = _compared(view, most)
    actual = _resized(made, view.shown, size, Image.Resampling.BILINEAR)
    target = np.asarray(actual.convert("L"), dtype=np.float32)
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


def _likenesses(source: Floats, target: Floats, *, recoloured: bool) -> list[_Likeness]:
    """By grey values and, where colours changed, by edges as well.

    Where colours are kept, the output must have texture where the parent has it, and two plain pictures are alike when
    their grey values are; where they changed, only the texture of the output speaks.
    """
    pairs = [(source, target)]
    if recoloured:
        pairs += [(_edges(source), _edges(target)), (_edges(source), _standing_out(target))]
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
    for part in parts:
        if min(source[part].shape) < SMALL or _correlation(source[part], target[part]) >= STILL:
            continue
        if (
            part_peak is None
            and source[part].std() < FEEBLE * source.std()
            and target[part].std() < FEEBLE * target.std()
        ):
            continue
        shift, peak = _shift(source[part], target[part])
        off = shift > SHIFT
        if (off and peak >= PART_PEAK) if part_peak is None else (off or peak < part_peak):
            return False
    return True


def _correlation(one: Floats, other: Floats) -> float:
    """Of all pixels; 0 where one side is plain."""
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1]) if np.ptp(one) and np.ptp(other) else 0.0


def _shift(source: Floats, target: Floats) -> tuple[float, float]:
    """How far the target is off, pixels, and how clear that is, about [0, 1]."""
    if not np.ptp(source) or not np.ptp(target):
        return 0.0, 0.0
    window = cv2.createHanningWindow(source.shape[::-1], cv2.CV_32F)
    (dx, dy), peak = cv2.phaseCorrelate(source - source.mean(), target - target.mean(), window)
    return float(np.hypot(dx, dy)), float(peak)


def _edges(grey: Floats) -> Floats:
    strength = cv2.magnitude(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1))
    return np.asarray(cv2.GaussianBlur(strength, (0, 0), 1.0), dtype=np.float32)


def _standing_out(grey: Floats) -> Floats:
    """How far from what most of it is: what filters that look for edges leave shows them bright, dark or both."""
    return np.asarray(cv2.GaussianBlur(np.abs(grey - np.median(grey)), (0, 0), 1.0), dtype=np.float32)


def _outlines(grey: Floats) -> Floats:
    return _fine(_edges(grey))


def _traced(grey: Floats) -> Floats:
    return _fine(_standing_out(grey))


def _fine(grey: Floats) -> Floats:
    return np.asarray(grey - cv2.GaussianBlur(grey, (0, 0), COARSE), dtype=np.float32)


def _fits(ground: Floats, part: Floats) -> Floats:
    """|Correlation| of the part with every place of the ground, shape (places down, places right); may be empty."""
    down, right = (max(0, room - side + 1) for room, side in zip(ground.shape, part.shape, strict=True))
    if not down or not right or not np.ptp(part):
        return np.zeros((down, right), np.float32)
    return np.abs(np.asarray(cv2.matchTemplate(ground, part, cv2.TM_CCOEFF_NORMED), dtype=np.float32))


def _alike(one: Floats, other: Floats, *, recoloured: bool) -> _Likeness:
    correlation, power_a, power_b = _correlations(one, other)
    textured_a, textured_b = power_a > TEXTURE**2, power_b > TEXTURE**2
    textured = textured_b if recoloured else textured_a | textured_b
    near = np.abs(_blocks(one).mean(axis=1) - _blocks(other).mean(axis=1)) <= NEAR
    kept = textured_b if recoloured else textured_a & ~(near & ~textured_b & (power_a < SMOOTHED**2))
    if not textured.any():
        same = not recoloured and near.all()
        return _Likeness(correlation=float(same), share=float(same), plain=True)
    if not kept.any() or textured.sum() < SPEAKING * textured_a.sum():
        return _Likeness(correlation=0.0, share=0.0)
    untouched = not recoloured and (np.abs(one - other) <= NEAR).mean() >= COVERAGE
    middle = np.median(correlation[kept if untouched else textured])
    return _Likeness(correlation=float(middle), share=float((correlation[kept] >= 0.5).mean()))


def _correlations(one: Floats, other: Floats) -> tuple[Floats, Floats, Floats]:
    """For each block |correlation|, 0 where one is plain, and the variances of both; shape (n,) each."""
    a, b = (blocks - blocks.mean(axis=1, keepdims=True) for blocks in (_blocks(one), _blocks(other)))
    power_a, power_b = (a * a).mean(axis=1), (b * b).mean(axis=1)
    scale = np.sqrt(power_a * power_b)
    correlation = np.divide(np.abs((a * b).mean(axis=1)), scale, out=np.zeros_like(scale), where=scale > 0)
    return correlation, power_a, power_b


def _blocks(grey: Floats) -> Floats:
    """Grey values as one row per block; what is left over at the right and the bottom is dropped."""
    down, right = (max(1, side // BLOCK_SIDE) for side in grey.shape)
    high, wide = grey.shape[0] // down, grey.shape[1] // right
    grey = grey[: down * high, : right * wide].reshape(down, high, right, wide)
    return grey.swapaxes(1, 2).reshape(down * right, high * wide)
