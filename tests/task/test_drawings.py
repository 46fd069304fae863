"""The drawing that a row asks for is read from any form of storage, or refused with its row and field."""

import json
import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codevision_ext.drawing import DrawingTarget
from codevision_ext.drawing.targets import Circle, Outline, Point, Polyline, Primitive, Region, Segment
from codevision_ext.errors import InputError
from codevision_ext.task.drawings import drawing_text, plain_drawing, read_drawing
from codevision_ext.task.item import read_item

SIZE = (120, 90)
POINT = {"kind": "point", "x": 10, "y": 20}
places = st.tuples(st.floats(0, SIZE[0]), st.floats(0, SIZE[1]))


@st.composite
def primitives(draw: st.DrawFn) -> Primitive:
    """A primitive on an image of SIZE that has a length or an area."""
    x, y = draw(st.tuples(st.integers(0, 60), st.integers(0, 40)))
    width, height = draw(st.tuples(st.integers(2, 50), st.integers(2, 40)))
    corners = ((x, y), (x + width, y), (x, y + height))
    choices = (
        Point(x=x, y=y),
        Segment(x1=x, y1=y, x2=x + width, y2=y + height),
        Polyline(points=corners, closed=draw(st.booleans())),
        Circle(cx=x, cy=y, r=width),
        Outline(x1=x, y1=y, x2=x + width, y2=y + height),
        Region(points=corners),
    )
    return draw(st.sampled_from(choices))


targets = st.builds(
    lambda parts: DrawingTarget(primitives=tuple(parts)), st.lists(primitives(), min_size=1, max_size=5)
)


def row(drawing: Any, **more: Any) -> dict[str, Any]:
    return {
        "data_source": "own",
        "reward_model": {"ground_truth": []},
        "extra_info": {"index": 4, "drawing": drawing},
    } | more


@given(targets)
def test_a_target_survives_json_a_record_and_the_union_of_fields_in_parquet(target: DrawingTarget) -> None:
    assert read_drawing(drawing_text(target), "row", SIZE) == target
    assert read_drawing(plain_drawing(target), "row", SIZE) == target
    stored = pa.array([plain_drawing(target)]).to_pylist()[0]
    assert read_drawing(stored, "row", SIZE) == target
    arrays = {"primitives": np.array(plain_drawing(target)["primitives"], dtype=object)}
    assert read_drawing(arrays, "row", SIZE) == target


@pytest.mark.parametrize("nothing", [None, "", math.nan])
def test_a_row_without_a_drawing_asks_for_none(nothing: Any) -> None:
    assert read_drawing(nothing, "row", SIZE) is None


@pytest.mark.parametrize(
    ("drawing", "message"),
    [
        ({"primitives": []}, "field primitives: is empty"),
        ({}, "field primitives: is missing"),
        ({"primitives": None}, "field primitives: is missing"),
        ("{", "isn't JSON"),
        ([POINT], "must be an object with primitives, not list"),
        (7, "must be an object with primitives, not int"),
        ({"primitives": [POINT | {"kind": "star"}]}, "field primitives.0.kind: .*'star'"),
        ({"primitives": [POINT, POINT | {"x": math.nan}]}, "field primitives.1.x: must be a finite number"),
        ({"primitives": [POINT | {"x": math.inf}]}, "field primitives.0.x: must be a finite number"),
        ({"primitives": [POINT | {"x": None}]}, "field primitives.0.x: is missing"),
        ({"primitives": [POINT | {"x": "3"}]}, "field primitives.0.x: must be a valid number"),
        ({"primitives": [POINT | {"x": 121}]}, r"field primitives.0.x, y: \(121, 20\) lies outside the input image"),
        ({"primitives": [POINT | {"y": -1}]}, r"field primitives.0.x, y: \(10, -1\) lies outside the input image"),
        ({"primitives": [POINT | {"x": object()}]}, "can't be written as JSON"),
    ],
)
def test_a_bad_target_is_refused_in_one_sentence_with_row_and_field(drawing: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        read_item(row(drawing), SIZE)
    assert str(error.value).startswith("row own-4: extra_info.drawing: ")
    assert "\n" not in str(error.value)


def test_a_drawing_can_be_the_answer_and_a_row_with_neither_is_refused() -> None:
    item = read_item(row({"primitives": [POINT]}), SIZE)
    assert (item.references, item.task.drawing) == ((), {"primitives": [POINT | {"x": 10.0, "y": 20.0}]})
    for nothing in ([], None, ""):
        assert read_item(row(json.dumps({"primitives": [POINT]}), reward_model={"ground_truth": nothing}), SIZE)
        with pytest.raises(InputError, match=r"row own-4: reward_model\.ground_truth must be"):
            read_item(row(None, reward_model={"ground_truth": nothing}), SIZE)
    with pytest.raises(InputError, match=r"reward_model\.ground_truth must be"):
        read_item(row({"primitives": [POINT]}, reward_model={"ground_truth": 7}), SIZE)
    both = read_item(row({"primitives": [POINT]}, reward_model={"ground_truth": ["B"]}), SIZE)
    assert both.references == ("B",)
    assert both.task.drawing is not None
