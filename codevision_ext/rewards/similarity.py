"""Measures the similarity of a region and a box in four ways; in [0, 1], 1 for equality, 0 without overlap."""

from collections.abc import Callable, Mapping
from typing import Final, Literal

from codevision_ext.geometry import box_area, intersection, iou
from codevision_ext.types import Box

Sim = Literal["iou", "containment", "giou", "mod_f1"]

CONTEXT: Final = 0.25
"""Margin around the box that doesn't lower the precision of `mod_f1`, as a share of the box's sides."""


def containment(region: Box, box: Box) -> float:
    """Returns the share of the box that the region shows.

    A large region gets 1 for any box inside, so give the term `area` a weight too.
    """
    return box_area(intersection(region, box)) / box_area(box) if box_area(box) else 0.0


def giou(region: Box, box: Box) -> float:
    """Returns the generalised IoU, at least 0 (Rezatofighi et al., arXiv 1902.09630).

    Its value is IoU minus the share of the common hull that neither box covers.
    """
    hull = box_area(Box(min(region.x1, box.x1), min(region.y1, box.y1), max(region.x2, box.x2), max(region.y2, box.y2)))
    union = box_area(region) + box_area(box) - box_area(intersection(region, box))
    return max(0.0, iou(region, box) - (hull - union) / hull) if hull else 0.0


def mod_f1(region: Box, box: Box) -> float:
    """Returns the F1 of recall and precision, where a margin of CONTEXT around the box doesn't lower the precision."""
    recall = containment(region, box)
    if not recall:
        return 0.0
    dx, dy = CONTEXT * (box.x2 - box.x1), CONTEXT * (box.y2 - box.y1)
    grown = Box(box.x1 - dx, box.y1 - dy, box.x2 + dx, box.y2 + dy)
    precision = box_area(intersection(region, grown)) / box_area(region)
    return 2 * precision * recall / (precision + recall)


SIMILARITIES: Final[Mapping[Sim, Callable[[Box, Box], float]]] = {
    "iou": iou,
    "containment": containment,
    "giou": giou,
    "mod_f1": mod_f1,
}
