"""Tests that every fault of a data set is named by its place, and that a report has the right figures."""

import base64
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sets import SETS, coded, data_prep, rl_row, scene, sharegpt_item, write_json, write_parquet

from data_prep.curate import image_hash
from data_prep.formats.schema import rl_record
from data_prep.tasks.reading.glyphs import COLUMNS, Mix, draw_test_rows

CALL = '<think>x</think><tool_call>{"name": "other", "arguments": {}}</tool_call>'


def test_a_good_set_has_no_fault(tmp_path: Path) -> None:
    result = data_prep("check", SETS["CodeVision-RL"](tmp_path), SETS["CodeVision-SFT"](tmp_path), "--workers", 1)
    assert (result["exit_code"], result["rows"]) == (0, {"read": 4, "bad": 0})


def test_every_fault_of_a_row_is_named_with_file_row_and_field(tmp_path: Path) -> None:
    bad = rl_row(1, "rotate_90", images=[{"bytes": b"no", "path": None}], question="", prompt=[
        {"role": "user", "content": "<image><image>"}])  # fmt: skip
    source = write_parquet(tmp_path / "a.parquet", [rl_row(0, "rotate_90"), bad, rl_row(0, "rotate_90")])
    result = data_prep("check", source, "--workers", 1)
    assert result["exit_code"] == 1
    named = [(fault["file"], fault["row"], fault["field"]) for fault in result["named"]]
    assert named == [
        (str(source), 1, "images[0]"),
        (str(source), 1, "question"),
        (str(source), 1, "prompt"),
        (str(source), 2, "extra_info.index"),
    ]
    assert result["faults"] == {"bad_turns": 1, "duplicate_id": 1, "no_question": 1, "picture_unknown": 1}
    assert result["rows"] == {"read": 3, "bad": 2}
    assert f"{source}, row 1: images[0]: no JPEG" in result["stderr"]


@pytest.mark.parametrize(
    ("turns", "reason"),
    [(slice(0, 3), "bad_turns"), (slice(1, 4), "bad_turns"), (slice(0, 4, 3), "bad_turns")],
)
def test_turns_of_a_demonstration_are_checked(tmp_path: Path, turns: slice, reason: str) -> None:
    item = sharegpt_item(tmp_path)
    item["conversations"] = item["conversations"][turns]
    assert reason in data_prep("check", write_json(tmp_path / "a.json", [item]), "--workers", 1)["faults"]


def test_a_call_that_can_not_be_read_is_a_fault(tmp_path: Path) -> None:
    item = sharegpt_item(tmp_path)
    item["conversations"][1]["value"] = CALL
    result = data_prep("check", write_json(tmp_path / "a.json", [item]), "--workers", 1)
    assert result["faults"] == {"bad_call": 1}


def test_the_frame_of_boxes_is_decided_by_boxes_that_fit_into_one_frame_only(tmp_path: Path) -> None:
    wide, tall = [50.0, 4.0, 60.0, 40.0], [4.0, 50.0, 40.0, 60.0]
    for box, frame, verdict in (
        (wide, "input", "input"),
        (tall, "canonical", "canonical"),
        (tall, "input", "canonical"),
    ):
        rows = [rl_row(index, ("rotate_90",), bbox=box, box_frame=frame) for index in range(3)]
        result = data_prep("check", write_parquet(tmp_path / "a.parquet", rows), "--workers", 1)
        audit = result["frames"]["hiertext"]
        assert (audit["verdict"], audit["boxes"], audit["quarter_turns"]) == (verdict, 3, 3)
        assert audit["tall"] == (3 if box is wide else 0)
        assert result["rows"]["bad"] == (0 if frame == verdict else 3)


def test_a_set_is_counted_by_source_transform_box_and_kind(tmp_path: Path) -> None:
    rows = [rl_row(0, ("rotate_90",)), rl_row(1, ("rotate_90",)), rl_row(2, None, bbox=None)]
    summary = data_prep("inspect", write_parquet(tmp_path / "a.parquet", rows), "--workers", 1)
    assert summary["groups"] == [
        {"source": "hiertext", "transform": "rotate_90", "box": True, "kind": "task", "rows": 2},
        {"source": "hiertext", "transform": "none", "box": False, "kind": "task", "rows": 1},
    ]
    assert summary["licence_rows"] == {"CC-BY-SA-4.0": 3}
    assert summary["megapixels"]["median"] == pytest.approx(64 * 48 / 1e6, abs=1e-4)
    assert summary["picture_tokens"]["greatest"] == 6
    assert summary["prompt_chars"] == dict.fromkeys(summary["prompt_chars"], len("What is word 0?"))
    turns = data_prep("inspect", SETS["CodeVision-SFT"](tmp_path), "--workers", 1)
    assert [group["kind"] for group in turns["groups"]] == ["single-tool"]


def test_duplicates_are_found_as_they_are_recoded_turned_and_across_sets(tmp_path: Path) -> None:
    turned = scene(1).transpose(Image.Transpose.ROTATE_90)
    rows = [
        rl_row(0, ("rotate_90",)),
        rl_row(0, ("rotate_90",)) | {"data_source": "copied"},
        rl_row(1, ("rotate_90",)),
        rl_row(2, None, bbox=None, images=[{"bytes": coded(turned, "JPEG", quality=85), "path": None}]),
        rl_row(3, ("rotate_90",)),
    ]
    bench = [rl_row(9, None), rl_row(3, None, images=[{"bytes": coded(scene(3), "PNG"), "path": None}])]
    source, test = write_parquet(tmp_path / "a.parquet", rows), write_parquet(tmp_path / "b.parquet", bench)
    summary = data_prep("inspect", source, "--against", test, "--workers", 1)
    assert summary["duplicates"] == {
        "same_picture": 2,
        "same_picture_and_question": 2,
        "near_pictures": 2,
        "near_pictures_same_question": 0,
        "named": [f"{source}, row 2 ~ {source}, row 3"],
    }
    assert summary["against"]["shared_pictures"] == summary["against"]["shared_pictures_and_questions"] == 1
    assert summary["against"]["named"][0] == f"{source}, row 4 ~ {test}, row 1"


def test_images_that_differ_are_no_near_duplicates_and_the_six_columns_are() -> None:
    pages = [row.images[0] for row in draw_test_rows(Mix(seed=2), 6)]
    hashes = np.stack([image_hash.hashes(page) for page in pages])
    pairs = {(a, b) for a, b in image_hash.near(hashes[:, 0], hashes) if a < b}
    assert pairs == {(a, b) for a in range(36) for b in range(a + 1, 36) if a // len(COLUMNS) == b // len(COLUMNS)}


def test_the_page_shows_the_counts_and_samples_and_needs_nothing_else(tmp_path: Path) -> None:
    rows = [rl_record(row) for row in draw_test_rows(Mix(), 1)]
    rows[0]["extra_info"]["question"] = "<script>What?"
    rows[0]["prompt"][0]["content"] = "<image>\n<script>What?"
    data_prep("inspect", write_parquet(tmp_path / "a.parquet", rows), "--html", tmp_path / "a.html", "--workers", 1)
    page = (tmp_path / "a.html").read_text()
    images = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    assert len(images) == 6
    assert all(Image.open(io.BytesIO(base64.b64decode(image))).width > 20 for image in images)
    assert "<script>" not in page
    assert not re.search(r"https?://", page)
    assert json.dumps("rotate_90").strip('"') in page
