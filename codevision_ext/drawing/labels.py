"""Sorts the ink outside the primitives into labels and arrowheads, which are excused, and marks, which are wrong."""

from dataclasses import dataclass

import cv2
import numpy as np

from codevision_ext.drawing.forms import (
    Box,
    Part,
    branches,
    dashes,
    has_text,
    is_blob,
    is_erased,
    is_frame,
    is_like,
    is_shape,
    is_solid,
    is_straight,
    is_trace,
    is_written,
    rim_of,
)
from codevision_ext.drawing.ink import Ink, Mask
from codevision_ext.drawing.markers import Marker, blobs
from codevision_ext.drawing.shapes import Places, along, corners, is_closed, values_in
from codevision_ext.drawing.targets import DrawingTarget, Point

_NEAR = 6.0
"""Largest distance of a label from its primitive, in units of tau."""
_FAINT, _FAINT_ROUGH = 0.35, 0.6
"""Strength below which a mark counts as noise if the made image has noise, as a share of the drawing's strength.

The second value is for images with fine texture, on which interpolation and compression leave more noise.
"""
_SPECK = 3.0
"""Largest area of a part that counts as noise of compression or interpolation, in pixels of the comparison."""
_BESIDE = 3.0
"""Largest distance of a letter from the marker that it names, in units of tau; further away it may be a marker."""
_LARGE = 0.15
"""Largest share of the image that two labels may cover, in [0, 1]."""
_DASHES = 3
"""Number of dashes in a row that make a stroke."""
_TALL, _WIDE = 5.0, 25.0
"""Largest height and width of a label, in units of tau."""


@dataclass(frozen=True, slots=True)
class _Options:
    """The primitives whose labels a group of ink may be."""

    near: list[int]
    """Indexes of the primitives near it, the nearest first."""
    number: int
    """Number of labels that the group is as large as; 0 for an arrowhead."""
    arrow: bool = False
    """Whether the group is an arrow to a point; its label may be another group."""


@dataclass(frozen=True, slots=True)
class _Group:
    """Parts of ink that are near each other, outside the primitives."""

    box: Box
    size: int
    """Ink, pixels."""
    options: _Options | None
    twin: bool
    """Whether the group looks like the marker of a point."""
    tiny: bool = False
    """Whether the group is so small that it is a label or noise of compression or interpolation."""


@dataclass(frozen=True, slots=True)
class Outside:
    """Ink outside the primitives."""

    area: int
    """Area of ink that isn't excused, pixels."""
    marks: int
    """Number of marks that belong to no primitive."""
    excused: Mask
    """Boxes of excused labels and arrowheads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """Ink of a drawing, and what the primitives explain of it."""

    ink: Ink
    target: DrawingTarget
    allowed: Mask
    """Pixels that the primitives may cover."""
    markers: list[Marker]
    halves: list[float]
    """Half of the width of each primitive's stroke, pixels."""
    tau: float


def judge_outside(drawn: Drawn) -> Outside:
    """Sorts the ink outside the primitives into labels and arrowheads, which are excused, and other marks."""
    target, tau = drawn.target, drawn.tau
    excused = np.zeros_like(drawn.allowed)
    groups, area = _groups(drawn)
    rooms = [1 if isinstance(p, Point) else len(corners(p)) + 1 if p.kind != "circle" else 3 for p in target.primitives]
    pointed = _labels_of_arrows(groups, tau)
    lines: list[Box] = []
    heads: list[Box] = []
    # a group with few options chooses first
    for at in sorted(
        set(range(len(groups))) - set(pointed.values()), key=lambda at: _choices(groups[at], len(rooms) + 1)
    ):
        group, options = groups[at], groups[at].options
        free = [at for at in options.near if rooms[at] > 0][: options.number] if options else []
        if options is None or len(free) < options.number:
            continue
        for primitive in free:
            rooms[primitive] -= 1
        for box in [group.box, *([groups[pointed[at]].box] if at in pointed else [])]:
            _excuse(excused, box)
            (lines if options.number else heads).append(box)
    marks = 0
    for group in groups:
        if group.box in (*lines, *heads):
            continue
        if not group.twin and any(_on_one_line(group.box, other, tau) for other in lines):
            _excuse(excused, group.box)
        else:
            area, marks = area + group.size, marks + (not group.tiny)
    return Outside(area, marks, excused)


