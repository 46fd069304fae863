"""Draws tables with a heading, ruled or striped, and asks about one cell, named by its row and column."""

from PIL import Image, ImageDraw

from codevision_ext.types import Box
from data_prep.tasks.common import Rng, font, pick, pick_many
from data_prep.tasks.synth.scene import FONTS, WORDS, Scene, draw_ink_and_paper, inside


def draw_table(rng: Rng, max_pixels: int) -> Scene:
    """Draw a table of three to six columns and four to fourteen rows."""
    columns, rows = int(rng.integers(3, 7)), int(rng.integers(4, 15))
    height = int(rng.integers(16, 40))
    while (cells := (6 * height * columns, 2 * height * (rows + 1)))[0] * cells[1] * 1.5 > max_pixels and height > 10:
        height -= 1
    margin = 2 * height
    size = cells[0] + 2 * margin, cells[1] + 2 * margin
    ink, paper = draw_ink_and_paper(rng)
    image = Image.new("RGB", size, paper)
    pen = ImageDraw.Draw(image)
    face = font(pick(rng, FONTS), height)
    heads = [word.capitalize() for word in pick_many(rng, WORDS, columns)]
    names = [
        word.capitalize() for word in pick_many(rng, [word for word in WORDS if word.capitalize() not in heads], rows)
    ]
    values = [[int(value) for value in rng.integers(100, 9999, columns - 1)] for _ in range(rows)]
    faint = tuple((4 * a + b) // 5 for a, b in zip(paper, ink, strict=True))
    ruled = rng.random() < 0.5
    boxes: dict[tuple[int, int], Box] = {}
    for row in range(rows + 1):
        top = margin + 2 * height * row
        if not ruled and row % 2:
            pen.rectangle((margin, top, size[0] - margin, top + 2 * height), fill=faint)
        for column in range(columns):
            left = margin + 6 * height * column
            texts = heads if row == 0 else [names[row - 1], *map(str, values[row - 1])]
            pen.text((left + height // 2, top + height // 2), texts[column], fill=ink, font=face)
            boxes[row, column] = Box(left, top, left + 6 * height, top + 2 * height)
            if ruled:
                pen.rectangle((left, top, left + 6 * height, top + 2 * height), outline=ink)
    row, column = int(rng.integers(rows)), int(rng.integers(1, columns))
    return Scene(
        image=image,
        question=f"What is the {heads[column]} of {names[row]}?",
        answer=str(values[row][column - 1]),
        box=inside(boxes[row + 1, column], size),
    )
