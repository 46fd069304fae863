"""Writes the matplotlib programs of original images and of drawings."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from codevision_ext.drawing import DrawingTarget
from codevision_ext.drawing.targets import (
    Circle,
    Line,
    Outline,
    Place,
    Point,
    Polyline,
    Primitive,
    Region,
    Segment,
)
from data_prep.evolve.item import Element, Overlay

Kind = Literal["point", "line", "angle", "circle", "function_curve", "text", "symbol"]
DPI: Final = 100
INKS: Final = ("black", "#222222", "#1b2a41", "#3b2f2f", "#2d3142", "#333d29")
PAPERS: Final = ("white", "#fffdf5", "#f7fbff", "#fdf7f7", "#f6fff6", "#f4f4f4", "#fbf8ff", "#fff9ee")
DRAWN: Final = ("crimson", "#d1008f", "#0057ff", "#e04e00", "#008a3c", "#7b2cff")
"""Colours of drawings: each differs from every paper, every ink and every filled shape by at least 60 levels."""
FILLS: Final = ("#b8c4d6", "#cfc3a8", "#b9d1bd", "#d6bcc4", "#c3bddb", "#bfd3d6")


def number(value: float) -> str:
    """Return a coordinate as text with at most two decimals."""
    return f"{round(float(value), 2) + 0.0:g}"


def _pair(points: Sequence[Place]) -> str:
    xs, ys = (", ".join(number(point[axis]) for point in points) for axis in (0, 1))
    return f"[{xs}], [{ys}]"


@dataclass(slots=True, kw_only=True)
class Canvas:
    """A page on which an original image is drawn; y points down, coordinates are pixels."""

    size: tuple[int, int]
    paper: str
    ink: str
    stroke: float
    """Width of strokes, pixels."""
    font: float
    """Size of text, points."""
    lines: list[str] = field(default_factory=list)
    """Lines of the program after its head."""
    elements: list[Element] = field(default_factory=list)
    strokes: list[list[Place]] = field(default_factory=list)
    """All strokes as lines from place to place, on which no drawing may lie."""
    boxes: list[tuple[float, float, float, float]] = field(default_factory=list)
    """Boxes (left, top, right, bottom) of all texts, estimated."""
    filled: list[tuple[float, float, float, float]] = field(default_factory=list)
    """Boxes of filled shapes and dots."""

    def path(self, points: Sequence[Place], semantic: str = "", *, closed: bool = False, dash: bool = False) -> None:
        """Draw strokes from place to place; a path of two places with a `semantic` becomes an element."""
        points = [*points, points[0]] if closed else list(points)
        style = ", linestyle='--'" if dash else ""
        self.lines.append(
            f"ax.plot({_pair(points)}, color='{self.ink}', linewidth={number(self.stroke)} * px,"
            f" solid_capstyle='round', solid_joinstyle='round'{style})"
        )
        self.strokes.append(points)
        if semantic and len(points) == 2:
            self.line_element(points[0], points[1], semantic)

    def line_element(self, one: Place, other: Place, semantic: str) -> None:
        """List a straight stroke among the elements."""
        self.add("line", semantic, x1=one[0], y1=one[1], x2=other[0], y2=other[1])

    def circle(self, centre: Place, radius: float, semantic: str) -> None:
        """Draw the outline of a circle."""
        self.lines.append(
            f"ax.add_patch(plt.Circle(({number(centre[0])}, {number(centre[1])}), {number(radius)}, fill=False,"
            f" edgecolor='{self.ink}', linewidth={number(self.stroke)} * px))"
        )
        self.strokes.append(around(centre, radius))
        self.add("circle", semantic, cx=centre[0], cy=centre[1], r=radius)

    def bar(self, box: tuple[float, float, float, float], colour: str, edge: str = "") -> None:
        """Fill the rectangle (left, top, right, bottom)."""
        left, top, right, bottom = box
        self.filled.append(box)
        self.lines.append(
            f"ax.add_patch(plt.Rectangle(({number(left)}, {number(top)}), {number(right - left)},"
            f" {number(bottom - top)}, facecolor='{colour}', edgecolor='{edge or 'none'}', linewidth=px))"
        )
        if edge:
            self.strokes.append([(left, top), (right, top), (right, bottom), (left, bottom), (left, top)])

    def dot(self, place: Place, label: str = "", semantic: str = "", *, radius: float = 3.5, colour: str = "") -> None:
        """Draw a point; one with a `semantic` becomes an element. The label is written elsewhere."""
        self.lines.append(
            f"ax.plot([{number(place[0])}], [{number(place[1])}], 'o', color='{colour or self.ink}',"
            f" markersize={number(2 * radius)} * px, markeredgewidth=0)"
        )
        x, y = place
        self.filled.append((x - radius, y - radius, x + radius, y + radius))
        if semantic:
            self.point_element(place, label, semantic)

    def point_element(self, place: Place, label: str, semantic: str) -> None:
        """List a place among the elements."""
        self.add("point", semantic, x=place[0], y=place[1], label=label)

    def text(self, place: Place, text: str, semantic: str = "", *, size: float = 0.0, clear: bool = True) -> None:
        """Write a text round a place; `clear` covers what lies below it with paper."""
        size = size or self.font
        x, y = place
        wide, high = size * DPI / 72 * 0.33 * len(text) + 2, size * DPI / 72 * 0.62
        # a text near the border is moved inside
        x = min(max(x, wide + 2), self.size[0] - wide - 2)
        y = min(max(y, high + 2), self.size[1] - high - 2)
        box = f", bbox=dict(facecolor='{self.paper}', edgecolor='none', pad=0.5)" if clear else ""
        self.lines.append(
            f"ax.text({number(x)}, {number(y)}, {text!r}, fontsize={number(size)}, color='{self.ink}',"
            f" ha='center', va='center'{box})"
        )
        self.boxes.append((x - wide, y - high, x + wide, y + high))
        if semantic:
            self.add("text", semantic, x=x, y=y, label=text)

    def add(self, kind: Kind, semantic: str, **fields: float | str) -> None:
        """List an element; its numbers become whole pixels."""
        whole = {name: value if isinstance(value, str) else float(round(value)) for name, value in fields.items()}
        self.elements.append(Element(kind=kind, fields=whole, semantic=semantic))

    def code(self) -> str:
        """Return the complete program of the image."""
        width, height = self.size
        head = [
            "import matplotlib.pyplot as plt",
            "",
            f"w, h, dpi = {width}, {height}, {DPI}",
            "px = 72 / dpi  # points of one pixel",
            f"fig = plt.figure(figsize=(w / dpi, h / dpi), dpi=dpi, facecolor='{self.paper}')",
            "ax = fig.add_axes([0, 0, 1, 1])",
            "ax.set_xlim(0, w)",
            "ax.set_ylim(h, 0)",
            "ax.set_aspect('equal')",
            "ax.axis('off')",
        ]
        return "\n".join([*head, *self.lines, "plt.show()", ""])


def around(centre: Place, radius: float) -> list[Place]:
    """Return places on a circle, the first one twice."""
    angles = [math.tau * step / 72 for step in range(73)]
    return [(centre[0] + radius * math.cos(a), centre[1] + radius * math.sin(a)) for a in angles]


def overlay(shapes: Sequence[Primitive], *, tool: str, about: str, colour: str, width: float) -> Overlay:
    """Return the drawing of `shapes` with its program; `width` is that of strokes, pixels."""
    head = [
        "import matplotlib.pyplot as plt",
        "",
        "image = plt.imread(image_path)",
        "h, w = image.shape[:2]",
        f"dpi = {DPI}",
        "px = 72 / dpi  # points of one pixel",
        "fig = plt.figure(figsize=(w / dpi, h / dpi), dpi=dpi)",
        "ax = fig.add_axes([0, 0, 1, 1])",
        "ax.imshow(image, extent=(0, w, h, 0), interpolation='nearest')",
        "ax.set_xlim(0, w)",
        "ax.set_ylim(h, 0)",
        "ax.axis('off')",
    ]
    drawn = [_shape(shape, colour, width) for shape in shapes]
    code = "\n".join([*head, *drawn, "plt.show()", ""])
    return Overlay(code=code, target=DrawingTarget(primitives=tuple(shapes)), about=about, tool=tool)


def _shape(shape: Primitive, colour: str, width: float) -> str:
    stroke = f"linewidth={number(width)} * px"
    match shape:
        case Point(x=x, y=y):
            return f"ax.plot([{number(x)}], [{number(y)}], 'o', color='{colour}', markersize=9 * px, markeredgewidth=0)"
        case Segment() | Line():
            places = _pair([(shape.x1, shape.y1), (shape.x2, shape.y2)])
            return f"ax.plot({places}, color='{colour}', {stroke}, solid_capstyle='butt')"
        case Polyline(points=points, closed=closed):
            places = _pair([*points, points[0]] if closed else points)
            return f"ax.plot({places}, color='{colour}', {stroke}, solid_capstyle='butt', solid_joinstyle='miter')"
        case Circle(cx=x, cy=y, r=r):
            return (
                f"ax.add_patch(plt.Circle(({number(x)}, {number(y)}), {number(r)}, fill=False,"
                f" edgecolor='{colour}', {stroke}))"
            )
        case Outline(x1=x1, y1=y1, x2=x2, y2=y2):
            return (
                f"ax.add_patch(plt.Rectangle(({number(x1)}, {number(y1)}), {number(x2 - x1)}, {number(y2 - y1)},"
                f" fill=False, edgecolor='{colour}', {stroke}))"
            )
        case Region(points=points):
            corners = ", ".join(f"({number(x)}, {number(y)})" for x, y in points)
            return f"ax.add_patch(plt.Polygon([{corners}], facecolor='{colour}', alpha=0.4, edgecolor='none'))"
