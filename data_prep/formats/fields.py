"""Reads one field of a record: any published shape in, one type out; RowError names a field that can't be read."""

import base64
import binascii
import json
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from codevision_ext.errors import InputError
from codevision_ext.task import image_ops
from codevision_ext.types import Box
from data_prep.formats.row_errors import Reason, RowError

ALIASES: Final = {
    "rot90": "rotate_90", "rotate90": "rotate_90", "rotation_90": "rotate_90",
    "rot180": "rotate_180", "rotate180": "rotate_180", "rotation_180": "rotate_180",
    "rot270": "rotate_270", "rotate270": "rotate_270", "rotation_270": "rotate_270",
    "flip_h": "flip_horizontal", "hflip": "flip_horizontal", "horizontal_flip": "flip_horizontal",
    "flip_v": "flip_vertical", "vflip": "flip_vertical", "vertical_flip": "flip_vertical",
}  # fmt: skip
"""Canonical name of an op by its other names."""
_NO_OP: Final = frozenset({"source", "original", "rotate_0"})
ImageFields = tuple[tuple[bytes, ...], tuple[str | None, ...]]
"""Bytes of each image file, and the path of each; None for an image that came as bytes."""


def first(record: Mapping[str, Any], *names: str) -> Any:
    """Return the first of these fields that isn't null; None if all are null or missing."""
    return next((value for name in names if (value := record.get(name)) is not None), None)


def require(record: Mapping[str, Any], *names: str) -> Any:
    """Return the first of these fields that isn't null.

    Raises:
        RowError: All of them are null or missing.
    """
    value = first(record, *names)
    if value is None:
        raise RowError(Reason.COLUMN_MISSING, names[0], "is missing or null")
    return value


def parse_json(value: Any, field: str) -> Any:
    """Return a value; a text that opens like a JSON list or object (`"[1, 2]"`, `"{...}"`) is parsed.

    Raises:
        RowError: A text opens like JSON and can't be parsed.
    """
    if not (isinstance(value, str) and value.lstrip()[:1] in ("[", "{")):
        return value
    try:
        return json.loads(value)
    except ValueError as error:
        raise RowError(Reason.BAD_JSON, field, f"opens like JSON and can't be parsed: {error}") from error


def mapping(value: Any, field: str) -> Mapping[str, Any]:
    """Return an object, given as itself or as JSON; null and "" give an empty object.

    Raises:
        RowError: The value is of another type.
    """
    value = parse_json(value, field)
    if value is None or value == "":
        return {}
    if not isinstance(value, Mapping):
        raise RowError(Reason.BAD_TYPE, field, f"must be an object, not {type(value).__name__}")
    return value


