"""Makes problems of counting and logic: pairs, pieces, sets and arrays."""

import math
from itertools import combinations

from codevision_ext.drawing.targets import Outline, Place, Region
from data_prep.evolve.program import measure
from data_prep.evolve.program.canvas import Canvas
from data_prep.evolve.program.model import Ask, Figure, Pen, segment, spot


def _ring(pen: Pen, count: int, role: str) -> tuple[Canvas, list[str], list[Place]]:
    """Return a page with named places on an invisible ellipse, at unequal distances."""
    canvas = pen.page((360, 480), (340, 420))
    width, height = canvas.size
    o = (width / 2 + pen.whole(-6, 6), height / 2 + pen.whole(-6, 6))
    radius, flat = pen.whole(124, min(width, height) // 2 - 46), pen.whole(55, 100) / 100
    tilt, start = pen.whole(0, 179), pen.whole(0, 359)
    seats = []
    for n in range(count):
        turn = math.radians(start - (360 * n + pen.whole(-100, 100)) / count)
        x, y = radius * math.cos(turn), radius * flat * math.sin(turn)
        seats.append(spot(measure.polar(o, math.hypot(x, y), math.degrees(math.atan2(y, x)) + tilt)))
    if min(math.dist(seats[n - 1], seats[n]) for n in range(count)) < 44:
        raise LookupError("places too near")
    names = pen.names(count)
    for name, place in zip(names, seats, strict=True):
        canvas.dot(place, name, f"{role} {name}", radius=5)
        canvas.text(measure.along(o, place, 1 + 19 / math.dist(o, place)), name)
    return canvas, names, seats


def people(pen: Pen) -> Figure:
    """Return people round a table, every two of whom do something together."""
    count = pen.whole(4, 5) + pen.level
    canvas, names, seats = _ring(pen, count, "seat")
    cost = pen.whole(2, 19)
    act, noun, unit = pen.pick(
        (
            ("Everybody shakes hands once with everybody else", "handshake", "seconds"),
            ("Every two of them play one game", "game", "minutes"),
            ("Every pair gets a telephone line", "line", "coins"),
            ("Every two of them exchange one card", "exchange", "cents"),
        )
    )
    facts = pen.pick(
        (
            f"At the round table sit {', '.join(names)}. {act}; a {noun} takes {cost} {unit}.",
            f"{count} people stand round a field: {', '.join(names)}. {act}, and each {noun} takes {cost} {unit}.",
            f"{', '.join(names)} meet at a round table. {act}. One {noun} takes {cost} {unit}.",
        )
    )
    pairs = count * (count - 1) // 2
    every = Ask(
        knowledge="counting/combinations/pairs",
        tool="complete graph",
        text=f"the number of {unit} for all {noun}s together",
        value=pairs * cost,
        check=lambda: sum(1 for _ in combinations(seats, 2)) * cost,
        shapes=tuple(segment(one, other) for one, other in combinations(seats, 2)),
        about="All segments between two seats.",
        reason=f"There are {count} x {count - 1} / 2 = {pairs} segments, and {pairs} x {cost} = {pairs * cost}.",
    )
    return Figure(canvas=canvas, facts=facts, chains={"pairs": (every,)})


def cloth(pen: Pen) -> Figure:
    """Return the corners of a polygon that is cut into triangles."""
    count = pen.whole(6, 7) + pen.level
    canvas, names, seats = _ring(pen, count, "corner")
    canvas.path(seats, closed=True)
    gift, cost = pen.whole(2, 19), pen.whole(1, 9)
    first = pen.whole(0, count - 1)
    order = [seats[(first + n) % count] for n in range(count)]
    fans = [segment(order[0], order[n]) for n in range(2, count - 1)]
    thing = pen.pick(("cloth", "glass pane", "cake", "metal sheet", "lawn", "sail"))
    facts = pen.pick(
        (
            f"A {thing} has the corners {', '.join(names)}. It is divided into triangles by straight cuts that all"
            f" begin at {names[first]}.",
            f"Straight cuts from {names[first]} to other corners divide the {thing} {''.join(names)} into triangles.",
            f"The {thing} {''.join(names)} is divided completely into triangles; every cut begins at {names[first]} and"
            " ends at a corner.",
        )
    )
    split = Ask(
        knowledge="counting/polygon/triangles from one corner",
        tool="diagonals from a corner",
        given=f"Each triangle costs {gift} coins, and each cut {cost} more.",
        text="the number of coins for triangles and cuts",
        value=gift * (count - 2) + cost * (count - 3),
        check=lambda: gift * (len(fans) + 1) + cost * len(fans),
        shapes=tuple(fans),
        about=f"All diagonals from {names[first]}.",
        reason=f"{count - 3} diagonals make {count - 2} triangles: {gift} x {count - 2} + {cost} x {count - 3}.",
    )
    return Figure(canvas=canvas, facts=facts, chains={"split": (split,)})


def sets(pen: Pen) -> Figure:
    """Return two overlapping circles with numbers of things."""
    canvas = pen.page((420, 560), (300, 380))
    width, height = canvas.size
    radius = pen.whole(95, min(120, height // 2 - 36))
    gap = pen.whole(int(radius * 0.95), int(radius * 1.15))
    y = height / 2 + pen.whole(-8, 8)
    x = (width - gap) / 2
    one, other = (x, y), (x + gap, y)
    canvas.circle(one, radius, "left set")
    canvas.circle(other, radius, "right set")
    names = pen.names(2)
    canvas.text((one[0] - radius * 0.75, y - radius * 0.95), names[0])
    canvas.text((other[0] + radius * 0.75, y - radius * 0.95), names[1])
    top = (9, 25, 60)[pen.level]
    spread: list[tuple[Place, int]] = []
    for _ in range(400):
        x_at, y_at = (
            pen.whole(int(one[0] - radius), int(other[0] + radius)),
            pen.whole(int(y - radius), int(y + radius)),
        )
        place: Place = (x_at, y_at)
        far = math.dist(place, one) - radius, math.dist(place, other) - radius
        if min(far) > -14 or min(map(abs, far)) < 14 or any(math.dist(place, p) < 30 for p, _ in spread):
            continue
        spread.append((place, pen.whole(1, top)))
        if len(spread) == 11 + 2 * pen.level:
            break
    for place, value in spread:
        canvas.text(place, str(value), f"number {value}", size=10, clear=False)
    both = [v for p, v in spread if math.dist(p, one) < radius and math.dist(p, other) < radius]
    left = [v for p, v in spread if math.dist(p, other) > radius]
    if len(both) < 2 or len(left) < 2:
        raise LookupError("an empty part")
    angle = math.degrees(math.acos(gap / 2 / radius))
    right_arc = [measure.polar(one, radius - 3, angle - 2 * angle * n / 24) for n in range(25)]
    left_arc = [measure.polar(other, radius - 3, 180 + angle - 2 * angle * n / 24) for n in range(25)]
    lens = [spot(p) for p in (*right_arc, *left_arc)]
    outer = [measure.polar(one, radius - 3, angle + (360 - 2 * angle) * n / 48) for n in range(49)]
    moon = [spot(p) for p in (*outer, *(measure.polar(other, radius + 3, 180 + angle - 2 * angle * n / 24)
                                        for n in range(25)))]  # fmt: skip
    thing = pen.pick(
        ("members of the clubs", "books on the subjects", "customers of the shops", "birds of the islands")
    )
    facts = pen.pick(
        (
            f"The left circle stands for {names[0]}, the right one for {names[1]}. The numbers count {thing} by group;"
            " each group belongs to all circles that hold its number.",
            f"The numbers count {thing} {names[0]} (left circle) and {names[1]} (right circle).",
        )
    )
    factor = pen.whole(1, 5)
    say = f"{factor} times the sum" if factor > 1 else "the sum"
    shared = Ask(
        knowledge="logic/sets/intersection",
        tool="region shading",
        text=f"{say} of all numbers that belong to both {names[0]} and {names[1]}",
        value=factor * sum(both),
        check=lambda: factor * sum(v for p, v in spread if measure.inside(p, lens)),
        shapes=(Region(points=tuple(lens)),),
        about="The common part of both circles, filled.",
        reason=f"In the filled part are {', '.join(map(str, both))}: {sum(both)}, times {factor}.",
    )
    alone = Ask(
        knowledge="logic/sets/difference",
        tool="region shading",
        text=f"{say} of all numbers that belong to {names[0]} but not to {names[1]}",
        value=factor * sum(left),
        check=lambda: factor * sum(v for p, v in spread if measure.inside(p, moon)),
        shapes=(Region(points=tuple(moon)),),
        about="The part of the left circle outside of the right one, filled.",
        reason=f"In the filled part are {', '.join(map(str, left))}: {sum(left)}, times {factor}.",
    )
    return Figure(canvas=canvas, facts=facts, chains={"both": (shared,), "alone": (alone,)})


def stock(pen: Pen) -> Figure:
    """Return a full stock of equal dots in rows, in which a rectangle is missing."""
    across, down = pen.whole(9, 11) + pen.level, pen.whole(7, 9)
    size = pen.whole(32, 38)
    left, top = pen.whole(26, 44), pen.whole(26, 44)
    canvas = pen.canvas((max(320, 4 * round((2 * left + (across - 1) * size) / 4)),
                         max(240, 4 * round((2 * top + (down - 1) * size) / 4))))  # fmt: skip
    wide, high = pen.whole(3, across - 4), pen.whole(3, down - 3)
    x0, y0 = pen.whole(1, across - wide - 1), pen.whole(1, down - high - 1)
    holes = {(x, y) for x in range(x0, x0 + wide) for y in range(y0, y0 + high)}
    shade = pen.pick(("#8a8f99", "#7d8a80", "#94846f", "#7f7f9c"))
    for x in range(across):
        for y in range(down):
            if (x, y) not in holes:
                canvas.dot((left + x * size, top + y * size), radius=6, colour=shade)
    worth = pen.whole(2, 19)
    kind = pen.pick(("eggs", "buttons", "seedlings", "tiles", "candles", "marbles"))
    facts = pen.pick(
        (
            f"The dots are {kind} in a tray. One block of {kind} is missing in the rows; all other places are taken.",
            f"A tray of {kind} was full before somebody took a block out of it.",
            f"{kind.capitalize()} stand in rows and columns; where a block is empty, all were sold.",
        )
    )
    edges = (left + (x0 - 0.25) * size, top + (y0 - 0.25) * size, left + (x0 + wide - 0.75) * size,
             top + (y0 + high - 0.75) * size)  # fmt: skip
    gone = Ask(
        knowledge="counting/arrays/missing block",
        tool="box round a region",
        given=f"Each of the {kind} costs {worth} cents.",
        text=f"the price in cents of the missing {kind}",
        value=wide * high * worth,
        check=lambda: round((edges[2] - edges[0]) / size + 0.4) * round((edges[3] - edges[1]) / size + 0.4) * worth,
        shapes=(Outline(x1=spot(edges[:2])[0], y1=spot(edges[:2])[1], x2=spot(edges[2:])[0], y2=spot(edges[2:])[1]),),
        about="The box round the empty block.",
        reason=f"The box has {wide} columns and {high} rows: {wide * high} x {worth} = {wide * high * worth}.",
    )
    column = x0 + wide - 0.5
    line = (left + column * size, top - 0.6 * size), (left + column * size, top + (down - 0.4) * size)
    beyond = (across - x0 - wide) * down
    right = Ask(
        knowledge="counting/arrays/cut between columns",
        tool="dividing line",
        given=f"Each of the {kind} costs {worth} cents. Only those in the columns on the right of the empty block are"
        " for sale.",
        text=f"the price in cents of the {kind} for sale",
        value=beyond * worth,
        check=lambda: sum(left + x * size > line[0][0] for x in range(across)) * down * worth,
        shapes=(segment(*line),),
        about="The upright line between the empty block and the columns on its right.",
        reason=f"On the right are {across - x0 - wide} columns of {down}: {beyond} x {worth} = {beyond * worth}.",
    )
    return Figure(canvas=canvas, facts=facts, chains={"block": (gone,), "columns": (right,)})
