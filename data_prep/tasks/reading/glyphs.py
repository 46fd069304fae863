"""Draws rows of the small reading task: three characters, turned, mirrored, on a larger page, or left as they are.

The characters are printed in fonts, or are digits that people wrote.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial

import numpy as np
from PIL import Image

from codevision_ext import geometry
from codevision_ext.errors import InputError
from codevision_ext.task.image_ops import CROP
from codevision_ext.types import Box, Orientation
from data_prep.formats.image_files import png
from data_prep.formats.schema import Row
from data_prep.tasks.common import Rng, allowed_ops, pick
from data_prep.tasks.reading import vocabulary
from data_prep.tasks.reading.drawing import CELL_PX, FONTS, draw_clutter, draw_colours, draw_text, font_stencil
from data_prep.tasks.reading.handwriting import draw_digit

QUESTIONS = {"number": "What number is written?", "word": "What word is written?"}
UNREADABLE = "unreadable"
"""Answer, without a tool, to a question about an image that isn't upright or is too large."""
ORIENTATION_THOUGHTS = {
    Orientation.ID: "upright",
    Orientation.R90: "turned left",
    Orientation.R180: "upside down",
    Orientation.R270: "turned right",
    Orientation.FH: "mirrored",
    Orientation.FV: "flipped",
    Orientation.TRANSPOSE: "turned and mirrored",
    Orientation.TRANSVERSE: "turned and mirrored",
}
"""Thought about an image by its orientation."""
CELL = (84, 28)
"""Width and height of a cell of the page, pixels."""
GRID = (2, 3)
"""Columns and rows of the page: 168x84 pixels, with text in one cell."""
LENGTH = 3
"""Characters of a text."""
COLUMNS = {
    "source": None,
    "rot90": "rotate_90",
    "rot180": "rotate_180",
    "rot270": "rotate_270",
    "flip_h": "flip_horizontal",
    "flip_v": "flip_vertical",
}
"""Op that is applied to the image, by column of the transformed benchmark."""
ORIENTATION_OPS = tuple(geometry.ORIENTATION_OPS)
STREAMS = ("train", "val", "test", "read", "read_val", "sft", "sft_val", "plan", "plan_val", "letters")
"""Random streams, one for each file: more rows of one file don't change the others."""


class Writing(StrEnum):
    """How the characters are written; the value is the `source` of the rows."""

    PRINT = "glyphs"
    HANDWRITING = "handwriting"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mix:
    """Settings of the rows."""

    seed: int = 0
    sizes: tuple[tuple[int, int], ...] = ((84, 28), (90, 30), (96, 32))
    """Widths and heights of upright images, pixels."""
    writing: Writing = Writing.PRINT
    words_share: float | None = None
    """Share of words among the texts, in [0, 1]; the others are numbers. None: 0.1, and 0 for handwriting."""
    source_share: float = 1 / 6
    """Share of rows that need no tool, in [0, 1]."""
    crop_share: float = 0.15
    """Share of rows whose text is a small part of a large image; half of those are turned or mirrored too."""
    without: tuple[str, ...] = ()
    """Operations that no row requires, except those of the benchmark, and that no demonstration uses."""

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            InputError: A share is outside of [0, 1], a size is too small for legible text, or handwriting has words.
        """
        if self.writing is Writing.HANDWRITING and self.words_share:
            raise InputError("--words-share must be 0 for handwriting: only digits were written by people")
        for name in ("words_share", "source_share", "crop_share"):
            if not 0 <= (getattr(self, name) or 0) <= 1:
                raise InputError(f"{name} is a share in [0, 1], not {getattr(self, name)}")
        if self.source_share + self.crop_share > 1:
            raise InputError("source_share and crop_share together exceed 1")
        if not self.applied_ops:
            raise InputError("--without leaves no rotation and no flip")
        min_width, min_height = LENGTH * CELL_PX, CELL_PX
        if not self.sizes or any(width < min_width or height < min_height for width, height in self.sizes):
            raise InputError(f"sizes are images of at least {min_width}x{min_height} pixels, e.g. 84x28,112x56")

    @property
    def applied_ops(self) -> tuple[str, ...]:
        """Rotations and flips that may be applied to an image: those whose inverse isn't left out."""
        return allowed_ops(self.without)


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """A text and how it is written."""

    kind: str
    """Kind of text, a key of QUESTIONS."""
    text: str
    font: str | None
    """Name of the font; None for handwriting."""
    split: str
    """Split whose samples of handwriting are used."""


def draw_rows(mix: Mix, count: int, split: str, stream: str, start: int = 0) -> Iterator[Row]:
    """Yield the rows `start` to `start + count` for training: upright, turned or mirrored, and pages, as `mix` says."""
    for index in range(start, start + count):
        rng = rng_of(mix, stream, index)
        label = draw_label(rng, mix, split)
        draw = rng.random()
        if draw < mix.source_share:
            yield make_row(label, split, index, draw_canonical(rng, mix, label))
        elif draw < mix.source_share + mix.crop_share and CROP not in mix.without:
            op = pick(rng, mix.applied_ops) if rng.random() < 0.5 else None
            page, box = draw_grid_page(rng, label)
            yield make_row(label, split, index, page, op, box)
        else:
            op = pick(rng, mix.applied_ops)
            yield make_row(label, split, index, draw_canonical(rng, mix, label), op)


