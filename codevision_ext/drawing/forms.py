"""Recognises the forms of ink beside a drawing: strokes, letters, frames and boxes of labels, and copies of markers."""

from collections.abc import Iterator

import cv2
import numpy as np
import numpy.typing as npt

from codevision_ext.drawing.ink import FAINT, Ink, Mask
from codevision_ext.drawing.markers import Marker
from codevision_ext.drawing.shapes import Places, lookup, normals

_ALIKE = 0.75
"""Minimum likeness, in [0, 1], at which ink counts as another marker."""
_SPARSE = 0.25
"""Smallest share of its box that a large letter covers, in [0, 1]."""
_SOLID = 0.4
"""Share of its box, in [0, 1], above which large ink is an area."""
_FULL = 0.85
"""Share of its convex hull, in [0, 1], that the ink of a straight stroke covers at least; a letter covers less."""
_MOST = 60
"""Largest number of parts that are searched for dashes."""
_RIM = 3
"""Largest distance from the border of the image at which ink counts as cut off, pixels."""
_SIDES = 0.8
"""Smallest share of each side of a frame that is drawn, in [0, 1]."""
_ERASED = 0.7
"""Share of the ink, in [0, 1], above which it is content of the input that is painted over."""
_DENSE = 0.5
"""Smallest share of its box that a line of text covers, in [0, 1]."""
_FEW, _WEAK = 0.2, 0.65
"""Largest share of the pixels of a trace, in [0, 1], that are strong or of another colour; and largest change of a
pixel that isn't strong, as a share of the range of the input around it."""
_PLAIN, _PAPER = 32, 0.5
"""Largest difference of the paper of a label from its median, levels of 0 to 255, and its smallest share of a label's
box, in [0, 1]; content of the input that is moved has no such paper."""
_BLOB = (6, 0.74, 0.93)
"""Smallest side of a blob, pixels, and its smallest shares of its box and of its convex hull, in [0, 1]."""
_WRITTEN = (0.03, 0.6)
"""Smallest and largest share of a label's box that its letters cover, in [0, 1]."""

Box = tuple[int, int, int, int]
"""Left, top, right and bottom, pixels."""
Part = tuple[Box, Mask]
"""Box of a connected part of the ink, and its ink in the box."""


def is_like(shape: Mask, marker: Marker) -> bool:
    """Returns whether ink has about the size and the form of the marker of a point."""
    sides = np.array(marker.shape.shape)
    if (np.abs(sides - shape.shape) > 0.3 * sides + 1).any():
        return False
    other = np.asarray(cv2.resize(shape, marker.shape.shape[::-1], interpolation=cv2.INTER_NEAREST), np.uint8)
    if marker.shape.mean() > 0.6:
        return bool((other & marker.shape).sum() > _ALIKE * (other | marker.shape).sum())
    # thin arms of a cross may lie a pixel apart
    blurred, expected = (
        cv2.GaussianBlur(np.pad(part, 2).astype(np.float32), (0, 0), 1).ravel() for part in (other, marker.shape)
    )
    return bool(np.corrcoef(blurred, expected)[0, 1] > _ALIKE)


def branches(part: Part, path: Places, width: float, drawn: Mask, allowed: Mask, tau: float) -> bool:
    """Returns whether ink is a straight stroke, as wide as that of a primitive, that goes on from an end of its path.

    Both are connected, unlike a label and its stroke. The ink is further out than the end, unlike that of an arrowhead.
    At the border of the image, only the beginning of such a stroke may be visible.
    """
    (x1, y1, x2, y2), mask = part
    places = np.argwhere(mask)[:, ::-1].astype(float) + np.array([x1, y1])
    cut = min(x1, y1) <= _RIM or x2 >= drawn.shape[1] - _RIM or y2 >= drawn.shape[0] - _RIM
    least = (tau, 0.0) if cut else (2 * tau + width / 2, 2 * tau)
    for ends in (path, path[::-1]):
        outward = ends[0] - ends[min(len(ends) - 1, int(2 * tau))]
        away = places - ends[0]
        distances = np.hypot(*away.T)
        beyond = away @ outward / max(1e-9, float(np.hypot(*outward)))
        if distances.min() > 2 * tau + width or beyond.max() < least[0] or beyond.min() < -tau:
            continue
        short, long = _sides_of(places)
        if long < least[1] or short > max(0.4 * long, 1.3 * width + 2.5) or not _is_full(places):
            continue
        if _is_joined(part, ends[0], tau, drawn, allowed):
            return True
    return False


