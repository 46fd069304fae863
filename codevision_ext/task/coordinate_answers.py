"""Compares answers that name places on an image: `{'P4': (280, 80)}` in Python or JSON, or a list of pairs.

A place is right if it lies within the tolerance of a drawing (`geometry.tolerance`). Names are compared like other
answers, without regard to letter case. Places without names are compared in their order. A place that the reference
doesn't have counts as wrong, so listing candidates doesn't help.
"""

import ast
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any, Final

from codevision_ext.geometry import tolerance
from codevision_ext.task.normal_form import text_key, undecorate

Place = tuple[float, float]
"""Coordinates (x, y)."""
Places = dict[str, tuple[Place, ...]]
"""Places by name; the names of places without names are "#0", "#1", ..."""
MAX_CHARS: Final = 10_000
"""Maximum length in characters of a text that is read as places."""

_FENCE: Final = re.compile(r"`*(?:json|python|py)\s+(?=[\[({])", re.IGNORECASE)
_NUMBER: Final = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d{1,3})?"
_DOUBT: Final = (
    r"(?:or|nor|not|no|either|neither|maybe|perhaps|possibly|probably|about|near|if|else)\s*(?:(?:is\s+)?at\b\s*)?[(\[]"
)
"""Regular expression of a word before a place that is no name."""
_NAMED: Final = re.compile(
    rf"(?:(?:point\s+)?(?P<name>(?!{_DOUBT})[^\W\d]\w{{0,30}}'?)\s*(?:[:=]|\b(?:is\s+)?at\b|\bis\b)?\s*)?"
    rf"[(\[]\s*(?P<x>{_NUMBER})\s*,\s*(?P<y>{_NUMBER})\s*[)\]]",
    re.IGNORECASE,
)
_AXES: Final = re.compile(
    rf"\(?\s*x\s*[:=]\s*(?P<x>{_NUMBER})\s*(?:[,;]|\band\b|\s)\s*y\s*[:=]\s*(?P<y>{_NUMBER})\s*\)?", re.IGNORECASE
)
_SEPARATOR: Final = re.compile(r"\s*(?:[,;]\s*(?:and\b)?|\band\b|\s)\s*", re.IGNORECASE)
_LABELS: Final = ("label", "name", "id")
_POSITIONS: Final = ("point_2d", "coordinates", "coordinate", "position", "point", "xy", "pixel")


class _NotPlacesError(ValueError):
    """The text doesn't name places."""


def share_right(
    answer: str | None, references: Sequence[str], size: tuple[int, int], space: tuple[int, int] | None = None
) -> float:
    """Returns the share of a reference's places that the answer names rightly, in [0, 1]; the best of all references.

    The share is that of all names that occur in the reference or in the answer. An answer that can't be read gets 0.

    Args:
        answer: Text of the answer; None where there is none.
        references: Right answers in pixels of the stored image; each must be readable by `read_places`.
        size: Width and height of the stored image, pixels.
        space: Width and height of the image in the coordinates of the answer; None: the answer is in pixels too.
    """
    places = read_places(answer) if answer is not None else None
    if places is None:
        return 0.0
    across, down = (1.0, 1.0) if space is None else (size[0] / space[0], size[1] / space[1])
    in_pixels = {name: tuple((x * across, y * down) for x, y in own) for name, own in places.items()}
    shares = (_share(in_pixels, expected, tolerance(size)) for expected in map(read_places, references) if expected)
    return max(shares, default=0.0)


def _share(places: Places, expected: Places, tau: float) -> float:
    if len(places) == len(expected) == 1 and ("#0" in places or "#0" in expected):
        places = dict.fromkeys(expected, *places.values())  # a single place needs no name
    folded = {_key(name): own for name, own in expected.items()}
    if len(folded) == len(expected):  # else the letter case tells names apart
        expected, answered = folded, places
        places = {_key(name): own for name, own in answered.items()}
        if len(places) < len(answered):
            return 0.0
    hits = sum(_near(own, places.get(name, ()), tau) for name, own in expected.items())
    return hits / len(places.keys() | expected.keys())


def _key(name: str) -> str:
    return re.sub(r"^point (?=\S)", "", text_key(name))


def _near(expected: tuple[Place, ...], places: tuple[Place, ...], tau: float) -> bool:
    same = len(expected) == len(places)
    return same and all(math.dist(one, other) <= tau for one, other in zip(expected, places, strict=True))


@lru_cache(maxsize=256)
def read_places(text: str) -> Places | None:
    """Returns the places that a text names; None if it isn't a text of places and nothing else.

    Read are dicts of pairs, of lists of pairs and of `{"x", "y"}`, lists of pairs, lists of objects with a label and a
    position (as Qwen2.5-VL writes them), a single pair, and `P4: (280, 80), P5: (3, 4)`. A name that occurs twice, and
    numbers that aren't finite, make a text unreadable.
    """
    if len(text) > MAX_CHARS:
        return None
    plain = undecorate(text)
    plain = _FENCE.sub("", plain, count=1) if _FENCE.match(plain) else plain
    for each in (text, plain):
        with suppress(_NotPlacesError, SyntaxError, ValueError, OverflowError, RecursionError, MemoryError):
            return _by_name(_named(_literal(each)))
    try:
        return _by_name(_in_words(plain))
    except (_NotPlacesError, OverflowError):
        return None


