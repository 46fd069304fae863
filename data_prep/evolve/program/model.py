"""Defines figures and what can be asked about them, and chooses their numbers, names and layout."""

import math
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, TypeVar

import numpy as np

from codevision_ext.drawing.targets import Place, Primitive, Segment
from data_prep.evolve.item import Difficulty
from data_prep.evolve.program.canvas import INKS, PAPERS, Canvas

T = TypeVar("T")
LEVELS: Final[tuple[Difficulty, ...]] = ("easy", "medium", "hard")
Number = int | Fraction
_TRIPLES: Final = ((3, 4, 5), (5, 12, 13), (8, 15, 17), (7, 24, 25), (20, 21, 29))


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A quantity of a figure that a drawing makes readable."""

    knowledge: str
    tool: str
    text: str
    """Noun phrase of the quantity; doesn't name the drawing."""
    given: str = ""
    """Sentences that define names which `text` uses."""
    value: Number
    check: Callable[[], float]
    """Measures the quantity on the pixels of the figure and of the drawing."""
    shapes: tuple[Primitive, ...]
    about: str
    """Sentence that describes the drawing."""
    reason: str
    """Sentences that lead from the drawing to the value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """An original image, and chains of quantities.

    The drawing of every quantity in a chain is defined from the drawing before it. Chains are independent.
    """

    canvas: Canvas
    facts: str
    """Sentences of the problem that every question about the figure begins with."""
    chains: Mapping[str, tuple[Ask, ...]]


class Pen:
    """Draws numbers, names, layouts and styles from one random generator."""

    def __init__(self, rng: np.random.Generator, difficulty: Difficulty) -> None:
        """Keep the generator."""
        self.rng = rng
        self.level = LEVELS.index(difficulty)
        """0 easy, 1 medium, 2 hard."""

    def whole(self, least: int, most: int) -> int:
        """Return a whole number from `least` to `most`."""
        return int(self.rng.integers(least, most + 1))

    def pick(self, values: Sequence[T]) -> T:
        """Return one of the values."""
        return values[int(self.rng.integers(len(values)))]

    def some(self, values: Sequence[T], count: int) -> list[T]:
        """Return different values, in random order."""
        return [values[int(at)] for at in self.rng.permutation(len(values))[:count]]

    def chance(self, share: float) -> bool:
        """Return true in a share of the calls."""
        return bool(self.rng.random() < share)

    def names(self, count: int) -> list[str]:
        """Return capital letters: neighbours in the alphabet, or any in order.

        I and O look like digits, and A reads like the article, or like the first of several choices.
        """
        letters = [letter for letter in string.ascii_uppercase if letter not in "AIO"]
        if self.chance(0.6):
            start = self.whole(0, len(letters) - count)
            return letters[start : start + count]
        return sorted(self.some(letters, count))

    def free(self, taken: Sequence[str], count: int) -> list[str]:
        """Return capital letters that aren't taken."""
        return self.some([letter for letter in "HKMNTUVWXEFD" if letter not in taken], count)

    def triple(self, most: int = 5) -> tuple[int, int, int]:
        """Return the sides of a right triangle, the hypotenuse last."""
        a, b, c = _TRIPLES[self.whole(0, most - 1)]
        return (a, b, c) if self.chance(0.5) else (b, a, c)

    def canvas(self, size: tuple[int, int]) -> Canvas:
        """Return an empty page."""
        return Canvas(
            size=size,
            paper=self.pick(PAPERS),
            ink=self.pick(INKS),
            stroke=self.pick((1.5, 2.0, 2.5)),
            font=self.pick((11, 12, 13)),
        )

    def page(self, wide: tuple[int, int] = (400, 600), high: tuple[int, int] = (320, 440)) -> Canvas:
        """Return an empty page with sides from these ranges, pixels."""
        return self.canvas((4 * self.whole(wide[0] // 4, wide[1] // 4), 4 * self.whole(high[0] // 4, high[1] // 4)))

    def lay(
        self, points: Mapping[str, tuple[Number, Number]], *, turn: bool = True
    ) -> tuple[Canvas, dict[str, Place], float]:
        """Return a page, the pixels of the points, and the pixels of a unit; y of the points goes up."""
        angle = self.rng.uniform(0, math.tau) if turn else 0.0
        flip = -1 if turn and self.chance(0.5) else 1
        turned = {
            name: (
                flip * float(x) * math.cos(angle) - float(y) * math.sin(angle),
                -flip * float(x) * math.sin(angle) - float(y) * math.cos(angle),
            )
            for name, (x, y) in points.items()
        }
        left, top = (min(place[axis] for place in turned.values()) for axis in (0, 1))
        right, bottom = (max(place[axis] for place in turned.values()) for axis in (0, 1))
        scale = self.whole(250, 380) / max(right - left, (bottom - top) * 1.1)
        margin = self.whole(44, 64)
        sides = [4 * math.ceil((extent * scale + 2 * margin) / 4) for extent in (right - left, bottom - top)]
        width, height = max(320, sides[0]), max(240, sides[1])
        across = (width - (right - left) * scale) / 2 + self.whole(-8, 8)
        down = (height - (bottom - top) * scale) / 2 + self.whole(-8, 8)
        placed = {
            name: (round((x - left) * scale + across, 2), round((y - top) * scale + down, 2))
            for name, (x, y) in turned.items()
        }
        return self.canvas((width, height)), placed, scale


def corner_labels(canvas: Canvas, corners: Mapping[str, Place], role: str, *, dots: bool = False) -> None:
    """Write the names of corners outside of the polygon that they make, and list them as elements."""
    middle = [sum(place[axis] for place in corners.values()) / len(corners) for axis in (0, 1)]
    for name, (x, y) in corners.items():
        away = math.hypot(x - middle[0], y - middle[1]) or 1.0
        step = canvas.font * 1.35
        if dots:
            canvas.dot((x, y))
        canvas.point_element((x, y), name, f"{role} {name}")
        canvas.text((x + (x - middle[0]) / away * step, y + (y - middle[1]) / away * step), name)


def side_label(canvas: Canvas, one: Place, other: Place, away_from: Place, text: str, share: float = 0.5) -> None:
    """Write a length beside a segment, on the side that is away from a place."""
    x, y = one[0] + (other[0] - one[0]) * share, one[1] + (other[1] - one[1]) * share
    normal = other[1] - one[1], one[0] - other[0]
    size = math.hypot(*normal)
    sign = -1 if normal[0] * (away_from[0] - x) + normal[1] * (away_from[1] - y) > 0 else 1
    step = canvas.font * 1.3 + len(text)
    place = x + sign * normal[0] / size * step, y + sign * normal[1] / size * step
    canvas.text(place, text, f"length {text} of a side")


def segment(one: Place, other: Place) -> Segment:
    """Return the stroke between two places, to a hundredth of a pixel."""
    return Segment(x1=round(one[0], 2), y1=round(one[1], 2), x2=round(other[0], 2), y2=round(other[1], 2))


def spot(place: Place) -> Place:
    """Return a place, to a hundredth of a pixel."""
    return round(place[0], 2), round(place[1], 2)


def show(value: Number) -> str:
    """Return a value as it is answered: 12, or 7/2."""
    value = Fraction(value)
    return str(value.numerator) if value.denominator == 1 else f"{value.numerator}/{value.denominator}"


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """A coordinate system on a page."""

    canvas: Canvas
    origin: Place
    unit: float
    """Pixels of a unit."""
    xs: tuple[int, int]
    ys: tuple[int, int]

    def at(self, x: float | Number, y: float | Number) -> Place:
        """Return the pixels of a point."""
        return spot((self.origin[0] + float(x) * self.unit, self.origin[1] - float(y) * self.unit))

    def x(self, place: Place) -> float:
        """Return the first coordinate of a place."""
        return (place[0] - self.origin[0]) / self.unit

    def y(self, place: Place) -> float:
        """Return the second coordinate of a place."""
        return (self.origin[1] - place[1]) / self.unit


def system(pen: Pen, xs: tuple[int, int], ys: tuple[int, int]) -> System:
    """Return a coordinate system with numbers at every second unit and no grid."""
    unit = float(min(pen.whole(30, 40), 520 // (xs[1] - xs[0] + 1), 420 // (ys[1] - ys[0] + 1)))
    left, top = pen.whole(38, 54), pen.whole(30, 44)
    canvas = pen.canvas(
        (
            max(320, 4 * round((left + (xs[1] - xs[0]) * unit + pen.whole(34, 48)) / 4)),
            max(240, 4 * round((top + (ys[1] - ys[0]) * unit + pen.whole(36, 48)) / 4)),
        )
    )
    plane = System(canvas=canvas, origin=(left - xs[0] * unit, top + ys[1] * unit), unit=unit, xs=xs, ys=ys)
    start, end = plane.at(xs[0], 0), plane.at(xs[1], 0)
    canvas.path([start, (end[0] + 14, end[1])], "the x-axis")
    low, high = plane.at(0, ys[0]), plane.at(0, ys[1])
    canvas.path([low, (high[0], high[1] - 14)], "the y-axis")
    for value in range(xs[0], xs[1] + 1):
        x, y = plane.at(value, 0)
        if value:
            canvas.path([(x, y - 3), (x, y + 3)])
        if value and value % 2 == 0:
            canvas.text((x, y + 13), str(value), size=9, clear=False)
    for value in range(ys[0], ys[1] + 1):
        x, y = plane.at(0, value)
        if value:
            canvas.path([(x - 3, y), (x + 3, y)])
        if value and value % 2 == 0:
            canvas.text((x - 15, y), str(value), size=9, clear=False)
    canvas.text((end[0] + 20, end[1] - 9), "x", size=10, clear=False)
    canvas.text((high[0] + 12, high[1] - 12), "y", size=10, clear=False)
    return plane
