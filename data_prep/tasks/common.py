"""Random choices, fonts and colours for all drawn tasks."""

from collections.abc import Collection, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import ImageFont

from codevision_ext import geometry
from codevision_ext.errors import InputError
from codevision_ext.task import image_ops

T = TypeVar("T")
Rng = np.random.Generator
Colour = tuple[int, int, int]


def pick(rng: Rng, choices: Sequence[T]) -> T:
    """Draw one of the choices."""
    return choices[int(rng.integers(len(choices)))]


def pick_many(rng: Rng, choices: Sequence[T], count: int) -> list[T]:
    """Draw `count` different choices."""
    return [choices[number] for number in rng.permutation(len(choices))[:count]]


def allowed_ops(without: Collection[str]) -> tuple[str, ...]:
    """Return the rotations and flips that may be applied to an image, so that no operation of `without` undoes them."""
    return tuple(op for op in geometry.ORIENTATION_OPS if not set(image_ops.required_ops((op,))) & set(without))


def tint(rng: Rng, grey: int, spread: int) -> Colour:
    """Draw a colour whose channels differ from `grey` (0-255) by at most `spread`."""
    red, green, blue = np.clip(grey + rng.integers(-spread, spread + 1, 3), 0, 255)
    return int(red), int(green), int(blue)


@cache
def font(name: str, height_px: int) -> ImageFont.FreeTypeFont:
    """Return a font with lines of about this height."""
    return ImageFont.truetype(str(font_folder() / f"{name}.ttf"), height_px)


@cache
def font_folder() -> Path:
    """Return the folder of the fonts that come with matplotlib.

    Raises:
        InputError: matplotlib isn't installed.
    """
    spec = find_spec("matplotlib")
    if spec is None or spec.origin is None:
        raise InputError("drawn tasks need the fonts that come with matplotlib, which isn't installed")
    return Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf"
