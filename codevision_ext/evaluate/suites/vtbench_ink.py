"""Compares the drawing on a made image with that on a reference image, by their ink, without naming primitives.

The target is the ink of the reference: the pixels in which it differs from the original.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

from codevision_ext.drawing.ink import Ink, Mask, find_ink
from codevision_ext.drawing.pixels import appearances, to_pixels
from codevision_ext.drawing.registration import register
from codevision_ext.drawing.score import PRECISION, RECALL
from codevision_ext.geometry import tolerance


@dataclass(frozen=True, slots=True, kw_only=True)
class InkComparison:
    """Agreement of two drawings on one image; shares are in [0, 1]."""

    recall: float
    """Share of the reference's ink that has ink of the made image within tau."""
    precision: float
    """Share of the made image's ink that has ink of the reference within tau."""
    f1: float
    """Harmonic mean of recall and precision."""

    @property
    def correct(self) -> bool:
        """Whether the drawing is right, by the bounds of `codevision_ext.drawing`."""
        return self.recall >= RECALL and self.precision >= PRECISION


def compare_ink(original: Image.Image, made: Image.Image, reference: Image.Image) -> InkComparison | None:
    """Returns how well the made image shows the drawing of the reference; None if that can't be decided.

    It can't be decided if the original isn't found in one of the two images, or if the reference has no ink. tau is
    1.5 percent of the diagonal, and at least 3 pixels.
    """
    target, ink = _ink(original, reference), _ink(original, made)
    if target is None or ink is None or not target.mask.any():
        return None
    tau = tolerance(original.size)
    recall, precision = _near(target.mask, ink.mask, tau), _near(ink.mask, target.mask, tau)
    total = recall + precision
    return InkComparison(recall=recall, precision=precision, f1=2 * recall * precision / total if total else 0.0)


def _ink(original: Image.Image, other: Image.Image) -> Ink | None:
    """Returns the ink on an image that shows the original; None if the original isn't found in it."""
    pixels = to_pixels(other)
    best, quality = None, -1.0
    for appearance in appearances(original):
        placed = register(appearance, pixels)
        if placed is not None and placed[1] > quality:
            best, quality = (appearance, placed[0]), placed[1]
    return None if best is None else find_ink(best[0], pixels, best[1])


def _near(one: Mask, other: Mask, tau: float) -> float:
    """Returns the share of the pixels of a mask that are within tau of another mask; 0 for an empty mask."""
    if not one.any() or not other.any():
        return 0.0
    distance = cv2.distanceTransform(np.asarray(1 - other, np.uint8), cv2.DIST_L2, 5)
    return float((distance[one > 0] <= tau).mean())
