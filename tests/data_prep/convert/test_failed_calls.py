"""Tests that SFT learns no failed or deliberately wrong call, through every schema, and that this is a setting."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from sets import data_prep, sharegpt_item, write_json

from codevision_ext.errors import InputError
from data_prep.convert.failed_calls import train_failed_calls
from data_prep.formats.schema import Demonstration, SampleType


def calls(demonstration: Demonstration) -> list[tuple[bool | None, dict[str, Any]]]:
    """Returns whether each call is learned, and what the metadata says about the call."""
    turns = [message for message in demonstration.messages if message.role == "assistant"][:-1]
    return list(zip([turn.train for turn in turns], demonstration.metadata["calls"], strict=True))


def test_scripted_demonstrations_mask_each_call_that_fails_or_is_wrong_on_purpose(
    demonstrations: list[Demonstration],
) -> None:
    failed = wrong = 0
    for demonstration in demonstrations:
        assert demonstration.messages[-1].train is None
        made = calls(demonstration)
        for train, call in made:
            failed += call["status"] != "ok"
            assert train in (None, False)
            assert train is False or call["status"] == "ok"
        masked = [call for train, call in made if train is False]
        assert len(masked) == (demonstration.sample_type == SampleType.ERROR_HANDLING)
        wrong += bool(masked) and masked[0]["status"] == "ok"
    assert failed > 1
    assert wrong > 1


def test_with_the_setting_off_every_call_is_learned(demonstrations: list[Demonstration]) -> None:
    trained = [train_failed_calls(demonstration) for demonstration in demonstrations]
    marks = [train for demonstration in trained for train, _ in calls(demonstration)]
    assert set(marks) == {None, True}
    assert marks.count(True) == sum(
        train is False for demonstration in demonstrations for train, _ in calls(demonstration)
    )


@pytest.mark.parametrize("command", ["glyphs", "synth"])
def test_the_commands_that_draw_demonstrations_have_the_setting(command: str, tmp_path: Path) -> None:
    words = [command, "--sft-rows", 12, "--rows", 1, "--parts", "sft", "--wrong-first", 1, "--seed", 3]
    words += ["--source-share", 0, *(["--kinds", "table", "--max-megapixels", 0.3] if command == "synth" else [])]
    for option, mark in (("--mask-failed-calls", False), ("--no-mask-failed-calls", True)):
        data_prep(*words, "--out", tmp_path / option, option)
        rows = pq.read_table(tmp_path / option / "sft.parquet").to_pylist()
        marks = {turn["train"] for row in rows for turn in row["messages"]}
        assert marks == {None, mark}


def failing_item(folder: Path, **marks: Any) -> dict[str, Any]:
    """Returns an item whose first call fails; `marks` are added to the turn of that call."""
    item = sharegpt_item(folder)
    human, call, shown, answer = item["conversations"]
    item["conversations"] = [human, call | marks, {"from": "tool", "value": "Error: no photo"}, call, shown, answer]
    return item


def trained(folder: Path, item: dict[str, Any], *words: object) -> tuple[list[bool | None], dict[str, Any]]:
    path = write_json(folder / "codevision_sft.json", [item])
    out = folder / "sft.parquet"
    summary = data_prep("convert", path, "--to", "sft", "--out", out, "--force", "--workers", 1, *words)
    [row] = pq.read_table(out).to_pylist()
    return [turn["train"] for turn in row["messages"] if turn["role"] == "assistant"], summary


@pytest.mark.parametrize(
    ("marks", "words", "expected"),
    [
        ({}, (), False),
        ({}, ("--no-mask-failed-calls",), None),
        ({"train": True}, (), True),
        ({"train": False}, ("--no-mask-failed-calls",), False),
    ],
)
def test_convert_masks_failed_calls_of_published_items_that_have_no_mark(
    tmp_path: Path, marks: dict[str, Any], words: Sequence[str], expected: bool | None
) -> None:
    learned, summary = trained(tmp_path, failing_item(tmp_path, **marks), *words)
    assert learned == [expected, None, None]
    masked_here = not marks and not words
    assert summary["changed"] == ({"failed_call_masked": 1} if masked_here else {})


def test_marks_reach_sharegpt_and_come_back(tmp_path: Path) -> None:
    learned, _ = trained(tmp_path, failing_item(tmp_path))
    folder = tmp_path / "sharegpt"
    data_prep("convert", tmp_path / "sft.parquet", "--to", "sharegpt", "--out", folder, "--workers", 1)
    [item] = json.loads((folder / "sharegpt.json").read_text())
    assert [turn.get("train") for turn in item["conversations"] if turn["from"] == "gpt"] == learned
    assert all("train" not in turn for turn in item["conversations"] if turn["from"] != "gpt")
    back = tmp_path / "back.parquet"
    data_prep("convert", folder / "sharegpt.json", "--to", "sft", "--out", back, "--workers", 1)
    [row], [first] = pq.read_table(back).to_pylist(), pq.read_table(tmp_path / "sft.parquet").to_pylist()
    assert row["messages"] == first["messages"]


def test_a_mark_of_another_type_and_a_row_without_anything_to_learn_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"row 0: \S+: must be true, false, 1 or 0, not 'no'"):
        trained(tmp_path, failing_item(tmp_path, train="no"))
    item = failing_item(tmp_path)
    item["conversations"] = [turn | {"train": False} for turn in item["conversations"]]
    with pytest.raises(InputError, match="row 0: messages: there is nothing to learn"):
        trained(tmp_path, item)
