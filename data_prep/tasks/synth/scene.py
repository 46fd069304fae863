"""Defines a scene: an upright image, a question about it, and the place of the answer."""

from dataclasses import dataclass
from importlib.resources import files
from typing import Final

from PIL import Image, ImageDraw, ImageFont

from codevision_ext.types import Box
from data_prep.tasks.common import Colour, Rng, tint

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
"""Words on pages, in tables and in charts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A task before its image is turned."""

    image: Image.Image
    question: str
    answer: str
    box: Box | None = None
    """Box around the part that has the answer, in whole pixels."""
    has_text: bool = True
    """True if something has to be read, so that the orientation of the image matters."""


def draw_ink_and_paper(rng: Rng) -> tuple[Colour, Colour]:
    """Draw colours of ink and paper that differ enough in brightness; either may be the darker one."""
    dark, light = (int(rng.integers(*bounds)) for bounds in ((0, 90), (185, 256)))
    shades = [tint(rng, grey, 35) for grey in (dark, light)]
    return (shades[0], shades[1]) if rng.random() < 0.8 else (shades[1], shades[0])


def write_text(
    pen: ImageDraw.ImageDraw, at: tuple[int, int], text: str, face: ImageFont.FreeTypeFont, ink: Colour
) -> Box:
    """Write a line of text with its upper left corner near `at`, and return a box a few pixels around it."""
    pen.text(at, text, fill=ink, font=face)
    left, top, right, bottom = pen.textbbox(at, text, font=face)
    pad = max(2, round((bottom - top) * 0.15))
    return Box(int(left) - pad, int(top) - pad, int(right) + 1 + pad, int(bottom) + 1 + pad)


def inside(box: Box, size: tuple[int, int]) -> Box:
    """Return the part of a box that is on the image."""
    return Box(max(0, box.x1), max(0, box.y1), min(size[0], box.x2), min(size[1], box.y2))
