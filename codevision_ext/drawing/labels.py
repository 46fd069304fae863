"""Sorts the ink outside the primitives into labels and arrowheads, which are excused, and marks, which are wrong."""

from dataclasses import dataclass

import cv2
import numpy as np

from codevision_ext.drawing.ink import Ink, Mask
from codevision_ext.drawing.markers import Blobs, Marker, blobs
from codevision_ext.drawing.shapes import Places, along, corners, is_closed
from codevision_ext.drawing.targets import DrawingTarget, Point

_NEAR = 6.0
"""Largest distance of a label from its primitive, in units of tau."""
_FAINT, _FAINT_ROUGH = 0.35, 0.6
"""Strength below which a mark counts as noise if the made image has noise, as a share of the drawing's strength.

The second value is for images with fine texture, on which interpolation and compression leave more noise.
"""
_TALL = 5.0
"""Largest height of a label, in units of tau."""


@dataclass(frozen=True, slots=True)
class Outside:
    """The ink outside the primitives."""

    area: int
    """Ink that isn't excused, pixels."""
    marks: int
    """Number of marks that belong to no primitive."""
    excused: Mask
    """Boxes of the labels, arrowheads and marks that are excused."""


def judge_outside(ink: Ink, target: DrawingTarget, allowed: Mask, markers: list[Marker], tau: float) -> Outside:
    """Sorts the ink outside `allowed` into excused labels and arrowheads, and marks that belong to no primitive."""
    outer = (ink.mask & (1 - allowed)).astype(np.uint8)
    excused = np.zeros_like(outer)
    left, top, width, height = cv2.boundingRect(outer)
    if not width:
        return Outside(0, 0, excused)
    crop = np.ascontiguousarray(outer[top : top + height, left : left + width])
    parts = blobs(crop)
    stats = parts.stats
    gap = max(4, round(0.8 * tau)), max(2, round(0.4 * tau))
    wide = cv2.dilate(crop, np.ones((2 * gap[1] + 1, 2 * gap[0] + 1), np.uint8))
    groups = blobs(np.asarray(wide, np.uint8))
    paths = [along(corners(primitive), max(1.0, tau / 2)) for primitive in target.primitives]
    rooms = [1 if isinstance(p, Point) else len(corners(p)) + 1 if p.kind != "circle" else 3 for p in target.primitives]
    inner = ink.change[(ink.mask & allowed) > 0]
    strength = (_FAINT_ROUGH if ink.rough else _FAINT) * float(np.percentile(inner, 80)) if len(inner) else 0.0
    area = marks = 0
    # any pixel of a part shows which group the part belongs to
    firsts = np.zeros(len(stats), int)
    rows, columns = np.nonzero(crop)
    firsts[parts.labels[rows, columns]] = groups.labels[rows, columns]
    for group in range(1, len(groups.stats)):
        members = np.flatnonzero(firsts == group)
        members = members[members > 0]
        boxes = stats[members]
        size = int(boxes[:, 4].sum())
        x1, y1 = boxes[:, 0].min(), boxes[:, 1].min()
        x2, y2 = (boxes[:, 0] + boxes[:, 2]).max(), (boxes[:, 1] + boxes[:, 3]).max()
        box = (int(x1) + left, int(y1) + top, int(x2) + left, int(y2) + top)
        if not ink.lossless and _faint(ink, parts, members, (left, top), strength):
            continue
        selected = np.isin(parts.labels[y1:y2, x1:x2], members)
        twin = _like_a_marker(selected.astype(np.uint8), markers)
        if max(x2 - x1, y2 - y1) <= max(2.0, 0.35 * tau, 2 * ink.grain) and not twin:
            area += size
            continue
        places = np.argwhere(selected)[:, ::-1] + [box[0], box[1]]
        owner = None if twin else _owner(places, box, len(boxes), target, paths, rooms, tau, allowed)
        if owner is None:
            area, marks = area + size, marks + 1
        else:
            rooms[owner] -= 1
            excused[box[1] - 1 if box[1] else 0 : box[3] + 1, box[0] - 1 if box[0] else 0 : box[2] + 1] = 1
    return Outside(area, marks, excused)


def _faint(ink: Ink, parts: Blobs, members: np.ndarray, origin: tuple[int, int], strength: float) -> bool:
    """Returns whether a group is much weaker than the drawing, as the traces of interpolation or compression are."""
    for number in members:
        x, y, width, height = parts.stats[number, :4]
        part = parts.labels[y : y + height, x : x + width] == number
        changes = ink.change[y + origin[1] : y + origin[1] + height, x + origin[0] : x + origin[0] + width][part]
        if np.percentile(changes, 80) > strength:
            return False
    return True


def _owner(
    places: Places,
    box: tuple[int, int, int, int],
    parts: int,
    target: DrawingTarget,
    paths: list[Places],
    rooms: list[int],
    tau: float,
    allowed: Mask,
) -> int | None:
    """Returns the primitive that a group of ink is a label or an arrowhead of; None if there is none."""
    sample = places[:: max(1, len(places) // 150)].astype(float)
    width, height = box[2] - box[0], box[3] - box[1]
    for index, (primitive, path) in enumerate(zip(target.primitives, paths, strict=True)):
        if isinstance(primitive, Point) or is_closed(primitive):
            continue
        reach = max(4 * tau, 0.15 * float(np.hypot(*(path[-1] - path[0]))))
        if any(np.hypot(*(sample - end).T).max() <= reach for end in (path[0], path[-1])) and _touches(box, allowed):
            rooms[index] += 1  # an arrowhead takes no room of a label
            return index
    pointing = all(isinstance(p, Point) for p in target.primitives) and _touches(box, allowed)
    if height > max((2 if pointing else 1) * _TALL * tau, 36) or width > max(25 * tau, 60):
        return None
    if parts == 1 and _straight(places, tau) and not pointing:
        return None
    distances = [
        float(np.hypot(*(sample[:, None] - path[None]).transpose(2, 0, 1)).min()) if room > 0 else np.inf
        for path, room in zip(paths, rooms, strict=True)
    ]
    nearest = int(np.argmin(distances))
    return nearest if distances[nearest] <= max(_NEAR * tau, 30) else None


def _touches(box: tuple[int, int, int, int], allowed: Mask) -> bool:
    return bool(allowed[max(0, box[1] - 2) : box[3] + 2, max(0, box[0] - 2) : box[2] + 2].any())


def _like_a_marker(shape: Mask, markers: list[Marker]) -> bool:
    """Returns whether ink looks like the marker of a point: about its size, and its form."""
    for marker in markers:
        sides = np.array(marker.shape.shape)
        if (np.abs(sides - shape.shape) > 0.3 * sides + 1).any():
            continue
        other = np.asarray(cv2.resize(shape, marker.shape.shape[::-1], interpolation=cv2.INTER_NEAREST), np.uint8)
        if (other & marker.shape).sum() > 0.72 * (other | marker.shape).sum():
            return True
    return False


def _straight(places: Places, tau: float) -> bool:
    """Returns whether ink is a straight stroke that is too long for a letter."""
    _, (one, other), _ = cv2.minAreaRect(places.astype(np.float32))
    return max(one, other) > max(3 * tau, 20) and min(one, other) < 0.25 * max(one, other)
