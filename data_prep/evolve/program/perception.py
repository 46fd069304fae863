"""Makes perception items: places of an image by name, by description, and computed from others."""

import math
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from codevision_ext.drawing.targets import Place
from codevision_ext.geometry import tolerance
from codevision_ext.types import AnswerKind
from data_prep.evolve.item import Item, Level
from data_prep.evolve.program import measure
from data_prep.evolve.program.canvas import FILLS, Canvas
from data_prep.evolve.program.model import LEVELS, Pen, corner_labels

_COLOURS: Final = {"red": "#c62828", "blue": "#1f5fbf", "green": "#2e7d32", "orange": "#e07a00", "purple": "#7b3fa0"}
_ASKED: Final = (
    "Give the pixel coordinates of {}.",
    "Where in the image {verb} {}? Answer in pixels.",
    "Locate, in pixels of the image, {}.",
    "Find, in pixels, the position of {}.",
    "Which pixels show {}?",
)
_FORM: Final = (
    "Answer with a dict such as {example}; x counts from the left edge, y from the top.",
    "Write a dict like {example}, with x to the right and y down.",
    "The answer is a dict from name to (x, y), for example {example}.",
)
_NAMED: Final[dict[Level, int]] = {"surface": 0, "semantic": 1, "integrated": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """An image and places that can be asked for."""

    canvas: Canvas
    path: str
    """Path of knowledge."""
    named: Mapping[str, Place]
    """Places by the names that are written beside them."""
    described: Mapping[str, Place]
    """Places by descriptions that use no written name."""
    computed: Mapping[str, Place]
    """Places that aren't shown, by how they follow from others."""


def items(knowledge: tuple[str, ...], number: int, seed: int) -> tuple[Item, ...]:
    """Return three items of one image; the domain of `knowledge` decides what it shows."""
    kinds = [kind for kind, (domains, _) in SCENES.items() if any(path.startswith(domains) for path in knowledge)]
    kinds = kinds or list(SCENES)
    kind = kinds[(number + seed) % len(kinds)]
    scene = _scene(kind, number, seed)
    return tuple(_item(scene, kind, level, knowledge, number, seed) for level in _NAMED)


def _scene(kind: str, number: int, seed: int) -> Scene:
    for attempt in range(500):
        key = [seed, number, zlib.crc32(kind.encode()), attempt]
        pen = Pen(np.random.default_rng(key), "medium")
        try:
            scene = SCENES[kind][1](pen)
        except LookupError:
            continue
        width, height = scene.canvas.size
        places = [*scene.described.values(), *scene.computed.values(), *scene.named.values()]
        if all(8 <= x <= width - 8 and 8 <= y <= height - 8 for x, y in places):
            return scene
    raise RuntimeError(f"the scene {kind} has no clear layout")


def _item(scene: Scene, kind: str, level: Level, knowledge: tuple[str, ...], number: int, seed: int) -> Item:
    pen = Pen(np.random.default_rng([seed, number, zlib.crc32(f"{kind} {level}".encode())]), "medium")
    source = (scene.named, scene.described, scene.computed)[_NAMED[level]]
    chosen: dict[str, Place] = {}
    for name in pen.some(sorted(source), len(source)):
        apart = [math.dist(source[name], place) for place in chosen.values()]
        if len(chosen) < pen.whole(1, 3) and all(far > 2 * tolerance(scene.canvas.size) for far in apart):
            chosen[name] = source[name]
    if level == "surface":
        keys = list(chosen)
        words = [f"the point {name}" for name in chosen]
    else:
        keys = [f"P{at}" for at in range(1, len(chosen) + 1)]
        words = [f"{key} ({text})" for key, text in zip(keys, chosen, strict=True)]
    asked = " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))
    answer = {key: (round(x), round(y)) for key, (x, y) in zip(keys, chosen.values(), strict=True)}
    example = {key: (10 * pen.whole(2, 20), 10 * pen.whole(2, 20)) for key in keys}
    question = pen.pick(_ASKED).format(asked, verb="is" if len(chosen) == 1 else "are")
    width, height = scene.canvas.size
    where = [f"{key} is {text} at ({x}, {y})." for (key, (x, y)), text in zip(answer.items(), chosen, strict=True)]
    if level == "surface":
        where = [f"The label {key} stands beside the point at ({x}, {y})." for key, (x, y) in answer.items()]
    return Item(
        id=f"program-{seed}-{number}-perception.{kind}-{level}",
        knowledge=knowledge or (scene.path,),
        difficulty=LEVELS[_NAMED[level]],
        question=f"{question} {pen.pick(_FORM).format(example=example)} The image has {width} x {height} pixels.",
        answer=str(answer),
        answer_kind=AnswerKind.COORDINATES,
        solution=" ".join([*where, f"The answer is {answer}."]),
        original_code=scene.canvas.code(),
        size=scene.canvas.size,
        elements=tuple(scene.canvas.elements),
        level=level,
    )


def _count(pen: Pen) -> int:
    """Return a number of elements: normal around 8 with the variance 4, from 4 to 13."""
    return int(np.clip(round(pen.rng.normal(8, 2)), 4, 13))


def _place(pen: Pen, canvas: Canvas, others: list[Place], margin: int = 36) -> Place:
    """Return a whole place of the page that is away from others."""
    for _ in range(200):
        place = pen.whole(margin, canvas.size[0] - margin), pen.whole(margin, canvas.size[1] - margin)
        if all(math.dist(place, other) > 48 for other in others):
            return place
    raise LookupError("no room")


def _extra(pen: Pen, canvas: Canvas, others: list[Place], count: int) -> dict[str, Place]:
    """Draw coloured dots and stars away from other places, and return them by their descriptions."""
    places: dict[str, Place] = {}
    for name in pen.some(sorted(_COLOURS), min(count, len(_COLOURS))):
        place = _place(pen, canvas, [*others, *places.values()])
        if pen.chance(0.6):
            canvas.dot(place, "", f"{name} dot", radius=5, colour=_COLOURS[name])
            places[f"the {name} dot"] = place
        else:
            canvas.lines.append(
                f"ax.plot([{place[0]}], [{place[1]}], '*', color='{_COLOURS[name]}', markersize=14 * px)"
            )
            canvas.add("symbol", f"{name} star", x=place[0], y=place[1], label="star")
            places[f"the {name} star"] = place
    return places


def _extremes(places: list[Place], noun: str) -> dict[str, Place]:
    """Return the outermost places by descriptions, where the next one is at least 12 pixels further inside."""
    outer: dict[str, Place] = {}
    for word, axis, sign in (("topmost", 1, 1), ("lowest", 1, -1), ("leftmost", 0, 1), ("rightmost", 0, -1)):
        first, second = sorted(places, key=lambda place: sign * place[axis])[:2]
        if abs(first[axis] - second[axis]) >= 12:
            outer[f"the {word} {noun}"] = first
    return outer


def polygon(pen: Pen) -> Scene:
    """Return a triangle or a quadrilateral with named corners, and coloured dots."""
    canvas = pen.page((400, 560), (320, 440))
    count = _count(pen)
    sides = 3 if count < 7 or pen.chance(0.5) else 4
    o, turn = (canvas.size[0] / 2, canvas.size[1] / 2), pen.whole(0, 359)
    reach = min(canvas.size) / 2 - 44
    corners = [
        measure.polar(o, reach * pen.whole(72, 100) / 100, turn + (360 * n + pen.whole(-90, 90)) / sides)
        for n in range(sides)
    ]
    corners = [(float(round(x)), float(round(y))) for x, y in corners]
    if min(math.dist(corners[n], corners[n - 1]) for n in range(sides)) < 90:
        raise LookupError("short side")
    names = pen.names(sides)
    canvas.path(corners, closed=True)
    for n in range(sides):
        canvas.line_element(corners[n - 1], corners[n], f"side {names[n - 1]}{names[n]}")
    _angle(canvas, (corners[-1], corners[0], corners[1]), f"angle at {names[0]}")
    corner_labels(canvas, dict(zip(names, corners, strict=True)), "corner")
    extra = _extra(pen, canvas, [*corners, *(measure.middle(corners[n], corners[n - 1]) for n in range(sides))],
                   max(1, count - 2 * sides))  # fmt: skip
    computed = {
        f"the point halfway between {names[n - 1]} and {names[n]}": measure.middle(corners[n - 1], corners[n])
        for n in range(sides)
    }
    if sides == 3:
        a, b, c = corners
        low = measure.foot(a, b, c)
        if math.dist(b, low) + math.dist(low, c) < math.dist(b, c) + 1:
            computed[f"the foot of the height from {names[0]}"] = low
        computed[f"the centroid of triangle {''.join(names)}"] = (a[0] + b[0] + c[0]) / 3, (a[1] + b[1] + c[1]) / 3
        la, lb, lc = math.dist(b, c), math.dist(a, c), math.dist(a, b)
        computed[f"the centre of the largest circle inside triangle {''.join(names)}"] = (
            (la * a[0] + lb * b[0] + lc * c[0]) / (la + lb + lc), (la * a[1] + lb * b[1] + lc * c[1]) / (la + lb + lc)
        )  # fmt: skip
    else:
        a, b, c, d = corners
        computed[f"the place where {names[0]}{names[2]} and {names[1]}{names[3]} meet"] = measure.meeting(a, c, b, d)
    for (one, p), (two, q) in pairwise(extra.items()):
        computed[f"the point halfway between {one} and {two}"] = measure.middle(p, q)
    shape = "triangle" if sides == 3 else "quadrilateral"
    return Scene(
        canvas=canvas,
        path=f"plane geometry/{shape}/corner",
        named=dict(zip(names, corners, strict=True)),
        described={**_extremes(corners, f"corner of the {shape}"), **extra},
        computed=computed,
    )


def _angle(canvas: Canvas, places: tuple[Place, Place, Place], semantic: str) -> None:
    """List an angle, whose vertex is the second place, with the directions of its sides in degrees."""
    one, (x, y), other = places
    first, second = (math.degrees(math.atan2(y - p[1], p[0] - x)) % 360 for p in (one, other))
    canvas.add("angle", semantic, x=x, y=y, dir1=first, dir2=second)


def rings(pen: Pen) -> Scene:
    """Return a circle without a marked centre, named points on it, a chord and coloured dots."""
    canvas = pen.page((400, 540), (340, 440))
    radius = pen.whole(84, min(canvas.size) // 2 - 50)
    o = (float(canvas.size[0] // 2 + pen.whole(-30, 30)), float(canvas.size[1] // 2 + pen.whole(-8, 8)))
    canvas.circle(o, radius, "the circle")
    count = pen.whole(3, 4)
    start = pen.whole(0, 359)
    angles = [start + (360 * n + pen.whole(-110, 110)) / count for n in range(count)]
    rim = [measure.polar(o, radius, angle) for angle in angles]
    names = pen.names(count)
    for name, place in zip(names, rim, strict=True):
        canvas.dot(place, name, f"point {name} of the circle")
        canvas.text(measure.along(o, place, 1 + 18 / radius), name)
    canvas.path(rim[:2], f"chord {names[0]}{names[1]}")
    if math.dist(*rim[:2]) < 60 or math.dist(*rim[:2]) > 1.9 * radius:
        raise LookupError("chord too short or a diameter")
    extra = _extra(
        pen, canvas, [*rim, o, (o[0], o[1] - radius), (o[0], o[1] + radius)], max(1, _count(pen) - count - 3)
    )
    opposite = (2 * o[0] - rim[2][0], 2 * o[1] - rim[2][1])
    computed = {
        "the centre of the circle": o,
        f"the point of the circle opposite to {names[2]}": opposite,
        f"the point halfway between {names[0]} and {names[1]}": measure.middle(*rim[:2]),
        f"the foot of the perpendicular from {names[2]} to the line {names[0]}{names[1]}": measure.foot(
            rim[2], *rim[:2]
        ),
    }
    described = {
        "the highest point of the circle": (o[0], o[1] - radius),
        "the lowest point of the circle": (o[0], o[1] + radius),
        "the leftmost point of the circle": (o[0] - radius, o[1]),
        **_extremes(rim[:2], "end of the chord"),
        **extra,
    }
    return Scene(
        canvas=canvas,
        path="plane geometry/circle/points of a circle",
        named=dict(zip(names, rim, strict=True)),
        described=described,
        computed=computed,
    )


def curve(pen: Pen) -> Scene:
    """Return a parabola over axes with numbers, and named points on it."""
    unit = pen.whole(30, 38)
    canvas = pen.canvas((4 * round((11 * unit + 90) / 4), 4 * round((9 * unit + 70) / 4)))
    left, top = 46, 34
    origin = (float(left + unit * pen.whole(0, 4)), float(top + unit * pen.whole(6, 8)))
    canvas.path([(left - 8, origin[1]), (left + 11 * unit, origin[1])], "the x-axis")
    canvas.path([(origin[0], top - 8), (origin[0], top + 9 * unit)], "the y-axis")
    for n in range(-4, 12):
        x, y = origin[0] + n * unit, origin[1] - n * unit
        if left <= x <= left + 11 * unit and n:
            canvas.path([(x, origin[1] - 3), (x, origin[1] + 3)])
            canvas.text((x, origin[1] + 13), str(n), size=8, clear=False)
        if top <= y <= top + 9 * unit and n:
            canvas.path([(origin[0] - 3, y), (origin[0] + 3, y)])
            canvas.text((origin[0] - 13, y), str(n), size=8, clear=False)
    m, t, factor = pen.whole(1, 5), pen.whole(1, 3), pen.pick((0.25, 0.5, 1.0))

    def at(x: float) -> Place:
        """Return the pixels of the point of the curve at x."""
        return origin[0] + x * unit, origin[1] - (factor * (x - m) ** 2 + t) * unit

    xs = [x for x in np.arange(-4, 11.01, 0.125).tolist()
          if top <= at(x)[1] and left <= at(x)[0] <= left + 11 * unit]  # fmt: skip
    canvas.path([at(x) for x in xs])
    ends = at(xs[0]), at(xs[-1])
    (x1, y1), (x2, y2) = ends
    label = f"y = {factor:g}(x - {m})^2 + {t}"
    canvas.add("function_curve", "the parabola", label=label, x1=x1, y1=y1, x2=x2, y2=y2)
    axes = [(left + 24.0 * n, origin[1] + 8) for n in range(18)] + [(origin[0], top + 24.0 * n) for n in range(14)]
    whole = [x for x in range(-4, 11) if xs[0] <= x <= xs[-1] and x != m]
    if len(whole) < 4:
        raise LookupError("few whole places")
    marked = pen.some(whole, 2)
    names = pen.names(2)
    named = {}
    for name, x in zip(names, marked, strict=True):
        canvas.dot(at(x), name, f"point {name} of the parabola", radius=4)
        canvas.text((at(x)[0] + 13, at(x)[1] - 10), name, clear=False)
        named[name] = at(x)
    extra = _extra(pen, canvas, [*(at(x) for x in xs[::4]), *axes], max(1, _count(pen) - 6))
    free = [x for x in whole if x not in marked]
    computed = {
        **{f"the point of the graph at x = {x}": at(x) for x in free},
        f"the mirror image of {names[0]} in the axis of the parabola": at(2 * m - marked[0]),
        f"the point halfway between {names[0]} and {names[1]}": measure.middle(*named.values()),
        f"the point ({m}, 0)": (origin[0] + m * unit, origin[1]),
    }
    described = {
        "the lowest point of the parabola": at(m),
        "the origin of the coordinate system": origin,
        "the left end of the parabola": ends[0],
        "the right end of the parabola": ends[1],
        **extra,
    }
    return Scene(canvas=canvas, path="functions/quadratic/points of a graph", named=named, described=described,
                 computed=computed)  # fmt: skip


def chart(pen: Pen) -> Scene:
    """Return a bar chart; each bar's name stands for the middle of its upper edge."""
    count = pen.whole(3, 6)
    slot, wide = pen.whole(54, 72), pen.whole(26, 38)
    base, left = pen.whole(270, 320), pen.whole(44, 60)
    canvas = pen.canvas((max(320, 4 * round((left + slot * count + 30) / 4)), 4 * round((base + 44) / 4)))
    heights = [pen.whole(40, base - 40) for _ in range(count)]
    if min(abs(a - b) for at, a in enumerate(heights) for b in heights[:at]) < 12:
        raise LookupError("equal bars")
    canvas.path([(left, 16), (left, base)], "the vertical axis")
    canvas.path([(left, base), (left + slot * count + 10, base)], "the horizontal axis")
    names, colour = pen.names(count), pen.pick(FILLS)
    boxes = []
    for at, (name, height) in enumerate(zip(names, heights, strict=True)):
        x, y = float(left + 14 + slot * at), float(base - height)
        canvas.bar((x, y, x + wide, base), colour, canvas.ink)
        canvas.dot((x + wide / 2, y), name, f"mark {name} on top of bar {at + 1}", radius=4)
        canvas.text((x + wide / 2, y - 15), name, f"name of the mark on bar {at + 1}", clear=False)
        canvas.line_element((x, y), (x + wide, y), f"upper edge of bar {at + 1}")
        boxes.append((x, y, x + wide, float(base)))
    order = sorted(boxes, key=lambda box: box[1])
    named = {name: ((box[0] + box[2]) / 2, box[1]) for name, box in zip(names, boxes, strict=True)}
    described = {
        "the upper left corner of the highest bar": order[0][:2],
        "the upper right corner of the highest bar": (order[0][2], order[0][1]),
        "the upper left corner of the lowest bar": order[-1][:2],
        "the upper right corner of the second highest bar": (order[1][2], order[1][1]),
        "the lower left corner of the first bar from the left": (boxes[0][0], boxes[0][3]),
        "the place where both axes meet": (float(left), float(base)),
        "the lower right corner of the last bar": (boxes[-1][2], boxes[-1][3]),
    }
    pairs = list(pairwise(names))
    computed = {
        **{
            f"the centre of the bar below {n}": ((b[0] + b[2]) / 2, (b[1] + b[3]) / 2)
            for n, b in zip(names, boxes, strict=True)
        },
        **{f"the point halfway between the marks {a} and {b}": measure.middle(named[a], named[b]) for a, b in pairs},
    }
    return Scene(canvas=canvas, path="charts/bar chart/points of bars", named=named, described=described,
                 computed=computed)  # fmt: skip


SCENES: Final[dict[str, tuple[tuple[str, ...], Callable[[Pen], Scene]]]] = {
    "polygon": (("plane geometry", "counting", "logic"), polygon),
    "rings": (("plane geometry", "logic"), rings),
    "curve": (("functions", "coordinate geometry"), curve),
    "chart": (("charts",), chart),
}
"""Every scene: the domains of knowledge that choose it, and what draws it."""
