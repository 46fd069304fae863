"""Compares the labels that a program writes with the elements that they belong to."""

import ast
import math
from collections.abc import Iterator, Mapping
from itertools import combinations

from codevision_ext.drawing.targets import Place


def wrong_label(code: str, points: Mapping[str, Place], texts: Mapping[str, Place], near: float) -> str:
    """Return which label a program writes at the place of another; empty if it doesn't.

    Only calls with constant places are read. Two labels of points are swapped if, by more than `near`, they are closer
    to the other's point than to their own, both distances taken together.

    Args:
        code: A Python program.
        points: Place of each labelled point, pixels.
        texts: Place of each text, pixels.
        near: Maximum distance of a text from its place, pixels.
    """
    written = list(_written_texts(code))
    for label, place in texts.items():
        there = {text for own, text in written if math.dist(own, place) <= near}
        if there and label not in there:
            return f"the code writes {min(there)!r} in the place of {label!r}"
    labels = [text for _, text in written]
    places = {text: own for own, text in written if text in points and labels.count(text) == 1}
    for one, other in combinations(sorted(places), 2):
        own = math.dist(places[one], points[one]) + math.dist(places[other], points[other])
        crossed = math.dist(places[one], points[other]) + math.dist(places[other], points[one])
        if own > crossed + near:
            return f"the code writes {one!r} at the point {other!r}, and {other!r} at {one!r}"
    return ""


def _written_texts(code: str) -> Iterator[tuple[Place, str]]:
    """Yield place and text of each call such as `ax.text(40, 60, "A")` with constant arguments."""
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError):
        return
    for node in ast.walk(tree):
        match node:
            case ast.Call(
                func=ast.Attribute(attr="text"),
                args=[
                    ast.Constant(value=int() | float() as x),
                    ast.Constant(value=int() | float() as y),
                    ast.Constant(value=str() as text),
                    *_,
                ],
            ):
                yield (x, y), text
