"""Defines what is asked of a page: to name places, or to draw on it, with the target and the code that draws it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from codevision_ext.drawing.targets import DrawingTarget, Line, Outline, Point, Primitive, Segment
from data_prep.tasks.figures.scene import COLOURS, SIDE, Page, Shape

GAP: Final = 3
"""Distance between a shape and the box around it, pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """One drawing that a page asks for."""

    question: str
    code: str
    """Statements that draw the target with `pen`, an ImageDraw of the image."""
    target: DrawingTarget
    """What must be drawn, in pixels of the page."""


def mark(page: Page) -> Drawing:
    """Ask for a marker on the first shape."""
    shape = page.shapes[0]
    x, y = shape.centre
    return Drawing(
        question=f"Mark the {shape.name}.",
        code=f'{_places(shape)}pen.circle({_variable(shape)}, 4, fill="black")',
        target=_only(Point(x=x, y=y)),
    )


def connect(page: Page) -> Drawing:
    """Ask for the segment between the first two shapes."""
    first, second = page.shapes[:2]
    (x1, y1), (x2, y2) = first.centre, second.centre
    ends = f"{_variable(first)}, {_variable(second)}"
    return Drawing(
        question=f"Connect the {first.name} and the {second.name}.",
        code=f'{_places(first, second)}pen.line(({ends}), fill="black", width=2)',
        target=_only(Segment(x1=x1, y1=y1, x2=x2, y2=y2)),
    )


def line(page: Page) -> Drawing:
    """Ask for the vertical line through the first shape: an auxiliary line."""
    shape = page.shapes[0]
    x, y = shape.centre
    return Drawing(
        question=f"Draw the vertical line through the {shape.name}.",
        code=f'{_places(shape)}x, y = {_variable(shape)}\npen.line((x, 0, x, {SIDE}), fill="black", width=2)',
        target=_only(Line(x1=x, y1=max(0, y - 20), x2=x, y2=min(SIDE, y + 20))),
    )


def box(page: Page) -> Drawing:
    """Ask for the box round the first shape."""
    shape = page.shapes[0]
    (x, y), far = shape.centre, shape.half + GAP
    corners = f"x - {far}, y - {far}, x + {far}, y + {far}"
    return Drawing(
        question=f"Draw a box round the {shape.name}.",
        code=f'{_places(shape)}x, y = {_variable(shape)}\npen.rectangle(({corners}), outline="black", width=2)',
        target=_only(Outline(x1=x - far, y1=y - far, x2=x + far, y2=y + far)),
    )


DRAWINGS: Final[Mapping[str, tuple[Callable[[Page], Drawing], int]]] = {
    "mark": (mark, 1),
    "connect": (connect, 2),
    "line": (line, 1),
    "box": (box, 1),
}
"""The drawings by kind, with the minimum number of shapes on the page."""


def listed(page: Page) -> str:
    """Return what stands where on a page, in the order of the colours: `red dot (12, 60), blue square (48, 30)`."""
    shapes = sorted(page.shapes, key=lambda shape: tuple(COLOURS).index(shape.colour))
    return ", ".join(f"{shape.name} ({shape.centre[0]}, {shape.centre[1]})" for shape in shapes)


def _variable(shape: Shape) -> str:
    return shape.name.replace(" ", "_")


def _places(*shapes: Shape) -> str:
    """Return statements that name the places of shapes: `red_dot = (12, 60)`."""
    return "".join(f"{_variable(shape)} = {shape.centre}\n" for shape in shapes)


def _only(primitive: Primitive) -> DrawingTarget:
    return DrawingTarget(primitives=(primitive,))
