"""Makes triangles with whole sides and whole heights."""

import math
from fractions import Fraction
from itertools import combinations
from typing import Final

from codevision_ext.drawing.targets import Circle
from data_prep.evolve.program import measure
from data_prep.evolve.program.circles import RIM
from data_prep.evolve.program.measure import foot, middle
from data_prep.evolve.program.model import Ask, Figure, Pen, corner_labels, segment, show, side_label, spot

_HIGHEST: Final = (60, 132, 264)
"""Maximum height of easy, medium and hard triangles."""
_LEGS: Final = {
    h: [p for p in range(h // 4, 2 * h) if math.isqrt(h * h + p * p) ** 2 == h * h + p * p]
    for h in range(8, _HIGHEST[2] + 1)
}
_TRIANGLES: Final = [
    (h, p, q)
    for h, legs in _LEGS.items()
    for p, q in combinations(legs, 2)
    if math.gcd(h, p, q) == 1 and p * q != h * h and q - p >= h / 7 and 0.8 * h <= p + q <= 2.6 * h
]
"""Height and the two parts of the base of triangles with whole sides, without right angles; no two are similar."""


def _shape(pen: Pen) -> tuple[int, int, int]:
    """Return the height and the two parts of the base of a triangle."""
    return pen.pick([triangle for triangle in _TRIANGLES if triangle[0] <= _HIGHEST[pen.level]])


def triangle(pen: Pen) -> Figure:
    """Return a triangle with its sides, and its altitude, median, midsegment, bisector and inscribed circle."""
    h, p, q = _shape(pen)
    times = pen.pick((1, 2, 3) if h < 30 else (1,))
    h, p, q = h * times, p * times, q * times
    canvas, at, scale = pen.lay({"A": (p, h), "B": (0, 0), "C": (p + q, 0)})
    a, b, c = at["A"], at["B"], at["C"]
    ab, ac, bc = math.isqrt(p * p + h * h), math.isqrt(q * q + h * h), p + q
    one, two, three, *more = pen.names(3) + list("HKMNTUVWXEF")
    free = [name for name in more if name not in (one, two, three)]
    canvas.path([a, b, c], closed=True)
    for ends, text in (((a, b), f"side {one}{two}"), ((b, c), f"side {two}{three}"), ((c, a), f"side {three}{one}")):
        canvas.line_element(*ends, text)
    corner_labels(canvas, {one: a, two: b, three: c}, "corner")
    name = f"{one}{two}{three}"
    sides = [(f"{one}{two}", ab, a, b, c), (f"{two}{three}", bc, b, c, a), (f"{three}{one}", ac, c, a, b)]
    if pen.chance(0.5):
        for _, length, start, end, opposite in sides:
            side_label(canvas, start, end, opposite, str(length))
    given = ", ".join(f"{side} = {length}" for side, length, *_ in pen.some(sides, 3))
    facts = pen.pick(
        (
            f"In triangle {name}, {given}.",
            f"Triangle {name} has sides {given}.",
            f"A field has the shape of triangle {name} with {given}.",
            f"Three roads make the triangle {name}; {given}.",
            f"The corners of a sail are {one}, {two} and {three}. It has {given}.",
        )
    )
    chains = {
        "altitude": _altitude(name, free, (a, b, c), (h, p, q), scale),
        "median": _median(name, free[2:], (a, b, c), (h, p, q), scale),
        "midsegment": _midsegment(name, free[4:], (a, b, c), bc, scale),
        "bisector": _bisector(name, free[6:], (a, b, c), (ab, ac, bc), scale),
        "incircle": _incircle(name, (a, b, c), (ab, ac, bc, h), scale),
    }
    return Figure(canvas=canvas, facts=facts, chains=chains)


Corners = tuple[tuple[float, float], tuple[float, float], tuple[float, float]]


def _altitude(
    name: str, free: list[str], corners: Corners, lengths: tuple[int, int, int], scale: float
) -> tuple[Ask, ...]:
    a, b, c = corners
    h, p, q = lengths
    one, two, three = tuple(name)
    first, second = free[:2]
    low = spot(foot(a, b, c))
    near = spot(foot(low, a, c))
    last = spot(foot(near, a, low))
    square = h * h + q * q
    return (
        Ask(
            knowledge="plane geometry/triangle/altitude",
            tool="perpendicular foot",
            text=f"the area of triangle {name}",
            value=Fraction(h * (p + q), 2),
            check=lambda: math.dist(a, low) * math.dist(b, c) / 2 / scale**2,
            shapes=(segment(a, low),),
            about=f"The perpendicular from {one} to {two}{three}.",
            reason=f"The perpendicular from {one} meets {two}{three} at a distance of {p} from {two}, so that it has"
            f" the length {h}. Half of {p + q} times {h} is the area, {show(Fraction(h * (p + q), 2))}.",
        ),
        Ask(
            knowledge="plane geometry/triangle/similar right triangles",
            tool="perpendicular foot",
            given=f"{first} is the place of side {two}{three} that is nearest to {one}, and {second} is the place of"
            f" side {one}{three} that is nearest to {first}.",
            text=f"the length {first}{second}",
            value=Fraction(h * q, math.isqrt(square)),
            check=lambda: measure.area([a, low, c]) * 2 / math.dist(a, c) / scale,
            shapes=(segment(low, near),),
            about=f"The perpendicular from {first} to {one}{three}.",
            reason=f"Triangle {one}{first}{three} has a right angle with legs {h} and {q}, and its hypotenuse is"
            f" {math.isqrt(square)}. The perpendicular from {first} is {h} times {q} divided by {math.isqrt(square)}.",
        ),
        Ask(
            knowledge="plane geometry/triangle/chain of heights",
            tool="perpendicular foot",
            given=f"{first} is the place of side {two}{three} that is nearest to {one}, and {second} is the place of"
            f" side {one}{three} that is nearest to {first}.",
            text=f"the distance between {second} and the straight way from {one} to {first}",
            value=Fraction(h * h * q, square),
            check=lambda: measure.area([a, near, low]) * 2 / math.dist(a, low) / scale,
            shapes=(segment(near, last),),
            about=f"The perpendicular from {second} to {one}{first}.",
            reason=f"The triangles are similar, so that the distance is {first}{second} times {h} divided by"
            f" {math.isqrt(square)}.",
        ),
    )


def _median(
    name: str, free: list[str], corners: Corners, lengths: tuple[int, int, int], scale: float
) -> tuple[Ask, ...]:
    a, b, c = corners
    h, p, q = lengths
    one, two, three = tuple(name)
    half, inner = free[:2]
    mid = spot(middle(b, c))
    heavy = spot(measure.along(a, mid, 2 / 3))
    square = h * h + Fraction(q - p, 2) ** 2
    halfway = f"{half} lies halfway between {two} and {three}."
    return (
        Ask(
            knowledge="plane geometry/triangle/median",
            tool="segment to a midpoint",
            given=halfway,
            text=f"the square of the distance between {one} and {half}",
            value=square,
            check=lambda: math.dist(a, mid) ** 2 / scale**2,
            shapes=(segment(a, mid),),
            about=f"The segment from {one} to {half}, the midpoint of {two}{three}.",
            reason=f"{one}{half} is a median. By Apollonius its square is (2 x {h * h + p * p} + 2 x {h * h + q * q} -"
            f" {(p + q) ** 2}) / 4 = {show(square)}.",
        ),
        Ask(
            knowledge="plane geometry/triangle/centroid",
            tool="segments to corners",
            given=halfway + f" {inner} lies on the straight way from {one} to {half}, twice as far from {one} as from"
            f" {half}.",
            text=f"the area of triangle {inner}{two}{three}",
            value=Fraction(h * (p + q), 6),
            check=lambda: measure.area([heavy, b, c]) / scale**2,
            shapes=(segment(heavy, b), segment(heavy, c)),
            about=f"The segments from {inner} to {two} and {three}.",
            reason=f"{inner} is the centroid, and triangle {inner}{two}{three} has a third of the area"
            f" {show(Fraction(h * (p + q), 2))}.",
        ),
    )


def _midsegment(name: str, free: list[str], corners: Corners, base: int, scale: float) -> tuple[Ask, ...]:
    a, b, c = corners
    one, two, three = tuple(name)
    left, right = spot(middle(a, b)), spot(middle(a, c))
    ask = Ask(
        knowledge="plane geometry/triangle/midsegment",
        tool="midsegment",
        given=f"{free[0]} lies halfway between {one} and {two}. {free[1]} lies halfway between {one} and {three}.",
        text=f"the distance between {free[0]} and {free[1]}",
        value=Fraction(base, 2),
        check=lambda: math.dist(left, right) / scale,
        shapes=(segment(left, right),),
        about=f"The segment between the midpoints of {one}{two} and {one}{three}.",
        reason=f"The segment {free[0]}{free[1]} joins two midpoints, so it is half as long as {two}{three}:"
        f" {show(Fraction(base, 2))}.",
    )
    return (ask,)


def _bisector(
    name: str, free: list[str], corners: Corners, sides: tuple[int, int, int], scale: float
) -> tuple[Ask, ...]:
    a, b, c = corners
    ab, ac, bc = sides
    one, two, three = tuple(name)
    half, other = free[:2]
    cut = spot(measure.along(b, c, ab / (ab + ac)))
    side = spot(measure.along(a, c, ab / (ab + ac)))
    given = f"{half} is the place of {two}{three} from which {one}{two} and {one}{three} are equally far away."
    return (
        Ask(
            knowledge="plane geometry/triangle/angle bisector",
            tool="angle bisector",
            given=given,
            text=f"the length {two}{half}",
            value=Fraction(bc * ab, ab + ac),
            check=lambda: math.dist(b, c) * math.dist(a, b) / (math.dist(a, b) + math.dist(a, c)) / scale,
            shapes=(segment(a, cut),),
            about=f"The bisector of the angle at {one}.",
            reason=f"{half} lies on the bisector of the angle at {one}, which divides {two}{three} as {ab} to {ac}.",
        ),
        Ask(
            knowledge="plane geometry/triangle/intercept theorem",
            tool="parallel line",
            given=given + f" {other} is the place of {one}{three} for which angle {other}{half}{three} equals angle"
            f" {one}{two}{three}.",
            text=f"the length {half}{other}",
            value=Fraction(ab * ac, ab + ac),
            check=lambda: math.dist(cut, side) / scale,
            shapes=(segment(cut, side),),
            about=f"The parallel to {one}{two} through {half}.",
            reason=f"The parallel to {one}{two} through {half} makes a triangle similar to {name} with the ratio"
            f" {show(Fraction(ac, ab + ac))}, and {ab} times this ratio is {show(Fraction(ab * ac, ab + ac))}.",
        ),
    )


def _incircle(name: str, corners: Corners, lengths: tuple[int, int, int, int], scale: float) -> tuple[Ask, ...]:
    a, b, c = corners
    ab, ac, bc, h = lengths
    total = ab + ac + bc
    inner = spot(
        (
            (bc * a[0] + ac * b[0] + ab * c[0]) / total,
            (bc * a[1] + ac * b[1] + ab * c[1]) / total,
        )
    )
    radius = Fraction(bc * h, total)
    touch = spot(foot(inner, a, b))
    ask = Ask(
        knowledge="plane geometry/triangle/inscribed circle",
        tool="incircle",
        text=f"the radius of the largest disc that fits into triangle {name}",
        value=radius,
        check=lambda: math.dist(inner, foot(inner, a, c)) / scale,
        shapes=(Circle(cx=inner[0], cy=inner[1], r=round(float(radius) * scale, 2)),),
        about="The circle that touches all three sides.",
        reason=f"The circle touches all sides, so its radius times half of the perimeter, {show(Fraction(total, 2))},"
        f" is the area {show(Fraction(bc * h, 2))}.",
    )
    contact = Ask(
        knowledge="plane geometry/triangle/touching points",
        tool="radius to a point of contact",
        given=f"The largest disc that fits into triangle {name} touches side {name[0]}{name[1]}.",
        text=f"the distance between the touching place and {name[1]}",
        value=Fraction(ab + bc - ac, 2),
        check=lambda: math.dist(b, touch) / scale,
        shapes=(segment(inner, touch),),
        about=f"The radius to the place where the circle touches {name[0]}{name[1]}.",
        reason=f"The two ways from each corner to the touching places are equal: ({ab} + {bc} - {ac}) / 2 ="
        f" {show(Fraction(ab + bc - ac, 2))}.",
    )
    return ask, contact


def site(pen: Pen) -> Figure:
    """Return three places without anything between them; a circle and two sides help."""
    while True:
        h, p, q = _shape(pen)
        if p * q < h * h:  # acute: the centre lies inside
            break
    times = pen.pick((1, 2, 3, 5) if h < 30 else (1,))
    ab, ac, bc = times * math.isqrt(p * p + h * h), times * math.isqrt(q * q + h * h), times * (p + q)
    h, p, q = h * times, p * times, q * times
    radius = Fraction(ab * ac, 2 * h)
    x, y = Fraction(p + q, 2), Fraction(h * h - p * q, 2 * h)
    rim = {f"_{n}": (x + radius * Fraction(i), y + radius * Fraction(j)) for n, (i, j) in enumerate(RIM)}
    canvas, at, scale = pen.lay({"A": (p, h), "B": (0, 0), "C": (p + q, 0), **rim})
    a, b, c = at["A"], at["B"], at["C"]
    one, two, three = pen.names(3)
    word = pen.pick(("village", "tower", "tree", "lamp", "well", "farm"))
    corner_labels(canvas, {one: a, two: b, three: c}, word, dots=True)
    given = [f"{one} and {two} are {ab} km apart", f"{one} and {three} {ac} km", f"{two} and {three} {bc} km"]
    facts = pen.pick(
        (
            f"The map shows the {word}s {one}, {two} and {three}: {', '.join(given)}.",
            f"A {word} stands at each of {one}, {two} and {three}. {given[0]}, {given[1]}, {given[2]}.",
            f"There are three {word}s on the plan. {given[0]}, {given[1]} and {given[2]}.",
        )
    )
    middle_of = measure.centre(a, b, c)
    centre = spot(middle_of)
    circle = Ask(
        knowledge="plane geometry/circle/circle through three points",
        tool="circumscribed circle",
        given=f"A radio mast is equally far from all three {word}s.",
        text=f"the distance in km between the mast and the {word} {pen.pick((one, two, three))}",
        value=radius,
        check=lambda: math.dist(centre, a) / scale,
        shapes=(Circle(cx=centre[0], cy=centre[1], r=round(float(radius) * scale, 2)),),
        about=f"The circle through {one}, {two} and {three}.",
        reason=f"The mast is the centre of the circle through the three places. Its radius is {ab} x {ac} x {bc}"
        f" divided by four times the area {show(Fraction(bc * h, 2))}.",
    )
    low = spot(foot(centre, b, c))
    deep = Ask(
        knowledge="plane geometry/circle/distance of a chord",
        tool="perpendicular foot",
        given=f"A radio mast is equally far from all three {word}s, and a straight road leads from {two} to {three}.",
        text="the smallest distance in km between the mast and the road",
        value=abs(y),
        check=lambda: math.dist(centre, low) / scale,
        shapes=(segment(centre, low),),
        about=f"The perpendicular from the centre of the circle to {two}{three}.",
        reason=f"The perpendicular from the centre meets the chord {two}{three} halfway, and by Pythagoras the"
        f" distance is {show(abs(y))}.",
    )
    top = spot(foot(a, b, c))
    road = Ask(
        knowledge="plane geometry/triangle/nearest place of a road",
        tool="segments to corners",
        given=f"A straight road leads from {two} to {three}, and another one from {one} to {two}.",
        text=f"the smallest distance in km between {one} and the road from {two} to {three}",
        value=h,
        check=lambda: math.dist(a, top) / scale,
        shapes=(segment(b, c), segment(b, a)),
        about=f"The roads {two}{three} and {one}{two}.",
        reason=f"In triangle {one}{two}{three} with the drawn sides the height over {two}{three} is {h}.",
    )
    return Figure(canvas=canvas, facts=facts, chains={"circle": (circle, deep), "roads": (road,)})