def _choices(group: _Group, most: int) -> int:
    """Returns the number of primitives whose label a group may be; `most` for noise and what is no label."""
    return len(group.options.near) if group.options and not group.tiny else most


def _is_label(group: _Group) -> bool:
    return group.options is not None and group.options.number == 1 and not (group.options.arrow or group.tiny)


def _labels_of_arrows(groups: list[_Group], tau: float) -> dict[int, int]:
    """Returns the index of the label beside every arrow that has one, by the index of the arrow."""
    found: dict[int, int] = {}
    for at, arrow in enumerate(groups):
        if not (arrow.options and arrow.options.arrow):
            continue
        beside = {
            other: _distance(arrow.box, group.box)
            for other, group in enumerate(groups)
            if _is_label(group) and other not in found.values()
        }
        nearest = min(beside, key=lambda other: beside[other], default=at)
        if beside.get(nearest, np.inf) <= max(2 * tau, 10):
            found[at] = nearest
    return found


def _parts(ink: Ink, allowed: Mask) -> tuple[list[Part], list[Box]]:
    """Returns the connected parts of the ink outside `allowed`, and the boxes of softened edges of the input.

    Other traces of interpolation and compression are left out: specks, and what is weaker than the drawing.
    """
    found = blobs(np.asarray(ink.mask & (allowed ^ 1), np.uint8))
    inner = values_in(ink.change, ink.mask & allowed)
    strength = (_FAINT_ROUGH if ink.rough else _FAINT) * float(np.percentile(inner, 80)) if len(inner) else 0.0
    parts: list[Part] = []
    traces: list[Box] = []
    for number in range(1, len(found.stats)):
        x, y, width, height, area = map(int, found.stats[number])
        if not ink.lossless and area <= _SPECK * ink.grain**2:
            continue
        box = x, y, x + width, y + height
        left, top = x - found.origin[0], y - found.origin[1]
        part = (found.labels[top : top + height, left : left + width] == number).astype(np.uint8)
        if not ink.lossless:
            changes = np.sort(ink.change[y : y + height, x : x + width][part > 0])
            if changes[int(0.8 * len(changes))] <= strength:
                continue
            if is_trace((box, part), ink):
                traces.append(box)
                continue
        parts.append((box, part))
    return parts, traces


def _groups(drawn: Drawn) -> tuple[list[_Group], int]:
    """Returns the groups of parts near each other, and the area of those too small for a mark, pixels."""
    ink, tau = drawn.ink, drawn.tau
    parts, traces = _parts(ink, drawn.allowed)
    paths = [along(corners(primitive), max(1.0, tau / 2)) for primitive in drawn.target.primitives]
    groups, area = [], 0
    for numbers in _near_each_other([box for box, _ in parts], tau):
        members = [parts[number] for number in numbers]
        box, selected = _union(members)
        size, side = int(selected.sum()), max(selected.shape)
        beside = any(_distance(box, marker.box) <= _BESIDE * tau for marker in drawn.markers)  # a letter
        twin = not beside and any(is_like(selected, marker) for marker in drawn.markers)
        if side <= max(2.0, 0.35 * tau, 2 * ink.grain) and not twin:
            area += size
            continue
        places = np.argwhere(selected)[:, ::-1] + box[:2]
        distances = _distances(places, paths)
        tiny = not ink.lossless and size <= (0.45 * tau) ** 2 and side <= 2 * tau and not twin
        options = _Options(_near(distances, tau), 1) if tiny else None
        if not (tiny or twin or _goes_on(members, paths, drawn) or is_erased((box, selected), ink)):
            beside_it = sum(_distance(box, trace) <= max(2 * tau, 10) for trace in traces)
            options = _options(places, distances, members, beside_it, paths, drawn)
        groups.append(_Group(box, size, options, twin, tiny))
    return groups, area


def _union(members: list[Part]) -> Part:
    """Returns the box around several parts, and their ink in it."""
    boxes = np.array([box for box, _ in members])
    left, top, right, bottom = *map(int, boxes[:, :2].min(axis=0)), *map(int, boxes[:, 2:].max(axis=0))
    selected = np.zeros((bottom - top, right - left), np.uint8)
    for (x1, y1, x2, y2), mask in members:
        selected[y1 - top : y2 - top, x1 - left : x2 - left] |= mask
    return (left, top, right, bottom), selected


