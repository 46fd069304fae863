"""Makes problems in a coordinate system: graphs of functions, parabolas and points."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import pairwise

import numpy as np

from codevision_ext.drawing.shapes import corners
from codevision_ext.drawing.targets import Outline, Place, Polyline, Region
from data_prep.evolve.program import measure
from data_prep.evolve.program.model import Ask, Figure, Number, Pen, System, segment, show, system


def _nodes(pen: Pen) -> list[tuple[int, int]]:
    """Return the corners of a graph with slopes of 1 and 2, from x = 0."""
    high = 7 + pen.level
    nodes = [(0, pen.whole(1, high - 1))]
    last = 0
    while nodes[-1][0] < 9 + pen.level:
        x, y = nodes[-1]
        wide = pen.whole(1, 3)
        slope = pen.pick([s for s in (-2, -1, 1, 2) if s != last])
        if 1 <= y + wide * slope <= high:
            nodes.append((x + wide, y + wide * slope))
            last = slope
    return nodes


def _value(nodes: Sequence[tuple[int, int]], x: Number) -> Fraction:
    for (x1, y1), (x2, y2) in pairwise(nodes):
        if x1 <= x <= x2:
            return y1 + Fraction(y2 - y1, x2 - x1) * (Fraction(x) - x1)
    raise LookupError("outside of the graph")


def graph(pen: Pen) -> Figure:
    """Return the graph of a function of straight pieces."""
    nodes = _nodes(pen)
    last = nodes[-1][0]
    plane = system(pen, (0, last), (0, 10))
    canvas = plane.canvas
    places = [plane.at(x, y) for x, y in nodes]
    canvas.path(places)
    for n, place in enumerate(places):
        canvas.point_element(place, "", f"corner {n + 1} of the graph from the left")
    f = pen.pick("fghuv")
    facts = pen.pick(
        (
            f"The image shows the graph of the function {f} for x from 0 to {last}. It consists of straight pieces"
            " between points with whole coordinates.",
            f"The function {f} is given by its graph from x = 0 to x = {last}; it is straight between points with whole"
            " coordinates.",
            f"A sensor writes the curve {f}(x) for 0 ≤ x ≤ {last}. All its bends have whole coordinates.",
        )
    )
    px, py = [p[0] for p in places], [p[1] for p in places]

    def measured(x: float) -> float:
        """Return the value of the graph at x, from pixels."""
        return plane.y((0.0, float(np.interp(plane.at(x, 0)[0], px, py))))

    values = _values(pen, plane, nodes, f, measured)
    taken = [round(plane.x((float(corners(shape)[0][0]), 0.0))) for ask in values for shape in ask.shapes]
    chains = {
        "value": values,
        "level": _level(pen, plane, nodes, f, places),
        "area": _area(pen, plane, nodes, f, measured, taken),
        "secant": _secant(pen, plane, nodes, f, measured),
    }
    return Figure(canvas=canvas, facts=facts, chains=chains)


def _values(
    pen: Pen, plane: System, nodes: list[tuple[int, int]], f: str, measured: Callable[[float], float]
) -> tuple[Ask, ...]:
    last = nodes[-1][0]
    starts = []
    for start in range(1, last + 1):
        values = [start, *(0,) * 3]
        for step in range(3):
            values[step + 1] = int(_value(nodes, values[step])) if 0 < values[step] <= last else 0
        if all(values) and len(set(values)) == 4:
            starts.append(values)
    if not starts:
        raise LookupError("no chain of values")
    values = pen.pick(starts)
    asks = []
    factor, add = pen.whole(2, 9), pen.whole(0, 9)
    tail = f" + {add}" if add else ""
    for depth in range(3):
        x, y = values[depth], values[depth + 1]
        inner = f"{f}(" * (depth + 1) + str(values[0]) + ")" * (depth + 1)
        asks.append(
            Ask(
                knowledge=(
                    "functions/graph/value",
                    "functions/graph/composition",
                    "functions/graph/threefold composition",
                )[depth],
                tool=("vertical reading line", "reading lines", "reading lines")[depth],
                text=f"{factor} · {inner}{tail}",
                value=factor * y + add,
                check=lambda x=x: factor * measured(x) + add,  # type: ignore[misc]
                shapes=(
                    (segment(plane.at(x, 0), plane.at(x, y)),)
                    if depth == 0
                    else (Polyline(points=(plane.at(x, 0), plane.at(x, y), plane.at(0, y))),)
                ),
                about=f"The vertical line at x = {x} up to the graph{', and from there to the y-axis' * (depth > 0)}.",
                reason=f"The line at x = {x} meets the graph at the height {y}, so {inner} = {y} and"
                f" {factor} · {inner}{tail} = {factor * y + add}.",
            )
        )
    return tuple(asks)


def _level(pen: Pen, plane: System, nodes: list[tuple[int, int]], f: str, places: list[Place]) -> tuple[Ask, ...]:
    options = []
    for k in range(1, 10):
        xs = [
            x1 + Fraction(k - y1, y2 - y1) * (x2 - x1)
            for (x1, y1), (x2, y2) in pairwise(nodes)
            if min(y1, y2) < k < max(y1, y2)
        ]
        if len(xs) >= 2 and all(y != k for _, y in nodes):
            options.append((k, xs))
    if not options:
        raise LookupError("no level")
    k, xs = pen.pick(options)
    start, end = plane.at(0, k), plane.at(nodes[-1][0], k)

    def measured() -> float:
        """Return the sum of the places where the drawn line crosses the graph, from pixels."""
        pairs = pairwise(places)
        return sum(plane.x(measure.meeting(start, end, a, b)) for a, b in pairs if measure.crosses(start, end, a, b))

    ask = Ask(
        knowledge="functions/graph/solutions of an equation",
        tool="horizontal reading line",
        text=f"the sum of all numbers x with {f}(x) = {k}",
        value=sum(xs, Fraction(0)),
        check=measured,
        shapes=(segment(start, end),),
        about=f"The horizontal line at the height {k}.",
        reason=f"The line meets the graph at x = {', '.join(map(show, xs))}. The sum is {show(sum(xs, Fraction(0)))}.",
    )
    return (ask,)


def _area(
    pen: Pen,
    plane: System,
    nodes: list[tuple[int, int]],
    f: str,
    measured: Callable[[float], float],
    taken: Sequence[int],
) -> tuple[Ask, ...]:
    """Return the area below the graph over an interval without the numbers `taken`, at which lines are drawn."""
    last = nodes[-1][0]
    free = [
        (a, b)
        for a in range(last - 1)
        for b in range(a + 2, min(last, a + 7) + 1)
        if not any(a <= x <= b for x in taken)
    ]
    if not free:
        raise LookupError("no free interval")
    a, b = pen.pick(free)
    inner = [(x, Fraction(y)) for x, y in nodes if a < x < b]
    top: list[tuple[int, Fraction]] = [(a, _value(nodes, a)), *inner, (b, _value(nodes, b))]
    area = sum(((y1 + y2) * (x2 - x1) / Fraction(2) for (x1, y1), (x2, y2) in pairwise(top)), Fraction(0))
    outline = [plane.at(a, 0), *(plane.at(x, y) for x, y in top), plane.at(b, 0)]
    ask = Ask(
        knowledge="functions/graph/area below the graph",
        tool="region shading",
        text=f"the integral of {f} from {a} to {b}",
        value=area,
        check=lambda: sum((measured(a + n / 8) + measured(a + (n + 1) / 8)) / 16 for n in range(8 * (b - a))),
        shapes=(Region(points=tuple(outline)),),
        about=f"The region between the graph and the x-axis from {a} to {b}, filled.",
        reason=f"The filled region consists of trapezoids with the area {show(area)} together.",
    )
    return (ask,)


def _secant(
    pen: Pen, plane: System, nodes: list[tuple[int, int]], f: str, measured: Callable[[float], float]
) -> tuple[Ask, ...]:
    last = nodes[-1][0]
    options = []
    for a in range(1, last - 3):
        for b in range(a + 2, last):
            slope = (_value(nodes, b) - _value(nodes, a)) / (b - a)
            for c in (*range(a), *range(b + 1, last + 1)):
                y = _value(nodes, a) + slope * (c - a)
                if 1 <= y <= 9 and slope and y.denominator <= 6:
                    options.append((a, b, c, y))
    if not options:
        raise LookupError("no secant")
    a, b, c, y = pen.pick(options)
    ends = plane.at(a if c > b else b, _value(nodes, a if c > b else b)), plane.at(c, y)
    ask = Ask(
        knowledge="functions/linear/line through two points of a graph",
        tool="line through points",
        given=f"The linear function s equals {f} at x = {a} and at x = {b}.",
        text=f"s({c})",
        value=y,
        check=lambda: measured(a) + (measured(b) - measured(a)) / (b - a) * (c - a),
        shapes=(segment(*ends),),
        about=f"The straight line through the points of the graph at x = {a} and x = {b}, up to x = {c}.",
        reason=f"The line passes the heights {show(_value(nodes, a))} and {show(_value(nodes, b))}, and at x = {c} it"
        f" has the height {show(y)}.",
    )
    return (ask,)


def parabola(pen: Pen) -> Figure:
    """Return a parabola with a whole vertex and a half or quarter as factor."""
    xs_all, ys = (-pen.whole(0, 3), pen.whole(9, 12)), (-pen.whole(2, 5), pen.whole(6, 9))
    m = pen.whole(2, 7)
    factor = pen.pick((Fraction(1, 2), Fraction(1, 4), Fraction(1), Fraction(1, 8), Fraction(3, 4), Fraction(3, 8)))
    up = pen.chance(0.5)
    factor = factor if up else -factor
    t = pen.whole(ys[0] + 1, 2) if up else pen.whole(3, ys[1] - 1)

    def value(x: Number) -> Fraction:
        """Return the value of the function."""
        return factor * (Fraction(x) - m) ** 2 + t

    xs = [x / 16 for x in range(16 * xs_all[0], 16 * xs_all[1] + 1) if ys[0] <= value(Fraction(x, 16)) <= ys[1]]
    if xs[-1] - xs[0] < 4:
        raise LookupError("a narrow parabola")
    plane = system(pen, xs_all, ys)
    canvas = plane.canvas
    places = [plane.at(x, float(factor) * (x - m) ** 2 + t) for x in xs]
    canvas.path(places)
    canvas.point_element(plane.at(m, t), "", "vertex of the parabola")
    f = pen.pick("fghuv")
    facts = pen.pick(
        (
            f"The image shows the graph of a quadratic function {f}, whose lowest or highest point has whole"
            " coordinates.",
            f"The parabola is the graph of {f}. Its vertex has whole coordinates.",
            f"A jet of water follows the parabola y = {f}(x); its extreme point has whole coordinates.",
        )
    )
    sides = [
        a
        for a in range(xs_all[0], xs_all[1] + 1)
        if abs(a - m) >= 2 and ys[0] <= value(a) <= ys[1] and xs[0] <= 2 * m - a <= xs[-1]
    ]
    slopes = []
    for a in range(xs_all[1]):
        rise = 2 * factor * (a - m)
        y0 = value(a) - rise * a
        if rise and ys[0] <= value(a) <= ys[1] and ys[0] <= y0 <= ys[1] and a >= 3 and y0.denominator == 1 and y0:
            slopes.append((a, y0))
    if not sides or not slopes:
        raise LookupError("no place on the parabola")
    a = pen.pick(sides)
    b, y0 = pen.pick(slopes)
    c = pen.whole(12, 40) * pen.pick((1, -1))
    low, high = sorted((value(a), Fraction(t)))
    axis = plane.at(m, low - Fraction(1, 2) if up else low - 1), plane.at(m, high + 1 if up else high + Fraction(1, 2))
    left, right = sorted((plane.at(a, value(a)), plane.at(2 * m - a, value(a))))
    far = m + c
    symmetry = Ask(
        knowledge="functions/quadratic/axis of symmetry",
        tool="axis of symmetry",
        text=f"the number x other than {far} with {f}(x) = {f}({far})",
        value=m - c,
        check=lambda: 2 * plane.x(places[int(np.argmax([p[1] for p in places]) if up else
                                          np.argmin([p[1] for p in places]))]) - far,
        shapes=(segment(*axis),),
        about=f"The axis of symmetry x = {m}.",
        reason=f"The axis is x = {m}. So the other number lies as far on its other side: 2 · {m} - ({far}) = {m - c}.",
    )  # fmt: skip
    width = Ask(
        knowledge="functions/quadratic/width at a height",
        tool="horizontal reading line",
        text=f"the square of the distance between the two places of the graph at the height {f}({a})",
        value=(2 * (a - m)) ** 2,
        check=lambda: (plane.x(right) - plane.x(left)) ** 2,
        shapes=(segment(left, right),),
        about=f"The horizontal line between the graph's two points at the height {show(value(a))}.",
        reason=f"Both places are {abs(a - m)} away from the axis, so their distance is {2 * abs(a - m)} and its square"
        f" {(2 * (a - m)) ** 2}.",
    )
    times = pen.whole(2, 9)
    slope = Ask(
        knowledge="functions/quadratic/tangent",
        tool="tangent",
        given=f"The linear function s has the value and the derivative of {f} at x = {b}.",
        text=f"{times} · s(0)",
        value=times * y0,
        check=lambda: times * _touching(plane, places, b),
        shapes=(segment(plane.at(b, value(b)), plane.at(0, y0)),),
        about=f"The tangent at x = {b}, up to the y-axis.",
        reason=f"The tangent at x = {b} meets the y-axis at {show(y0)}, so {times} · s(0) = {show(times * y0)}.",
    )
    return Figure(canvas=canvas, facts=facts, chains={"symmetry": (symmetry, width), "tangent": (slope,)})


def _touching(plane: System, places: list[Place], x: int) -> float:
    """Return where the tangent at x meets the y-axis, from the pixels of the curve near x."""
    near = min(range(len(places)), key=lambda at: abs(plane.x(places[at]) - x))
    reach = min(near, len(places) - 1 - near)
    one, other = places[near - reach], places[near + reach]
    rise = (plane.y(other) - plane.y(one)) / (plane.x(other) - plane.x(one))
    return plane.y(places[near]) - rise * plane.x(places[near])


def points(pen: Pen) -> Figure:
    """Return three points with whole coordinates, which aren't written."""
    spots = [(x, y) for x in range(-5, 7) for y in range(-3, 6) if x and y]
    a, b, c = pen.some(spots, 3)
    if min(max(abs(p[0] - q[0]), abs(p[1] - q[1])) for p, q in ((a, b), (b, c), (a, c))) < 3:
        raise LookupError("points too near")
    if a[0] == b[0] or a[1] == b[1]:
        raise LookupError("points on one line of the grid")
    slope = Fraction(b[1] - a[1], b[0] - a[0])
    y0 = a[1] - slope * a[0]
    area = Fraction(abs((b[0] - a[0]) * (c[1] - a[1]) - (c[0] - a[0]) * (b[1] - a[1])), 2)
    distance = (a[0] + c[0]) ** 2 + (a[1] - c[1]) ** 2
    if not -4 < y0 < 6 or y0.denominator > 6 or area < 2 or distance < 4:
        raise LookupError("no intercept on the page, a flat triangle or a near image")
    plane = system(pen, (-6, 7), (-4, 6))
    one, two, three, four = pen.names(4)
    pa, pb, pc = (plane.at(*p) for p in (a, b, c))
    for place, label in ((pa, one), (pb, two), (pc, three)):
        plane.canvas.dot(place, label, f"point {label}")
        plane.canvas.text((place[0] + 11, place[1] - 12), label, clear=False)
    name = f"{one}, {two} and {three}"
    facts = pen.pick(
        (
            f"The points {name} have whole coordinates.",
            f"In the coordinate system lie the points {name}; all their coordinates are whole.",
            f"{name} are three lighthouses on a sea map whose coordinates are whole miles.",
            f"A plotter has set the points {name} at whole coordinates.",
        )
    )
    square = (a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2
    legs = Ask(
        knowledge="coordinate geometry/distance/legs along the axes",
        tool="path along the axes",
        text=f"the square of the distance between {one} and {two}",
        value=square,
        check=lambda: (plane.x(pa) - plane.x(pb)) ** 2 + (plane.y(pa) - plane.y(pb)) ** 2,
        shapes=(Polyline(points=(pa, (pb[0], pa[1]), pb)),),
        about=f"The path from {one} to {two} along both directions of the axes.",
        reason=f"Its legs are {abs(a[0] - b[0])} and {abs(a[1] - b[1])}; the sum of their squares is {square}.",
    )
    outer = max((a, b), key=lambda p: abs(p[0]))
    times = pen.whole(2, 9) * y0.denominator
    line = Ask(
        knowledge="coordinate geometry/line/intercept",
        tool="line through points",
        given=f"A straight road leads through {one} and {two} and crosses the y-axis at y = k.",
        text=f"{times}k",
        value=times * y0,
        check=lambda: times * plane.y(measure.meeting(pa, pb, plane.at(0, 0), plane.at(0, 1))),
        shapes=(segment(plane.at(*outer), plane.at(0, y0)),) if a[0] * b[0] > 0 else (segment(pa, pb),),
        about=f"The line through {one} and {two} up to the y-axis.",
        reason=f"The line has the slope {show(slope)} and meets the y-axis at k = {show(y0)}.",
    )
    low, high = (min(p[0] for p in (a, b, c)), min(p[1] for p in (a, b, c))), (
        max(p[0] for p in (a, b, c)), max(p[1] for p in (a, b, c)))  # fmt: skip
    corner, other = plane.at(*low), plane.at(*high)
    box = Ask(
        knowledge="coordinate geometry/area/box round a triangle",
        tool="box round a region",
        text=f"the area of triangle {one}{two}{three}",
        value=area,
        check=lambda: measure.area([pa, pb, pc]) / plane.unit**2,
        shapes=(Outline(x1=corner[0], y1=corner[1], x2=other[0], y2=other[1]),),
        about="The box round all three points, along the axes.",
        reason=f"The box is {high[0] - low[0]} by {high[1] - low[1]}. Without the right triangles in its corners"
        f" {show(area)} is left.",
    )
    image = plane.at(-c[0], c[1])
    weight = pen.whole(2, 7)
    mirrored = Ask(
        knowledge="coordinate geometry/transformation/reflection in an axis",
        tool="reflection image",
        given=f"{four} has the same y as {three}, and the y-axis lies halfway between {three} and {four}.",
        text=f"{weight} times the square of the distance between {one} and {four}",
        value=weight * distance,
        check=lambda: weight * ((plane.x(pa) - plane.x(image)) ** 2 + (plane.y(pa) - plane.y(image)) ** 2),
        shapes=(segment(pc, image), segment(image, pa)),
        about=f"The reflection image {four} of {three} in the y-axis, and the segment {one}{four}.",
        reason=f"{four} is ({-c[0]}, {c[1]}), so the square is {distance}, and {weight} times it is"
        f" {weight * distance}.",
    )
    return Figure(
        canvas=plane.canvas,
        facts=facts,
        chains={"legs": (legs,), "line": (line,), "box": (box,), "reflection": (mirrored,)},
    )
