"""Decides from pixels whether a drawing on an image is right.

`registration` finds the input in the made image, the image on which the model drew. `ink` finds the pixels in which
both differ. `markers`, `labels` and `score` compare these pixels with the target. `agreement` compares two drawings.
"""

from codevision_ext.drawing.agreement import agreement
from codevision_ext.drawing.score import DrawingVerdict, verify
from codevision_ext.drawing.targets import DrawingTarget, check_inside, read_target

__all__ = ["DrawingTarget", "DrawingVerdict", "agreement", "check_inside", "read_target", "verify"]
