"""Compares two drawings on the same image by their ink."""

import numpy as np
from PIL import Image

from codevision_ext.drawing.ink import Mask, find_ink
from codevision_ext.drawing.pixels import Pixels, to_pixels
from codevision_ext.drawing.registration import register
from codevision_ext.drawing.shapes import distance_to_ink
from codevision_ext.geometry import tolerance


def agreement(image: Image.Image, made: Image.Image, other: Image.Image) -> float:
    """Returns how well two drawings on an image agree, in [0, 1].

    Both drawings are registered onto the image, and the pixels that they changed are compared. The value is the
    harmonic mean of two shares: that of the ink of each drawing which lies within the tolerance of the ink of the other
    one. It is 1 if neither has ink, and 0 if only one has. If one of them doesn't show the image, it is registered onto
    the other one, and the value is the agreement of the registration; 0 if that fails.
    """
    pixels, first, second = (to_pixels(each) for each in (image, made, other))
    if np.array_equal(first, second):
        return 1.0
    one, two = _ink(pixels, first), _ink(pixels, second)
    if one is None or two is None:
        placed = register(first, second)
        return placed[1] if placed else 0.0
    if not one.any() or not two.any():
        return float(one.any() == two.any())
    tau = tolerance(image.size)
    shares = [_share_near(own, against, tau) for own, against in ((one, two), (two, one))]
    return 2 * shares[0] * shares[1] / sum(shares) if sum(shares) else 0.0


def _ink(image: Pixels, made: Pixels) -> Mask | None:
    """Returns the ink of a drawing in the frame of the image; None if the image isn't found in it."""
    placed = register(image, made)
    return find_ink(image, made, placed[0]).mask if placed else None


def _share_near(mask: Mask, against: Mask, tau: float) -> float:
    """Returns the share of a mask's pixels that lie within tau of the other mask, in [0, 1]."""
    places = np.argwhere(mask)[:, ::-1].astype(float)
    return float((distance_to_ink(against).at(places, 1e6) <= tau).mean())
