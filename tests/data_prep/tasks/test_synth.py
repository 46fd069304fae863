"""Tests that drawn tasks have the image, box and answer that they name, and that demonstrations do what they show."""

import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from sets import data_prep

from codevision_ext import geometry
from codevision_ext.errors import InputError
from codevision_ext.rollout.code_tool import CodeTool, tool_schema
from codevision_ext.types import CoordinateSystem
from data_prep.convert.transform import Transform
from data_prep.convert.validate import ImageLimits, validate_demonstration, validate_row
from data_prep.demonstrations.phrasing import demonstrate_rows, plan_thoughts, window
from data_prep.formats.schema import Row, SampleType, applied_orientation
from data_prep.tasks.synth import KINDS, SMALL, Recipe, draw_row, draw_tasks

RECIPE = Recipe(seed=3, max_pixels=400_000)


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return list(draw_tasks(RECIPE, "train", count=40))


def test_every_kind_is_drawn_and_can_be_trained_on(rows: list[Row]) -> None:
    assert {row.source for row in rows} == {f"synth-{kind}" for kind in KINDS}
    for row in rows:
        validated, faults = validate_row(row, ImageLimits())
        assert not faults, (row.source, faults)
        assert validated.images == row.images
        assert row.size == Image.open(io.BytesIO(row.images[0])).size
        assert row.size[0] * row.size[1] <= RECIPE.max_pixels * 1.01


def test_a_box_holds_ink_and_paper_and_a_small_one_asks_for_a_crop(rows: list[Row]) -> None:
    boxed = [row for row in rows if row.box is not None]
    assert len(boxed) > 20
    for row in boxed:
        grey = np.asarray(Image.open(io.BytesIO(row.images[0])).convert("L"), dtype=int)
        x1, y1, x2, y2 = map(int, row.box or ())
        assert np.ptp(grey[y1:y2, x1:x2]) > 60, row.source
        small = (x2 - x1) * (y2 - y1) <= SMALL * grey.size
        assert ("crop" in row.applied) == small
    assert {"crop" in row.applied for row in boxed} == {True, False}


def test_counting_needs_no_tool_and_the_rest_stands_as_the_shares_say() -> None:
    counting = [draw_row(Recipe(kinds=("counting",)), "train", index) for index in range(5)]
    assert {row.applied for row in counting} == {()}
    tables = [draw_row(Recipe(kinds=("table",), source_share=0.5), "train", index) for index in range(40)]
    assert 0.25 < np.mean([applied_orientation(row.applied) == "id" for row in tables]) < 0.75


def test_answers_of_geometry_are_right() -> None:
    for index in range(20):
        row = draw_row(Recipe(kinds=("geometry",)), "val", index)
        assert float(row.answers[0]) > 0


def test_a_row_is_the_same_whoever_draws_it(rows: list[Row]) -> None:
    assert draw_row(RECIPE, "train", 17) == rows[17]
    assert draw_row(RECIPE, "val", 17) != rows[17]


def test_a_page_can_have_twelve_megapixels() -> None:
    row = draw_row(Recipe(kinds=("page",), seed=82), "train", 0)
    assert 11_500_000 < row.size[0] * row.size[1] <= 12_000_000
    assert len(row.images[0]) < 8 << 20


def test_a_window_holds_its_box_and_is_smaller_than_the_page() -> None:
    rng = np.random.default_rng(0)
    for row in draw_tasks(Recipe(kinds=("page",), source_share=1, max_pixels=400_000), "val", count=12):
        if row.box is None or "crop" not in row.applied:
            continue
        drawn = window(rng, row.box, row.size)
        assert drawn.x1 <= row.box.x1 < row.box.x2 <= drawn.x2 <= row.size[0]
        assert drawn.y1 <= row.box.y1 < row.box.y2 <= drawn.y2 <= row.size[1]
        area, whole = (drawn.x2 - drawn.x1) * (drawn.y2 - drawn.y1), row.size[0] * row.size[1]
        assert (row.box.x2 - row.box.x1) * (row.box.y2 - row.box.y1) < area < whole


