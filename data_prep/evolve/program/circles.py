"""Makes circles with chords, tangents and angles."""

import math
from fractions import Fraction

from data_prep.evolve.program import measure
from data_prep.evolve.program.measure import foot, middle, polar
from data_prep.evolve.program.model import Ask, Figure, Pen, segment, show, spot

RIM = tuple((math.cos(math.tau * n / 16), math.sin(math.tau * n / 16)) for n in range(16))
"""Places on a circle with the radius 1, for the extent of circles."""


def chord(pen: Pen) -> Figure:
    """Return a circle with a chord and an outer point, which a perpendicular, a radius and a tangent measure."""
    far, half, radius = pen.triple(4)
    while radius - far < radius / 6 or far < radius / 5:
        far, half, radius = pen.triple(4)
    times = pen.whole(1, 3 + 2 * pen.level)
    far, half, radius = far * times, half * times, radius * times
    # whole tangents: reach^2 = radius^2 + touch^2
    outer = [(t, math.isqrt(radius**2 + t * t)) for t in range(radius // 2, 3 * radius)
             if math.isqrt(radius**2 + t * t) ** 2 == radius**2 + t * t and t < 2 * radius]  # fmt: skip
    touch, reach = pen.pick(outer) if outer else (0, 0)
    if not outer:
        raise LookupError("no whole tangent")
    unit = pen.whole(1, 6)
    far, half, radius, touch, reach = (unit * length for length in (far, half, radius, touch, reach))
    turn = pen.pick((-1, 1)) * pen.whole(130, 165)
    heading = math.radians(turn)
    a0, b0 = ((far * math.cos(heading) - s * half * math.sin(heading), far * math.sin(heading) + s * half
               * math.cos(heading)) for s in (1, -1))  # fmt: skip
    rim = {f"_{n}": (Fraction(radius * i), Fraction(radius * j)) for n, (i, j) in enumerate(RIM)}
    scaled = {name: (Fraction(x), Fraction(y)) for name, (x, y) in {"A": a0, "B": b0}.items()}
    canvas, at, scale = pen.lay({"O": (0, 0), "P": (reach, 0), **scaled, **rim})
    o, p, a, b = at["O"], at["P"], at["A"], at["B"]
    one, two, out, touched, mid = pen.names(5)
    o_name = "O" if pen.chance(0.7) else "M"
    o_name = "O" if o_name in (one, two, out, touched, mid) else o_name
    canvas.circle(o, radius * scale, f"circle round {o_name}")
    canvas.path([a, b], f"chord {one}{two}")
    for place, label, role in ((o, o_name, "centre"), (p, out, "point outside of the circle")):
        canvas.dot(place, label, f"{role} {label}")
    for place, label in ((a, one), (b, two)):
        canvas.point_element(place, label, f"end {label} of the chord")
        away = math.dist(o, place)
        canvas.text((place[0] + (place[0] - o[0]) / away * 16, place[1] + (place[1] - o[1]) / away * 16), label)
    canvas.text((o[0] + 13, o[1] + 13), o_name)
    canvas.text((p[0] + 4, p[1] - 17), out)
    facts = pen.pick(
        (
            f"The circle round {o_name} has the radius {radius}. {one} and {two} lie on it, and {one}{two} ="
            f" {2 * half}. Point {out} is {reach} away from {o_name}.",
            f"{o_name} is the centre of a circle with radius {radius}; {one}{two} = {2 * half} and {o_name}{out} ="
            f" {reach}.",
            f"A round pond has the centre {o_name} and the radius {radius} m. A straight bridge of {2 * half} m leads"
            f" from {one} to {two}. A house {out} stands {reach} m from {o_name}.",
        )
    )
    low = spot(foot(o, a, b))
    edge = spot(measure.along(o, low, radius / far))
    angle = math.degrees(math.acos(radius / reach))
    heading = math.degrees(math.atan2(o[1] - p[1], p[0] - o[0]))
    contact = spot(polar(o, radius * scale, heading + pen.pick((-1, 1)) * angle))
    inner = Ask(
        knowledge="plane geometry/circle/chord and distance from the centre",
        tool="perpendicular foot",
        text=f"the smallest distance between {o_name} and a place of {one}{two}",
        value=far,
        check=lambda: 2 * measure.area([o, a, b]) / math.dist(a, b) / scale,
        shapes=(segment(o, low),),
        about=f"The perpendicular from {o_name} to {one}{two}.",
        reason=f"The perpendicular from {o_name} halves {one}{two}. By Pythagoras its length is the root of"
        f" {radius}² - {half}², which is {far}.",
    )
    rise = radius - far
    arc = Ask(
        knowledge="plane geometry/circle/middle of an arc",
        tool="segment between points",
        given=f"{mid} lies on the shorter arc from {one} to {two}, equally far from both.",
        text=f"the square of the distance between {one} and {mid}",
        value=half * half + rise * rise,
        check=lambda: math.dist(a, edge) ** 2 / scale**2,
        shapes=(segment(a, edge),),
        about=f"The segment from {one} to {mid}, where the line of the perpendicular meets the circle.",
        reason=f"{mid} lies on the line of the perpendicular, {radius} - {far} = {rise} beyond the chord, so the square"
        f" is {half}² + {rise}² = {half * half + rise * rise}.",
    )
    line = Ask(
        knowledge="plane geometry/circle/length of a tangent",
        tool="tangent",
        given=f"Somebody stands at {out} and looks at the rim of the circle, just past it.",
        text=f"the distance between {out} and the place of the rim where the look passes",
        value=touch,
        check=lambda: math.dist(p, contact) / scale,
        shapes=(segment(p, contact),),
        about=f"The tangent from {out}.",
        reason=f"The tangent makes a right angle with the radius, so its length is the root of {reach}² -"
        f" {radius}², which is {touch}.",
    )
    kite = Ask(
        knowledge="plane geometry/circle/radius at the point of contact",
        tool="radius to a point of contact",
        given=f"A straight look from {out} passes the rim of the circle at the place {touched}.",
        text=f"the area of triangle {o_name}{touched}{out}",
        value=Fraction(radius * touch, 2),
        check=lambda: measure.area([o, contact, p]) / scale**2,
        shapes=(segment(contact, o), segment(o, p)),
        about=f"The radius to the point of contact, and {o_name}{out}.",
        reason=f"The radius meets the tangent at a right angle: half of {radius} times {touch} is"
        f" {show(Fraction(radius * touch, 2))}.",
    )
    return Figure(canvas=canvas, facts=facts, chains={"chord": (inner, arc), "tangent": (line, kite)})


def angles(pen: Pen) -> Figure:
    """Return a circle with a diameter and an angle at one of its ends."""
    # angle at A, which decides where C lies
    alpha = pen.whole(24, 64) if pen.level else 2 * pen.whole(12, 32)
    beta = pen.whole(22, 62) if pen.level else 2 * pen.whole(11, 31)
    while abs(alpha - beta) < 8:
        beta = pen.whole(20, 64)
    canvas = pen.page((360, 480), (340, 420))
    width, height = canvas.size
    radius = pen.whole(115, min(width, height) // 2 - 44)
    o = (width / 2 + pen.whole(-6, 6), height / 2 + pen.whole(-6, 6))
    turn = pen.whole(0, 359)
    sign = pen.pick((1, -1))
    a, b = spot(polar(o, radius, turn + 180)), spot(polar(o, radius, turn))
    c = spot(polar(o, radius, turn + sign * 2 * alpha))
    d = spot(polar(o, radius, turn - sign * 2 * beta))
    names = pen.names(4)
    one, two, three, four = names
    canvas.circle(o, radius, "the circle")
    canvas.path([a, b], f"diameter {one}{two}")
    canvas.path([a, c], f"chord {one}{three}")
    canvas.path([a, d], f"chord {one}{four}")
    canvas.dot(o, "O", "centre O")
    for place, label in zip((a, b, c, d), names, strict=True):
        canvas.point_element(place, label, f"point {label} of the circle")
        canvas.text(measure.along(o, place, 1 + 17 / radius), label)
    canvas.text(polar(o, 14, turn + 180 - sign * 60), "O")
    if pen.chance(0.5):
        for other, size in ((c, alpha), (d, beta)):
            heading = middle(
                measure.along(a, b, 40 / math.dist(a, b)), measure.along(a, other, 40 / math.dist(a, other))
            )
            canvas.text(measure.along(a, heading, 46 / math.dist(a, heading)), f"{size}°", size=9, clear=False)
    facts = pen.pick(
        (
            f"{one}{two} is a diameter of the circle round O. Angle {two}{one}{three} = {alpha}° and angle"
            f" {two}{one}{four} = {beta}°.",
            f"The longest chord of the circle is {one}{two}. At {one}, the chord to {three} makes an angle of {alpha}°"
            f" with it, and the chord to {four} one of {beta}°.",
            f"On the circle with centre O, {one} and {two} lie opposite each other. Angle {three}{one}{two} is"
            f" {alpha}°, angle {four}{one}{two} is {beta}°.",
        )
    )
    thales = Ask(
        knowledge="plane geometry/circle/angle in a semicircle",
        tool="segment between points",
        text=f"the size of angle {one}{two}{three} in degrees",
        value=90 - alpha,
        check=lambda: measure.angle(a, b, c),
        shapes=(segment(b, c),),
        about=f"The segment {two}{three}.",
        reason=f"With {two}{three}, triangle {one}{two}{three} has a right angle at {three}, because {one}{two} is a"
        f" diameter. So the angle is 90° - {alpha}° = {90 - alpha}°.",
    )
    low = spot(foot(c, a, b))
    (near,) = pen.free(names, 1)
    split = Ask(
        knowledge="plane geometry/circle/height over a diameter",
        tool="perpendicular foot",
        given=f"{near} is the place of {one}{two} that is nearest to {three}.",
        text=f"the size of angle {near}{three}{two} in degrees",
        value=alpha,
        check=lambda: measure.angle(low, c, b),
        shapes=(segment(c, low),),
        about=f"The perpendicular from {three} to {one}{two}.",
        reason=f"Triangle {three}{near}{two} has a right angle at {near} and shares the angle {90 - alpha}° at {two},"
        f" so the angle is {alpha}°.",
    )
    central = Ask(
        knowledge="plane geometry/circle/central angle",
        tool="radius",
        text=f"the size of the arc from {two} to {four} in degrees of the whole circle",
        value=2 * beta,
        check=lambda: measure.angle(b, o, d),
        shapes=(segment(o, d),),
        about=f"The radius O{four}.",
        reason=f"The radius O{four} makes an isosceles triangle with O{one}, so the angle at the centre is twice"
        f" {beta}°, {2 * beta}°.",
    )
    base = Ask(
        knowledge="plane geometry/circle/isosceles triangle of radii",
        tool="segment between points",
        text=f"the size of angle O{four}{two} in degrees",
        value=90 - beta,
        check=lambda: measure.angle(o, d, b),
        shapes=(segment(d, b),),
        about=f"The segment {four}{two}.",
        reason=f"Triangle O{four}{two} is isosceles with {2 * beta}° at O, so its other angles are {90 - beta}°.",
    )
    return Figure(canvas=canvas, facts=facts, chains={"thales": (thales, split), "central": (central, base)})