def _goes_on(members: list[Part], paths: list[Places], drawn: Drawn) -> bool:
    """Returns whether a part, or all parts together, is a stroke that goes on from an end of a primitive.

    Content of the input that has the colour of a stroke cuts it into parts.
    """
    return any(
        branches(part, path, 2 * half, drawn.ink.mask, drawn.allowed, drawn.tau)
        for part in ([*members, _union(members)] if len(members) > 1 else members)
        for path, half, primitive in zip(paths, drawn.halves, drawn.target.primitives, strict=True)
        if not isinstance(primitive, Point)
    )


def _is_dashed(members: list[Part], drawn: Drawn) -> bool:
    """Returns whether a group has the dashes of a stroke; letters that a primitive cuts may look like dashes."""
    if dashes(members) < _DASHES:
        return False
    (left, top, right, bottom), _ = _union(members)
    reach = int(3 * drawn.tau)
    x, y = max(0, left - reach), max(0, top - reach)
    window = np.ascontiguousarray(drawn.ink.mask[y : bottom + reach, x : right + reach])
    _, labels, stats, _ = cv2.connectedComponentsWithStats(window, connectivity=8)
    labels = np.asarray(labels)
    whole: list[Part] = []
    for (x1, y1, x2, y2), mask in members:
        number = int(labels[y1 - y : y2 - y, x1 - x : x2 - x][mask > 0][0])
        left, top, width, height, _ = map(int, stats[number])
        part = (labels[top : top + height, left : left + width] == number).astype(np.uint8)
        whole.append(((left, top, left + width, top + height), part))
    return dashes(whole) >= _DASHES


def _letters(members: list[Part], whole: Part, ink: Ink, width: float, tau: float) -> list[Mask]:
    """Returns the ink of the parts of a group without the frames and the filled boxes of labels.

    `whole` is the box and the ink of the group, `width` that of the widest stroke, pixels.
    """
    rim = rim_of(ink.grain)
    paper = whole[1].copy()
    for (x1, y1, x2, y2), mask in [whole, *members]:
        if _size(x2 - x1, y2 - y1, tau) == 1 and is_frame(mask, ink.grain):
            left, top = x1 - whole[0][0], y1 - whole[0][1]
            inner = np.s_[top + rim : top + y2 - y1 - rim, left + rim : left + x2 - x1 - rim]
            if is_written(float(whole[1][inner].mean())):
                kept = paper[inner].copy()
                paper[top : top + y2 - y1, left : left + x2 - x1] = 0
                paper[inner] = kept
    letters = []
    for part in members:
        (x1, y1, x2, y2), mask = part
        left, top = x1 - whole[0][0], y1 - whole[0][1]
        letter = np.asarray(mask & paper[top : top + y2 - y1, left : left + x2 - x1], np.uint8)
        if letter.sum() > 0.1 * mask.sum() and not (_size(x2 - x1, y2 - y1, tau) == 1 and has_text(part, width, ink)):
            letters.append(letter)
    return letters


def _size(width: int, height: int, tau: float, lines: int = 1) -> int:
    """Returns the number of labels of `lines` lines that a box of `width` and `height` pixels is as large as."""
    return max(int(np.ceil(height / max(lines * _TALL * tau, 36))), int(np.ceil(width / max(_WIDE * tau, 60))))


def _near_each_other(boxes: list[Box], tau: float) -> list[np.ndarray]:
    """Returns the indexes of the boxes in groups: letters of a word are near each other."""
    if not boxes:
        return []
    left, top, right, bottom = np.array(boxes).T[:, :, None]
    gap_x, gap_y = 2 * max(4, round(0.8 * tau)), 2 * max(2, round(0.4 * tau))
    near = (left - right.T <= gap_x) & (left.T - right <= gap_x) & (top - bottom.T <= gap_y) & (top.T - bottom <= gap_y)
    groups, earlier = np.arange(len(boxes)), None
    while earlier is None or (groups != earlier).any():
        earlier = groups
        groups = np.where(near, groups, len(boxes)).min(axis=1)
    return [np.flatnonzero(groups == group) for group in np.unique(groups)]