def _is_joined(part: Part, end: Places, tau: float, drawn: Mask, allowed: Mask) -> bool:
    """Returns whether a part of the ink is connected to the ink of a primitive within 2 tau of its end."""
    (x1, y1, x2, y2), mask = part
    reach = 2 * tau
    left, top = (max(0, min(low, int(at - reach))) for low, at in zip((x1, y1), end, strict=True))
    right, bottom = (max(high, int(at + reach) + 2) for high, at in zip((x2, y2), end, strict=True))
    window = np.s_[top:bottom, left:right]
    _, found = cv2.connectedComponents(drawn[window], connectivity=8)
    found = np.asarray(found)
    rows, columns = np.indices(found.shape)
    near = (np.hypot(columns - (end[0] - left), rows - (end[1] - top)) <= reach) & (allowed[window] > 0)
    own = found[y1 - top : y2 - top, x1 - left : x2 - left][mask > 0]
    return bool(np.isin(own, found[near & (found > 0)]).any())


def is_straight(places: Places, tau: float) -> bool:
    """Returns whether ink is a straight stroke that is too long for a letter; a line of text has gaps."""
    short, long = _sides_of(places)
    if long <= max(3 * tau, 20):
        return False
    return bool((short < 4 and short < 0.25 * long) or (short < 0.35 * long and _is_full(places)))


def _sides_of(places: Places) -> tuple[float, float]:
    """Returns the short and the long side of the smallest rectangle around ink, in any direction, pixels."""
    _, (one, other), _ = cv2.minAreaRect(places.astype(np.float32))
    return min(one, other) + 1, max(one, other) + 1


def _is_full(places: Places, least: float = _FULL) -> bool:
    """Returns whether ink covers its convex hull, as a straight stroke does, and a letter doesn't."""
    hull = cv2.convexHull(places.astype(np.int32)).reshape(-1, 2)
    sides = np.abs(hull - np.roll(hull, 1, axis=0))
    pixels = cv2.contourArea(hull) + np.gcd(sides[:, 0], sides[:, 1]).sum() / 2 + 1  # theorem of Pick
    return bool(len(places) > least * pixels)


def is_blob(mask: Mask, tau: float) -> bool:
    """Returns whether ink is a disk, a square or the like: a marker, and no letter."""
    short, long = sorted(mask.shape)
    if short < max(_BLOB[0], 0.5 * tau) or long > 1.5 * short or mask.mean() < _BLOB[1]:
        return False
    return _is_full(np.argwhere(mask).astype(float), _BLOB[2])


def beads(inner: npt.NDArray[np.float32], path: Places, half: float, tau: float) -> Iterator[tuple[Places, float]]:
    """Yields the place and the radius of every blob on a stroke that is clearly wider than the stroke.

    `inner` is the distance of each pixel of the ink to the next pixel without ink, `half` half of the stroke's width.
    """
    steps = np.linspace(-tau, tau, 9)
    places = path[:, None] + normals(path)[:, None] * steps[None, :, None]
    across = lookup(inner, places.reshape(-1, 2), 0.0).reshape(len(path), len(steps))
    thick = np.where(np.abs(steps) <= across, across, 0).max(axis=1)  # a letter beside the stroke doesn't cover it
    wide = np.flatnonzero(thick > max(1.5 * half + 2, 2 * half + 1.75))
    for run in np.split(wide, np.flatnonzero(np.diff(wide) > 1) + 1):
        if len(run):
            at = run[thick[run].argmax()]
            radius = float(thick[at])
            # a longer stretch is a wide stroke, or an area that touches it
            if np.hypot(*(path[run[-1]] - path[run[0]])) <= 2.5 * radius + 2:
                yield path[at], radius


def dashes(parts: list[Part]) -> int:
    """Returns the number of parts that are dashes of a straight stroke: bars one behind the other in their direction.

    It is 0 for fewer than three bars: letters as "l" and "i" are bars too, but stand side by side.
    """
    bars = []
    for (x1, y1, _, _), mask in parts[:_MOST]:
        places = np.argwhere(mask)[:, ::-1].astype(float) + np.array([x1, y1])
        if len(places) > 2 and _is_full(places):
            centre = places.mean(axis=0)
            sizes, axes = np.linalg.eigh(np.cov((places - centre).T) + np.eye(2) / 12)
            bars.append((*centre, *axes[:, 1], *np.sqrt(12 * sizes)))
    most = 0
    for x, y, dx, dy, short, long in bars:
        if long < 1.4 * short:
            continue
        away = np.array([(other[0] - x, other[1] - y) for other in bars])
        across = np.abs(away @ np.array([-dy, dx]))
        alike = np.array([abs(other[2] * dx + other[3] * dy) > 0.94 or other[5] < 1.4 * other[4] for other in bars])
        along = np.sort((away @ np.array([dx, dy]))[alike & (across <= short / 2 + 1)])
        if len(along) >= 3 and np.diff(along).max() <= 4 * long:
            most = max(most, len(along))
    return most


def is_solid(part: Mask, tau: float) -> bool:
    """Returns whether ink is an area that is too large for a letter, an arrow or the frame of a label."""
    return bool(min(part.shape) > max(4 * tau, 40) and part.mean() > _SOLID)


