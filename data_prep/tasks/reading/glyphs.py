"""What a row of the small reading task is: three characters, drawn, then turned, mirrored, put on a page or left."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from codevision_ext import geometry
from codevision_ext.errors import InputError
from codevision_ext.types import Box, Orientation
from data_prep.formats.schema import Row
from data_prep.tasks.reading import vocabulary
from data_prep.tasks.reading.drawing import CELL_PX, FONTS, draw_clutter, draw_colours, draw_text, to_png

SOURCE = "glyphs"
QUESTIONS = {"number": "What number is written?", "word": "What word is written?"}
UNREADABLE = "unreadable"
"""What is answered, without a tool, about an image that isn't upright or is too large."""
LOOKS = {
    Orientation.ID: "upright",
    Orientation.R90: "turned left",
    Orientation.R180: "upside down",
    Orientation.R270: "turned right",
    Orientation.FH: "mirrored",
    Orientation.FV: "flipped",
    Orientation.TRANSPOSE: "turned and mirrored",
    Orientation.TRANSVERSE: "turned and mirrored",
}
"""What is thought of an image, by what was done to it."""
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
"""The transformed benchmark: what is applied to the image, by column."""
ORIENTATION_OPS = tuple(geometry.ORIENTATION_OPS)
STREAMS = ("train", "val", "test", "read", "read_val", "sft", "sft_val", "plan", "plan_val", "letters")
"""Every file draws from a stream of its own, so that asking for more of one changes none of the others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mix:
    """What the rows are drawn from."""

    seed: int = 0
    sizes: tuple[tuple[int, int], ...] = ((84, 28), (90, 30), (96, 32))
    """Width and height of an upright image, pixels."""
    words_share: float = 0.1
    """Share of words among the texts; the rest are numbers. In [0, 1]."""
    source_share: float = 1 / 6
    """Share of rows that need no tool. In [0, 1]."""
    crop_share: float = 0.15
    """Share of rows whose text is a small part of a large image; half of those are turned or mirrored too."""

    def __post_init__(self) -> None:
        """Refuse what can't be drawn.

        Raises:
            InputError: A share outside of [0, 1], or a size too small for legible text.
        """
        for name in ("words_share", "source_share", "crop_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} is a share in [0, 1], not {getattr(self, name)}")
        if self.source_share + self.crop_share > 1:
            raise InputError("source_share and crop_share together exceed 1")
        least_w, least_h = LENGTH * CELL_PX, CELL_PX
        if not self.sizes or any(width < least_w or height < least_h for width, height in self.sizes):
            raise InputError(f"sizes are images of at least {least_w}x{least_h} pixels, e.g. 84x28,112x56")


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """What an image shows, in which font."""

    kind: str
    """A key of QUESTIONS."""
    text: str
    font: str


def draw_rows(mix: Mix, count: int, split: str, stream: str, start: int = 0) -> Iterator[Row]:
    """The task as it is trained: upright, turned or mirrored, and pages, in the shares of `mix`; row `start` first."""
    for index in range(start, start + count):
        rng = rng_of(mix, stream, index)
        label = draw_label(rng, mix, split)
        draw = rng.random()
        if draw < mix.source_share:
            yield make_row(label, split, index, draw_canonical(rng, mix, label))
        elif draw < mix.source_share + mix.crop_share:
            op = _pick(rng, ORIENTATION_OPS) if rng.random() < 0.5 else None
            page, box = draw_page(rng, label)
            yield make_row(label, split, index, page, op, box)
        else:
            op = _pick(rng, ORIENTATION_OPS)
            yield make_row(label, split, index, draw_canonical(rng, mix, label), op)


def draw_test_rows(mix: Mix, items: int) -> Iterator[Row]:
    """The transformed benchmark: six rows an item, in the order of COLUMNS; the item is `index // 6`."""
    for item in range(items):
        rng = rng_of(mix, "test", item)
        label = draw_label(rng, mix, "test")
        canonical = draw_canonical(rng, mix, label)
        for number, (column, op) in enumerate(COLUMNS.items()):
            yield replace(make_row(label, "test", item * len(COLUMNS) + number, canonical, op), column=column)


UNREADABLE_SHARE = 0.6
"""Share of read.parquet that can't be read as it is, and is only looked at: who can't see how an image stands can't
choose the operation that helps."""
LENGTHS = {"letters": (1.0, 0.0, 0.0), "read": (0.2, 0.2, 0.6), "read_val": (0.0, 0.0, 1.0)}
"""Shares of the texts that are cut to one character, to two, and not at all, by file."""


def draw_reading_rows(mix: Mix, count: int, stream: str, start: int = 0) -> Iterator[Row]:
    """Reading, and what can't be read, for a file of LENGTHS; half of the words are letters in no dictionary.

    What is to be read is upright: a model that learns from these rows alone can't read a turned image.
    Who has learned the characters one by one learns to read a row of them much sooner: hence `letters` first.
    """
    split = "val" if stream == "read_val" else "train"
    for index in range(start, start + count):
        rng = rng_of(mix, stream, index)
        label = draw_label(rng, mix, split, with_letter_strings=split == "train")
        if stream == "read" and rng.random() < UNREADABLE_SHARE:
            op = _pick(rng, (*ORIENTATION_OPS, "crop"))
            page = draw_page(rng, label) if op == "crop" else (draw_canonical(rng, mix, label), None)
            row = make_row(label, split, index, page[0], None if op == "crop" else op, page[1])
            yield replace(row, answers=(UNREADABLE,))
            continue
        label = replace(label, text=label.text[: 1 + int(rng.choice(LENGTH, p=LENGTHS[stream]))])
        yield make_row(label, split, index, draw_canonical(rng, mix, label))


def make_row(
    label: Label, split: str, index: int, canonical: Image.Image, op: str | None = None, box: Box | None = None
) -> Row:
    """The row whose image is `canonical` with `op` done to it; `box` is the part to crop, in canonical pixels."""
    image = canonical
    if op is not None:
        orientation = geometry.orientation_of(op)
        image = geometry.apply(orientation, canonical)
        box = box and geometry.map_box(box, orientation, canonical.size)
    applied = ("crop",) if box else ()
    return Row(
        images=(to_png(image),),
        question=QUESTIONS[label.kind],
        answers=(label.text,),
        source=SOURCE,
        split=split,
        index=index,
        size=image.size,
        applied=applied if op is None else (*applied, op),
        box=box,
    )


def draw_label(rng: np.random.Generator, mix: Mix, split: str, *, with_letter_strings: bool = False) -> Label:
    """A text and a font of the split."""
    kind = "word" if rng.random() < mix.words_share else "number"
    texts = vocabulary.words(split) if kind == "word" else vocabulary.number_words(split)
    if kind == "word" and with_letter_strings and rng.random() < 0.5:
        texts = vocabulary.letter_strings()
    return Label(kind=kind, text=_pick(rng, texts), font=_pick(rng, FONTS[split]))


def draw_canonical(rng: np.random.Generator, mix: Mix, label: Label) -> Image.Image:
    """An upright image of one of the sizes, as much narrower as the text is shorter than LENGTH."""
    width, height = mix.sizes[int(rng.integers(len(mix.sizes)))]
    size = (width * len(label.text) // LENGTH, height)
    return Image.fromarray(draw_text(rng, label.text, label.font, size, draw_colours(rng)))


def draw_page(rng: np.random.Generator, label: Label) -> tuple[Image.Image, Box]:
    """An upright page with clutter, the text in one cell of its grid, and that cell."""
    colours = draw_colours(rng)
    page = draw_clutter(rng, (GRID[0] * CELL[0], GRID[1] * CELL[1]), colours)
    x, y = (int(rng.integers(count)) * edge for count, edge in zip(GRID, CELL, strict=True))
    page[y : y + CELL[1], x : x + CELL[0]] = draw_text(rng, label.text, label.font, CELL, colours)
    return Image.fromarray(page), Box(x, y, x + CELL[0], y + CELL[1])


def rng_of(mix: Mix, stream: str, index: int) -> np.random.Generator:
    """Randomness of one row: the same for the same seed, stream and index, whatever else is drawn."""
    return np.random.default_rng([mix.seed, STREAMS.index(stream), index])


def _pick(rng: np.random.Generator, choices: tuple[str, ...]) -> str:
    return choices[int(rng.integers(len(choices)))]
