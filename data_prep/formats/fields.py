"""How one field of a foreign record is read: any published shape in, one type out, or the row is refused by field."""

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
"""Other names of the ops that a task may require."""
_NO_OP: Final = frozenset({"source", "original", "rotate_0"})
Found = tuple[bytes, str | None]
"""An image file's bytes, and where it was found."""


def first(record: Mapping[str, Any], *names: str) -> Any:
    """The first of these fields that isn't null; None where all are."""
    return next((value for name in names if (value := record.get(name)) is not None), None)


def need(record: Mapping[str, Any], *names: str) -> Any:
    """The first of these fields that isn't null.

    Raises:
        RowError: All of them are missing or null.
    """
    value = first(record, *names)
    if value is None:
        raise RowError(Reason.COLUMN_MISSING, names[0], "is missing or null")
    return value


def parsed(value: Any, field: str) -> Any:
    """The value, or what a JSON text in its place says (`"[1, 2]"`, `"{...}"`); any other text stays a text.

    Raises:
        RowError: A text opens like JSON and can't be read.
    """
    if not (isinstance(value, str) and value.lstrip()[:1] in ("[", "{")):
        return value
    try:
        return json.loads(value)
    except ValueError as error:
        raise RowError(Reason.BAD_JSON, field, f"opens like JSON and can't be read: {error}") from error


def mapping(value: Any, field: str) -> Mapping[str, Any]:
    """A struct, or the JSON text of one; null or no text is an empty one.

    Raises:
        RowError: It is something else.
    """
    value = parsed(value, field)
    if value is None or value == "":
        return {}
    if not isinstance(value, Mapping):
        raise RowError(Reason.BAD_TYPE, field, f"must be an object, not {type(value).__name__}")
    return value


def text(value: Any, field: str) -> str:
    """A text or a number as a text.

    Raises:
        RowError: It is something else.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return f"{value:g}" if isinstance(value, float) else str(value)
    raise RowError(Reason.BAD_TYPE, field, f"must be a text, not {type(value).__name__}")


def read_numbers(value: Any, field: str) -> tuple[float, ...] | None:
    """A list of numbers, or nothing.

    Raises:
        RowError: It is something else.
    """
    try:
        return None if value is None else tuple(map(float, value))
    except (TypeError, ValueError) as error:
        raise RowError(Reason.BAD_TYPE, field, f"must be a list of numbers: {error}") from error


def answers(value: Any, field: str) -> tuple[str, ...]:
    """One answer, a list of them or the JSON text of a list; each once, in order, blank ones left out.

    Raises:
        RowError: None is left, or one is no text and no number.
    """
    with suppress(RowError):  # an answer may well be "{1, 2" or "[4, 5)"
        value = parsed(value, field)
    if isinstance(value, Mapping):
        raise RowError(Reason.BAD_TYPE, field, "must be an answer or a list of them, not an object")
    given = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    if isinstance(value, Sequence) and not isinstance(value, str) and any(isinstance(each, Mapping) for each in value):
        given = [first(each, "answer", "text") for each in value if isinstance(each, Mapping)]
    found = [text(each, field).strip() for each in given if each is not None]
    kept = tuple(dict.fromkeys(each for each in found if each))
    if not kept:
        raise RowError(Reason.NO_ANSWER, field, "no answer, or a blank one")
    return kept


def applied(value: Any, field: str) -> tuple[tuple[str, ...], bool]:
    """The canonical names of the ops applied to the image, and whether they came under other names.

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
            raise RowError(
                Reason.BAD_OP, field, f"{name!r} is no op; the required ones: {', '.join(sorted(image_ops.CORE_OPS))}"
            )
    return known, known != names


def box(value: Any, field: str) -> tuple[Box | None, bool]:
    """A box, and whether NaN stood for none, as pandas writes it.

    Raises:
        RowError: Not four finite numbers, or a box without an area.
    """
    value = parsed(value, field)
    if value is None or value == "":
        return None, False
    if isinstance(value, float) and math.isnan(value):
        return None, True
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise RowError(Reason.BAD_BOX, field, f"must be four numbers, not {value!r:.60}")
    if value and all(isinstance(edge, float) and math.isnan(edge) for edge in value):
        return None, True
    good = [
        edge for edge in value if isinstance(edge, int | float) and not isinstance(edge, bool) and math.isfinite(edge)
    ]
    if len(good) != 4 or len(value) != 4:
        raise RowError(Reason.BAD_BOX, field, f"must be four finite numbers, not {list(value)!r:.60}")
    found = Box(*map(float, good))
    if found.x1 >= found.x2 or found.y1 >= found.y2:
        raise RowError(Reason.BAD_BOX, field, f"{list(good)} has no area, or its corners are swapped")
    return found, False


def images(value: Any, folder: Path, field: str = "images") -> tuple[Found, ...]:
    """The image files of a field: bytes, {bytes, path}, base64 (a data URL or not), a path below `folder`, or a list.

    Raises:
        RowError: One of them isn't there, or its path leads out of `folder`.
    """
    value = parsed(value, field)
    many = value if isinstance(value, Sequence) and not isinstance(value, str | bytes) else [value]
    return tuple(_image(each, folder, field) for each in many)


def _image(value: Any, folder: Path, field: str) -> Found:
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
        raise RowError(Reason.IMAGE_MISSING, field, f"{value!r:.60} is no path")
    path = (folder / value).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise RowError(Reason.IMAGE_MISSING, field, f"{value} leads out of {folder}; --pictures names their folder")
    try:
        return path.read_bytes(), value
    except OSError as error:
        raise RowError(Reason.IMAGE_MISSING, field, f"{value}: {error.strerror}") from error


def _decode(value: str, field: str) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except binascii.Error as error:
        raise RowError(Reason.IMAGE_MISSING, field, f"no path, and no base64: {error}") from error
