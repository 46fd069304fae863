"""Lists all figures, and makes the families of problems from their chains."""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from codevision_ext.drawing.shapes import along, corners, is_closed
from codevision_ext.drawing.targets import Place, Point, Region
from codevision_ext.geometry import tolerance
from data_prep.evolve.item import Difficulty
from data_prep.evolve.program import charts, circles, coordinates, counting, polygons, routes, triangles
from data_prep.evolve.program.canvas import Canvas
from data_prep.evolve.program.model import LEVELS, Figure, Pen

FIGURES: Final[dict[str, Callable[[Pen], Figure]]] = {
    "triangle": triangles.triangle,
    "site": triangles.site,
    "chord": circles.chord,
    "angles": circles.angles,
    "quadrilateral": polygons.quadrilateral,
    "trapezoid": polygons.trapezoid,
    "parallels": polygons.parallels,
    "stairs": polygons.stairs,
    "mirror": polygons.mirror,
    "graph": coordinates.graph,
    "parabola": coordinates.parabola,
    "points": coordinates.points,
    "bars": charts.bars,
    "dots": charts.dots,
    "scatter": charts.scatter,
    "timeline": charts.timeline,
    "maze": routes.maze,
    "people": counting.people,
    "cloth": counting.cloth,
    "walls": routes.walls,
    "sets": counting.sets,
    "stock": counting.stock,
    "route": routes.route,
}
"""Every figure by its name. To add one: write it in a module, name it here."""
_ATTEMPTS: Final = 2000
_RUN: Final = 8
"""Places of a path in a row, 2 pixels apart, that lie on a stroke instead of crossing it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Problems about one figure that begin with one of its chains."""

    name: str
    """Name of the figure and of the chain, such as `triangle.median`."""
    figure: str
    chain: str
    knowledge: tuple[str, ...]
    """Paths of the quantities of the chain, in order; the first one is what a problem of depth 1 needs."""
    tools: tuple[str, ...]
    """Tool of every quantity of the chain."""
    kinds: tuple[tuple[str, ...], ...]
    """Kinds of the primitives that each of these tools draws."""
    others: tuple[str, ...]
    """Names of the other chains of the figure, with which a problem can be expanded in parallel."""


def figure(name: str, difficulty: Difficulty, number: int, seed: int, family: str) -> Figure:
    """Return a figure whose drawings lie on no ink; equal arguments give equal figures.

    Raises:
        RuntimeError: No attempt gave such a figure, which is a fault of the figure's function.
    """
    key = [seed, number, zlib.crc32(family.encode()), LEVELS.index(difficulty)]
    reason = ""
    for attempt in range(_ATTEMPTS):
        pen = Pen(np.random.default_rng([*key, attempt]), difficulty)
        try:
            candidate = FIGURES[name](pen)
        except LookupError as error:
            reason = str(error)
            continue
        reason = fault(candidate)
        if not reason:
            return candidate
    raise RuntimeError(f"the figure {name} has no clear layout in {_ATTEMPTS} attempts: {reason}")


def fault(candidate: Figure) -> str:
    """Return why a figure can't be used; empty if it can.

    Texts must not overlap. Drawings must lie inside, clear of the original's strokes and of each other. None may begin
    where another one ends in the same direction, or lie in a region that another one fills. A part of each must be so
    far from all ink of the original that the verifier can't take this ink for the drawing.
    """
    canvas = candidate.canvas
    if _crowded(canvas):
        return "texts overlap"
    tau = tolerance(canvas.size)
    inked, covered = _mask(canvas.size, canvas.strokes), _covered(canvas, tau)
    drawn: list[tuple[str, list[np.ndarray], np.ndarray]] = []
    regions: list[tuple[str, np.ndarray]] = []
    for ask in (ask for chain in candidate.chains.values() for ask in chain):
        strokes = []
        seen = False
        for shape in ask.shapes:
            path = along(corners(shape), 2.0)
            if (path.min(axis=0) < 6).any() or (path.max(axis=0) > np.array(canvas.size) - 6).any():
                return f"{ask.knowledge}: outside of the page"
            if isinstance(shape, Region):
                filled = np.zeros((canvas.size[1], canvas.size[0]), np.uint8)
                regions.append((ask.knowledge, cv2.fillPoly(filled, [np.rint(path).astype(np.int32)], (1,))))
            if isinstance(shape, Point | Region):
                seen = True
                continue
            strokes.append(path)
            if not is_closed(shape) and len(path) < 13:
                return f"{ask.knowledge}: too short"
            if _share(inked, path) > (0.45 if is_closed(shape) else 0.2):
                return f"{ask.knowledge}: lies on the original"
            seen |= _clear(covered, path, tau)
        for other, _, mask in drawn:
            if any(_share(mask, path) > 0.35 for path in strokes):
                return f"{ask.knowledge}: lies on the drawing of {other}"
        if not seen:
            return f"{ask.knowledge}: near to the original"
        drawn.append((ask.knowledge, strokes, _mask(canvas.size, strokes)))
    for name, strokes, _ in drawn:
        for other, filled in regions:
            if name != other and any(_values(filled, path).mean() > 0.3 for path in strokes):
                return f"{name}: lies in the region of {other}"
        for other, _, mask in drawn:
            if name != other and any(_goes_on(mask, path, tau) for path in strokes):
                return f"{name}: goes on in the drawing of {other}"
    return ""