def test_demonstrations_are_executed_and_of_all_five_types(tool: CodeTool, rows: list[Row]) -> None:
    demonstrations = list(demonstrate_rows(rows, tool, seed=1, wrong_first=0.4))
    assert {demonstration.sample_type for demonstration in demonstrations} == set(SampleType) - {SampleType.READ}
    for row, demonstration in zip(rows, demonstrations, strict=False):
        assert validate_demonstration(demonstration, ImageLimits())[1] == []
        calls = demonstration.metadata["calls"]
        if row.applied:
            last = Image.open(io.BytesIO(demonstration.images[-1]))
            assert calls[-1]["net"] == geometry.inverse(applied_orientation(row.applied))
            if "crop" in row.applied and row.box is not None:
                width, height = row.box.x2 - row.box.x1, row.box.y2 - row.box.y1
                assert sorted(last.size) == sorted((int(width), int(height)))
        if demonstration.sample_type is SampleType.MULTI_CROP:
            areas = [np.prod(Image.open(io.BytesIO(data)).size) for data in demonstration.images]
            assert areas == sorted(set(areas), reverse=True)
        if demonstration.sample_type is SampleType.ERROR_HANDLING:
            assert len(calls) > 1
            assert calls[-1]["status"] == "ok"


def test_demonstrations_in_thousandths_show_them_and_the_tool_description_says_so(tool: CodeTool) -> None:
    tables = Recipe(seed=3, kinds=("table",), max_pixels=300_000)
    drawn = [draw_row(tables, "train", index) for index in range(6)]
    demonstrations = list(demonstrate_rows(drawn, tool, seed=1, wrong_first=0.0, coordinates=CoordinateSystem.RELATIVE))
    texts = [message.content for demonstration in demonstrations for message in demonstration.messages]
    crops = [text for text in texts if "crop" in text and "<tool_call>" in text]
    assert crops
    assert all("box(" in text for text in crops)
    numbers = [int(number) for text in crops for number in re.search(r"box\((.*?)\)", text)[1].split(",")]  # type: ignore[index]
    assert all(0 <= number <= 1000 for number in numbers)
    assert any("1000x1000" in text for text in texts)
    assert {demonstration.tools for demonstration in demonstrations} == {
        json.dumps([tool_schema(CoordinateSystem.RELATIVE)])
    }
    for row, demonstration in zip(drawn, demonstrations, strict=True):
        if "crop" in row.applied and row.box is not None:
            shown = sorted(Image.open(io.BytesIO(demonstration.images[-1])).size)
            size = sorted((row.box.x2 - row.box.x1, row.box.y2 - row.box.y1))
            slack = 2 + max(row.size) / 500
            assert all(0 <= one - other <= slack for one, other in zip(shown, size, strict=True))


def test_thoughts_are_sentences(rows: list[Row]) -> None:
    for row in rows[:30]:
        plan = plan_thoughts(np.random.default_rng(row.index), row, 0.3)
        for thought in [*(call.thought for call in plan.calls), plan.conclusion or ""]:
            assert thought[0].isupper()
            assert thought.endswith((".", ".}"))


SMALL_RUN = ("--rows", 6, "--sft-rows", 6, "--val-rows", 1, "--test-items", 2, "--max-megapixels", 0.3, "--workers", 1)


def test_the_command_writes_every_part_and_the_same_bytes_again(tmp_path: Path) -> None:
    summary = data_prep("synth", "--out", tmp_path / "a", *SMALL_RUN)
    assert summary["rows"] == {"train": 6, "val": 1, "test": 12, "sft": 6, "sft_val": 1}
    assert summary["licences"] == {f"synth-{kind}": "CC0-1.0" for kind in KINDS}
    data_prep("synth", "--out", tmp_path / "b", *SMALL_RUN, "--parts", "sft,train")
    for path in (tmp_path / "b").iterdir():
        assert path.read_bytes() == (tmp_path / "a" / path.name).read_bytes(), path.name
    columns = [row["extra_info"]["column"] for row in pq.read_table(tmp_path / "a" / "test.parquet").to_pylist()]
    assert columns == list(Transform().columns) * 2
    files = sorted((tmp_path / "a").iterdir())
    assert data_prep("check", *files, "--workers", 1)["rows"]["bad"] == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--kinds", "poem"), "--kinds must be among page"),
        (("--parts", "trial"), "--parts must be among train"),
        (("--max-megapixels", 0.01), "--max-megapixels must be at least"),
        (("--source-share", 2), "share in"),
        (("--teacher", "localhost"), "--teacher needs an address with http"),
        (("--teacher", "http://localhost:1", "--model", "m", "--request", "["), "--request: isn't JSON"),
    ],
)
def test_a_bad_option_ends_with_one_sentence(tmp_path: Path, words: tuple[Any, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        data_prep("synth", "--out", tmp_path / "a", *words)
    assert json.dumps([path.name for path in tmp_path.iterdir()]) == "[]"
