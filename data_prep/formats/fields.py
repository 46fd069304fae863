"""Converts fields of records from any published form to one type; RowError names a field that can't be read."""

import ast
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from codevision_ext.drawing import DrawingTarget
from codevision_ext.errors import InputError
from codevision_ext.task import image_ops
from codevision_ext.task.drawings import read_drawing
from codevision_ext.types import Box
from data_prep.formats.exact_numbers import json_float, json_int, number_text
from data_prep.formats.image_sources import load_image
from data_prep.formats.record import TrackedRecord, is_empty
from data_prep.formats.row_errors import Reason, RowError

ALIASES: Final = {
    "rot90": "rotate_90", "rotate90": "rotate_90", "rotation_90": "rotate_90",
    "rot180": "rotate_180", "rotate180": "rotate_180", "rotation_180": "rotate_180",
    "rot270": "rotate_270", "rotate270": "rotate_270", "rotation_270": "rotate_270",
    "flip_h": "flip_horizontal", "hflip": "flip_horizontal", "horizontal_flip": "flip_horizontal",
    "flip_v": "flip_vertical", "vflip": "flip_vertical", "vertical_flip": "flip_vertical",
}  # fmt: skip
"""Canonical names of operations by other names."""
_WHOLE_NUMBER: Final = re.compile(r"-?\d{1,19}", re.ASCII)
_NO_OP: Final = frozenset({"source", "original", "rotate_0"})
ImageFields = tuple[tuple[bytes, ...], tuple[str | None, ...]]
"""Bytes of each image file, and the path of each; None for an image that came as bytes."""


def first(record: Mapping[str, Any], *names: str) -> Any:
    """Return the first of these fields that isn't empty, otherwise the first that isn't null; None if all are null.

    The fields after the returned field aren't read, so they count as unused.
    """
    blank = None
    for name in names:
        value = record.get(name)
        if not is_empty(value):
            return value
        blank = value if blank is None and not isinstance(value, float) else blank
    return blank


def require(record: Mapping[str, Any], *names: str) -> Any:
    """Return the first of these fields that isn't empty.

    Raises:
        RowError: All of them are null or missing.
    """
    value = first(record, *names)
    if value is None:
        own = next((name for name in names if name in record), names[0])
        raise RowError(Reason.COLUMN_MISSING, own, "is missing or null")
    return value


def parse_json(value: Any, field: str) -> Any:
    """Return a value; a text that opens like a JSON list or object (`"[1, 2]"`, `"{...}"`) is parsed.

    Raises:
        RowError: A text opens like JSON and can't be parsed.
    """
    if not (isinstance(value, str) and value.lstrip()[:1] in ("[", "{")):
        return value
    try:
        return json.loads(value, parse_float=json_float, parse_int=json_int)
    except (ValueError, RecursionError) as error:
        raise RowError(Reason.BAD_JSON, field, f"opens like JSON and can't be parsed: {error}") from error


