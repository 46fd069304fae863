"""Makes a robustness benchmark from a data set: images are turned, mirrored or corrupted, and questions are kept."""

import io
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from inspect import signature
from typing import Any, Final

import numpy as np
from PIL import Image

from codevision_ext import geometry
from codevision_ext.errors import InputError
from codevision_ext.types import AnswerKind, Orientation
from data_prep.formats.image_files import extension, jpeg, png
from data_prep.formats.schema import Row, applied_orientation
from data_prep.tasks.reading.glyphs import COLUMNS

SEVERITIES: Final = (1, 2, 3, 4, 5)
MIN_CORRUPTED_PX: Final = 32
"""Minimum edge of an image that can be corrupted, in pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transform:
    """Makes the rows of a benchmark from one row. An image that was transformed before is turned back first."""

    columns: tuple[str, ...] = tuple(COLUMNS)
    """Keys of COLUMNS, and corruptions as NAME-SEVERITY."""
    one: bool = False
    """True: make one row from each input row, not one per column; the columns alternate and are equally frequent."""
    small: float | None = None
    """Maximum share of the image, in (0, 1], of a box that can't be read without a crop; such rows get `crop`."""
    only_small: bool = False
    """True: leave out rows with a larger box, or without a box."""
    seed: int = 0
    """Seed of the corruptions; with `one`, also the number of the first row's column."""

    def __call__(self, row: Row, number: int) -> Iterator[Row | str]:
        """Yield the rows made from row `number` of a file, or the reason why the row is left out."""
        undo = geometry.inverse(applied_orientation(row.applied))
        size = geometry.map_size(undo, row.size)
        box = row.box
        if box is not None and row.box_frame == "input":
            box = geometry.map_box(box, undo, row.size)
        crop = "crop" in row.applied
        if self.small is not None:
            is_small = box is not None and geometry.box_area(box) <= self.small * size[0] * size[1]
            if self.only_small and not is_small:
                yield "no_box" if box is None else "box_not_small"
                return
            crop = crop or is_small
        start = (self.seed + number) % len(self.columns)
        for place, column in enumerate(self.columns[start : start + 1] if self.one else self.columns):
            op = COLUMNS.get(column)
            orientation = Orientation.ID if op is None else geometry.orientation_of(op)
            net = geometry.compose(undo, orientation)
            if row.answer_kind is AnswerKind.COORDINATES and net is not Orientation.ID:
                yield "coordinates_turned"
                continue
            if row.drawing is not None and net is not Orientation.ID:
                yield "drawing_on_turned_image"
                continue
            try:
                images = tuple(self._image(data, net, column, row) for data in row.images)
                edited = row.edited_image and self._image(row.edited_image, net, column, row)
            except _TooSmall:
                yield "too_small_to_corrupt"
                continue
            yield replace(
                row,
                images=images,
                edited_image=edited,
                size=geometry.map_size(orientation, size),
                applied=(*(("crop",) if crop else ()), *((op,) if op else ())),
                box=box and geometry.map_box(box, orientation, size),
                box_frame="input",
                column=column,
                index=row.index if self.one else row.index * len(self.columns) + place,
            )

    def rows(self, rows: Iterable[Row]) -> Iterator[Row]:
        """Yield the rows made from rows, each numbered by its index, without those that are left out."""
        return (made for row in rows for made in self(row, row.index) if isinstance(made, Row))

    def _image(self, data: bytes, net: Orientation, column: str, row: Row) -> bytes:
        """Return the image file turned and corrupted; the same bytes if that changes nothing."""
        if column in COLUMNS and net is Orientation.ID:
            return data
        with Image.open(io.BytesIO(data)) as image:
            result = geometry.apply(net, image.convert("RGB") if image.mode not in ("L", "RGB") else image)
        if column not in COLUMNS:
            name, _, severity = column.rpartition("-")
            result = corrupt(
                result, name, int(severity), [self.seed, zlib.crc32(row.picture_id.encode()), int(severity)]
            )
        result.info.clear()
        return jpeg(result) if extension(data) == ".jpg" else png(result)


def read_columns(columns: str, corruptions: str) -> tuple[str, ...]:
    """Return `source,rot90` and `gaussian_noise:1+3,fog` as columns; a corruption without severities has all five.

    Raises:
        InputError: A column or a corruption isn't known, a severity isn't 1 to 5, or a column is named twice.
    """
    result = [column.strip() for column in columns.split(",") if column.strip()]
    if unknown := [column for column in result if column not in COLUMNS]:
        raise InputError(f"--columns must be among {', '.join(COLUMNS)}; not {unknown[0]!r}")
    for item in filter(None, (item.strip() for item in corruptions.split(","))):
        name, _, levels = item.partition(":")
        if name not in (known := corruption_library().get_corruption_names("all")):
            raise InputError(f"--corruptions must be among {', '.join(known)}; not {name!r}")
        severities = levels.split("+") if levels else [str(severity) for severity in SEVERITIES]
        if wrong := [severity for severity in severities if severity not in map(str, SEVERITIES)]:
            raise InputError(f"--corruptions: a severity of {name} is 1 to 5, not {wrong[0]!r}")
        result += [f"{name}-{severity}" for severity in severities]
    if not result or len(set(result)) < len(result):
        raise InputError("--columns and --corruptions together name each column once, and at least one")
    return tuple(result)


def corrupt(image: Image.Image, name: str, severity: int, seed: list[int]) -> Image.Image:
    """Return the image with a corruption of ImageNet-C (Hendrycks and Dietterich, 2019) at a severity of 1 to 5.

    Raises:
        InputError: The library of corruptions isn't installed.
    """
    if min(image.size) < MIN_CORRUPTED_PX:
        raise _TooSmall
    library = corruption_library()
    state = int(np.random.default_rng(seed).integers(2**31))
    options = {"seed": state} if "seed" in signature(getattr(library, name)).parameters else {}
    np.random.seed(state)
    pixels = library.corrupt(np.asarray(image.convert("RGB")), severity=severity, corruption_name=name, **options)
    return Image.fromarray(pixels)


def corruption_library() -> Any:
    """Import and return the library of corruptions.

    Raises:
        InputError: The library isn't installed.
    """
    try:
        import imagecorruptions  # noqa: PLC0415  optional, and slow to import
    except ImportError as error:
        command = "pip install scikit-image numba && pip install --no-deps imagecorruptions-imaug"
        raise InputError(f"--corruptions needs a library: {command} ({error})") from error
    return imagecorruptions


class _TooSmall(Exception):
    pass
