"""Images on which every pixel counts, for the tests of the sandbox."""

from collections.abc import Callable

import numpy as np
from PIL import Image

from codevision_ext.sandbox import ExecResult

Run = Callable[..., ExecResult]


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    """An image without any symmetry."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


def scene(width: int, height: int, seed: int = 0) -> Image.Image:
    """A smooth image without symmetry: survives resizing and recolouring."""
    return noise(width // 8, height // 8, seed).resize((width, height), Image.Resampling.BICUBIC)
