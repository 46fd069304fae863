"""Tasks without a download: pages, charts, tables, geometry, counting; turned so that a tool is needed, or not."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from codevision_ext import geometry
from codevision_ext.errors import InputError
from data_prep.formats.image_files import jpeg, png
from data_prep.formats.schema import Row
from data_prep.tasks.synth import chart, page, shapes, table
from data_prep.tasks.synth.scene import Rng, Scene, pick

KINDS: Final[dict[str, Callable[[Rng, int], Scene]]] = {
    "page": page.draw_page,
    "chart": chart.draw_chart,
    "table": table.draw_table,
    "geometry": shapes.draw_geometry,
    "counting": shapes.draw_counting,
}
"""What can be drawn; each takes the randomness and the most pixels."""
LICENCE: Final = "CC0-1.0"
SPLITS: Final = ("train", "val", "test", "sft", "sft_val")
"""Every split draws from a stream of its own."""
SMALL: Final = 0.02
"""A box of up to this share of the image has to be cropped."""
_JPEG_FROM: Final = 1_000_000
"""Pixels from which an image is a JPEG."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What the tasks are drawn from."""

    seed: int = 0
    kinds: tuple[str, ...] = tuple(KINDS)
    max_pixels: int = 12_000_000
    source_share: float = 1 / 6
    """Of the tasks that are read: share that stands upright. In [0, 1]."""

    def __post_init__(self) -> None:
        """Refuse what can't be drawn.

        Raises:
            InputError: An unknown kind, a share outside of [0, 1], or images too small for text.
        """
        if unknown := [kind for kind in self.kinds if kind not in KINDS]:
            raise InputError(f"--kinds knows {', '.join(KINDS)}; not {unknown[0]!r}")
        if not self.kinds or not 0 <= self.source_share <= 1:
            raise InputError("--kinds names at least one kind, and --source-share is a share in [0, 1]")
        if self.max_pixels < page.LEAST_PIXELS:
            raise InputError(f"--max-megapixels must be at least {page.LEAST_PIXELS / 1e6}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """Some rows to draw."""

    recipe: Recipe
    split: str
    first: int
    count: int


def orders(recipe: Recipe, split: str, count: int, at_a_time: int = 8) -> Iterator[Order]:
    """The rows of a split, some at a time."""
    for first in range(0, count, at_a_time):
        yield Order(recipe=recipe, split=split, first=first, count=min(at_a_time, count - first))


def draw_tasks(order: Order) -> list[Row]:
    """The rows of an order; each depends on the recipe, its split and its index only."""
    return [draw_row(order.recipe, order.split, index) for index in range(order.first, order.first + order.count)]


def draw_row(recipe: Recipe, split: str, index: int) -> Row:
    """One task, as the model gets it."""
    rng = np.random.default_rng([recipe.seed, SPLITS.index(split), index])
    kind = recipe.kinds[index % len(recipe.kinds)]
    scene = KINDS[kind](rng, recipe.max_pixels)
    op = None
    if scene.reads and rng.random() >= recipe.source_share:
        op = pick(rng, tuple(geometry.ORIENTATION_OPS))
    image, box = scene.image, scene.box
    small = box is not None and (box.x2 - box.x1) * (box.y2 - box.y1) <= SMALL * image.width * image.height
    if op is not None:
        orientation = geometry.orientation_of(op)
        box = box and geometry.map_box(box, orientation, image.size)
        image = geometry.apply(orientation, image)
    return Row(
        images=((jpeg if image.width * image.height >= _JPEG_FROM else png)(image),),
        question=scene.question,
        answers=(scene.answer,),
        source=f"synth-{kind}",
        split=split,
        index=index,
        size=image.size,
        applied=(*(("crop",) if small else ()), *((op,) if op else ())),
        box=box,
        ability=kind,
        licence=LICENCE,
        picture_id=hashlib.blake2b(f"{recipe} {split} {index}".encode(), digest_size=16).hexdigest(),
    )
