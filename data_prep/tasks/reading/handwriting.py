"""Digits that people wrote, each of whose samples belongs to one split.

The samples are the 1,797 images that scikit-learn ships (`sklearn.datasets.load_digits`): 8x8 pixels, about 180 a
digit, from the data set "Optical Recognition of Handwritten Digits" of E. Alpaydin and C. Kaynak (UCI Machine Learning
Repository, doi:10.24432/C50P49, licence CC BY 4.0). They don't say who wrote them, so a writer may be in two splits.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from codevision_ext.errors import InputError
from data_prep.tasks.common import Rng, pick
from data_prep.tasks.reading.vocabulary import split_of

_BRIGHTEST = 16
"""Value of ink without paper in the samples."""
_SCALE = 9
"""Factor by which a sample is enlarged, with smooth edges, before it is drawn."""
_FAINTEST = 32
"""Coverage (0-255) below which a pixel is paper; the box of the ink doesn't count it."""


def draw_digit(rng: Rng, digit: str, split: str) -> Image.Image:
    """Draw one of the split's samples of a digit, and return its coverage (0-255), cut to its ink.

    Raises:
        InputError: scikit-learn isn't installed.
    """
    return _stencil(pick(rng, sample_numbers(digit, split)))


@cache
def sample_numbers(digit: str, split: str) -> tuple[int, ...]:
    """Return the numbers of the samples of a digit in a split: about 70 % train, 10 % val, 20 % test."""
    numbers = np.flatnonzero(_samples()[1] == int(digit))
    return tuple(int(number) for number in numbers if split_of(f"handwriting {number}") == split)


@cache
def _samples() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return all samples, (n, 8, 8) with values from 0 to 16, and their digits, (n,)."""
    try:
        from sklearn.datasets import load_digits  # noqa: PLC0415  takes a second
    except ImportError as error:
        raise InputError("handwriting needs the digits of scikit-learn, which isn't installed") from error
    digits = load_digits()
    return digits.images, digits.target


@cache
def _stencil(number: int) -> Image.Image:
    coverage = np.round(_samples()[0][number] * (255 / _BRIGHTEST)).astype(np.uint8)
    edge = len(coverage) * _SCALE
    stencil = Image.fromarray(coverage).resize((edge, edge), Image.Resampling.BICUBIC)
    return stencil.crop(stencil.point(lambda value: 255 * (value >= _FAINTEST)).getbbox())
