"""Tests that operations can be left out of what is trained, so that tools unseen in training can be tested."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from sets import data_prep

from codevision_ext.errors import InputError
from codevision_ext.task.image_ops import required_ops
from data_prep.tasks.reading.glyphs import COLUMNS


def rows(path: Path) -> list[dict[str, Any]]:
    result: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return result


def required(path: Path) -> set[str]:
    return {op for row in rows(path) for op in required_ops(tuple(row["extra_info"]["transform"] or ()))}


@pytest.mark.parametrize("without", [("flip_vertical",), ("rotate_90", "crop")])
def test_glyphs_leave_operations_out_of_all_but_the_benchmark(tmp_path: Path, without: tuple[str, ...]) -> None:
    words = [
        "glyphs",
        "--out",
        tmp_path / "data",
        "--rows",
        80,
        "--sft-rows",
        40,
        "--test-items",
        1,
        "--wrong-first",
        1,
    ]
    data_prep(*words, "--parts", "rl,sft", "--crop-share", 0.3, "--without", ",".join((*without, "invert")))
    every = {op for op in (*COLUMNS.values(), "crop") if op}
    assert required(tmp_path / "data" / "train.parquet") == every - set(without)
    assert required(tmp_path / "data" / "test.parquet") == every - {"crop"}
    called = [op for row in rows(tmp_path / "data" / "sft.parquet") for op in ops_of(row)]
    assert called
    assert not set(called) & set(without)


def ops_of(row: dict[str, Any]) -> list[str]:
    return [op for call in json.loads(row["metadata"])["calls"] for op in call["ops"]]


def test_synth_leaves_operations_out_of_tasks_and_of_calls(tmp_path: Path) -> None:
    words = ["synth", "--out", tmp_path / "data", "--rows", 24, "--sft-rows", 12, "--kinds", "table", "--test-items", 1]
    words += ["--max-megapixels", 0.3, "--wrong-first", 1, "--source-share", 0, "--without", "rotate_90,flip_vertical"]
    data_prep(*words, "--parts", "train,sft,test")
    assert not required(tmp_path / "data" / "train.parquet") & {"rotate_90", "flip_vertical"}
    assert {"rotate_90", "flip_vertical"} <= required(tmp_path / "data" / "test.parquet")
    called = {op for row in rows(tmp_path / "data" / "sft.parquet") for op in ops_of(row)}
    assert called
    assert not called & {"rotate_90", "flip_vertical"}


def test_without_an_operation_to_leave_out_the_bytes_stay_the_same(tmp_path: Path) -> None:
    for name, words in (("a", ()), ("b", ("--without", "invert"))):
        data_prep("glyphs", "--out", tmp_path / name, "--rows", 12, "--test-items", 1, "--parts", "rl", *words)
    assert (tmp_path / "a" / "train.parquet").read_bytes() == (tmp_path / "b" / "train.parquet").read_bytes()


def test_an_operation_that_nothing_uses_is_named_on_stderr(tmp_path: Path) -> None:
    words = ("--rows", 1, "--parts", "rl", "--test-items", 1, "--without", "invert,crop,flip_vertical")
    summary = data_prep("glyphs", "--out", tmp_path / "a", *words)
    line = "--without invert changes nothing: no row of glyphs requires it and no call does it"
    assert f"data_prep: {line}\n" in summary["stderr"]


def test_a_benchmark_alone_leaves_nothing_out(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--without changes nothing: --parts test has all operations"):
        data_prep("synth", "--out", tmp_path / "a", "--parts", "test", "--without", "crop")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("spin", "--without must be among autocontrast, .*; not 'spin'"),
        ("rotate_90,rotate_180,rotate_270,flip_horizontal,flip_vertical", "--without leaves no rotation and no flip"),
    ],
)
def test_an_unknown_operation_and_all_of_them_are_refused(tmp_path: Path, words: str, message: str) -> None:
    for command in ("glyphs", "synth"):
        with pytest.raises(InputError, match=message):
            data_prep(command, "--out", tmp_path / "data", "--without", words)
