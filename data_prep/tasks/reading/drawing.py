"""How one image of the reading task is drawn: characters in equal cells, in random colours, with light noise."""

import io
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from codevision_ext.errors import InputError

FONTS = {
    "train": ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSerif", "DejaVuSansMono", "STIXGeneral"),
    "val": ("DejaVuSerif-Bold",),
    "test": ("DejaVuSansMono-Bold", "STIXGeneralBol"),
}
"""Font files that come with matplotlib, by split; no font serves two splits."""

CELL_PX = 28
"""Width of the cell of one character, and least height of an image: what one token of a Qwen2.5-VL image covers."""
TEXT_PX = (18, 20)
"""Least and greatest height of a character."""
JITTER_PX = 2
"""How far from the centre the text may stand."""
RULE_PX = 2
"""Width of the margin on the left and of the rule below."""
MIN_CONTRAST = 110
"""Least difference in brightness (0-255) between ink and paper."""
NOISE = 5
"""Largest change of a channel by noise, 0-255."""

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Colours:
    """Ink and paper, RGB."""

    ink: tuple[int, int, int]
    paper: tuple[int, int, int]


def draw_colours(rng: np.random.Generator) -> Colours:
    """Two colours at least MIN_CONTRAST apart in brightness, the ink the darker one.

    White on black would be a task of its own for a tiny model: no linear map of the pixels serves both.
    """
    dark = rng.integers(0, 80)
    light = rng.integers(dark + MIN_CONTRAST + 20, 246)
    return Colours(ink=_tint(rng, int(dark)), paper=_tint(rng, int(light)))


def draw_text(rng: np.random.Generator, text: str, font: str, size: tuple[int, int], colours: Colours) -> Pixels:
    """A `size` (width, height) image with the characters of `text` in a row of equal cells, a bit off the centre.

    A margin on the left and a rule below tell how the image stands, as on a ruled page.
    """
    width, height = size
    tall = int(rng.integers(TEXT_PX[0], TEXT_PX[1] + 1))
    across, down = (int(shift) for shift in rng.integers(-JITTER_PX, JITTER_PX + 1, 2))
    stencil = Image.new("L", size)
    for index, character in enumerate(text):
        glyph = _stencil(character, font)
        wide = round(min(glyph.width * tall / glyph.height, CELL_PX - 2 * JITTER_PX - RULE_PX - 2))
        centre = (width + RULE_PX) / 2 + CELL_PX * (index + 0.5 - len(text) / 2)
        corner = (round(centre - wide / 2) + across, round((height - RULE_PX - tall) / 2) + down)
        stencil.paste(glyph.resize((wide, tall), Image.Resampling.BOX), corner)
    stencil.paste(255, (0, 0, RULE_PX, height))
    stencil.paste(255, (0, height - RULE_PX, width, height))
    coverage = np.asarray(stencil, dtype=np.float32)[..., None] / 255
    paper, ink = (np.asarray(colour, dtype=np.float32) for colour in (colours.paper, colours.ink))
    return _noisy(rng, paper + coverage * (ink - paper))


def draw_clutter(rng: np.random.Generator, size: tuple[int, int], colours: Colours) -> Pixels:
    """A `size` image of the paper's colour with faint lines and ellipses, and no text."""
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


def to_png(pixels: Pixels | Image.Image) -> bytes:
    """The image as a PNG file."""
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=3)
    return buffer.getvalue()


@cache
def font_folder() -> Path:
    """Where matplotlib keeps its fonts.

    Raises:
        InputError: matplotlib isn't installed.
    """
    spec = find_spec("matplotlib")
    if spec is None or spec.origin is None:
        raise InputError("the fonts of the reading task come with matplotlib, which isn't installed")
    return Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf"


@cache
def _font(name: str) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(font_folder() / f"{name}.ttf"), 72)


@cache
def _stencil(text: str, font: str) -> Image.Image:
    """A character as coverage (0-255), cut to its ink."""
    face = _font(font)
    left, top, right, bottom = face.getbbox(text)
    stencil = Image.new("L", (int(right - left), int(bottom - top)))
    ImageDraw.Draw(stencil).text((-left, -top), text, fill=255, font=face)
    return stencil.crop(stencil.getbbox())


def _tint(rng: np.random.Generator, grey: int) -> tuple[int, int, int]:
    red, green, blue = np.clip(grey + rng.integers(-10, 11, 3), 0, 255)
    return int(red), int(green), int(blue)


def _noisy(rng: np.random.Generator, pixels: NDArray[np.float32]) -> Pixels:
    noise = rng.integers(-NOISE, NOISE + 1, pixels.shape, dtype=np.int8)
    return np.clip(pixels + noise, 0, 255).astype(np.uint8)
