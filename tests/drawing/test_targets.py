"""Targets are read strictly, and what is wrong with one is said in one sentence that names its field."""

import json

import pytest

from codevision_ext.drawing.targets import Circle, Outline, Point, Polyline, Region, Segment, check_inside, read_target
from codevision_ext.errors import InputError


def target(*primitives: object) -> bytes:
    return json.dumps({"primitives": primitives}).encode()


def test_every_kind_is_read() -> None:
    raw = target(
        {"kind": "point", "x": 1, "y": 2.5},
        {"kind": "segment", "x1": 0, "y1": 0, "x2": 9, "y2": 9},
        {"kind": "line", "x1": 0, "y1": 0, "x2": 9, "y2": 9},
        {"kind": "polyline", "points": [[0, 0], [4, 4]], "closed": False},
        {"kind": "circle", "cx": 5, "cy": 5, "r": 3},
        {"kind": "box", "x1": 1, "y1": 1, "x2": 8, "y2": 7},
        {"kind": "region", "points": [[0, 0], [4, 0], [4, 4]]},
    )
    first, segment, line, polyline, circle, box, region = read_target(raw, "t.json").primitives
    assert (first, circle) == (Point(x=1, y=2.5), Circle(cx=5, cy=5, r=3))
    assert isinstance(segment, Segment)
    assert line.kind == "line"
    assert (polyline, box) == (Polyline(points=((0, 0), (4, 4))), Outline(x1=1, y1=1, x2=8, y2=7))
    assert isinstance(region, Region)


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        (b"{}", "field primitives: is missing"),
        (b"[", "isn't JSON: Expecting value: line 1 column 2"),
        (b"{}{}", "isn't JSON: Extra data: line 1 column 3"),
        (b"{},{}", "isn't JSON: Extra data: line 1 column 3"),
        ("{}".encode("utf-16"), "isn't UTF-8 text"),
        (b'{"primitives": [{"kind": "point", "x": 1, "x": 2, "y": 3}]}', "the key 'x' occurs twice"),
        (
            target({"kind": "polyline", "points": [[1, 1, 1], [2, 2]]}),
            "primitives.0.points.0: must have 2 items, it has 3",
        ),
        (target({"kind": "region", "points": [[0, 0], [9, 9], [9, 0], [0, 9]]}), "in the order of the outline"),
        (target(), "field primitives: is empty"),
        (target({"kind": "star"}), "field primitives.0.kind: must be one of "),
        (target({"x": 1, "y": 1}), "field primitives.0.kind: is missing"),
        (target({"kind": "point", "x": 1}), "field primitives.0.y: is missing"),
        (target({"kind": "point", "x": 1, "y": "2"}), "field primitives.0.y: "),
        (b'{"primitives": [{"kind": "point", "x": NaN, "y": 1}]}', "field primitives.0.x: "),
        (b'{"primitives": [{"kind": "point", "x": 1, "y": Infinity}]}', "field primitives.0.y: "),
        (target({"kind": "point", "x": 1, "y": 2, "z": 3}), "field primitives.0.z: "),
        (target({"kind": "segment", "x1": 1, "y1": 1, "x2": 1, "y2": 1}), "field primitives.0.x2, y2: "),
        (target({"kind": "point", "x": 1, "y": 1}, {"kind": "circle", "cx": 1, "cy": 1, "r": 0}), "primitives.1.r: "),
        (target({"kind": "polyline", "points": [[1, 1]], "closed": True}), "field primitives.0.points: "),
        (target({"kind": "region", "points": [[1, 1], [2, 2], [3, 3]]}), "field primitives.0.points: "),
        (target({"kind": "box", "x1": 1, "y1": 1, "x2": 1, "y2": 5}), "field primitives.0.x2, y2: "),
    ],
)
def test_a_bad_target_is_named_by_file_and_field_in_one_line(raw: bytes, problem: str) -> None:
    with pytest.raises(InputError) as caught:
        read_target(raw, "t.json")
    assert str(caught.value).startswith("t.json: ")
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_byte_order_mark_in_front_of_a_target_is_skipped() -> None:
    read = read_target(b"\xef\xbb\xbf" + target({"kind": "point", "x": 1, "y": 2}), "t.json")
    assert read.primitives == (Point(x=1, y=2),)


def test_a_place_outside_the_image_is_named() -> None:
    read = read_target(target({"kind": "polyline", "points": [[0, 0], [90, 41]], "closed": False}), "t.json")
    check_inside(read, (90, 41), "t.json")
    with pytest.raises(InputError, match=r"field primitives\.0\.points\.1: \(90, 41\) lies outside the input image"):
        check_inside(read, (90, 40), "t.json")


def test_a_circle_that_surrounds_the_image_is_refused() -> None:
    """No pixel of the image could show it, so an image without a drawing would have nothing missing."""
    read = read_target(target({"kind": "circle", "cx": 10, "cy": 10, "r": 130}), "t.json")
    check_inside(read, (130, 60), "t.json")
    with pytest.raises(InputError, match=r"primitives\.0\.r: the circle surrounds the input image, which has 120 x 60"):
        check_inside(read, (120, 60), "t.json")
