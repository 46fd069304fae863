"""Draws the images of the reading task: characters in equal cells, in random colours, with light noise."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from data_prep.tasks.common import Colour, Rng, font, tint

FONTS = {
    "train": ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSerif", "DejaVuSansMono", "STIXGeneral"),
    "val": ("DejaVuSerif-Bold",),
    "test": ("DejaVuSansMono-Bold", "STIXGeneralBol"),
}
"""Font files that come with matplotlib, by split; no font serves two splits."""

CELL_PX = 28
"""Width of the cell of a character, and minimum height of an image: the edge of an image token of Qwen2.5-VL."""
TEXT_PX = (18, 20)
"""Minimum and maximum height of a character."""
JITTER_PX = 2
"""Maximum distance of the text from the centre."""
RULE_PX = 2
"""Width of the margin on the left and of the rule below."""
MIN_CONTRAST = 110
"""Minimum difference in brightness (0-255) between ink and paper."""
NOISE = 5
"""Maximum change of a channel by noise, 0-255."""

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Colours:
    """Ink and paper, RGB."""

    ink: Colour
    paper: Colour


def draw_colours(rng: Rng) -> Colours:
    """Draw ink and paper that differ in brightness by at least MIN_CONTRAST; the ink is darker.

    White on black would be a task of its own for a tiny model: no linear map of the pixels serves both.
    """
    dark = rng.integers(0, 80)
    light = rng.integers(dark + MIN_CONTRAST + 20, 246)
    return Colours(ink=tint(rng, int(dark), 10), paper=tint(rng, int(light), 10))


def draw_text(
    rng: Rng, text: str, stencil_of: Callable[[str], Image.Image], size: tuple[int, int], colours: Colours
) -> Pixels:
    """Draw the characters of a text in a row of equal cells, a bit off the centre of a `size` (width, height) image.

    A margin on the left and a rule below show the orientation of the image, as on a ruled page. `stencil_of` returns
    the coverage (0-255) of a character, cut to its ink.
    """
    width, height = size
    tall = int(rng.integers(TEXT_PX[0], TEXT_PX[1] + 1))
    across, down = (int(shift) for shift in rng.integers(-JITTER_PX, JITTER_PX + 1, 2))
    stencil = Image.new("L", size)
    for index, character in enumerate(text):
        glyph = stencil_of(character)
        wide = round(min(glyph.width * tall / glyph.height, CELL_PX - 2 * JITTER_PX - RULE_PX - 2))
        centre = (width + RULE_PX) / 2 + CELL_PX * (index + 0.5 - len(text) / 2)
        corner = (round(centre - wide / 2) + across, round((height - RULE_PX - tall) / 2) + down)
        stencil.paste(glyph.resize((wide, tall), Image.Resampling.BOX), corner)
    stencil.paste(255, (0, 0, RULE_PX, height))
    stencil.paste(255, (0, height - RULE_PX, width, height))
    coverage = np.asarray(stencil, dtype=np.float32)[..., None] / 255
    paper, ink = (np.asarray(colour, dtype=np.float32) for colour in (colours.paper, colours.ink))
    return _noisy(rng, paper + coverage * (ink - paper))


def draw_clutter(rng: Rng, size: tuple[int, int], colours: Colours) -> Pixels:
    """Draw faint lines and ellipses, and no text, on a `size` image of the paper's colour."""
    image = Image.new("RGB", size, colours.paper)
    pen = ImageDraw.Draw(image)
    faint = tuple((3 * paper + ink) // 4 for paper, ink in zip(colours.paper, colours.ink, strict=True))
    for _ in range(int(rng.integers(4, 9))):
        x, y = (int(rng.integers(0, edge)) for edge in size)
        dx, dy = (int(step) for step in rng.integers(8, 60, 2))
        if rng.random() < 0.5:
            pen.line((x, y, x + dx, y + (dy if rng.random() < 0.5 else -dy)), fill=faint, width=2)
        else:
            pen.ellipse((x, y, x + dx, y + dy), outline=faint, width=2)
    return _noisy(rng, np.asarray(image, dtype=np.float32))


@cache
def font_stencil(text: str, font_name: str) -> Image.Image:
    """Return the coverage (0-255) of a character in a font, cut to its ink."""
    face = font(font_name, 72)
    left, top, right, bottom = face.getbbox(text)
    stencil = Image.new("L", (int(right - left), int(bottom - top)))
    ImageDraw.Draw(stencil).text((-left, -top), text, fill=255, font=face)
    return stencil.crop(stencil.getbbox())


def _noisy(rng: Rng, pixels: NDArray[np.float32]) -> Pixels:
    noise = rng.integers(-NOISE, NOISE + 1, pixels.shape, dtype=np.int8)
    return np.clip(pixels + noise, 0, 255).astype(np.uint8)
