"""Which operations have a name, and which of them a solver must perform."""

import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Final

from codevision_ext.errors import InputError
from codevision_ext.geometry import ORIENTATION_OPS, inverse

CROP: Final = "crop"
CORE_OPS: Final = frozenset({*ORIENTATION_OPS, CROP})
"""What a task may require. Every other op is optional: using one that helps is the behaviour that a bonus looks for."""

OPTIONAL_OPS: Final = frozenset(
    {
        *(
            "resize",
            "grayscale",
            "autocontrast",
            "equalize",
            "invert",
            "solarize",
            "posterize",
            "blur",
            "gaussian_blur",
        ),
        *("median_blur", "sharpen", "smooth", "detail", "edge_enhance", "edge_detect", "threshold", "erode", "dilate"),
        *(f"{quality}_{way}" for quality in ("brightness", "contrast", "sharpness", "color") for way in ("up", "down")),
        "draw",
    }
)
"""Every other op that has a name."""

_NAME_OF: Final = {orientation: op for op, orientation in ORIENTATION_OPS.items()}
_NOTHING: Final = frozenset({"", "none", "null"})


def read_applied(value: object) -> tuple[str, ...]:
    """The `transform` of a data row, in whichever of its published shapes, as op names in the order of application.

    Nothing is None, an empty value or the word; else a name, names in a row, a JSON list of names, or a mapping whose
    keys are names.

    Raises:
        InputError: it is something else.
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
    raise InputError(f"transform must be null, an op's name, a list of names or a mapping by name, not {value!r}.")


def _read_json(text: str) -> tuple[str, ...]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise InputError(f"transform {text!r} opens like JSON but can't be read: {error}.") from error
    return read_applied(value)


@lru_cache(maxsize=1024)
def required_ops(applied: tuple[str, ...]) -> tuple[str, ...]:
    """The ops that undo `applied`, in the order in which a solver performs them: reversed and inverted, crop last.

    `rotate_0` and a rotate_ without a whole number ask for nothing; a name that isn't known is its own inverse.
    """
    undo = [op for name in reversed(applied) if (op := _inverse_op(name)) is not None]
    return tuple(sorted(undo, key=lambda op: op == CROP))


def _inverse_op(op: str) -> str | None:
    """The op that undoes this one, None where there is nothing to undo."""
    if op in ORIENTATION_OPS:
        return _NAME_OF[inverse(ORIENTATION_OPS[op])]
    if not op.startswith("rotate_"):
        return op
    try:
        degrees = -int(op.removeprefix("rotate_")) % 360
    except ValueError:
        return None
    return f"rotate_{degrees}" if degrees else None
