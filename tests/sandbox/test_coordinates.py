"""A model's coordinates land on the place it means, in the image that its code gets."""

import json
from importlib.resources import files
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from codevision_ext.config import read_settings
from codevision_ext.errors import InputError
from codevision_ext.rollout.code_tool import TOOL_SCHEMA, tool_schema
from codevision_ext.rollout.image_history import ImageHistory, size_in
from codevision_ext.sandbox import ExecRequest
from codevision_ext.sandbox.coordinates import RELATIVE_SIZE, Size, box_in_pixels, point_in_pixels, scaled
from codevision_ext.task.item import read_item
from codevision_ext.types import Box, CoordinateSystem

SIDES = st.integers(1, 4096)
SIZES = st.tuples(SIDES, SIDES)
FRAMES = st.one_of(
    st.builds(
        lambda side, a, b: (side * a, side * b), st.sampled_from([28, 32]), st.integers(1, 140), st.integers(1, 140)
    ),
    st.just(RELATIVE_SIZE),
    SIZES,
)
"""Sizes that are multiples of what Qwen2.5-VL's or Qwen3-VL's tokens cover, and others."""
UHD = (3840, 2160)
SEEN_UHD = (3360, 1876)
"""What Qwen2.5-VL is shown of it with 8,192 x 28 x 28 pixels at most."""
EXACT = 1e-6


@st.composite
def boxes(draw: st.DrawFn) -> tuple[tuple[float, float, float, float], Size]:
    """A box within a frame, and the frame's size."""
    frame = draw(FRAMES)
    (x1, x2), (y1, y2) = (
        sorted(draw(st.lists(st.integers(0, side), min_size=2, max_size=2, unique=True))) for side in frame
    )
    return (x1, y1, x2, y2), frame


@given(boxes(), SIZES)
@example(((0, 0, *SEEN_UHD), SEEN_UHD), UHD)
@example(((1117, 333, 1118, 334), SEEN_UHD), UHD)
@example(((1, 999, 2, 1000), RELATIVE_SIZE), UHD)
def test_a_box_goes_to_pixels_and_back_within_half_a_pixel(
    drawn: tuple[tuple[float, float, float, float], Size], size: Size
) -> None:
    box, frame = drawn
    made = box_in_pixels(box, frame, size)
    assert 0 <= made[0] < made[2] <= size[0]
    assert 0 <= made[1] < made[3] <= size[1]
    assert all(type(side) is int for side in made)
    true = scaled(box, frame, size)
    back = scaled(made, size, frame)
    for low, high in ((0, 2), (1, 3)):
        widened = made[high] - made[low] == 1  # narrower than a pixel, perhaps
        off = 1 if widened else 0.5
        for side in (low, high):
            assert abs(made[side] - true[side]) <= off + EXACT
            assert abs(back[side] - box[side]) <= off * frame[low] / size[low] + EXACT  # of the frame's own pixels


@given(st.data(), FRAMES, SIZES)
def test_a_point_goes_to_a_pixel_and_back_within_half_a_pixel(data: st.DataObject, frame: Size, size: Size) -> None:
    point = tuple(data.draw(st.floats(0, side)) for side in frame)
    made = point_in_pixels((point[0], point[1]), frame, size)
    for at, pixel, side, pixels in zip(point, made, frame, size, strict=True):
        assert 0 <= pixel < pixels
        last = at * pixels / side > pixels - 1  # the lower and the right rim belong to the last pixel
        assert abs(pixel - at * pixels / side) <= (1 if last else 0.5) + EXACT


@given(boxes())
def test_where_the_frame_is_the_image_s_own_size_pixels_stay_what_they_are(
    drawn: tuple[tuple[float, float, float, float], Size],
) -> None:
    box, size = drawn
    assert box_in_pixels(box, size, size) == box
    assert scaled(box, size, size) == box


@given(boxes(), SIZES, FRAMES)
def test_what_is_scaled_there_and_back_is_the_same(
    drawn: tuple[tuple[float, float, float, float], Size], size: Size, other: Size
) -> None:
    box, frame = drawn
    assert scaled(scaled(box, frame, size), size, frame) == pytest.approx(box)
    through = scaled(scaled(box, frame, other), other, size)
    assert through == pytest.approx(scaled(box, frame, size))


def test_what_reaches_over_the_rim_is_cut_off() -> None:
    assert box_in_pixels((-50, 900, 500, 2000), RELATIVE_SIZE, (40, 20)) == (0, 18, 20, 20)
    assert point_in_pixels((-1, 1000), RELATIVE_SIZE, (40, 20)) == (0, 19)
    assert point_in_pixels((5000, 0), RELATIVE_SIZE, (40, 20)) == (39, 0)


def test_a_box_narrower_than_a_pixel_is_one_pixel_wide() -> None:
    assert box_in_pixels((999, 0, 1000, 1), RELATIVE_SIZE, (40, 20)) == (39, 0, 40, 1)
    assert box_in_pixels((500, 500, 501, 501), RELATIVE_SIZE, (1, 1)) == (0, 0, 1, 1)


