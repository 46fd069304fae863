"""Checks by pixels whether a drawing on an image is right. Needs NumPy, OpenCV and Pillow.

The made image is laid onto the input (`registration`), the ink is what differs (`ink`), and the ink is compared with
the target (`markers`, `labels`, `score`).
"""

from codevision_ext.drawing.score import DrawingVerdict, verify
from codevision_ext.drawing.targets import DrawingTarget, check_inside, read_target

__all__ = ["DrawingTarget", "DrawingVerdict", "check_inside", "read_target", "verify"]
