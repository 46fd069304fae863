"""Draws the pages of the drawing task: coloured shapes on paper whose shade tells the place.

The paper loses red from left to right and blue from top to bottom, as under uneven light. Without the shade a tiny
model doesn't learn to name places: its vision tower knows distances between patches only, and sees a place nowhere.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from codevision_ext.types import Box
from data_prep.tasks.common import Colour, Rng, pick_many

SIDE: Final = 84
"""Width and height of a page, pixels: three by three image tokens of Qwen2.5-VL."""
CELL: Final = 28
"""Edge of an image token, pixels."""
STEP: Final = 3
"""Distance between two places in either direction, pixels; the tolerance of the drawing verifier on a page."""
MARGIN: Final = 12
"""Minimum distance of a shape's centre from the edge, pixels."""
APART: Final = 15
"""Minimum distance between the centres of two shapes in one direction, pixels."""
HALF: Final = (4, 6)
"""Minimum and maximum of half the width of a shape, pixels."""
FALL: Final = 110
"""Difference in red between the left and the right edge, and in blue between top and bottom, levels of 0 to 255."""
NOISE: Final = 5
"""Maximum change of a channel by noise, levels."""

COLOURS: Final[dict[str, Colour]] = {"red": (205, 45, 45), "green": (30, 140, 50), "blue": (45, 60, 205)}
SHAPES: Final = ("dot", "square", "triangle")
HELD_OUT: Final = (("red dot", "green square"), ("red square", "blue triangle"), ("green triangle", "blue dot"))
"""Names of two shapes that no page of the training shows together."""
SHADES: Final = {"train": (0, 14), "val": (0, 14), "test": (16, 26)}
"""Minimum and maximum difference of a shape's colour from COLOURS, levels, by split."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """One shape on a page."""

    colour: str
    form: str
    centre: tuple[int, int]
    """Centre (x, y), pixels."""
    half: int
    """Half of its width and of its height, pixels."""

    @property
    def name(self) -> str:
        """Colour and form, which no other shape of the page shares: `red dot`."""
        return f"{self.colour} {self.form}"

    @property
    def box(self) -> Box:
        """The corners, pixels."""
        x, y = self.centre
        return Box(x - self.half, y - self.half, x + self.half, y + self.half)


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A page and the shapes on it."""

    image: Image.Image
    shapes: tuple[Shape, ...]


def is_held_out(centre: tuple[int, int]) -> bool:
    """Return whether training shows no shape at this place: one place of ten in each direction, in blocks of two."""
    column, row = (edge // (2 * STEP) for edge in centre)
    return (5 * column + 3 * row) % 10 == 0


def new_shapes(shapes: Sequence[Shape]) -> tuple[Shape, ...]:
    """Return the shapes that training doesn't show so: at a held-out place, or beside that other shape."""
    names = {shape.name for shape in shapes}
    paired = {name for pair in HELD_OUT if names.issuperset(pair) for name in pair}
    return tuple(shape for shape in shapes if is_held_out(shape.centre) or shape.name in paired)


def draw_page(rng: Rng, split: str, count: int, *, in_strip: bool = False) -> Page:
    """Draw a page with `count` shapes of a split, at most three, each in another colour, in the order of COLOURS.

    Shapes of the test split have held-out shades, and one of them stands at a held-out place or beside a shape that
    training doesn't show with it. With `in_strip`, the shapes stand in different cells of one strip.
    """
    while True:
        shapes: list[Shape] = []
        for colour in sorted(pick_many(rng, tuple(COLOURS), count), key=list(COLOURS).index):
            shapes.append(_draw_shape(rng, colour, shapes))
        columns, rows = ({shape.centre[axis] // CELL for shape in shapes} for axis in (0, 1))
        new = bool(new_shapes(shapes))
        if new is (split == "test") and (not in_strip or (len(rows) == 1 and len(columns) == count)):
            return Page(image=_render(rng, shapes, split), shapes=tuple(shapes))


def strip_of(page: Page) -> Image.Image:
    """Return the strip of the page, SIDE x CELL pixels, in which all its shapes stand."""
    top = page.shapes[0].centre[1] // CELL * CELL
    return page.image.crop((0, top, SIDE, top + CELL))


def cell_of(page: Page) -> Image.Image:
    """Return the cell of the page, CELL x CELL pixels, in which the centre of its first shape lies."""
    left, top = (edge // CELL * CELL for edge in page.shapes[0].centre)
    return page.image.crop((left, top, left + CELL, top + CELL))


def _draw_shape(rng: Rng, colour: str, others: Sequence[Shape]) -> Shape:
    places = range(MARGIN, SIDE - MARGIN + 1, STEP)
    while True:
        form = SHAPES[int(rng.integers(len(SHAPES)))]
        centre = (places[int(rng.integers(len(places)))], places[int(rng.integers(len(places)))])
        far = (max(abs(a - b) for a, b in zip(centre, other.centre, strict=True)) >= APART for other in others)
        if all(far):
            return Shape(colour=colour, form=form, centre=centre, half=int(rng.integers(HALF[0], HALF[1] + 1)))


def _render(rng: Rng, shapes: Sequence[Shape], split: str) -> Image.Image:
    image = Image.fromarray(_paper(rng).astype(np.uint8))
    pen = ImageDraw.Draw(image)
    for shape in shapes:
        low, high = SHADES[split]
        fill = _shade(rng, COLOURS[shape.colour], low, high)
        x1, y1, x2, y2 = shape.box
        match shape.form:
            case "dot":
                pen.ellipse((x1, y1, x2, y2), fill=fill)
            case "square":
                pen.rectangle((x1, y1, x2, y2), fill=fill)
            case _:
                pen.polygon(((x1, y2), (x2, y2), (shape.centre[0], y1)), fill=fill)
    noise = rng.integers(-NOISE, NOISE + 1, (SIDE, SIDE, 3))
    return Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8))


def _paper(rng: Rng) -> NDArray[np.float64]:
    rows, columns = np.mgrid[0:SIDE, 0:SIDE] / SIDE
    tone = rng.uniform(-8, 8, 3)  # a page is a little lighter or darker than the next one
    paper = np.stack([245 - FALL * columns, np.full_like(rows, 215), 245 - FALL * rows], axis=-1)
    return np.clip(paper + tone, 0, 255)


def _shade(rng: Rng, colour: Colour, low: int, high: int) -> Colour:
    """Draw a colour that differs from `colour` by `low` to `high` levels in each channel."""
    change = rng.integers(low, high + 1, 3) * rng.choice((-1, 1), 3)
    red, green, blue = np.clip(np.asarray(colour) + change, 0, 255)
    return int(red), int(green), int(blue)
