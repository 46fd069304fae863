"""Checks by pixels whether a drawing on an image is right. Needs NumPy, OpenCV and Pillow.

`registration` finds the input in the made image, the image on which the model drew. `ink` finds the pixels in which the
two differ. `markers`, `labels` and `score` compare these pixels with the target.
"""

from codevision_ext.drawing.score import DrawingVerdict, verify
from codevision_ext.drawing.targets import DrawingTarget, check_inside, read_target

__all__ = ["DrawingTarget", "DrawingVerdict", "check_inside", "read_target", "verify"]