def _covered(canvas: Canvas, tau: float) -> np.ndarray:
    """Return a mask of the places within tau of strokes, texts and filled shapes of the original."""
    mask = _mask(canvas.size, canvas.strokes, 2 * round(tau) + 5)
    reach = round(tau) + 2
    for left, top, right, bottom in (*canvas.boxes, *canvas.filled):
        cv2.rectangle(
            mask, (round(left) - reach, round(top) - reach), (round(right) + reach, round(bottom) + reach), (1,), -1
        )
    return mask


def _clear(covered: np.ndarray, path: np.ndarray, tau: float) -> bool:
    """Return whether a fifth of a path isn't covered, with a part too long to be bridged."""
    free = 1 - _values(covered, path).astype(int)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], free, [0]])))
    longest = max(edges[1::2] - edges[::2], default=0)
    return bool(free.mean() > 0.2 and 2 * longest > tau + 10)


def _goes_on(mask: np.ndarray, path: np.ndarray, tau: float) -> bool:
    """Return whether the strokes of a mask go on beyond an end of an open path in its direction."""
    if np.allclose(path[0], path[-1]):
        return False
    size = int(min(len(path) - 1, tau))
    for end, inner in ((path[0], path[size]), (path[-1], path[-1 - size])):
        step = (end - inner) / np.hypot(*(end - inner))
        if _values(mask, end + step * np.arange(0, 1.5 * tau + 4)[:, None]).all():
            return True
    return False


def _mask(size: tuple[int, int], strokes: Sequence[Sequence[Place] | np.ndarray], width: int = 7) -> np.ndarray:
    """Return a mask of strokes of this width, pixels."""
    mask = np.zeros((size[1], size[0]), np.uint8)
    for stroke in strokes:
        cv2.polylines(mask, [np.rint(np.asarray(stroke, float)).astype(np.int32)], False, (1,), width)
    return mask


def _values(mask: np.ndarray, path: np.ndarray) -> np.ndarray:
    """Return the values of a mask along a path."""
    x, y = np.rint(path).astype(int).T
    return np.asarray(mask[np.clip(y, 0, mask.shape[0] - 1), np.clip(x, 0, mask.shape[1] - 1)])


def _share(mask: np.ndarray, path: np.ndarray) -> float:
    """Return the share of a path that lies in a mask; where it only crosses strokes doesn't count."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], _values(mask, path), [0]]).astype(np.int8)))
    runs = edges[1::2] - edges[::2]
    return float(runs[runs >= _RUN].sum()) / len(path)


def _crowded(canvas: Canvas) -> bool:
    """Return whether two texts overlap."""
    boxes = canvas.boxes
    return any(
        left < x2 and x1 < right and top < y2 and y1 < bottom
        for at, (left, top, right, bottom) in enumerate(boxes)
        for x1, y1, x2, y2 in boxes[:at]
    )


def _catalogue() -> dict[str, Family]:
    """Return every family; a figure has the same chains whatever its numbers are."""
    listed = {}
    for name in FIGURES:
        chains = figure(name, "easy", 0, 0, name).chains
        for chain, asks in chains.items():
            listed[f"{name}.{chain}"] = Family(
                name=f"{name}.{chain}",
                figure=name,
                chain=chain,
                knowledge=tuple(ask.knowledge for ask in asks),
                tools=tuple(ask.tool for ask in asks),
                kinds=tuple(tuple(dict.fromkeys(shape.kind for shape in ask.shapes)) for ask in asks),
                others=tuple(other for other in chains if other != chain),
            )
    return listed


FAMILIES: Final[dict[str, Family]] = _catalogue()