def is_shape(part: Mask, tau: float) -> bool:
    """Returns whether ink is a curve, an outline or an area larger than a letter."""
    large = min(part.shape) > max(3 * tau, 24)
    sparse = max(part.shape) > max(3 * tau, 20) and part.mean() < _SPARSE
    return bool((large or sparse) and min(part.shape) > 4)


def is_erased(part: Part, ink: Ink) -> bool:
    """Returns whether ink is content of the input that is painted over: it has the colour of the paper around it."""
    (x1, y1, x2, y2), mask = part
    height, width = ink.mask.shape
    left, top = max(0, x1 - _RIM), max(0, y1 - _RIM)
    box = left, top, min(width, x2 + _RIM), min(height, y2 + _RIM)
    inside = np.zeros((box[3] - top, box[2] - left), bool)
    inside[y1 - top : y2 - top, x1 - left : x2 - left] = mask > 0
    around = ink.mask[top : box[3], left : box[2]] == 0
    if not around.any():
        return False
    before, after = (np.asarray(image, np.int16) for image in ink.shown(box))
    paper = np.median(after[around], axis=0)
    plain = np.abs(after - paper).max(axis=2) <= FAINT
    printed = np.abs(before - paper).max(axis=2) > FAINT
    return float((plain & printed)[inside].mean()) > _ERASED


def is_trace(part: Part, ink: Ink) -> bool:
    """Returns whether ink is an edge of the input that interpolation or compression has softened.

    Its colours lie between those of the input around it, and differ less from the input than these do.
    """
    (x1, y1, x2, y2), mask = part
    reach = int(np.ceil(1.5 * ink.grain))
    height, width = ink.mask.shape
    left, top = max(0, x1 - reach), max(0, y1 - reach)
    around = np.s_[top : min(height, y2 + reach), left : min(width, x2 + reach)]
    shown = ink.shown((left, top, around[1].stop, around[0].stop))
    # compression mixes the brightness of an edge less than its colours
    before, after = (np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb), np.int16) for image in shown)
    low, high = _extremes(before, reach)
    slack = FAINT + 0.1 * (high - low)  # of ringing
    within = ((after >= low - slack) & (after <= high + slack)).all(axis=2)
    low, high = _extremes(shown[0], reach)
    weak = ink.change[around] <= _WEAK * (high - low).max(axis=2)
    return bool((within & weak)[y1 - top : y2 - top, x1 - left : x2 - left][mask > 0].mean() > 1 - _FEW)


def _extremes(image: np.ndarray, reach: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the smallest and the largest value of every channel in the square around every pixel."""
    square = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
    image = image.astype(np.int16)
    return np.asarray(cv2.erode(image, square)), np.asarray(cv2.dilate(image, square))


def has_text(part: Part, width: float, ink: Ink) -> bool:
    """Returns whether a part of the ink is a line of text: the filled box of a label, or letters without gaps.

    `width` is that of the widest stroke of the drawing, pixels: text is higher. The letters must be seen in the made
    image, and they aren't the content of the input, which shows through a transparent stroke.
    """
    (x1, y1, x2, y2), mask = part
    inner = np.asarray(cv2.erode(np.pad(mask, 1), np.ones((3, 3), np.uint8))[1:-1, 1:-1], np.uint8)
    if (
        mask.mean() < _DENSE
        or min(mask.shape) < max(5.0, 1.6 * width + 2)
        or x2 - x1 < 0.6 * (y2 - y1)
        or not inner.any()
    ):
        return False
    shown = ink.shown((x1, y1, x2, y2), max(1.0, ink.placement.sx))
    where = cv2.resize(inner, shown[0].shape[1::-1], interpolation=cv2.INTER_NEAREST) > 0
    before, after = (np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.int16) for image in shown)
    contrast = np.abs(after - np.median(after[where]))[where]
    strong = float(np.percentile(contrast, 98))
    if strong < 24 or not is_written(float((contrast > strong / 2).mean())):
        return False
    if float((contrast <= _PLAIN).mean()) < _PAPER:
        return False
    edges = [int((np.abs(np.diff(image, axis=1)) > strong / 4)[where[:, 1:]].sum()) for image in (before, after)]
    return edges[1] > 1.5 * edges[0]


def is_frame(mask: Mask, grain: float) -> bool:
    """Returns whether ink has the outline of an upright rectangle, with round corners or not; letters may be in it."""
    rim = rim_of(grain)
    if min(mask.shape) <= 2 * rim + 2:
        return False
    sides = mask[:rim].any(axis=0), mask[-rim:].any(axis=0), mask[:, :rim].any(axis=1), mask[:, -rim:].any(axis=1)
    return all(float(side.mean()) >= _SIDES for side in sides)


def rim_of(grain: float) -> int:
    """Returns the width of a frame's sides, pixels."""
    return int(np.ceil(4 * grain))


def is_written(share: float) -> bool:
    """Returns whether letters cover a usual share of the box of a label, in [0, 1]."""
    return _WRITTEN[0] < share < _WRITTEN[1]