def text(value: Any, field: str) -> str:
    """Return a text or a number as a text.

    Raises:
        RowError: The value is of another type.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return f"{value:g}" if isinstance(value, float) else str(value)
    raise RowError(Reason.BAD_TYPE, field, f"must be a text, not {type(value).__name__}")


def read_numbers(value: Any, field: str) -> tuple[float, ...] | None:
    """Return a list of numbers as a tuple; null gives None.

    Raises:
        RowError: The value is of another type.
    """
    try:
        return None if value is None else tuple(map(float, value))
    except (TypeError, ValueError) as error:
        raise RowError(Reason.BAD_TYPE, field, f"must be a list of numbers: {error}") from error


def answers(value: Any, field: str) -> tuple[str, ...]:
    """Return the right answers, given as one answer, a list or the JSON of a list: each once, in order, none blank.

    Raises:
        RowError: No answer is left, or one is neither a text nor a number.
    """
    with suppress(RowError):  # an answer may well be "{1, 2" or "[4, 5)"
        value = parse_json(value, field)
    if isinstance(value, Mapping):
        raise RowError(Reason.BAD_TYPE, field, "must be an answer or a list of answers, not an object")
    items = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    if any(isinstance(item, Mapping) for item in items):
        items = [first(item, "answer", "text") for item in items if isinstance(item, Mapping)]
    texts = [text(item, field).strip() for item in items if item is not None]
    unique = tuple(dict.fromkeys(filter(None, texts)))
    if not unique:
        raise RowError(Reason.NO_ANSWER, field, "no answer, or a blank one")
    return unique


def applied(value: Any, field: str) -> tuple[tuple[str, ...], bool]:
    """Return the canonical names of the ops that were applied to the image, and whether any had another name.

    Raises:
        RowError: An op isn't known, or the field has none of the published shapes.
    """
    if isinstance(value, float) and math.isnan(value):  # how pandas writes null
        value = None
    try:
        names = image_ops.read_applied(value)
    except InputError as error:
        raise RowError(Reason.BAD_OP, field, str(error)) from error
    known = tuple(ALIASES.get(name.lower(), name) for name in names if name.lower() not in _NO_OP)
    for name in known:
        if name not in image_ops.CORE_OPS | image_ops.OPTIONAL_OPS:
            ops = ", ".join(sorted(image_ops.CORE_OPS))
            raise RowError(Reason.BAD_OP, field, f"unknown op {name!r}; a row may require {ops}")
    return known, known != names


def box(value: Any, field: str) -> tuple[Box | None, bool]:
    """Return a box, or None if the row has none; and whether NaN, as pandas writes it, stood for no box.

    Raises:
        RowError: The value isn't four finite numbers, or the box has no area.
    """
    value = parse_json(value, field)
    if value is None or value == "":
        return None, False
    if isinstance(value, float) and math.isnan(value):
        return None, True
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise RowError(Reason.BAD_BOX, field, f"must be four numbers, not {value!r:.60}")
    if value and all(isinstance(edge, float) and math.isnan(edge) for edge in value):
        return None, True
    numbers = [edge for edge in value if isinstance(edge, int | float) and not isinstance(edge, bool)]
    if len(numbers) != 4 or len(value) != 4 or not all(map(math.isfinite, numbers)):
        raise RowError(Reason.BAD_BOX, field, f"must be four finite numbers, not {list(value)!r:.60}")
    result = Box(*map(float, numbers))
    if result.x1 >= result.x2 or result.y1 >= result.y2:
        raise RowError(Reason.BAD_BOX, field, f"{numbers} has no area, or its corners are swapped")
    return result, False


def images(value: Any, folder: Path, field: str = "images") -> ImageFields:
    """Return the image files of a field: one image or a list.

    An image is bytes, {bytes, path}, base64 (a data URL or not), or a path below `folder`.

    Raises:
        RowError: An image doesn't exist, or its path leads out of `folder`.
    """
    value = parse_json(value, field)
    many = value if isinstance(value, Sequence) and not isinstance(value, str | bytes) else [value]
    files = [_image(item, folder, field) for item in many]
    return tuple(data for data, _ in files), tuple(path for _, path in files)


def _image(value: Any, folder: Path, field: str) -> tuple[bytes, str | None]:
    if isinstance(value, Mapping):
        path = value.get("path")
        data, _ = _image(value.get("bytes") or path, folder, field)
        return data, path if isinstance(path, str) else None
    if isinstance(value, bytes):
        return value, None
    if not isinstance(value, str) or not value:
        raise RowError(Reason.IMAGE_MISSING, field, "neither bytes nor a path")
    if value.startswith("data:") or (len(value) > 255 and "\n" not in value[:76]):
        return _decode(value.partition(",")[2] if value.startswith("data:") else value, field), None
    if "\0" in value:
        raise RowError(Reason.IMAGE_MISSING, field, f"{value!r:.60} isn't a path")
    path = (folder / value).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise RowError(Reason.IMAGE_MISSING, field, f"{value} leads out of {folder}; --pictures names another folder")
    try:
        return path.read_bytes(), value
    except OSError as error:
        raise RowError(Reason.IMAGE_MISSING, field, f"{value}: {error.strerror}") from error


def _decode(value: str, field: str) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except binascii.Error as error:
        raise RowError(Reason.IMAGE_MISSING, field, f"neither a path nor base64: {error}") from error
