"""Geometry agrees with PIL, numpy and OpenCV on real images."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from codevision_ext.errors import InputError
from codevision_ext.geometry import (
    ORIENTATION_OPS,
    apply,
    compose,
    compose_all,
    inverse,
    iou,
    map_box,
    map_size,
    orientation_of,
)
from codevision_ext.types import Box, Orientation

SIZE = (13, 8)
IMAGE = Image.fromarray(np.arange(SIZE[0] * SIZE[1], dtype=np.uint8).reshape(SIZE[1], SIZE[0]))
COLUMNS = ("r90", "r180", "r270", "fh", "fv")
TABLE = {
    "r90": ("r180", "r270", "id", "transverse", "transpose"),
    "r180": ("r270", "id", "r90", "fv", "fh"),
    "r270": ("id", "r90", "r180", "transpose", "transverse"),
    "fh": ("transpose", "fv", "transverse", "id", "r180"),
    "fv": ("transverse", "fh", "transpose", "r180", "id"),
}

orientations = st.sampled_from(Orientation)
sizes = st.tuples(st.integers(1, 40), st.integers(1, 40))


@st.composite
def images_with_boxes(draw: st.DrawFn) -> tuple[Image.Image, Box]:
    width, height = draw(sizes)
    x1, y1 = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    box = Box(x1, y1, draw(st.integers(x1 + 1, width)), draw(st.integers(y1 + 1, height)))
    pixels = np.arange(width * height, dtype=np.int32).reshape(height, width)
    return Image.fromarray(pixels), box


def same(a: Image.Image, b: Image.Image) -> bool:
    return np.array_equal(np.asarray(a), np.asarray(b))


@pytest.mark.parametrize("row", TABLE)
@pytest.mark.parametrize("column", COLUMNS)
def test_two_ops_compose_as_the_table_says(row: str, column: str) -> None:
    assert compose(Orientation(row), Orientation(column)) == TABLE[row][COLUMNS.index(column)]


@pytest.mark.parametrize("a", Orientation)
@pytest.mark.parametrize("b", Orientation)
def test_a_composed_orientation_does_to_a_image_what_its_parts_do(a: Orientation, b: Orientation) -> None:
    assert same(apply(b, apply(a, IMAGE)), apply(compose(a, b), IMAGE))


@pytest.mark.parametrize("o", Orientation)
def test_an_inverse_gives_the_image_back(o: Orientation) -> None:
    assert same(apply(inverse(o), apply(o, IMAGE)), IMAGE)
    assert compose(o, inverse(o)) is Orientation.ID


def test_no_orientations_compose_to_none() -> None:
    assert compose_all([]) is Orientation.ID


def test_rotations_are_counter_clockwise_and_flips_are_named_after_the_direction_they_mirror() -> None:
    pixels = np.asarray(IMAGE)
    for quarters, op in enumerate(("rotate_90", "rotate_180", "rotate_270"), start=1):
        turned = apply(orientation_of(op), IMAGE)
        assert same(turned, IMAGE.rotate(90 * quarters, expand=True))
        assert np.array_equal(np.asarray(turned), np.rot90(pixels, k=quarters))
    assert np.array_equal(apply(Orientation.R270, IMAGE), cv2.rotate(pixels, cv2.ROTATE_90_CLOCKWISE))
    assert same(apply(orientation_of("flip_horizontal"), IMAGE), ImageOps.mirror(IMAGE))
    assert same(apply(orientation_of("flip_vertical"), IMAGE), ImageOps.flip(IMAGE))


def test_an_op_that_turns_nothing_has_no_orientation() -> None:
    with pytest.raises(InputError, match=r"'crop' is not an orientation op.*rotate_90"):
        orientation_of("crop")
    assert len(ORIENTATION_OPS) == 5


@given(images_with_boxes(), orientations)
def test_a_mapped_box_cuts_the_same_pixels_out_of_the_turned_image(
    case: tuple[Image.Image, Box], o: Orientation
) -> None:
    image, box = case
    turned = apply(o, image)
    assert turned.size == map_size(o, image.size)
    assert same(apply(o, image.crop(box)), turned.crop(map_box(box, o, image.size)))


@given(images_with_boxes(), orientations)
def test_mapping_a_box_back_gives_it_again(case: tuple[Image.Image, Box], o: Orientation) -> None:
    image, box = case
    assert map_box(map_box(box, o, image.size), inverse(o), map_size(o, image.size)) == box


@pytest.mark.parametrize(
    ("o", "expected"),
    [
        ("r90", (20, 60, 40, 90)),
        ("r180", (60, 10, 90, 30)),
        ("r270", (10, 10, 30, 40)),
        ("fh", (60, 20, 90, 40)),
        ("fv", (10, 10, 40, 30)),
    ],
)
def test_a_box_goes_where_the_formula_says(o: str, expected: tuple[int, ...]) -> None:
    assert map_box(Box(10, 20, 40, 40), Orientation(o), (100, 50)) == expected


def test_overlap_is_shared_area_over_joint_area() -> None:
    assert iou((100, 100, 200, 200), (100, 100, 300, 300)) == 0.25
    assert iou((0, 0, 10, 10), (0, 0, 10, 10)) == 1.0
    assert iou((0, 0, 10, 10), (10, 0, 20, 10)) == 0.0


def test_a_box_without_area_or_without_four_numbers_overlaps_nothing() -> None:
    assert iou((5, 5, 5, 5), (5, 5, 5, 5)) == 0.0
    assert iou((8, 8, 2, 2), (0, 0, 10, 10)) == 0.0
    assert iou((0, 0, 10), (0, 0, 10, 10)) == 0.0
    assert iou((0, 0, 10, 10), ()) == 0.0
