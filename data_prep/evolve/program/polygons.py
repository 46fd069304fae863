"""Makes quadrilaterals, angles between parallels, composed areas and ways by a mirror."""

import math
from fractions import Fraction

from codevision_ext.drawing.targets import Place, Polyline
from data_prep.evolve.program import measure
from data_prep.evolve.program.canvas import Canvas
from data_prep.evolve.program.measure import foot, middle
from data_prep.evolve.program.model import Ask, Figure, Number, Pen, corner_labels, segment, show, side_label, spot

_STEPS = ((3, 4, 5, 12, 13), (6, 8, 10, 24, 26), (9, 12, 15, 8, 17), (9, 12, 15, 20, 25), (12, 16, 20, 15, 25),
          (12, 16, 20, 21, 29), (5, 12, 13, 84, 85), (12, 9, 15, 8, 17), (8, 6, 10, 24, 26), (15, 20, 25, 60, 65),
          (7, 24, 25, 60, 65), (16, 12, 20, 21, 29), (15, 8, 17, 144, 145), (20, 15, 25, 60, 65))  # fmt: skip
"""Sides a, b at the first right angle, the common side c, and the legs d, e of the second right triangle."""
_SLANTS = ((13, 15, 14, 12, 5), (15, 13, 14, 12, 9), (10, 17, 21, 8, 6), (17, 10, 21, 8, 15), (13, 20, 21, 12, 5),
           (20, 13, 21, 12, 16), (25, 17, 28, 15, 20), (17, 25, 28, 15, 8))  # fmt: skip
"""Left and right leg of a trapezoid, the difference of its bases, the height, and the overhang on the left."""


def _quadrilateral(
    pen: Pen, canvas: Canvas, corners: list[tuple[float, float]], lengths: tuple[int, int, int, int]
) -> list[str]:
    """Draw a quadrilateral, with the lengths of its sides in half of the items; return the names of its corners."""
    a, b, c, d = corners
    names = pen.names(4)
    canvas.path(corners, closed=True)
    corner_labels(canvas, dict(zip(names, corners, strict=True)), "corner")
    sides = zip([(a, b, c), (b, c, a), (c, d, a), (d, a, c)], lengths, strict=True)
    for (start, end, opposite), length in sides if pen.chance(0.5) else []:
        side_label(canvas, start, end, opposite, str(length))
    return names


def quadrilateral(pen: Pen) -> Figure:
    """Return a quadrilateral of two right triangles that share an invisible side."""
    a, b, c, d, e = pen.pick([step for step in _STEPS if step[3] < 2.5 * step[2]])
    times = pen.whole(1, 2 + 2 * pen.level)
    a, b, c, d, e = (times * side for side in (a, b, c, d, e))
    # A(a up), B right angle, C; the second right angle is at C, D on the far side of AC
    ux, uy = Fraction(b, c), Fraction(-a, c)  # direction from A to C
    points: dict[str, tuple[Number, Number]] = {"A": (0, a), "B": (0, 0), "C": (b, 0), "D": (b - uy * d, ux * d)}
    canvas, at, scale = pen.lay(points)
    corners = [at[key] for key in "ABCD"]
    pa, pb, pc, pd = corners
    names = _quadrilateral(pen, canvas, corners, (a, b, d, e))
    one, two, three, four = names
    name = "".join(names)
    given = f"{one}{two} = {a}, {two}{three} = {b}, {three}{four} = {d} and {four}{one} = {e}"
    facts = pen.pick(
        (
            f"In {name}, {given}. The angle at {two} is 90°.",
            f"A garden has the corners {one}, {two}, {three} and {four} with {given}; at {two} is a right angle.",
            f"The quadrilateral {name} has a right angle at {two}. Its sides are {given}.",
        )
    )
    area = Fraction(a * b + c * d, 2)
    (mid,) = pen.free(names, 1)
    low = spot(foot(pb, pa, pc))
    far = spot(middle(pa, pd))
    whole = Ask(
        knowledge="plane geometry/quadrilateral/area by a diagonal",
        tool="diagonal",
        text=f"the area of {name}",
        value=area,
        check=lambda: measure.area(corners) / scale**2,
        shapes=(segment(pa, pc),),
        about=f"The diagonal {one}{three}.",
        reason=f"The diagonal {one}{three} has the length {c}. Since {c}² + {d}² = {e}², both triangles are right:"
        f" {show(Fraction(a * b, 2))} + {show(Fraction(c * d, 2))} = {show(area)}.",
    )
    height = Ask(
        knowledge="plane geometry/quadrilateral/distance from a diagonal",
        tool="perpendicular foot",
        text=f"the smallest distance between {two} and the straight way from {one} to {three}",
        value=Fraction(a * b, c),
        check=lambda: math.dist(pb, low) / scale,
        shapes=(segment(pb, low),),
        about=f"The perpendicular from {two} to {one}{three}.",
        reason=f"Twice the area of triangle {one}{two}{three} divided by {c} is {show(Fraction(a * b, c))}.",
    )
    thales = Ask(
        knowledge="plane geometry/quadrilateral/middle of a hypotenuse",
        tool="segment to a midpoint",
        given=f"{mid} lies halfway between {one} and {four}.",
        text=f"the distance between {mid} and {three}",
        value=Fraction(e, 2),
        check=lambda: math.dist(pc, far) / scale,
        shapes=(segment(pc, far),),
        about=f"The segment from {three} to the midpoint of {one}{four}.",
        reason=f"The angle {one}{three}{four} is right, so the middle of {one}{four} is equally far from all three"
        f" corners: {show(Fraction(e, 2))}.",
    )
    return Figure(canvas=canvas, facts=facts, chains={"diagonal": (whole, height), "middle": (thales,)})


