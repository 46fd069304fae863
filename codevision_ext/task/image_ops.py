"""Names the image operations, and derives which of them a task requires."""

import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Final

from codevision_ext.errors import InputError
from codevision_ext.geometry import ORIENTATION_OPS, inverse

CROP: Final = "crop"
CORE_OPS: Final = frozenset({*ORIENTATION_OPS, CROP})
"""Operations that a task can require; all other operations are optional."""

OPTIONAL_OPS: Final = frozenset(
    {
        *("resize", "grayscale", "autocontrast", "equalize", "invert", "solarize", "posterize", "blur"),
        *("median_blur", "sharpen", "smooth", "detail", "edge_enhance", "edge_detect", "threshold", "erode", "dilate"),
        *(f"{quality}_{way}" for quality in ("brightness", "contrast", "sharpness", "color") for way in ("up", "down")),
        *("gaussian_blur", "draw"),
    }
)
"""Operations that no task requires; the reward can pay a bonus for them."""

_NAME_OF: Final = {orientation: op for op, orientation in ORIENTATION_OPS.items()}
_NOTHING: Final = frozenset({"", "none", "null"})


def read_applied(value: object) -> tuple[str, ...]:
    """Reads the `transform` of a data row and returns the names of its operations, in the order of application.

    Published rows write no operation as None, as an empty value, or as the word "none" or "null". They write operations
    as one name, a list of names, a JSON list of names, or a mapping whose keys are names.

    Raises:
        InputError: the value has another form.
    """
    if value is None:
        return ()
    if isinstance(value, str):
        text = value.strip()
        if text.lower() in _NOTHING:
            return ()
        return _read_json(text) if text[0] in "[{" else (text,)
    if isinstance(value, Mapping | Iterable):
        names = list(value)
        if all(isinstance(name, str) or name is None for name in names):
            return tuple(name.strip() for name in names if name is not None and name.strip().lower() not in _NOTHING)
    raise InputError(
        f"transform must be null, a name of an operation, a list of names or a mapping by name, not {value!r}."
    )


def _read_json(text: str) -> tuple[str, ...]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise InputError(f"transform {text!r} opens like JSON but can't be read: {error}.") from error
    return read_applied(value)


@lru_cache(maxsize=1024)
def required_ops(applied: tuple[str, ...]) -> tuple[str, ...]:
    """Returns the operations that undo `applied`, in the order of a solver: reversed and inverted, the crop last.

    `rotate_0`, and a `rotate_` without a whole number, require nothing. An unknown name is its own inverse.
    """
    undo = [op for name in reversed(applied) if (op := _inverse_op(name)) is not None]
    return tuple(sorted(undo, key=lambda op: op == CROP))


def _inverse_op(op: str) -> str | None:
    """Returns the inverse operation; None if there is nothing to undo."""
    if op in ORIENTATION_OPS:
        return _NAME_OF[inverse(ORIENTATION_OPS[op])]
    if not op.startswith("rotate_"):
        return op
    try:
        degrees = -int(op.removeprefix("rotate_")) % 360
    except ValueError:
        return None
    return f"rotate_{degrees}" if degrees else None
