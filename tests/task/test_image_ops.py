"""The operations that undo those of a data row."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codevision_ext.errors import InputError
from codevision_ext.geometry import ORIENTATION_OPS, compose_all
from codevision_ext.task.image_ops import CROP, read_applied, required_ops
from codevision_ext.types import Orientation


@pytest.mark.parametrize(
    ("applied", "expected"),
    [
        ((), ()),
        (("rotate_90",), ("rotate_270",)),
        (("rotate_270",), ("rotate_90",)),
        (("rotate_180",), ("rotate_180",)),
        (("flip_horizontal",), ("flip_horizontal",)),
        (("flip_vertical",), ("flip_vertical",)),
        (("crop", "rotate_90"), ("rotate_270", "crop")),
        (("rotate_90", "crop"), ("rotate_270", "crop")),
        (("rotate_90", "flip_vertical"), ("flip_vertical", "rotate_270")),
        (("rotate_0",), ()),
        (("rotate_360", "rotate_left", "rotate_"), ()),
        (("rotate_-90", "rotate_450", "rotate_45"), ("rotate_315", "rotate_270", "rotate_90")),
        (("blur", "rotate_90"), ("rotate_270", "blur")),
    ],
)
def test_ops_are_undone_in_reverse_with_the_crop_last(applied: tuple[str, ...], expected: tuple[str, ...]) -> None:
    assert required_ops(applied) == expected


@given(st.lists(st.sampled_from([*ORIENTATION_OPS, CROP]), max_size=5))
def test_the_required_ops_bring_the_image_back(applied: list[str]) -> None:
    ops = [*applied, *required_ops(tuple(applied))]
    assert compose_all(ORIENTATION_OPS[op] for op in ops if op != CROP) is Orientation.ID


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, ()),
        ("", ()),
        ("None", ()),
        ("null", ()),
        ([], ()),
        ([None], ()),
        ("rotate_90", ("rotate_90",)),
        (["crop", "rotate_90"], ("crop", "rotate_90")),
        (("crop",), ("crop",)),
        (np.array(["crop", "rotate_90"], dtype=object), ("crop", "rotate_90")),
        ('["crop", "rotate_90"]', ("crop", "rotate_90")),
        ('{"crop": {"box": [1, 2, 3, 4]}}', ("crop",)),
        ({"rotate_90": {}, "crop": {}}, ("rotate_90", "crop")),
    ],
)
def test_every_published_shape_of_a_transform_is_read(value: object, expected: tuple[str, ...]) -> None:
    assert read_applied(value) == expected


@pytest.mark.parametrize("value", [7, ["rotate_90", 3], "[rotate_90", '[["crop"]]', float("nan")])
def test_any_other_transform_is_refused_with_its_value(value: object) -> None:
    with pytest.raises(InputError, match="transform"):
        read_applied(value)