def parse_list(value: Any, field: str) -> Any:
    """Return a value; a text that opens like a list, in JSON or as Python prints it (`"['a', 'b']"`), is parsed.

    Raises:
        RowError: A text opens like a list and can't be parsed.
    """
    if not isinstance(value, str) or value.lstrip()[:1] != "[":
        return parse_json(value, field)
    try:
        return ast.literal_eval(value.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return parse_json(value, field)


def mapping(value: Any, field: str) -> Mapping[str, Any]:
    """Return an object, given as itself or as JSON; null and "" give an empty object.

    Raises:
        RowError: The value is of another type.
    """
    value = parse_json(value, field)
    if value in (None, "") or (isinstance(value, float) and math.isnan(value)):
        return {}
    if not isinstance(value, Mapping):
        raise RowError(Reason.BAD_TYPE, field, f"must be an object, not {type(value).__name__}")
    return value


def part(record: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return the object in a field of a record, as `mapping` does; its columns are tracked too.

    Raises:
        RowError: The value is of another type.
    """
    value = mapping(record.get(name), name)
    return record.part(name, value) if isinstance(record, TrackedRecord) else value


def parts(record: Mapping[str, Any], name: str) -> Iterator[Mapping[str, Any]]:
    """Yield the objects of the list in a field of a record; the list may be JSON text.

    Raises:
        RowError: The field is missing or null, or isn't a list of objects.
    """
    value = parse_json(require(record, name), name)
    many = [value] if isinstance(value, Mapping) else value
    if not isinstance(many, Sequence) or isinstance(many, str | bytes):
        raise RowError(Reason.BAD_TYPE, name, f"must be a list of objects, not {type(value).__name__}")
    for item in many:
        item = parse_json(item, name)
        if not isinstance(item, Mapping):
            raise RowError(Reason.BAD_TYPE, name, f"must be a list of objects, not of {type(item).__name__}")
        yield record.part(name, item) if isinstance(record, TrackedRecord) else item


def text(value: Any, field: str) -> str:
    """Return a text, or a number in plain digits.

    Raises:
        RowError: The value is of another type.
    """
    if isinstance(value, str):
        return value
    number = number_text(value)
    if number is None:
        raise RowError(Reason.BAD_TYPE, field, f"must be a text, not {type(value).__name__}")
    return number


def texts(value: Any, field: str) -> tuple[str, ...]:
    """Return a list of texts as a tuple; null gives an empty one.

    Raises:
        RowError: The value is of another type.
    """
    if value is None:
        return ()
    if not isinstance(value, Sequence) or isinstance(value, str) or not all(isinstance(item, str) for item in value):
        raise RowError(Reason.BAD_TYPE, field, f"must be a list of texts, not {value!r:.40}")
    return tuple(value)


def index(record: Mapping[str, Any], names: Iterable[str], otherwise: int) -> int:
    """Return the first of these ids that is a 64-bit integer, else `otherwise`; skipped ids count as unused."""
    for name in names:
        value = record.get(name)
        digits = value.strip() if isinstance(value, str) else number_text(value) or ""
        if _WHOLE_NUMBER.fullmatch(digits) and abs(int(digits)) < 1 << 63:
            return int(digits)
        if isinstance(record, TrackedRecord):
            record.release(name)
    return otherwise


def read_numbers(value: Any, field: str) -> tuple[float, ...] | None:
    """Return a list of numbers as a tuple; null gives None.

    Raises:
        RowError: The value is of another type.
    """
    try:
        return None if value is None else tuple(map(float, value))
    except (TypeError, ValueError) as error:
        raise RowError(Reason.BAD_TYPE, field, f"must be a list of numbers: {error}") from error


def answers(value: Any, field: str, *, lists: bool = False, drawing: DrawingTarget | None = None) -> tuple[str, ...]:
    """Return the right answers of a field with one answer or a list, without repetitions and blanks.

    With `lists`, a text that is a list ("[3, 4]" or "['a', 'b']") is a list of answers, otherwise one answer. A row
    with a `drawing` needs no answer, because the drawing can be the answer.

    Raises:
        RowError: No answer is left, or one is neither a text nor a number.
    """
    if lists and looks_like_list(value):
        value = parse_list(value, field)
    if isinstance(value, Mapping):
        raise RowError(Reason.BAD_TYPE, field, "must be an answer or a list of answers, not an object")
    items = value if isinstance(value, Sequence) and not isinstance(value, str | bytes) else [value]
    if any(isinstance(item, Mapping) for item in items):
        items = [first(item, "answer", "text") for item in items if isinstance(item, Mapping)]
    texts = [text(item, field).strip() for item in items if not (is_empty(item) and not isinstance(item, str))]
    unique = tuple(dict.fromkeys(filter(None, texts)))
    if not unique and drawing is None:
        raise RowError(Reason.NO_ANSWER, field, "no answer, or a blank one")
    return unique


def looks_like_list(value: Any) -> bool:
    """Return whether a value is a text that is a list in JSON or in Python, such as "[3, 4]"."""
    if not isinstance(value, str) or not (value.lstrip().startswith("[") and value.rstrip().endswith("]")):
        return False
    try:
        return isinstance(parse_list(value, ""), list)
    except RowError:
        return False


def applied(value: Any, field: str) -> tuple[tuple[str, ...], bool]:
    """Return the canonical names of the ops that were applied to the image, and whether a name was changed.

    Raises:
        RowError: An op isn't known, or the field has none of the published shapes.
    """
    try:
        names = image_ops.read_applied(None if is_empty(value) else value)
    except InputError as error:
        raise RowError(Reason.BAD_OP, field, str(error)) from error
    known = tuple(ALIASES.get(name.lower(), name) for name in names if name.lower() not in _NO_OP)
    for name in known:
        if name not in image_ops.CORE_OPS | image_ops.OPTIONAL_OPS:
            ops = ", ".join(sorted(image_ops.CORE_OPS))
            raise RowError(Reason.BAD_OP, field, f"unknown op {name!r}; a row may require {ops}")
    return known, known != names


def box(value: Any, field: str) -> tuple[Box | None, bool]:
    """Return a box, or None without a box; and whether the field had NaN, as written by pandas, in place of a box.

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
    numbers = [edge for edge in value if isinstance(edge, int | float | Decimal) and not isinstance(edge, bool)]
    if len(numbers) != 4 or len(value) != 4 or not all(map(math.isfinite, numbers)):
        raise RowError(Reason.BAD_BOX, field, f"must be four finite numbers, not {list(value)!r:.60}")
    result = Box(*map(float, numbers))
    if result.x1 >= result.x2 or result.y1 >= result.y2:
        raise RowError(Reason.BAD_BOX, field, f"{numbers} has no area, or its corners are swapped")
    return result, False


def drawing(value: Any, field: str) -> DrawingTarget | None:
    """Return the drawing that a row asks for, given as an object or as JSON; None if it asks for none.

    Raises:
        RowError: The value isn't a target; the message names the primitive and its field.
    """
    try:
        return read_drawing(value, field)
    except InputError as error:
        raise RowError(Reason.BAD_DRAWING, field, str(error).removeprefix(f"{field}: ")) from error


def images(value: Any, folder: Path, field: str = "images") -> ImageFields:
    """Return the image files of a field: one image or a list.

    An image is bytes, an object that holds it ({bytes, path}, {url}, ..), base64 (a data URL or not), or a path below
    `folder`.

    Raises:
        RowError: An image doesn't exist, or its path leads out of `folder`.
    """
    value = parse_list(value, field)
    many = value if isinstance(value, Sequence) and not isinstance(value, str | bytes) else [value]
    files = [load_image(item, folder, field) for item in many if item is not None]
    return tuple(data for data, _ in files), tuple(path for _, path in files)
