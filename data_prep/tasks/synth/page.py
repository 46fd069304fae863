"""Draws pages, boards and labels with lines of text, up to 12 megapixels, on a background with clutter."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from PIL import Image, ImageDraw

from codevision_ext.types import Box
from data_prep.tasks.common import Colour, Rng, font, pick, pick_many
from data_prep.tasks.synth.scene import FONTS, WORDS, Scene, draw_ink_and_paper, inside, write_text

MIN_PIXELS = 200_000
TEXT_SHARE = (0.014, 0.03)
"""Range of the height of the text, as a share of the image's shorter edge."""


def draw_page(rng: Rng, max_pixels: int) -> Scene:
    """Draw lines of text, and ask about one of them, named by its first word."""
    pixels = float(np.exp(rng.uniform(np.log(min(MIN_PIXELS, max_pixels)), np.log(max_pixels))))
    aspect = pick(rng, (3 / 4, 4 / 3, 9 / 16, 16 / 9, 1.0, 1 / 1.414))
    size = round((pixels * aspect) ** 0.5), round((pixels / aspect) ** 0.5)
    ink, paper = draw_ink_and_paper(rng)
    image = background(rng, size, paper, ink)
    height = max(12, round(min(size) * rng.uniform(*TEXT_SHARE)))
    sheet = Sheet(
        rng=rng, pen=ImageDraw.Draw(image), size=size, height=height, starts=pick_many(rng, WORDS, 80), ink=ink
    )
    lines = LAYOUTS[pick(rng, tuple(LAYOUTS))](sheet)
    words, box = pick(rng, lines)
    question, answer = ask(rng, words)
    return Scene(image=image, question=question, answer=answer, box=inside(box, size))


def ask(rng: Rng, words: list[str]) -> tuple[str, str]:
    """Draw a question about a line of words that has one right answer; return both."""
    line = f'the line that starts with "{words[0]}"'
    choices = [(f"What is the last word on {line}?", words[-1])]
    for name, key in (("shortest", min), ("longest", max)):
        word = key(words, key=len)
        if sum(len(other) == len(word) for other in words) == 1:
            choices.append((f"What is the {name} word on {line}?", word))
    if numbers := [word for word in words if word.isdecimal()]:
        choices.append((f"Which number is on {line}?", numbers[0]))
    return pick(rng, choices)


def background(rng: Rng, size: tuple[int, int], paper: Colour, ink: Colour) -> Image.Image:
    """Draw unevenly lit paper with faint shapes."""
    light = rng.uniform(-14, 14, (3, 3, 1)) + np.asarray(paper, dtype=np.float64)
    image = Image.fromarray(np.clip(light, 0, 255).astype(np.uint8)).resize(size, Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(image)
    faint = tuple((6 * a + b) // 7 for a, b in zip(paper, ink, strict=True))
    for _ in range(int(rng.integers(3, 12))):
        x, y = (int(rng.integers(edge)) for edge in size)
        dx, dy = (int(rng.integers(edge // 20 + 1, edge // 4 + 2)) for edge in size)
        shape = pick(rng, (pen.ellipse, pen.rectangle))
        shape((x, y, x + dx, y + dy), outline=faint, width=max(1, min(size) // 300))
    return image


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """An image to write on, with the size of its text and its ink."""

    rng: Rng
    pen: ImageDraw.ImageDraw
    size: tuple[int, int]
    height: int
    """Height of the text, pixels."""
    starts: list[str]
    """First words for lines; each is used once."""
    ink: Colour


Lines = list[tuple[list[str], Box]]
"""Words of each line, and the box around the line."""


def _words(rng: Rng, start: str, count: int) -> list[str]:
    words = [start, *pick_many(rng, [word for word in WORDS if word != start], count - 1)]
    if rng.random() < 0.4:
        words[int(rng.integers(1, count))] = str(rng.integers(10, 9999))
    return words


def _columns(sheet: Sheet) -> Lines:
    """Write text in one column or two, as in a book."""
    rng, size, height = sheet.rng, sheet.size, sheet.height
    face = font(pick(rng, FONTS), height)
    columns = int(rng.integers(1, 3))
    width, lines = size[0] // columns, []
    for column in range(columns):
        y = height * 2
        while y + 2 * height < size[1] and sheet.starts:
            if rng.random() < 0.12:
                y += height
                continue
            words = _words(rng, sheet.starts.pop(), int(rng.integers(3, 7)))
            while len(words) > 3 and face.getlength(" ".join(words)) > width - 3 * height:
                words.pop()
            box = write_text(sheet.pen, (column * width + height, y), " ".join(words), face, sheet.ink)
            lines.append((words, box))
            y += round(height * 1.6)
    return lines


def _boards(sheet: Sheet) -> Lines:
    """Write signs in different colours and fonts, scattered over a grid."""
    rng, size, pen = sheet.rng, sheet.size, sheet.pen
    lines: Lines = []
    across, down = (max(1, min(3, edge // (sheet.height * span))) for edge, span in zip(size, (24, 4), strict=True))
    cells = [(x, y) for x in range(across) for y in range(down)]
    for cell in pick_many(rng, cells, max(2, len(cells) * 2 // 3)):
        ink, paper = draw_ink_and_paper(rng)
        face = font(pick(rng, FONTS), max(12, round(sheet.height * rng.uniform(0.8, 1.4))))
        words = _words(rng, sheet.starts.pop(), 3)
        shift = rng.uniform(0.02, 0.12, 2)
        left, top = (int((n + d) * edge / k) for n, d, edge, k in zip(cell, shift, size, (across, down), strict=True))
        reach = pen.textbbox((left, top), " ".join(words), font=face)
        pad = face.size // 2
        pen.rectangle((reach[0] - pad, reach[1] - pad, reach[2] + pad, reach[3] + pad), fill=paper, outline=ink)
        lines.append((words, write_text(pen, (left, top), " ".join(words), face, ink)))
    return lines


def _label(sheet: Sheet) -> Lines:
    """Write one line somewhere in a large image."""
    rng, size, height = sheet.rng, sheet.size, sheet.height
    face = font(pick(rng, FONTS), height)
    words = _words(rng, sheet.starts.pop(), 3)
    width = round(face.getlength(" ".join(words)))
    most = max(height + 1, size[0] - width - height), max(height + 1, size[1] - 3 * height)
    at = int(rng.integers(height, most[0])), int(rng.integers(height, most[1]))
    return [(words, write_text(sheet.pen, at, " ".join(words), face, sheet.ink))]


LAYOUTS: Final[dict[str, Callable[[Sheet], Lines]]] = {"columns": _columns, "boards": _boards, "label": _label}
