"""What is drawn: an image as it stands upright, a question on it, and where the answer is."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Final, TypeVar

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from codevision_ext.types import Box
from data_prep.tasks.reading.drawing import font_folder

T = TypeVar("T")
Rng = np.random.Generator
Colour = tuple[int, int, int]

FONTS: Final = (
    "DejaVuSans",
    "DejaVuSans-Bold",
    "DejaVuSans-Oblique",
    "DejaVuSerif",
    "DejaVuSerif-Bold",
    "DejaVuSerif-Italic",
    "DejaVuSansMono",
    "DejaVuSansMono-Bold",
    "STIXGeneral",
    "STIXGeneralBol",
    "STIXGeneralItalic",
)
"""Font files that come with matplotlib."""
WORDS: Final = tuple((files("data_prep.tasks.synth") / "words.txt").read_text(encoding="utf-8").split())
"""What pages, tables and charts are about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A task before it is turned."""

    image: Image.Image
    question: str
    answer: str
    box: Box | None = None
    """Whole pixels around what the answer is read off."""
    reads: bool = True
    """Something has to be read, so it matters how the image stands."""


@cache
def font(name: str, height_px: int) -> ImageFont.FreeTypeFont:
    """A font whose lines are about so high."""
    return ImageFont.truetype(str(font_folder() / f"{name}.ttf"), height_px)


def pick(rng: Rng, choices: Sequence[T]) -> T:
    """One of them."""
    return choices[int(rng.integers(len(choices)))]


def some(rng: Rng, choices: Sequence[T], count: int) -> list[T]:
    """So many different ones."""
    return [choices[number] for number in rng.permutation(len(choices))[:count]]


def colours(rng: Rng) -> tuple[Colour, Colour]:
    """Ink and paper, far enough apart in brightness to be read; either may be the darker one."""
    dark, light = (int(rng.integers(*bounds)) for bounds in ((0, 90), (185, 256)))
    shades = [_tint(rng, grey) for grey in (dark, light)]
    return (shades[0], shades[1]) if rng.random() < 0.8 else (shades[1], shades[0])


def write_text(
    pen: ImageDraw.ImageDraw, at: tuple[int, int], text: str, face: ImageFont.FreeTypeFont, ink: Colour
) -> Box:
    """Write a line with its upper left corner about there; the box around it, a few pixels wider."""
    pen.text(at, text, fill=ink, font=face)
    left, top, right, bottom = pen.textbbox(at, text, font=face)
    pad = max(2, round((bottom - top) * 0.15))
    return Box(int(left) - pad, int(top) - pad, int(right) + 1 + pad, int(bottom) + 1 + pad)


def inside(box: Box, size: tuple[int, int]) -> Box:
    """The part of a box that is on the image."""
    return Box(max(0, box.x1), max(0, box.y1), min(size[0], box.x2), min(size[1], box.y2))


def _tint(rng: Rng, grey: int) -> Colour:
    red, green, blue = np.clip(grey + rng.integers(-35, 36, 3), 0, 255)
    return int(red), int(green), int(blue)
