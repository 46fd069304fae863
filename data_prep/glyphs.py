"""What a row of the small reading task is: three characters, drawn, then turned, mirrored, hidden in a page or left."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from codevision_ext.errors import InputError
from data_prep import vocabulary
from data_prep.drawing import FONTS, MARGIN_PX, MIN_TEXT_PX, draw_colours, draw_text, to_png
from data_prep.schema import Row

SOURCE = "glyphs"
QUESTIONS = {"number": "What number is written?", "word": "What word is written?"}
STREAMS = ("train", "val", "test", "read", "read_val", "sft", "sft_val")
"""Every file draws from a stream of its own, so that asking for more of one changes none of the others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mix:
    """What the rows are drawn from."""

    seed: int = 0
    sizes: tuple[tuple[int, int], ...] = ((84, 56), (112, 56), (84, 84))
    """Width and height of an upright picture, pixels."""
    words_share: float = 0.3
    """Share of words among the texts; the rest are numbers. In [0, 1]."""
    source_share: float = 1 / 6
    """Share of rows that need no tool. In [0, 1]."""
    crop_share: float = 0.15
    """Share of rows whose text is a small part of a large picture; half of those are turned or mirrored too."""

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
        least_w, least_h = 2 * MIN_TEXT_PX, MIN_TEXT_PX + 2 * MARGIN_PX
        if not self.sizes or any(width < least_w or height < least_h for width, height in self.sizes):
            raise InputError(f"sizes are pictures of at least {least_w}x{least_h} pixels, e.g. 84x56,112x56")


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """What a picture shows, in which font."""

    kind: str
    """A key of QUESTIONS."""
    text: str
    font: str


def draw_reading_rows(mix: Mix, count: int, split: str = "train") -> Iterator[Row]:
    """Upright pictures only; half of the words of the train split are letters in no dictionary."""
    for index in range(count):
        rng = _rng(mix, "read" if split == "train" else f"read_{split}", index)
        text = draw_label(rng, mix, split, with_letter_strings=split == "train")
        size = draw_size(rng, mix)
        pixels = draw_text(rng, text.text, text.font, size, draw_colours(rng))
        yield Row(
            images=(to_png(pixels),),
            question=QUESTIONS[text.kind],
            answers=(text.text,),
            source=SOURCE,
            split=split,
            index=index,
            size=size,
        )


def draw_label(rng: np.random.Generator, mix: Mix, split: str, *, with_letter_strings: bool = False) -> Text:
    """A text and a font of the split."""
    kind = "word" if rng.random() < mix.words_share else "number"
    texts = vocabulary.words(split) if kind == "word" else vocabulary.numbers(split)
    if kind == "word" and with_letter_strings and rng.random() < 0.5:
        texts = vocabulary.letter_strings()
    return Text(kind=kind, text=_pick(rng, texts), font=_pick(rng, FONTS[split]))


def draw_size(rng: np.random.Generator, mix: Mix) -> tuple[int, int]:
    return mix.sizes[int(rng.integers(len(mix.sizes)))]


def _pick(rng: np.random.Generator, choices: tuple[str, ...]) -> str:
    return choices[int(rng.integers(len(choices)))]


def _rng(mix: Mix, stream: str, index: int) -> np.random.Generator:
    """Randomness of one row: the same for the same seed, stream and index, whatever else is drawn."""
    return np.random.default_rng([mix.seed, STREAMS.index(stream), index])
