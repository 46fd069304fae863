"""How does a set become a robustness benchmark? Images are turned, mirrored or corrupted; the questions stay."""

import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from inspect import signature
from typing import Any, Final

import numpy as np
from PIL import Image

from codevision_ext import geometry
from codevision_ext.errors import InputError
from codevision_ext.types import Box, Orientation
from data_prep.convert.validate import required_orientation
from data_prep.formats.image_files import extension, jpeg, png
from data_prep.formats.schema import Row
from data_prep.tasks.reading.glyphs import COLUMNS

SEVERITIES: Final = (1, 2, 3, 4, 5)
LEAST_PX: Final = 32
"""Edge of the smallest image that can be corrupted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transform:
    """What is made of a row; a row whose image was transformed before is taken back first."""

    columns: tuple[str, ...] = tuple(COLUMNS)
    """Keys of COLUMNS, and corruptions as NAME-SEVERITY."""
    one: bool = False
    """A row becomes one row, in a column that changes with its number in the file, so that all are equally frequent."""
    small: float | None = None
    """Share of the image, in (0, 1], up to which a box has to be cropped to be read: then `crop` is applied, too."""
    only_small: bool = False
    """Rows with a larger box, or none, are left out."""
    seed: int = 0
    """Of the corruptions, and of the first row's column with `one`."""

    def __call__(self, row: Row, number: int) -> Iterator[Row | str]:
        """The rows made from one, or why it is left out; `number` is its place in the file."""
        looks = required_orientation(row.applied)
        size = geometry.map_size(geometry.inverse(looks), row.size)
        box = row.box
        if box is not None and row.box_frame == "input":
            box = geometry.map_box(box, geometry.inverse(looks), row.size)
        crop = "crop" in row.applied
        if self.small is not None:
            is_small = box is not None and _area(box) <= self.small * size[0] * size[1]
            if self.only_small and not is_small:
                yield "no_box" if box is None else "box_not_small"
                return
            crop = crop or is_small
        start = (self.seed + number) % len(self.columns)
        for place, column in enumerate(self.columns[start : start + 1] if self.one else self.columns):
            op = COLUMNS.get(column)
            turned = Orientation.ID if op is None else geometry.orientation_of(op)
            try:
                images = tuple(self._image(data, looks, turned, column, row) for data in row.images)
            except _TooSmall:
                yield "too_small_to_corrupt"
                continue
            yield replace(
                row,
                images=images,
                size=geometry.map_size(turned, size),
                applied=(*(("crop",) if crop else ()), *((op,) if op else ())),
                box=box and geometry.map_box(box, turned, size),
                box_frame="input",
                column=column,
                index=row.index if self.one else row.index * len(self.columns) + place,
            )

    def _image(self, data: bytes, looks: Orientation, turned: Orientation, column: str, row: Row) -> bytes:
        """The image put upright, then turned or corrupted; the same bytes where that changes nothing."""
        net = geometry.compose(geometry.inverse(looks), turned)
        if column in COLUMNS and net is Orientation.ID:
            return data
        with Image.open(io.BytesIO(data)) as image:
            made = geometry.apply(net, image.convert("RGB") if image.mode not in ("L", "RGB") else image)
        if column not in COLUMNS:
            name, _, severity = column.rpartition("-")
            made = corrupt(made, name, int(severity), [self.seed, zlib.crc32(row.picture_id.encode()), int(severity)])
        made.info.clear()
        return jpeg(made) if extension(data) == ".jpg" else png(made)


def read_columns(columns: str, corruptions: str) -> tuple[str, ...]:
    """`source,rot90` and `gaussian_noise:1+3,fog` as columns; a corruption without severities has all five.

    Raises:
        InputError: A column or a corruption that there is none of, or a severity that isn't 1 to 5.
    """
    found = [column.strip() for column in columns.split(",") if column.strip()]
    if unknown := [column for column in found if column not in COLUMNS]:
        raise InputError(f"--columns knows {', '.join(COLUMNS)}; not {unknown[0]!r}")
    for item in filter(None, (item.strip() for item in corruptions.split(","))):
        name, _, given = item.partition(":")
        if name not in (known := library().get_corruption_names("all")):
            raise InputError(f"--corruptions knows {', '.join(known)}; not {name!r}")
        severities = given.split("+") if given else [str(severity) for severity in SEVERITIES]
        if wrong := [severity for severity in severities if severity not in map(str, SEVERITIES)]:
            raise InputError(f"--corruptions: a severity of {name} is 1 to 5, not {wrong[0]!r}")
        found += [f"{name}-{severity}" for severity in severities]
    if not found or len(set(found)) < len(found):
        raise InputError("--columns and --corruptions together name each column once, and at least one")
    return tuple(found)


def corrupt(image: Image.Image, name: str, severity: int, seed: list[int]) -> Image.Image:
    """The image with a corruption of ImageNet-C (Hendrycks and Dietterich, 2019) at a severity of 1 to 5.

    Raises:
        InputError: The library isn't installed.
    """
    if min(image.size) < LEAST_PX:
        raise _TooSmall
    made = library()
    state = int(np.random.default_rng(seed).integers(2**31))
    options = {"seed": state} if "seed" in signature(getattr(made, name)).parameters else {}
    np.random.seed(state)
    pixels = made.corrupt(np.asarray(image.convert("RGB")), severity=severity, corruption_name=name, **options)
    return Image.fromarray(pixels)


def library() -> Any:
    """The library of corruptions.

    Raises:
        InputError: It isn't installed.
    """
    try:
        import imagecorruptions  # noqa: PLC0415  optional, and slow to import
    except ImportError as error:
        said = (
            "corruptions want a library: pip install scikit-image numba && pip install --no-deps imagecorruptions-imaug"
        )
        raise InputError(f"{said} ({error})") from error
    return imagecorruptions


class _TooSmall(Exception):
    pass


def _area(box: Box) -> float:
    return (box.x2 - box.x1) * (box.y2 - box.y1)
