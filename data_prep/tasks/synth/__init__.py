"""Generates tasks without a download: pages, charts, tables, geometry, counting. Most images are turned or mirrored."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from codevision_ext import geometry
from codevision_ext.errors import InputError
from codevision_ext.task.image_ops import CROP
from data_prep.formats.image_files import jpeg, png
from data_prep.formats.schema import Row
from data_prep.tasks.common import Rng, allowed_ops, pick
from data_prep.tasks.synth import chart, page, shapes, table
from data_prep.tasks.synth.scene import Scene

KINDS: Final[dict[str, Callable[[Rng, int], Scene]]] = {
    "page": page.draw_page,
    "chart": chart.draw_chart,
    "table": table.draw_table,
    "geometry": shapes.draw_geometry,
    "counting": shapes.draw_counting,
}
"""Drawing function by kind of task; its arguments are the random generator and the maximum number of pixels."""
LICENCE: Final = "CC0-1.0"
SPLITS: Final = ("train", "val", "test", "sft", "sft_val")
"""Names of the splits; each split has its own stream of random numbers."""
DRAWS: Final = 100
"""Maximum number of times that a task is drawn in search of one that requires no crop."""
SMALL: Final = 0.02
"""Maximum share of the image that a box covers if it is too small to be read without a crop, in [0, 1]."""
_JPEG_PIXELS: Final = 1_000_000
"""Minimum size in pixels of an image that is stored as a JPEG; smaller images are stored as PNG."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Settings of the tasks."""

    seed: int = 0
    kinds: tuple[str, ...] = tuple(KINDS)
    max_pixels: int = 12_000_000
    source_share: float = 1 / 6
    """Share of upright images among the tasks in which something is read, in [0, 1]."""
    without: tuple[str, ...] = field(default=(), repr=False)
    """Operations that no task requires, and that no demonstration uses."""

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            InputError: There are no kinds, a share is outside of [0, 1], or images are too small for text.
        """
        if not self.kinds or not 0 <= self.source_share <= 1:
            raise InputError("--kinds names at least one kind, and --source-share is a share in [0, 1]")
        if not allowed_ops(self.without):
            raise InputError("--without leaves no rotation and no flip")
        if self.max_pixels < page.MIN_PIXELS:
            raise InputError(f"--max-megapixels must be at least {page.MIN_PIXELS / 1e6}")


def draw_tasks(recipe: Recipe, split: str, *, count: int, start: int = 0) -> Iterator[Row]:
    """Yield the rows `start` to `start + count` of a split; a row depends on recipe, split and index only."""
    return (draw_row(recipe, split, index) for index in range(start, start + count))


def draw_row(recipe: Recipe, split: str, index: int) -> Row:
    """Draw one task, with the image as the model gets it."""
    rng = np.random.default_rng([recipe.seed, SPLITS.index(split), index])
    kind = recipe.kinds[index % len(recipe.kinds)]
    scene = KINDS[kind](rng, recipe.max_pixels)
    for _ in range(DRAWS):
        if CROP not in recipe.without or not _is_small(scene):
            break
        scene = KINDS[kind](rng, recipe.max_pixels)
    else:
        raise InputError(f"--without crop: {DRAWS} drawings of the kind {kind} all require a crop; leave the kind out")
    op = None
    if scene.has_text and rng.random() >= recipe.source_share:
        op = pick(rng, allowed_ops(recipe.without))
    image, box = scene.image, scene.box
    small = _is_small(scene)
    if op is not None:
        orientation = geometry.orientation_of(op)
        box = box and geometry.map_box(box, orientation, image.size)
        image = geometry.apply(orientation, image)
    return Row(
        images=((jpeg if image.width * image.height >= _JPEG_PIXELS else png)(image),),
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
        picture_id=hashlib.blake2b(
            " ".join([f"{recipe} {split} {index}", *recipe.without]).encode(), digest_size=16
        ).hexdigest(),
    )


def _is_small(scene: Scene) -> bool:
    """Return whether the place of the answer is too small to be read without a crop."""
    return scene.box is not None and geometry.box_area(scene.box) <= SMALL * scene.image.width * scene.image.height