def _by_name(pairs: Iterator[tuple[str, tuple[Place, ...]]]) -> Places:
    places: Places = {}
    for name, own in pairs:
        if name in places or not _key(name) or not own:
            raise _NotPlacesError(name)
        places[name] = own
    if not places:
        raise _NotPlacesError("no place")
    return places


def _literal(text: str) -> Any:
    """Returns the value of a literal in Python or JSON; dicts become lists of pairs, so that no key gets lost."""
    return _value(ast.parse(text.strip(), mode="eval").body)


def _value(node: ast.expr) -> Any:
    match node:
        case ast.Dict(keys=keys, values=values):
            return _Pairs((_text(key), _value(value)) for key, value in zip(keys, values, strict=True))
        case ast.List(elts=items) | ast.Tuple(elts=items):
            return [_value(item) for item in items]
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=number)) if _is_number(number):
            return -number  # type: ignore[operator]
        case ast.UnaryOp(op=ast.UAdd(), operand=ast.Constant(value=value)) | ast.Constant(value=value):
            if isinstance(value, str) or _is_number(value):
                return value
    raise _NotPlacesError(ast.dump(node)[:80])


class _Pairs(list[tuple[str, Any]]):
    """Keys and values of a dict, in order."""

    def get(self, *names: str) -> Any:
        """Returns the value of the first of these keys, without regard to letter case; None if there is none."""
        return next((value for name in names for key, value in self if key.lower() == name), None)


def _text(node: ast.expr | None) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str | int) and not isinstance(node.value, bool):
        return str(node.value)
    raise _NotPlacesError("a key")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _named(value: Any) -> Iterator[tuple[str, tuple[Place, ...]]]:
    """Yields names and places of a literal. Raises _NotPlacesError."""
    if isinstance(value, _Pairs):
        if (place := _place(value)) is not None:
            yield "#0", (place,)
        elif len(value) == 1 and _holds_names(value[0][1]):
            yield from _named(value[0][1])
        else:
            for name, own in value:
                yield name, tuple(_listed(own))
    elif isinstance(value, list) and _holds_names(value):
        for item in value:
            yield str(item.get(*_LABELS)), tuple(_listed(item.get(*_POSITIONS) or item))
    else:
        for number, place in enumerate(_listed(value)):
            yield f"#{number}", (place,)


def _holds_names(value: Any) -> bool:
    if isinstance(value, _Pairs):
        return _place(value) is None
    return bool(value) and all(isinstance(item, _Pairs) and item.get(*_LABELS) is not None for item in value)


def _listed(value: Any) -> Iterator[Place]:
    """Yields the places of a value: a pair, an object with x and y, an even number of numbers, or a list of these."""
    if isinstance(value, str):
        value = _literal(value)
    if (place := _place(value)) is not None:
        yield place
    elif isinstance(value, list) and not isinstance(value, _Pairs) and value:
        if all(map(_is_number, value)) and len(value) % 2 == 0:
            value = [value[at : at + 2] for at in range(0, len(value), 2)]
        for item in value:
            if isinstance(item, int | float):
                raise _NotPlacesError("a number without a second one")
            yield from _listed(item)
    else:
        raise _NotPlacesError("no place")


def _place(value: Any) -> Place | None:
    """Returns the place that a pair or an object is; None for any other value."""
    if isinstance(value, _Pairs):
        value = value.get(*_POSITIONS) or [value.get("x"), value.get("y")]
    if isinstance(value, list) and len(value) == 2 and all(map(_is_number, value)):
        return float(value[0]), float(value[1])
    return None


def _in_words(text: str) -> Iterator[tuple[str, tuple[Place, ...]]]:
    """Yields the places of `x = 280, y = 80`, and of `P4: (280, 80) and P5 (3, 4)`. Raises _NotPlacesError."""
    if axes := _AXES.fullmatch(text):
        yield "#0", (_finite(axes),)
        return
    at = number = 0
    while at < len(text):
        match = _NAMED.match(text, at)
        if match is None:
            raise _NotPlacesError(text[at : at + 40])
        yield match["name"] or f"#{number}", (_finite(match),)
        at, number = match.end(), number + 1
        gap = _SEPARATOR.match(text, at)
        at = gap.end() if gap and at < len(text) else at
        if gap and at == len(text):
            raise _NotPlacesError("the end")


def _finite(match: re.Match[str]) -> Place:
    place = float(match["x"]), float(match["y"])
    if not all(map(math.isfinite, place)):
        raise _NotPlacesError(match[0])
    return place
