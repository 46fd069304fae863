"""Reads the drawing that a row asks for: the value of `extra_info.drawing`, a target of `codevision_ext.drawing`."""

import json
from collections.abc import Mapping
from typing import Any

from codevision_ext.drawing import DrawingTarget, check_inside, read_target
from codevision_ext.errors import InputError
from codevision_ext.io.json_codec import JsonCodec, json_value

_TARGETS: JsonCodec[DrawingTarget] = JsonCodec(DrawingTarget)


def read_drawing(value: Any, where: str, size: tuple[int, int] | None = None) -> DrawingTarget | None:
    """Returns the target in a field of a row; None where the field is missing, null or empty.

    Args:
        value: An object, or the JSON text of one. Fields that are null count as missing, because parquet stores the
            primitives of a row with the fields of all kinds.
        where: Words with which a message begins.
        size: Width and height of the row's first image in pixels; every place of the target must lie on it. None: not
            checked.

    Raises:
        InputError: The value isn't a target, or a place lies outside of the image.
    """
    if value is None or value == "" or (isinstance(value, float) and value != value):  # NaN is the null of pandas
        return None
    if isinstance(value, str):
        value = json_value(value, where)
    if not isinstance(value, Mapping):
        raise InputError(f"{where}: must be an object with primitives, not {type(value).__name__}")
    try:
        plain = json.loads(json.dumps(value, default=_plain))
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{where}: can't be written as JSON: {error}") from error
    target = read_target(json.dumps(_filled(plain)).encode(), where)
    if size is not None:
        check_inside(target, size, where)
    return target


def drawing_text(target: DrawingTarget) -> str:
    """Returns a target as JSON text."""
    return _TARGETS.dump(target).decode()


def plain_drawing(target: DrawingTarget) -> dict[str, Any]:
    """Returns a target as a record stores it: objects, lists and numbers."""
    plain: dict[str, Any] = json.loads(_TARGETS.dump(target))
    return plain


def _filled(value: Any) -> Any:
    """Returns a value without the fields that are null."""
    if isinstance(value, dict):
        return {name: _filled(inner) for name, inner in value.items() if inner is not None}
    return [_filled(inner) for inner in value] if isinstance(value, list) else value


def _plain(value: Any) -> Any:
    """Returns a mapping as a dict, and an array or a number of NumPy as a list or a number of Python."""
    if isinstance(value, Mapping):
        return dict(value)
    if not hasattr(value, "tolist"):
        raise TypeError(f"a value of type {type(value).__name__}")
    return value.tolist()
