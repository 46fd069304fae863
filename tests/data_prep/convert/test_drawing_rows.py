"""Rows that ask for a drawing keep their target through every command, and a bad target is named by its place."""

import json
import math
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from sets import data_prep, image_file, rl_row, write_json, write_parquet

from codevision_ext.task.item import read_item

POINT = {"kind": "point", "x": 20, "y": 30}
SQUARE = {"kind": "polyline", "points": [[5, 5], [30, 5], [30, 30]], "closed": True}
TARGET = {"primitives": [POINT, SQUARE]}


def rows_of(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return rows


def drawn_row(index: int, drawing: Any, **changes: Any) -> dict[str, Any]:
    row = rl_row(index, None, bbox=None, reward_model={"style": "rule", "ground_truth": []}, **changes)
    row["extra_info"] |= {"answer": None, "drawing": drawing}
    return row


def targets(path: Path) -> list[Any]:
    return [read_item(row, tuple(row["extra_info"]["size"])).task.drawing for row in rows_of(path)]


EXPECTED = {
    "primitives": [
        {"kind": "point", "x": 20.0, "y": 30.0},
        {"kind": "polyline", "points": [[5.0, 5.0], [30.0, 5.0], [30.0, 30.0]], "closed": True},
    ]
}


def test_a_table_whose_answers_are_drawings_becomes_rows_that_train(tmp_path: Path) -> None:
    image_file(tmp_path / "a.png")
    lines = [
        {"image": "a.png", "question": "Mark P.", "drawing": TARGET},
        {"image": "a.png", "question": "Mark P and say where.", "answer": "left", "drawing": json.dumps(TARGET)},
        {"image": "a.png", "question": "Left or right?", "answer": "left"},
    ]
    summary = data_prep("convert", write_json(tmp_path / "a.jsonl", lines), "--out", tmp_path / "out.parquet")
    assert summary["rows"] == {"read": 3, "written": 3, "rejected": 0}
    assert targets(tmp_path / "out.parquet") == [EXPECTED, EXPECTED, None]
    rows = rows_of(tmp_path / "out.parquet")
    assert [row["reward_model"]["ground_truth"] for row in rows] == [[], ["left"], ["left"]]
    again = data_prep("convert", tmp_path / "out.parquet", "--out", tmp_path / "again.parquet")
    assert again["rows"]["written"] == 3
    assert targets(tmp_path / "again.parquet") == [EXPECTED, EXPECTED, None]
    assert data_prep("check", tmp_path / "out.parquet", "--workers", 1)["rows"] == {"read": 3, "bad": 0}


def test_a_file_with_nothing_but_drawings_as_answers_is_a_table(tmp_path: Path) -> None:
    image_file(tmp_path / "a.png")
    lines = [{"image": "a.png", "question": f"Mark {name}.", "drawing": TARGET} for name in "PQ"]
    assert data_prep("convert", write_json(tmp_path / "a.jsonl", lines), "--out", tmp_path / "o.parquet")["rows"] == {
        "read": 2,
        "written": 2,
        "rejected": 0,
    }


@pytest.mark.parametrize(
    ("drawing", "message"),
    [
        ({"primitives": []}, "field primitives: is empty"),
        ({"primitives": [POINT | {"x": math.nan}]}, "field primitives.0.x: must be a finite number"),
        ({"primitives": [POINT | {"x": 65}]}, "field primitives.0.x, y: (65, 30) lies outside the input image"),
        ({"primitives": [POINT | {"kind": "star"}]}, "field primitives.0.kind: must be one of "),
        ("nonsense", "isn't JSON"),
    ],
)
def test_a_bad_target_is_named_by_convert_and_check_and_the_other_rows_are_kept(
    tmp_path: Path, drawing: Any, message: str
) -> None:
    bad = drawn_row(1, drawing if isinstance(drawing, str) else json.dumps(drawing))
    rows = [drawn_row(0, json.dumps(TARGET)), bad, drawn_row(2, json.dumps(TARGET))]
    source = write_parquet(tmp_path / "a.parquet", rows)
    out, rejects = tmp_path / "out.parquet", tmp_path / "rejects.jsonl"
    summary = data_prep("convert", source, "--out", out, "--rejects", rejects, "--max-rejected", "50%")
    assert summary["rows"] == {"read": 3, "written": 2, "rejected": 1}
    (fault,) = [json.loads(line) for line in rejects.read_text().splitlines()]
    assert (fault["file"], fault["row"], fault["reason"]) == (str(source), 1, "bad_drawing")
    assert fault["field"] in ("drawing", "extra_info.drawing")
    assert message in fault["said"]
    checked = data_prep("check", source, "--workers", 1)
    assert (checked["exit_code"], checked["faults"]) == (1, {"bad_drawing": 1})
    assert f"{source}, row 1: {fault['field']}: " in checked["stderr"]


def test_a_target_that_parquet_holds_as_objects_of_all_kinds_is_read(tmp_path: Path) -> None:
    source = write_parquet(tmp_path / "a.parquet", [drawn_row(0, TARGET), drawn_row(1, {"primitives": [POINT]})])
    stored = rows_of(source)[0]["extra_info"]["drawing"]["primitives"][0]
    assert stored.keys() == {"kind", "x", "y", "points", "closed"}
    data_prep("convert", source, "--out", tmp_path / "out.parquet")
    assert targets(tmp_path / "out.parquet") == [EXPECTED, {"primitives": EXPECTED["primitives"][:1]}]


def test_a_row_with_neither_answer_nor_drawing_is_rejected(tmp_path: Path) -> None:
    source = write_parquet(tmp_path / "a.parquet", [drawn_row(0, json.dumps(TARGET)), drawn_row(1, None)])
    summary = data_prep("check", source, "--workers", 1)
    assert summary["faults"] == {"no_answer": 1}


def test_a_drawing_stays_on_an_image_that_is_not_turned(tmp_path: Path) -> None:
    plain = rl_row(1, None, reward_model={"style": "rule", "ground_truth": ["word"]})
    source = write_parquet(tmp_path / "a.parquet", [drawn_row(0, json.dumps(TARGET)), plain])
    summary = data_prep("transform", source, "--out", tmp_path / "out.parquet", "--workers", 1)
    assert summary["left_out"] == {"drawing_on_turned_image": 5}
    rows = rows_of(tmp_path / "out.parquet")
    assert [row["extra_info"]["column"] for row in rows][:2] == ["source", "source"]
    assert [target is not None for target in targets(tmp_path / "out.parquet")] == [True] + [False] * 6


def test_two_rows_that_differ_in_their_drawing_are_two_rows(tmp_path: Path) -> None:
    other = json.dumps({"primitives": [POINT | {"x": 21}]})
    source = write_parquet(tmp_path / "a.parquet", [drawn_row(0, json.dumps(TARGET)), drawn_row(0, other)])
    summary = data_prep("convert", source, "--out", tmp_path / "out.parquet")
    assert summary["rows"]["written"] == 2
