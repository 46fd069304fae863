"""Measures places in pixels: the second way to every answer, independent of its closed form."""

import math
from collections.abc import Sequence

from codevision_ext.drawing.targets import Place


def vector(one: Place, other: Place) -> Place:
    """Return the vector from one place to another."""
    return other[0] - one[0], other[1] - one[1]


def cross(a: Place, b: Place) -> float:
    """Return the z component of the cross product."""
    return a[0] * b[1] - a[1] * b[0]


def along(one: Place, other: Place, share: float) -> Place:
    """Return the place at `share` of the way, 0 at `one` and 1 at `other`."""
    return one[0] + (other[0] - one[0]) * share, one[1] + (other[1] - one[1]) * share


def middle(one: Place, other: Place) -> Place:
    """Return the place halfway between two places."""
    return along(one, other, 0.5)


def foot(place: Place, one: Place, other: Place) -> Place:
    """Return the place of the line through `one` and `other` that is nearest to `place`."""
    d, e = vector(one, other), vector(one, place)
    return along(one, other, (d[0] * e[0] + d[1] * e[1]) / (d[0] ** 2 + d[1] ** 2))


def meeting(a: Place, b: Place, c: Place, d: Place) -> Place:
    """Return the place where the lines ab and cd meet."""
    u, v = vector(a, b), vector(c, d)
    return along(a, b, cross(vector(a, c), v) / cross(u, v))


def crosses(a: Place, b: Place, c: Place, d: Place) -> bool:
    """Return whether the segments ab and cd cross."""
    one, other = cross(vector(a, b), vector(a, c)), cross(vector(a, b), vector(a, d))
    third, fourth = cross(vector(c, d), vector(c, a)), cross(vector(c, d), vector(c, b))
    return one * other < 0 and third * fourth < 0


def area(points: Sequence[Place]) -> float:
    """Return the area of a polygon."""
    pairs = zip(points, [*points[1:], *points[:1]], strict=True)
    return abs(sum(cross(one, other) for one, other in pairs)) / 2


def angle(one: Place, vertex: Place, other: Place) -> float:
    """Return the angle at `vertex` in degrees, from 0 to 180."""
    a, b = vector(vertex, one), vector(vertex, other)
    return abs(math.degrees(math.atan2(cross(a, b), a[0] * b[0] + a[1] * b[1])))


def centre(a: Place, b: Place, c: Place) -> Place:
    """Return the centre of the circle through three places."""
    m, n = middle(a, b), middle(b, c)
    u, v = vector(a, b), vector(b, c)
    return meeting(m, (m[0] - u[1], m[1] + u[0]), n, (n[0] - v[1], n[1] + v[0]))


def polar(middle: Place, radius: float, degrees: float) -> Place:
    """Return the place at a distance and an angle, counter-clockwise on the screen."""
    turn = math.radians(degrees)
    return middle[0] + radius * math.cos(turn), middle[1] - radius * math.sin(turn)


def inside(place: Place, points: Sequence[Place]) -> bool:
    """Return whether a place lies inside a polygon."""
    x, y = place
    odd = False
    for (x1, y1), (x2, y2) in zip(points, [*points[1:], *points[:1]], strict=True):
        if (y1 > y) != (y2 > y) and x < x1 + (y - y1) / (y2 - y1) * (x2 - x1):
            odd = not odd
    return odd