def _options(
    places: Places, distances: list[float], members: list[Part], beside: int, paths: list[Places], drawn: Drawn
) -> _Options | None:
    """Returns the primitives whose labels a group of ink may be; no number for an arrowhead, None for other marks.

    `beside` is the number of softened edges beside the group, which may be letters of its label.
    """
    tau, primitives = drawn.tau, drawn.target.primitives
    box, selected = _union(members)
    letters = _letters(members, (box, selected), drawn.ink, 2 * max(drawn.halves), tau)
    if any(is_solid(letter, tau) for letter in letters):
        return None
    touches = _touches(box, drawn.allowed)
    shafts = sum(is_straight(np.argwhere(letter).astype(float), tau) for letter in letters)
    shafts += _is_dashed(members, drawn)
    shapes = sum(is_shape(letter, tau) for letter in letters)
    sample = _sample(places)
    for primitive, path, half in zip(primitives, paths, drawn.halves, strict=True):
        if isinstance(primitive, Point) or is_closed(primitive):
            continue
        reach = max(4 * tau, 0.15 * float(np.hypot(*(path[-1] - path[0]))))
        if touches and any(
            np.hypot(*(sample - ends[0]).T).max() <= reach and _beyond(sample, ends, tau) <= 1.5 * tau + half
            for ends in (path, path[::-1])
        ):
            return _Options([], 0)
    # compression and interpolation make a blob of a small letter
    if len(members) == 1 and len(letters) == 1 and drawn.ink.lossless and is_blob(members[0][1], tau):
        return None
    at_point = any(
        isinstance(primitive, Point) and distance <= max(min(distances), 3 * tau)
        for primitive, distance in zip(primitives, distances, strict=True)
    )
    # an arrow leads from a label to its point
    pointing = touches and at_point and max(shafts, shapes) <= 1
    if max(shafts, shapes) > pointing or shafts == len(members) + beside:
        return None
    # two labels that touch each other are one group
    number = _size(box[2] - box[0], box[3] - box[1], tau, 2 if pointing else 1)
    if number > 2 or (number == 2 and selected.size > _LARGE * drawn.allowed.size):
        return None
    return _Options(_near(distances, tau), number, arrow=pointing and max(shafts, shapes) == 1)


def _beyond(places: Places, path: Places, tau: float) -> float:
    """Returns how far ink lies beyond the first point of a path, in the direction in which the path comes, pixels."""
    steps = np.hypot(*(path - path[0]).T)
    inner = path[int(np.argmax(steps >= 2 * tau)) or -1]
    return float(((places - path[0]) @ (path[0] - inner)).max() / max(1e-9, float(np.hypot(*(path[0] - inner)))))


def _sample(places: Places) -> Places:
    return places[:: max(1, len(places) // 150)].astype(float)


def _distances(places: Places, paths: list[Places]) -> list[float]:
    """Returns the distance of a group of ink from every path, pixels."""
    sample = _sample(places)
    return [float(np.hypot(*(sample[:, None] - path[None]).transpose(2, 0, 1)).min()) for path in paths]


def _near(distances: list[float], tau: float) -> list[int]:
    """Returns the indexes of the distances at which a label may be, the nearest first."""
    return [int(at) for at in np.argsort(distances) if distances[at] <= max(_NEAR * tau, 30)]


def _excuse(excused: Mask, box: Box) -> None:
    excused[max(0, box[1] - 1) : box[3] + 1, max(0, box[0] - 1) : box[2] + 1] = 1


def _on_one_line(one: Box, other: Box, tau: float) -> bool:
    """Returns whether two groups of ink are parts of one line of text, some letters of which can't be seen."""
    overlap = min(one[3], other[3]) - max(one[1], other[1])
    apart = max(one[0], other[0]) - min(one[2], other[2])
    width = max(one[2], other[2]) - min(one[0], other[0])
    return overlap > 0.6 * max(one[3] - one[1], other[3] - other[1]) and apart < 4 * tau and width <= _WIDE * tau


def _touches(box: tuple[int, int, int, int], allowed: Mask) -> bool:
    return bool(allowed[max(0, box[1] - 2) : box[3] + 2, max(0, box[0] - 2) : box[2] + 2].any())


def _distance(one: Box, other: Box) -> int:
    """Returns the distance of two boxes along the axis on which they are further apart, pixels."""
    return max(one[0] - other[2], other[0] - one[2], one[1] - other[3], other[1] - one[3])