def draw_test_rows(mix: Mix, items: int) -> Iterator[Row]:
    """Yield the transformed benchmark: six rows per item, in the order of COLUMNS; the item is `index // 6`."""
    for item in range(items):
        rng = rng_of(mix, "test", item)
        label = draw_label(rng, mix, "test")
        canonical = draw_canonical(rng, mix, label)
        for number, (column, op) in enumerate(COLUMNS.items()):
            yield replace(make_row(label, "test", item * len(COLUMNS) + number, canonical, op), column=column)


UNREADABLE_SHARE = 0.6
"""Share of read.parquet that can't be read as it is: a model that can't see the orientation of an image can't choose
the op that helps."""
LENGTHS = {"letters": (1.0, 0.0, 0.0), "read": (0.2, 0.2, 0.6), "read_val": (0.0, 0.0, 1.0)}
"""Shares of the texts of one, two and three characters, by file."""


def draw_reading_rows(mix: Mix, count: int, stream: str, start: int = 0) -> Iterator[Row]:
    """Yield rows of a file of LENGTHS: texts to read, and unreadable images; half of the words are random letters.

    Texts to read are upright: a model that learns from these rows alone can't read a turned image. A model that has
    learned single characters learns to read several much sooner: hence `letters` comes first.
    """
    split = "val" if stream == "read_val" else "train"
    for index in range(start, start + count):
        rng = rng_of(mix, stream, index)
        label = draw_label(rng, mix, split, with_letter_strings=split == "train")
        if stream == "read" and rng.random() < UNREADABLE_SHARE:
            op = pick(rng, (*mix.applied_ops, *(() if CROP in mix.without else (CROP,))))
            page = draw_grid_page(rng, label) if op == "crop" else (draw_canonical(rng, mix, label), None)
            row = make_row(label, split, index, page[0], None if op == "crop" else op, page[1])
            yield replace(row, answers=(UNREADABLE,))
            continue
        label = replace(label, text=label.text[: 1 + int(rng.choice(LENGTH, p=LENGTHS[stream]))])
        yield make_row(label, split, index, draw_canonical(rng, mix, label))


def make_row(
    label: Label, split: str, index: int, canonical: Image.Image, op: str | None = None, box: Box | None = None
) -> Row:
    """Return the row whose image is `canonical` after `op`; `box` is the part to crop, in canonical pixels."""
    image = canonical
    if op is not None:
        orientation = geometry.orientation_of(op)
        image = geometry.apply(orientation, canonical)
        box = box and geometry.map_box(box, orientation, canonical.size)
    applied = ("crop",) if box else ()
    return Row(
        images=(png(image),),
        question=QUESTIONS[label.kind],
        answers=(label.text,),
        source=(Writing.HANDWRITING if label.font is None else Writing.PRINT).value,
        split=split,
        index=index,
        size=image.size,
        applied=applied if op is None else (*applied, op),
        box=box,
    )


def draw_label(rng: Rng, mix: Mix, split: str, *, with_letter_strings: bool = False) -> Label:
    """Draw a text of the split, and a font of the split unless people write it."""
    default = 0.1 if mix.writing is Writing.PRINT else 0.0
    kind = "word" if rng.random() < (default if mix.words_share is None else mix.words_share) else "number"
    texts = vocabulary.words(split) if kind == "word" else vocabulary.number_words(split)
    if kind == "word" and with_letter_strings and rng.random() < 0.5:
        texts = vocabulary.letter_strings()
    text = pick(rng, texts)
    font = pick(rng, FONTS[split]) if mix.writing is Writing.PRINT else None
    return Label(kind=kind, text=text, font=font, split=split)


def draw_canonical(rng: Rng, mix: Mix, label: Label) -> Image.Image:
    """Draw an upright image of one of the sizes, narrower if the text is shorter than LENGTH."""
    width, height = mix.sizes[int(rng.integers(len(mix.sizes)))]
    size = (width * len(label.text) // LENGTH, height)
    return Image.fromarray(draw_text(rng, label.text, _stencils(rng, label), size, draw_colours(rng)))


def draw_grid_page(rng: Rng, label: Label) -> tuple[Image.Image, Box]:
    """Draw an upright page with clutter and the text in one cell of its grid; return the page and the cell."""
    colours = draw_colours(rng)
    page = draw_clutter(rng, (GRID[0] * CELL[0], GRID[1] * CELL[1]), colours)
    x, y = (int(rng.integers(count)) * edge for count, edge in zip(GRID, CELL, strict=True))
    page[y : y + CELL[1], x : x + CELL[0]] = draw_text(rng, label.text, _stencils(rng, label), CELL, colours)
    return Image.fromarray(page), Box(x, y, x + CELL[0], y + CELL[1])


def _stencils(rng: Rng, label: Label) -> Callable[[str], Image.Image]:
    """Return the function that returns the coverage of a character; a digit by hand differs from call to call."""
    if label.font is None:
        return partial(draw_digit, rng, split=label.split)
    return partial(font_stencil, font_name=label.font)


def rng_of(mix: Mix, stream: str, index: int) -> Rng:
    """Return the random generator of one row, which depends on seed, stream and index only."""
    return np.random.default_rng([mix.seed, STREAMS.index(stream), index])