@pytest.mark.parametrize(
    ("box", "said"),
    [
        ((5, 0, 5, 9), "x1 must be less than x2, they are 5 and 5"),
        ((0, 9, 5, 2), "y1 must be less than y2, they are 9 and 2"),
        ((0, float("nan"), 5, 9), "y1 must be a number, it is nan"),
        ((0, 0, float("inf"), 9), "x2 must be a number, it is inf"),
        (("a", 0, 5, 9), "x1 must be a number, it is 'a'"),
        (((1, 2), 0, 5, 9), r"x1 must be a number, it is \(1, 2\)"),
        ((1000, 0, 1100, 9), "the box lies outside of the image, which is 1000x1000"),
        ((0.1, 0.2, 0.6, 0.7), "x must be from 0 to 1000 and y from 0 to 1000, not fractions of the image"),
        ((0.0, 0.0, 1.0, 1.0), "x must be from 0 to 1000 and y from 0 to 1000, not fractions of the image"),
        ((0, 0, 0.5, 1), "x must be from 0 to 1000 and y from 0 to 1000, not fractions of the image"),
        ((0, -9, 5, 0), "the box lies outside of the image, which is 1000x1000"),
    ],
)
def test_a_box_that_is_none_is_refused_with_what_is_wrong(box: Any, said: str) -> None:
    with pytest.raises(ValueError, match=f"^{said}$"):
        box_in_pixels(box, RELATIVE_SIZE, (40, 20))


def test_a_point_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^y must be a number, it is None$"):
        point_in_pixels((1, None), RELATIVE_SIZE, (40, 20))  # type: ignore[arg-type]


def test_each_frame_gives_a_image_its_size() -> None:
    assert {frame: size_in(frame, UHD, SEEN_UHD) for frame in CoordinateSystem} == {
        CoordinateSystem.SEEN: SEEN_UHD,
        CoordinateSystem.RELATIVE: (1000, 1000),
        CoordinateSystem.ORIGINAL: UHD,
    }
    history = ImageHistory([Image.new("RGB", (40, 20))], lambda image: image.resize((28, 28)), CoordinateSystem.SEEN)
    history.add(Image.new("RGB", (10, 30)))
    assert history.sizes == [(28, 28), (28, 28)]
    assert [image.size for image in history.images] == [(40, 20), (10, 30)]
    assert ImageHistory([Image.new("RGB", (40, 20))]).sizes == [(40, 20)]


def test_the_tool_s_description_says_how_coordinates_are_written_and_nothing_else_of_the_tool_changes() -> None:
    words = json.loads((files("codevision_ext") / "prompts" / "coordinates.json").read_text(encoding="utf-8"))
    assert set(words) == set(CoordinateSystem)
    assert tool_schema(CoordinateSystem.ORIGINAL) == TOOL_SCHEMA
    for frame in (CoordinateSystem.SEEN, CoordinateSystem.RELATIVE):
        told = tool_schema(frame)["function"]
        assert "`box(x1, y1, x2, y2)` and `point(x, y)`" in told["description"]
        assert told | {"description": TOOL_SCHEMA["function"]["description"]} == TOOL_SCHEMA["function"]


def test_an_unknown_frame_is_refused_before_anything_starts() -> None:
    assert read_settings({}).coordinates is CoordinateSystem.ORIGINAL
    assert read_settings({"coordinates": "relative"}).coordinates is CoordinateSystem.RELATIVE
    with pytest.raises(
        InputError, match=r"^codevision\.coordinates: must be 'seen', 'relative' or 'original', it is 'absolute'$"
    ):
        read_settings({"coordinates": "absolute"})


@pytest.mark.parametrize("sizes", [((4, 2), (4, 2)), ((0, 2),)])
def test_a_request_with_coordinate_sizes_that_do_not_belong_to_its_images_is_refused(sizes: Any) -> None:
    with pytest.raises(InputError, match="aren't sizes of 1 images"):
        ExecRequest(code="", images=(Image.new("RGB", (4, 2)),), coordinate_sizes=sizes)


def test_a_row_s_box_may_be_told_in_relative_coordinates_but_not_in_ones_that_no_row_can_know() -> None:
    def row(frame: str) -> dict[str, Any]:
        extra = {"answer": "7", "transform": ["crop"], "bbox": [250, 500, 750, 1000], "box_frame": frame}
        return {"data_source": "pages", "extra_info": extra}

    task = read_item(row("relative"), (8, 4)).task
    assert (task.box, task.box_frame) == (Box(2, 2, 6, 4), "input")
    for frame in ("input", "canonical"):
        task = read_item(row(frame), (8, 4)).task
        assert (task.box, task.box_frame) == (Box(250, 500, 750, 1000), frame)
    with pytest.raises(
        InputError, match=r"^row pages-0: extra_info\.box_frame is 'seen'; it must be one of input, canonical, rel"
    ):
        read_item(row("seen"), (8, 4))