def trapezoid(pen: Pen) -> Figure:
    """Return a trapezoid with four sides, whose height a shifted leg gives."""
    left, right, more, height, over = pen.pick(_SLANTS)
    times = pen.whole(1, 1 + pen.level)
    left, right, more, height, over = (times * v for v in (left, right, more, height, over))
    top = pen.whole(more // 2, more + 6)
    bottom = top + more
    canvas, at, scale = pen.lay(
        {"A": (0, 0), "B": (bottom, 0), "C": (over + top, height), "D": (over, height)}, turn=pen.chance(0.5)
    )
    corners = [at[key] for key in "ABCD"]
    pa, pb, pc, pd = corners
    names = _quadrilateral(pen, canvas, corners, (bottom, right, top, left))
    one, two, three, four = names
    name = "".join(names)
    given = f"{one}{two} = {bottom}, {two}{three} = {right}, {three}{four} = {top} and {four}{one} = {left}"
    facts = pen.pick(
        (
            f"{name} is a trapezoid with the bases {one}{two} and {four}{three}; {given}.",
            f"A dam has the cross-section {name}, a trapezoid on the base {one}{two}. It has {given}.",
            f"The trapezoid {name} has the sides {given}; {one}{two} and {four}{three} run in the same direction.",
        )
    )
    cut = spot(measure.along(pa, pb, (bottom - top) / bottom))
    m, n, near = pen.free(names, 3)
    low = spot(foot(pd, pa, pb))
    ends = spot(middle(pa, pd)), spot(middle(pb, pc))
    area = Fraction((top + bottom) * height, 2)
    shifted = Ask(
        knowledge="plane geometry/trapezoid/shifted leg",
        tool="parallel line",
        text=f"the area of {name}",
        value=area,
        check=lambda: measure.area(corners) / scale**2,
        shapes=(segment(pd, cut),),
        about=f"The parallel to {two}{three} through {four}.",
        reason=f"The parallel to {two}{three} through {four} makes a triangle with the sides {left}, {right} and"
        f" {more}. By Heron its height is {height}, so the area is ({bottom} + {top}) x {height} / 2 ="
        f" {show(area)}.",
    )
    overhang = Ask(
        knowledge="plane geometry/trapezoid/foot of the height",
        tool="perpendicular foot",
        given=f"{near} is the place of {one}{two} that is nearest to {four}.",
        text=f"the length {one}{near}",
        value=over,
        check=lambda: math.dist(pa, low) / scale,
        shapes=(segment(pd, low),),
        about=f"The perpendicular from {four}, a height of the triangle that the parallel cut off.",
        reason=f"In the triangle with the sides {left}, {right} and {more} the height is {height}, so that"
        f" {one}{near} is the root of {left}² - {height}², {over}.",
    )
    half = Fraction(top + bottom, 2)
    line = Ask(
        knowledge="plane geometry/trapezoid/midline",
        tool="midsegment",
        given=f"{m} lies halfway between {one} and {four}, and {n} lies halfway between {two} and {three}.",
        text=f"the distance between {m} and {n}",
        value=half,
        check=lambda: math.dist(*ends) / scale,
        shapes=(segment(*ends),),
        about="The segment between the midpoints of both legs.",
        reason=f"{m}{n} is the midline: ({bottom} + {top}) / 2 = {show(half)}.",
    )
    return Figure(canvas=canvas, facts=facts, chains={"shifted": (shifted, overhang), "midline": (line,)})


def parallels(pen: Pen) -> Figure:
    """Return a path with two bends between two parallels."""
    first, second = pen.whole(28, 66), pen.whole(28, 66)
    canvas = pen.page((400, 520), (340, 440))
    width, height = canvas.size
    top, bottom = pen.whole(66, 90), height - pen.whole(66, 90)
    rows = (top + (bottom - top) * pen.whole(32, 44) / 100, top + (bottom - top) * pen.whole(57, 70) / 100)
    lean = pen.whole(20, 46)
    while lean > first + second - 12:
        lean -= 5
    # x grows along every ray: A goes right and down, E goes left and down, F goes right and down
    x = [pen.whole(70, 110) * 1.0]
    x.append(x[0] + (rows[0] - top) / math.tan(math.radians(first)))
    x.append(x[1] - (rows[1] - rows[0]) / math.tan(math.radians(lean)))
    x.append(x[2] + (bottom - rows[1]) / math.tan(math.radians(second)))
    shift = (width - max(x) - min(x)) / 2
    if max(x) - min(x) > width - 100:
        raise LookupError("the path is too wide")
    places = [spot((value + shift, y)) for value, y in zip(x, (top, *rows, bottom), strict=True)]
    if pen.chance(0.5):
        places = [spot((width - px, py)) for px, py in places]
    tilt = math.radians(pen.whole(-8, 8))

    def turned(place: Place) -> Place:
        """Return a place turned about the middle of the page, so that the lines aren't level."""
        dx, dy = place[0] - width / 2, place[1] - height / 2
        return spot(
            (
                width / 2 + dx * math.cos(tilt) - dy * math.sin(tilt),
                height / 2 + dx * math.sin(tilt) + dy * math.cos(tilt),
            )
        )

    sign = 1 if places[1][0] > places[0][0] else -1
    sides = (48.0, width - 48.0)[::sign]
    levels = [[turned((x_end, place[1])) for x_end in sides] for place in places]
    a, e, f, d = (turned(place) for place in places)
    names = pen.names(6)
    one, two, three, four, left, right = names
    tips = levels[0][1], levels[3][1]
    canvas.path(levels[0], "upper line")
    canvas.path(levels[3], "lower line")
    canvas.path([a, e, f, d])
    for place, label, dy in ((a, one, -14), (d, four, 15), (tips[0], left, -14), (tips[1], right, 15)):
        canvas.dot(place, label, f"point {label}")
        canvas.text((place[0], place[1] + dy), label)
    for place, label, dx in ((e, two, 16 * sign), (f, three, -16 * sign)):
        canvas.point_element(place, label, f"bend {label} of the path")
        canvas.text((place[0] + dx, place[1]), label)
    bend = first + lean
    facts = pen.pick(
        (
            f"The lines through {one}{left} and {four}{right} have the same direction. Angle {left}{one}{two} ="
            f" {first}°, angle {one}{two}{three} = {bend}°.",
            f"A wire leads from the upper rail over {two} and {three} to the lower rail; the rails have the same"
            f" direction. Angle {left}{one}{two} is {first}° and angle {one}{two}{three} is {bend}°.",
            f"Two straight canals {one}{left} and {four}{right} have equal directions. The path between them has angle"
            f" {left}{one}{two} = {first}° and angle {one}{two}{three} = {bend}°.",
        )
    )
    back, ahead = levels[1][0], levels[2][1]
    lower = Ask(
        knowledge="plane geometry/angle/alternate angles at parallels",
        tool="parallel line",
        text=f"the smaller angle in degrees at which the line through {two} and {three} meets the lower line",
        value=lean,
        check=lambda: measure.angle(back, e, f),
        shapes=(segment(e, back),),
        about=f"The parallel to both lines through {two}.",
        reason=f"The parallel through {two} divides the angle {bend}°: one part is alternate to {first}°, the other is"
        f" {bend}° - {first}° = {lean}°, the angle of {two}{three} with the lines.",
    )
    inner = Ask(
        knowledge="plane geometry/angle/bend between parallels",
        tool="parallel line",
        given=f"The path leaves the lower line with angle {right}{four}{three} = {180 - second}°.",
        text=f"the size of angle {two}{three}{four} in degrees",
        value=lean + second,
        check=lambda: measure.angle(e, f, d),
        shapes=(segment(f, ahead),),
        about=f"The parallel to both lines through {three}.",
        reason=f"The parallel through {three} divides the angle into {lean}° and {second}°, together {lean + second}°.",
    )
    return Figure(canvas=canvas, facts=facts, chains={"bend": (lower, inner)})


def stairs(pen: Pen) -> Figure:
    """Return an outline with right angles only, whose area two cuts or a surrounding box give."""
    k = 1 + pen.level
    w1, w2, w3 = (pen.whole(3, 5 + 2 * k) for _ in range(3))
    h1, h2, h3 = sorted(pen.some(range(3, 10 + 3 * k), 3), reverse=True)
    while min(h1 - h2, h2 - h3) < 2:
        h1, h2, h3 = sorted(pen.some(range(3, 10 + 3 * k), 3), reverse=True)
    width = w1 + w2 + w3
    outline = [(0, 0), (width, 0), (width, h3), (w1 + w2, h3), (w1 + w2, h2), (w1, h2), (w1, h1), (0, h1)]
    flip = pen.chance(0.5)
    points = {str(n): ((width - x) if flip else x, y) for n, (x, y) in enumerate(outline)}
    canvas, at, scale = pen.lay(points, turn=False)
    corners = [at[str(n)] for n in range(8)]
    canvas.path(corners, closed=True)
    inside = middle(corners[0], corners[5])
    lengths = (width, h3, w3, h2 - h3, w2, h1 - h2, w1, h1)
    shown = range(8) if pen.level == 0 else [0, 1, 2, 4, 5, 7]
    for n in shown:
        start, end = corners[n], corners[(n + 1) % 8]
        ref = inside if n in (0, 7) else (corners[0] if n in (1, 3, 5) else (start[0], corners[0][1]))
        side_label(canvas, start, end, ref, str(lengths[n]))
    for n, place in enumerate(corners):
        canvas.point_element(place, "", f"corner {n + 1} of the outline")
    unit = pen.pick(("m", "cm", "km", "ft", "mm"))
    thing = pen.pick(("room", "garden", "field", "metal plate", "terrace", "stage", "parking lot"))
    names = f"All corners of the {thing} are right angles; its longest sides are {width} {unit} and {h1} {unit}."
    facts = pen.pick(
        (
            f"The image is the plan of a {thing}, with lengths in {unit}. {names}",
            f"The plan gives the sides of a {thing} in {unit}. {names}",
            f"Here is a {thing}, seen from above; the numbers are {unit}. {names}",
        )
    )
    total = w1 * h1 + w2 * h2 + w3 * h3
    missing = width * h1 - total
    down = spot((corners[5][0], corners[0][1])), spot((corners[3][0], corners[0][1]))
    price = pen.whole(2, 9)
    area = Ask(
        knowledge="plane geometry/area/composed of rectangles",
        tool="cut into rectangles",
        text=f"the price of a floor for the whole {thing} at {price} coins for each square {unit}",
        value=total * price,
        check=lambda: measure.area(corners) / scale**2 * price,
        shapes=(segment(corners[5], down[0]), segment(corners[3], down[1])),
        about="Two upright cuts from the inner corners to the long side.",
        reason=f"The cuts make rectangles of {w1} x {h1}, {w2} x {h2} and {w3} x {h3}: {total} square {unit}, and"
        f" {total} x {price} = {total * price}.",
    )
    far = corners[2][0], corners[7][1]
    rest = Ask(
        knowledge="plane geometry/area/complement in a box",
        tool="box round a region",
        text=f"the area in square {unit} that is missing for the {thing} to be one full rectangle",
        value=missing,
        check=lambda: (
            (abs(corners[1][0] - corners[0][0]) * abs(far[1] - corners[0][1]) - measure.area(corners)) / scale**2
        ),
        shapes=(Polyline(points=(corners[6], spot(far), corners[2])),),
        about="The two sides that complete the outline to a rectangle.",
        reason=f"The completed rectangle is {width} x {h1} = {width * h1}; the outline has {total}, so {missing} are"
        " missing.",
    )
    return Figure(canvas=canvas, facts=facts, chains={"cuts": (area,), "box": (rest,)})


def mirror(pen: Pen) -> Figure:
    """Return two places on one side of a straight bank, between which a way touches the bank."""
    while True:
        a, b, c = (2 * side for side in pen.triple())
        one_high = pen.whole(max(2, a // 5), a - max(2, a // 5))
        across, up, way = b, a, c
        if abs(2 * one_high - up) >= up / 8 and 0.4 < up / across < 2.5:
            break
    times = pen.whole(1, 2 + 2 * pen.level)
    across, up, way, one_high = (times * v for v in (across, up, way, one_high))
    other_high = up - one_high
    pad = Fraction(across, 8)
    points: dict[str, tuple[Number, Number]] = {
        "A": (0, one_high), "B": (across, other_high), "F": (0, 0), "G": (across, 0), "R": (0, -one_high),
        "L": (-pad, 0), "M": (across + pad, 0),
    }  # fmt: skip
    canvas, at, scale = pen.lay(points, turn=pen.chance(0.7))
    p, q, f, g, image = (at[key] for key in "ABFGR")
    one, two, low, lower = pen.names(4)
    canvas.path([at["L"], at["M"]], "bank of the river")
    canvas.path([p, f], f"way from {one} to the bank", dash=True)
    canvas.path([q, g], f"way from {two} to the bank", dash=True)
    ref = middle(p, q)
    for place, label, role in ((p, one, "start"), (q, two, "goal"), (f, low, "foot"), (g, lower, "foot")):
        canvas.dot(place, label, f"{role} {label}")
        off = measure.along(f, p, -0.1 if label in (low, lower) else 0.1)
        away = math.dist(f, off)
        canvas.text((place[0] + (off[0] - f[0]) / away * 17, place[1] + (off[1] - f[1]) / away * 17), label)
    side_label(canvas, p, f, ref, str(one_high))
    side_label(canvas, q, g, ref, str(other_high))
    bank = pen.pick(("river", "wall", "canal", "fence", "rail track", "shore"))
    goal = pen.pick(("a rider", "a gardener", "a robot", "a hiker", "a ball", "a dog"))
    facts = (
        f"{goal.capitalize()} goes from {one} to the {bank} and from there to {two}. {one} is {one_high} m from the"
        f" {bank}, {two} is {other_high} m from it, and {low}{lower} = {across} m."
    )
    bounce = spot(measure.along(image, q, one_high / up))
    path = Ask(
        knowledge="plane geometry/transformation/shortest way by reflection",
        tool="reflection image",
        text="the length of the shortest such way in m",
        value=way,
        check=lambda: (math.dist(p, bounce) + math.dist(bounce, q)) / scale,
        shapes=(Polyline(points=(f, image, q)),),
        about=f"The reflection image of {one} in the line {low}{lower}, and the segment from it to {two}.",
        reason=f"The reflection image of {one} is as far from every place of the {bank} as {one}. The straight way"
        f" from it to {two} has the legs {across} and {one_high} + {other_high} = {up}: {way} m.",
    )
    touch = Ask(
        knowledge="plane geometry/transformation/point of reflection",
        tool="segment between points",
        given=f"{one} and {two} are linked by the shortest such way.",
        text=f"the distance in m between {low} and the place where this way meets the {bank}",
        value=Fraction(across * one_high, up),
        check=lambda: math.dist(f, measure.meeting(image, q, f, g)) / scale,
        shapes=(segment(p, bounce),),
        about=f"The segment from {one} to the place where the straight way crosses the {bank}.",
        reason=f"The triangles on both sides are similar: {across} x {one_high} / {up} ="
        f" {show(Fraction(across * one_high, up))}.",
    )
    return Figure(canvas=canvas, facts=facts, chains={"reflection": (path, touch)})
