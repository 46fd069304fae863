"""Tests that every column has its image, with the box on the answer."""

import io
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sets import coded, data_prep, rl_row, scene, write_parquet

from codevision_ext import geometry
from codevision_ext.errors import InputError
from codevision_ext.task.image_ops import CORE_OPS
from codevision_ext.types import Box
from data_prep.convert.transform import Transform
from data_prep.convert.validate import box_frame_size
from data_prep.formats.schema import Row, rl_record
from data_prep.tasks.reading.glyphs import COLUMNS, Mix, draw_test_rows

PNG = coded(scene(5, (40, 30)))


def rows_of(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return rows


def transform(
    tmp_path: Path, rows: list[dict[str, Any]], *words: object
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    source = write_parquet(tmp_path / "a.parquet", rows)
    summary = data_prep("transform", source, "--out", tmp_path / "out.parquet", "--workers", 1, "--force", *words)
    return summary, rows_of(tmp_path / "out.parquet")


def image(row: dict[str, Any]) -> Image.Image:
    return Image.open(io.BytesIO(row["images"][0]["bytes"]))


def test_the_six_columns_are_those_of_the_reading_task(tmp_path: Path) -> None:
    drawn = [rl_record(row) for row in draw_test_rows(Mix(), 3)]
    _, written = transform(tmp_path, drawn[::6])
    assert [row["extra_info"]["column"] for row in written] == [row["extra_info"]["column"] for row in drawn]
    assert [row["extra_info"]["transform"] for row in written] == [row["extra_info"]["transform"] for row in drawn]
    assert [image(row).tobytes() for row in written] == [image(row).tobytes() for row in drawn]
    assert len({row["extra_info"]["index"] for row in written}) == 18
    assert written[0]["images"] == drawn[0]["images"]


def test_places_on_the_image_are_not_turned_with_it(tmp_path: Path) -> None:
    row = rl_row(0, None, answer_kind="coordinates")
    row["reward_model"] = {"ground_truth": ["{'A': (3, 4)}"]}
    row["extra_info"]["edited_image"] = {"bytes": PNG, "path": None}
    summary, [written] = transform(tmp_path, [row])
    extra = written["extra_info"]
    assert (extra["column"], extra["answer_kind"], extra["edited_image"]["bytes"]) == ("source", "coordinates", PNG)
    assert summary["left_out"] == {"coordinates_turned": 5}


def test_a_turned_image_is_taken_back_first(tmp_path: Path) -> None:
    drawn = [rl_record(row) for row in draw_test_rows(Mix(), 1)]
    _, written = transform(tmp_path, [drawn[4]])
    assert [image(row).tobytes() for row in written] == [image(row).tobytes() for row in drawn]


boxes = st.tuples(st.integers(0, 38), st.integers(0, 28), st.integers(1, 40), st.integers(1, 30)).map(
    lambda edges: Box(edges[0], edges[1], min(40, edges[0] + edges[2]), min(30, edges[1] + edges[3]))
)


@given(
    box=boxes,
    ops=st.lists(st.sampled_from(sorted(CORE_OPS - {"crop"})), max_size=2),
    frame=st.sampled_from(["input", "canonical"]),
)
@settings(max_examples=40, deadline=None)
def test_every_box_shows_the_same_pixels(box: Box, ops: list[str], frame: str) -> None:
    orientation = geometry.compose_all(map(geometry.orientation_of, ops))
    canonical = Image.open(io.BytesIO(PNG))
    given_image = geometry.apply(orientation, canonical)
    row = Row(
        images=(coded(given_image),),
        question="What?",
        answers=("x",),
        source="s",
        split="train",
        index=3,
        size=given_image.size,
        applied=("crop", *ops),
        box=box if frame == "canonical" else geometry.map_box(box, orientation, canonical.size),
        box_frame=frame,
    )
    assert box_frame_size(row.applied, "canonical", row.size) == canonical.size
    expected = canonical.crop(tuple(map(int, box)))
    for written in Transform()(row, 0):
        assert isinstance(written, Row)
        op = COLUMNS[written.column or ""]
        turned = geometry.compose_all([geometry.orientation_of(op)] if op else [])
        image = Image.open(io.BytesIO(written.images[0]))
        assert written.size == image.size
        assert written.applied == ("crop", *([op] if op else []))
        assert written.box is not None
        shown = geometry.apply(geometry.inverse(turned), image.crop(tuple(map(int, written.box))))
        assert shown.tobytes() == expected.tobytes()


def test_items_that_need_a_crop_are_those_with_a_small_box_and_columns_are_balanced(tmp_path: Path) -> None:
    small, large = [10.0, 4.0, 12.0, 9.0], [0.0, 0.0, 60.0, 40.0]
    rows = [rl_row(index, None, bbox=small if index % 2 else large) for index in range(20)]
    words = ("--columns", "rot90,rot180,rot270,flip_h,flip_v", "--one", "--small", 0.02)
    summary, written = transform(tmp_path, rows, *words, "--only-small")
    assert summary["left_out"] == {"box_not_small": 10}
    assert {row["extra_info"]["transform"][0] for row in written} == {"crop"}
    assert set(Counter(row["extra_info"]["column"] for row in written).values()) == {2}
    _, every = transform(tmp_path, rows, *words)
    assert len(every) == 20
    assert Counter(row["extra_info"]["transform"][0] == "crop" for row in every) == {True: 10, False: 10}


def test_a_jpeg_stays_one_and_keeps_its_bytes_where_nothing_is_done(tmp_path: Path) -> None:
    _, written = transform(tmp_path, [rl_row(0, None, bbox=None)])
    assert {image(row).format for row in written} == {"JPEG"}
    assert written[0]["images"][0]["bytes"] == rl_row(0)["images"][0]["bytes"]
    upright = np.asarray(image(written[0]), dtype=int)
    for row in written[1:]:
        back = geometry.inverse(geometry.orientation_of(row["extra_info"]["transform"][0]))
        assert np.abs(np.asarray(geometry.apply(back, image(row)), dtype=int) - upright).mean() < 3


@pytest.mark.filterwarnings("ignore")  # of the library
def test_corruptions_change_the_image_more_the_severer_they_are_and_leave_the_rest(tmp_path: Path) -> None:
    words = ("--columns", "source", "--corruptions", "gaussian_noise:1+5,impulse_noise:3,brightness:2", "--seed", 3)
    _, written = transform(tmp_path, [rl_row(0, ("crop",))], *words)
    names = ["source", "gaussian_noise-1", "gaussian_noise-5", "impulse_noise-3", "brightness-2"]
    assert [row["extra_info"]["column"] for row in written] == names
    assert {tuple(row["extra_info"]["transform"]) for row in written} == {("crop",)}
    assert {tuple(row["extra_info"]["bbox"]) for row in written} == {(10.0, 4.0, 20.0, 40.0)}
    upright = np.asarray(image(written[0]), dtype=int)
    change = [np.abs(np.asarray(image(row), dtype=int) - upright).mean() for row in written[1:]]
    assert 0 < change[0] < change[1]
    assert min(change) > 1
    _, again = transform(tmp_path, [rl_row(0, ("crop",))], *words)
    assert again == written


def test_without_the_library_of_corruptions_one_sentence_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "imagecorruptions", None)
    with pytest.raises(InputError, match="pip install --no-deps imagecorruptions-imaug"):
        transform(tmp_path, [rl_row(0)], "--corruptions", "fog")
    assert [path.name for path in tmp_path.iterdir()] == ["a.parquet"]


def test_an_unknown_column_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--columns must be among source, rot90.*not 'rot45'"):
        transform(tmp_path, [rl_row(0)], "--columns", "rot45")
    with pytest.raises(InputError, match="--only-small needs --small"):
        transform(tmp_path, [rl_row(0)], "--only-small")
