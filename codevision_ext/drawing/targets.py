"""Defines targets of drawings: primitives in pixels of the input image, y pointing down."""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field

from codevision_ext.errors import InputError
from codevision_ext.io.json_codec import JsonCodec, json_value

Place = tuple[float, float]
"""Coordinates (x, y) of a point."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A point that a marker must show."""

    kind: Literal["point"] = "point"
    x: float
    y: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _TwoPlaces:
    """The places (x1, y1) and (x2, y2) of a primitive."""

    x1: float
    y1: float
    x2: float
    y2: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment(_TwoPlaces):
    """A straight stroke between two places."""

    kind: Literal["segment"] = "segment"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line(_TwoPlaces):
    """An infinite line: a stroke that covers both places and stays on the line."""

    kind: Literal["line"] = "line"


@dataclass(frozen=True, slots=True, kw_only=True)
class Polyline:
    """Straight strokes from place to place."""

    kind: Literal["polyline"] = "polyline"
    points: tuple[Place, ...]
    closed: bool = False
    """Whether a stroke joins the last place to the first one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Circle:
    """The outline of a circle."""

    kind: Literal["circle"] = "circle"
    cx: float
    cy: float
    r: float
    """Radius, pixels, above 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outline(_TwoPlaces):
    """The outline of an upright rectangle; any two opposite corners."""

    kind: Literal["box"] = "box"


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """A filled polygon."""

    kind: Literal["region"] = "region"
    points: tuple[Place, ...]


Primitive = Point | Segment | Line | Polyline | Circle | Outline | Region


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawingTarget:
    """Value of `extra_info.drawing`: all primitives that must be drawn; nothing else may be drawn."""

    primitives: tuple[Annotated[Primitive, Field(discriminator="kind")], ...]


_TARGETS: JsonCodec[DrawingTarget] = JsonCodec(DrawingTarget)
_KINDS = frozenset({"point", "segment", "line", "polyline", "circle", "box", "region"})


def read_target(raw: bytes, where: str) -> DrawingTarget:
    """Returns the target in a JSON text; errors begin with `where`.

    Raises:
        InputError: the text isn't JSON, has no primitives, or a field is missing, unknown, given twice, no finite
            number or makes a primitive without length or area.
    """
    try:
        target = _TARGETS.load(json.dumps(json_value(raw, where)).encode(), where)
    except InputError as error:
        raise InputError(_without_kind(str(error))) from error
    if not target.primitives:
        raise InputError(f"{where}: field primitives: is empty, name at least one primitive")
    for index, primitive in enumerate(target.primitives):
        if problem := _problem(primitive):
            field, text = problem
            raise InputError(f"{where}: field primitives.{index}.{field}: {text}")
    return target


def check_inside(target: DrawingTarget, size: tuple[int, int], where: str) -> None:
    """Checks that every place of the target lies on an image of `size` (width, height), and that circles cross it.

    Raises:
        InputError: a place lies outside the image, or a circle surrounds it; names the primitive and its field.
    """
    for index, primitive in enumerate(target.primitives):
        for field, (x, y) in _places(primitive):
            if not (0 <= x <= size[0] and 0 <= y <= size[1]):
                raise InputError(
                    f"{where}: field primitives.{index}.{field}: ({x:g}, {y:g}) lies outside the input image,"
                    f" which has {size[0]} x {size[1]} pixels"
                )
        if isinstance(primitive, Circle):
            furthest = math.hypot(max(primitive.cx, size[0] - primitive.cx), max(primitive.cy, size[1] - primitive.cy))
            if primitive.r > furthest:
                raise InputError(
                    f"{where}: field primitives.{index}.r: the circle surrounds the input image, which has"
                    f" {size[0]} x {size[1]} pixels; its radius is {primitive.r:g}, the furthest corner is"
                    f" {furthest:g} pixels away"
                )


def _without_kind(message: str) -> str:
    """Removes the kind that pydantic inserts between the index of a primitive and its field."""
    head, separator, tail = message.partition("field primitives.")
    field, colon, problem = tail.partition(": ")
    index, _, name = field.partition(".")
    kind, _, rest = name.partition(".")
    if kind in _KINDS:
        field = ".".join(filter(None, (index, rest)))
    return head + separator + field + colon + problem


def _places(primitive: Primitive) -> Iterator[tuple[str, Place]]:
    """Yields the field and the coordinates of every place that a primitive names."""
    match primitive:
        case Point(x=x, y=y):
            yield "x, y", (x, y)
        case Circle(cx=x, cy=y):
            yield "cx, cy", (x, y)
        case Polyline(points=points) | Region(points=points):
            for index, place in enumerate(points):
                yield f"points.{index}", place
        case _:
            yield "x1, y1", (primitive.x1, primitive.y1)
            yield "x2, y2", (primitive.x2, primitive.y2)


def _problem(primitive: Primitive) -> tuple[str, str] | None:
    """Returns the field that gives a primitive no length or area, and a message; None if the primitive is fine."""
    match primitive:
        case Segment(x1=x1, y1=y1, x2=x2, y2=y2) | Line(x1=x1, y1=y1, x2=x2, y2=y2) if (x1, y1) == (x2, y2):
            return "x2, y2", "equals x1, y1; the ends must differ"
        case Outline(x1=x1, y1=y1, x2=x2, y2=y2) if x1 == x2 or y1 == y2:
            return "x2, y2", "makes a box without an area"
        case Circle(r=r) if r <= 0:
            return "r", f"must be above 0, it is {r:g}"
        case Polyline(points=points) if length(points) == 0:
            return "points", "has no length; name at least two places that differ"
        case Region(points=points) if abs(polygon_area(points)) < 1:
            return "points", "encloses no area; name at least three corners in the order of the outline"
    return None


def length(points: Sequence[Place]) -> float:
    """Returns the length of an open polyline."""
    return sum(math.dist(one, other) for one, other in pairwise(points))


def polygon_area(points: Sequence[Place]) -> float:
    """Returns the signed area of a polygon."""
    pairs = zip(points, [*points[1:], *points[:1]], strict=True)
    return sum(x1 * y2 - x2 * y1 for (x1, y1), (x2, y2) in pairs) / 2
