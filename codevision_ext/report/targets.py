"""Prepares the target of a drawing for the page and for experiment trackers: its shapes, and how much of each is drawn.

Coordinates are pixels of the input image. The image that the model handed back may have another size: the shapes are
scaled to it, if both images have the same aspect ratio.
"""

from dataclasses import asdict, dataclass
from typing import Any

from codevision_ext.drawing import DrawingTarget
from codevision_ext.drawing.targets import Circle, Outline, Point, Polyline, Primitive, Region
from codevision_ext.io.records import Record
from codevision_ext.task.drawings import read_drawing

SAME_ASPECT = 0.02
"""Maximum difference of the two scales of an image, as a share, at which a target is drawn over it."""
Places = tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShapeView:
    """A primitive of a target."""

    kind: str
    places: Places
    """Corners; the centre of a circle."""
    radius: float = 0.0
    """Radius of a circle, pixels; 0 for other kinds."""
    closed: bool = False
    recall: float | None = None
    """Share of the primitive that is drawn, in [0, 1]; None if the drawing wasn't judged."""


def target_of(record: Record) -> DrawingTarget | None:
    """Returns the target of a record; None if its row asks for no drawing.

    Raises:
        InputError: the record holds another value than a target; names the record and the field.
    """
    return read_drawing(record.task.drawing, f"record {record.id}: task.drawing")


def shape_views(record: Record) -> tuple[ShapeView, ...]:
    """Returns the shapes of the record's target; none without a target. Raises what `target_of` raises."""
    target, drawn = target_of(record), record.observed.drawn
    if target is None:
        return ()
    recalls: tuple[float | None, ...] = drawn.recall if drawn else ()
    recalls = (*recalls, *[None] * len(target.primitives))[: len(target.primitives)]
    return tuple(map(_shape, target.primitives, recalls))


def _shape(primitive: Primitive, recall: float | None) -> ShapeView:
    match primitive:
        case Point(x=x, y=y):
            return ShapeView(kind="point", places=((x, y),), recall=recall)
        case Circle(cx=x, cy=y, r=r):
            return ShapeView(kind="circle", places=((x, y),), radius=r, recall=recall)
        case Outline(x1=x1, y1=y1, x2=x2, y2=y2):
            corners = ((x1, y1), (x2, y1), (x2, y2), (x1, y2))
            return ShapeView(kind="box", places=corners, closed=True, recall=recall)
        case Polyline(points=points, closed=closed):
            return ShapeView(kind="polyline", places=points, closed=closed, recall=recall)
        case Region(points=points):
            return ShapeView(kind="region", places=points, closed=True, recall=recall)
    ends = ((primitive.x1, primitive.y1), (primitive.x2, primitive.y2))
    return ShapeView(kind=primitive.kind, places=ends, recall=recall)


def drawing_view(record: Record) -> dict[str, Any] | None:
    """Returns target and verdict for the page's script; None if the row asks for no drawing.

    Raises what `target_of` raises.
    """
    shapes = shape_views(record)
    if not shapes:
        return None
    drawn = record.observed.drawn
    return {
        "size": record.task.size,
        "shapes": [asdict(shape) for shape in shapes],
        "verdict": None
        if drawn is None
        else {name: value for name, value in asdict(drawn).items() if name != "recall"},
    }


def scale_to(record: Record, size: tuple[int, int]) -> tuple[float, float] | None:
    """Returns the scales by which a target fits an image of this size; None if the aspect ratio differs."""
    if record.task.size is None:
        return None
    x, y = size[0] / record.task.size[0], size[1] / record.task.size[1]
    return (x, y) if abs(x / y - 1) <= SAME_ASPECT else None
