"""Makes problems of ways: through a maze, across walls, and from stop to stop."""

import math
from itertools import pairwise

import numpy as np

from codevision_ext.drawing.targets import Place, Polyline
from data_prep.evolve.program import measure
from data_prep.evolve.program.model import Ask, Figure, Pen, segment, spot

Cell = tuple[int, int]


def maze(pen: Pen) -> Figure:
    """Return a maze in which there is exactly one way between any two cells."""
    across, down = pen.whole(6, 7) + pen.level, pen.whole(5, 6)
    size = min(pen.whole(44, 56), 540 // across)
    left, top = pen.whole(18, 30), pen.whole(18, 30)
    canvas = pen.canvas((max(320, 4 * round((2 * left + across * size) / 4)), 4 * round((2 * top + down * size) / 4)))
    open_walls, near = _tree(pen, across, down)
    start = pen.pick(sorted(near))
    far = [cell for cell in sorted(near) if len(_way(near, start, cell)) >= 15]
    if not far:
        raise LookupError("no long way")
    whole = _way(near, start, pen.pick(far))
    one, two = sorted(pen.some(range(4, len(whole) - 4), 2))
    if two - one < 4:
        raise LookupError("goals too near")
    way, second, third = whole[: one + 1], whole[one : two + 1], whole[two:]
    goal, more, last = way[-1], second[-1], third[-1]

    def at(cell: Cell) -> Place:
        """Return the centre of a cell."""
        return spot((left + (cell[0] + 0.5) * size, top + (cell[1] + 0.5) * size))

    for x in range(across + 1):
        for y in range(down):
            if x in (0, across) or ((x - 1, y), (x, y)) not in open_walls:
                canvas.path([(left + x * size, top + y * size), (left + x * size, top + (y + 1) * size)])
    for y in range(down + 1):
        for x in range(across):
            if y in (0, down) or ((x, y - 1), (x, y)) not in open_walls:
                canvas.path([(left + x * size, top + y * size), (left + (x + 1) * size, top + y * size)])
    names = pen.names(4)
    for name, cell in zip(names, (start, goal, more, last), strict=True):
        canvas.text((at(cell)[0] - size * 0.26, at(cell)[1] - size * 0.24), name, f"name of cell {name}", clear=False)
    length, unit = pen.whole(2, 12), pen.pick(("m", "s", "steps", "coins"))
    mover = pen.pick(("A mouse", "A robot", "A cleaner", "A beetle", "A cart", "A guard"))
    facts = pen.pick(
        (
            f"{mover} moves through the maze from cell to neighbouring cell, never through a wall. Each move takes"
            f" {length} {unit}.",
            f"In the maze, one move leads to a neighbouring cell without a wall between and costs {length} {unit}.",
            f"{mover} needs {length} {unit} for every move to a neighbouring cell; walls can't be passed.",
        )
    )
    asks = []
    cost = 0
    stops = [names[0]]
    for depth, (route, name) in enumerate(zip((way, second, third), names[1:], strict=True)):
        cost += (len(route) - 1) * length
        stops.append(name)
        places = [at(cell) for cell in _bends(route)]
        total, trip = cost, list(stops)
        asks.append(
            Ask(
                knowledge=("counting/path/maze", "counting/path/continued way", "counting/path/way with three goals")[
                    depth
                ],
                tool="grid path",
                text=f"the number of {unit} for the shortest way from {trip[0]} to {' and then to '.join(trip[1:])}",
                value=total,
                check=lambda depth=depth: sum(  # type: ignore[misc]
                    measure_path([at(cell) for cell in _bends(r)]) / size * length
                    for r in (way, second, third)[: depth + 1]
                ),
                shapes=(Polyline(points=tuple(places)),),
                about=f"The way from {trip[-2]} to {trip[-1]}.",
                reason=f"It has {len(route) - 1} moves, {(len(route) - 1) * length} {unit}; in total {total}.",
            )
        )
    return Figure(canvas=canvas, facts=facts, chains={"way": tuple(asks)})


def measure_path(places: list[Place]) -> float:
    """Return the length of a polyline, pixels."""
    return sum(math.dist(one, other) for one, other in pairwise(places))


def _tree(pen: Pen, across: int, down: int) -> tuple[set[tuple[Cell, Cell]], dict[Cell, list[Cell]]]:
    """Return the open walls of a maze (the smaller cell first), and the neighbours of every cell."""
    near: dict[Cell, list[Cell]] = {(x, y): [] for x in range(across) for y in range(down)}
    stack, seen, opened = [(0, 0)], {(0, 0)}, set()
    while stack:
        x, y = stack[-1]
        free = [c for c in ((x + 1, y), (x - 1, y), (x, y + 1), (x, y - 1)) if c in near and c not in seen]
        if not free:
            stack.pop()
            continue
        cell = pen.pick(free)
        opened.add((min((x, y), cell), max((x, y), cell)))
        near[x, y].append(cell)
        near[cell].append((x, y))
        seen.add(cell)
        stack.append(cell)
    return opened, near


def _way(near: dict[Cell, list[Cell]], start: Cell, goal: Cell) -> list[Cell]:
    """Return the only way between two cells."""
    came: dict[Cell, Cell] = {start: start}
    queue = [start]
    for cell in queue:
        for other in near[cell]:
            if other not in came:
                came[other] = cell
                queue.append(other)
    way = [goal]
    while way[-1] != start:
        way.append(came[way[-1]])
    return way[::-1]


def _bends(way: list[Cell]) -> list[Cell]:
    """Return the ends of a way and the cells where it turns."""
    turns = [
        here for before, here, after in zip(way, way[1:], way[2:], strict=False)
        if (here[0] - before[0], here[1] - before[1]) != (after[0] - here[0], after[1] - here[1])
    ]  # fmt: skip
    return [way[0], *turns, way[-1]]


def walls(pen: Pen) -> Figure:
    """Return a field with many short walls and some places."""
    canvas = pen.page((440, 600), (340, 440))
    width, height = canvas.size
    names = pen.names(4)
    places: list[Place] = [
        (pen.whole(30, 60), pen.whole(40, height - 40)), (width - pen.whole(30, 60), pen.whole(40, height - 40)),
        (pen.whole(width // 3, 2 * width // 3), pen.whole(30, 60)),
        (pen.whole(width // 3, 2 * width // 3), height - pen.whole(30, 60)),
    ]  # fmt: skip
    stones: list[tuple[Place, Place]] = []
    for _ in range(500):
        middle = pen.whole(40, width - 40), pen.whole(40, height - 40)
        angle, reach = pen.whole(0, 179), pen.whole(14, 30)
        one, other = measure.polar(middle, reach, angle), measure.polar(middle, reach, angle + 180)
        if any(math.dist(middle, p) < reach + 26 for p in places):
            continue
        if any(math.dist(middle, measure.middle(*s)) < reach + math.dist(*s) / 2 - 4 for s in stones):
            continue
        stones.append((spot(one), spot(other)))
        if len(stones) == 22 + 5 * pen.level:
            break
    a, b, c, d = places
    sights = ((a, b), (b, c), (c, d))
    for one, other in sights:
        for wall in stones:
            if any(math.dist(end, measure.foot(end, one, other)) < 4 for end in wall) or any(
                math.dist(p, measure.foot(p, *wall)) < 4 and math.dist(p, measure.middle(*wall)) < 40
                for p in (one, other)
            ):
                raise LookupError("a wall ends at a line of sight")
    for wall in stones:
        canvas.path(wall)
    for name, place in zip(names, places, strict=True):
        canvas.dot(place, name, f"place {name}", radius=4.5)
        canvas.text((place[0], place[1] + (17 if place[1] < height / 2 else -17)), name)
    cost, base = pen.whole(2, 15), pen.whole(5, 40)
    kind = pen.pick(("drone", "crow", "ball", "laser beam", "radio signal"))
    facts = pen.pick(
        (
            f"A {kind} goes in straight lines over a field with walls. Each wall that it crosses costs {cost} units of"
            f" energy, and each straight flight {base} units.",
            f"The short lines are walls. A {kind} moves straight; a flight takes {base} units, and {cost} more for"
            " every wall on it.",
            f"A {kind} crosses walls, which are the short lines of the plan: {cost} units each, on top of {base} for"
            " every straight flight.",
        )
    )
    asks = []
    total, trip = 0, [names[0]]
    for depth, ((one, other), name) in enumerate(zip(sights, names[1:], strict=True)):
        hits = sum(measure.crosses(one, other, *wall) for wall in stones)
        total += hits * cost + base
        trip.append(name)
        asks.append(
            Ask(
                knowledge=(
                    "counting/intersections/line of sight",
                    "counting/intersections/route with a bend",
                    "counting/intersections/route with two bends",
                )[depth],
                tool="line of sight",
                text=f"the energy from {trip[0]} to {' and on to '.join(trip[1:])}",
                value=total,
                check=lambda depth=depth: sum(  # type: ignore[misc]
                    base + cost * sum(_between(s, w) for w in stones) for s in sights[: depth + 1]
                ),
                shapes=(segment(one, other),),
                about=f"The segment from {trip[-2]} to {trip[-1]}.",
                reason=f"Walls on it: {hits}; {hits} x {cost} + {base}; in total {total}.",
            )
        )
    return Figure(canvas=canvas, facts=facts, chains={"sight": tuple(asks)})


def _between(sight: tuple[Place, Place], wall: tuple[Place, Place]) -> bool:
    """Return whether a wall meets a line of sight, from the place where both lines meet."""
    place = measure.meeting(*sight, *wall)
    return all(
        min(p[axis], q[axis]) - 0.01 <= place[axis] <= max(p[axis], q[axis]) + 0.01
        for p, q in (sight, wall) for axis in (0, 1)
    )  # fmt: skip


def route(pen: Pen) -> Figure:
    """Return numbered places, which are visited in order, on both sides of a river."""
    canvas = pen.page((420, 560), (340, 440))
    width, height = canvas.size
    count = 8 + 2 * pen.level + pen.whole(0, 1)
    bends = np.linspace(0, height, 5)
    river = [(width / 2 + pen.whole(-50, 50), float(y)) for y in bends]
    places: list[Place] = []
    for _ in range(500):
        place: Place = (pen.whole(34, width - 34), pen.whole(34, height - 34))
        if min(_distance(place, a, b) for a, b in pairwise(river)) < 24 or any(
            math.dist(place, p) < 58 for p in places
        ):
            continue
        places.append(place)
        if len(places) == count:
            break
    if len(places) < count:
        raise LookupError("no room for the places")
    hits = 0
    for one, other in pairwise(places):
        for a, b in pairwise(river):
            if any(_distance(end, one, other) < 3 for end in (a, b)):
                raise LookupError("a way meets a bend of the river")
            hits += measure.crosses(one, other, a, b)
        if any(_distance(p, one, other) < 12 for p in places if p not in (one, other)):
            raise LookupError("a way meets a third place")
    canvas.path(river)
    for at, place in enumerate(places, start=1):
        canvas.dot(place, str(at), f"stop {at}", radius=4)
        canvas.text((place[0] + 13, place[1] - 11), str(at), clear=False)
    toll, pay = pen.whole(3, 25), pen.whole(2, 30)
    ride = pen.pick(("bus", "truck", "courier", "helicopter", "ferry pilot"))
    facts = pen.pick(
        (
            f"A {ride} visits the stops 1, 2, 3 and so on up to {count} in straight lines. The long line is a river.",
            f"The stops 1 to {count} lie on both sides of a river, the long line. A {ride} goes straight from each"
            " to the next number.",
        )
    )
    back = places[-1], places[0]
    home = sum(measure.crosses(*back, a, b) for a, b in pairwise(river))
    tour = Ask(
        knowledge="counting/order/crossings of a route",
        tool="polyline route",
        given=f"Each crossing of the river costs {toll} coins, each stop {pay} coins.",
        text=f"the cost of the way from 1 to {count}",
        value=hits * toll + count * pay,
        check=lambda: count * pay + toll * sum(
            _between((one, other), (a, b)) for one, other in pairwise(places) for a, b in pairwise(river)
        ),
        shapes=(Polyline(points=tuple(places)),),
        about="The polyline through all stops in order.",
        reason=f"It crosses the river {hits} times: {hits} x {toll} + {count} x {pay} = {hits * toll + count * pay}.",
    )  # fmt: skip
    closing = Ask(
        knowledge="counting/order/closed route",
        tool="closing segment",
        given=f"Each crossing of the river costs {toll} coins, each stop {pay} coins. At the end the {ride} goes"
        " straight back to 1.",
        text=f"the cost of the round from 1 over {count} back to 1, with {count} paid stops",
        value=(hits + home) * toll + count * pay,
        check=lambda: count * pay + toll * sum(
            _between(way, (a, b)) for way in (*pairwise(places), back) for a, b in pairwise(river)
        ),
        shapes=(segment(*back),),
        about=f"The segment from {count} back to 1.",
        reason=f"It crosses the river {home} times, so the round costs {(hits + home) * toll + count * pay}.",
    )  # fmt: skip
    return Figure(canvas=canvas, facts=facts, chains={"tour": (tour, closing)})


def _distance(place: Place, one: Place, other: Place) -> float:
    """Return the distance between a place and a segment."""
    low = measure.foot(place, one, other)
    on = (low[0] - one[0]) * (low[0] - other[0]) + (low[1] - one[1]) * (low[1] - other[1]) <= 0
    return math.dist(place, low) if on else min(math.dist(place, one), math.dist(place, other))
