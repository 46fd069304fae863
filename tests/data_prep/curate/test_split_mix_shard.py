"""Tests that data sets are split, mixed and sharded without a lost row, and with their licences."""

from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from sets import SETS, data_prep, rl_row, write_parquet

from codevision_ext.errors import InputError
from data_prep.formats.schema import rl_record
from data_prep.tasks.reading.glyphs import Mix, draw_test_rows


def rows_of(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return rows


def converted(path: Path, count: int, source: str = "mine", first: int = 0, **words: str) -> Path:
    rows = [rl_row(first + index, ("rotate_90",), data_source=source) for index in range(count)]
    raw = write_parquet(path.with_suffix(".raw.parquet"), rows)
    data_prep("convert", raw, "--out", path, "--workers", 1, *[word for pair in words.items() for word in pair])
    return path


def test_parts_share_no_image_however_it_is_turned_and_lose_no_row(tmp_path: Path) -> None:
    rows = [rl_record(row) for row in draw_test_rows(Mix(), 40)]
    source = write_parquet(tmp_path / "a.parquet", rows)
    summary = data_prep("split", source, "--out", tmp_path / "out", "--part", "train=0.7", "--part", "val=0.3")
    parts = {name: rows_of(tmp_path / "out" / f"{name}.parquet") for name in ("train", "val")}
    assert {name: len(rows) for name, rows in parts.items()} == summary["rows"]
    items = {name: Counter(row["extra_info"]["index"] // 6 for row in rows) for name, rows in parts.items()}
    assert not items["train"].keys() & items["val"].keys()
    assert set(items["train"].values()) | set(items["val"].values()) == {6}
    assert len(items["train"] | items["val"]) == 40
    assert 0.5 < len(items["train"]) / 40 < 0.9


def test_a_row_s_part_depends_on_nothing_but_its_image_and_the_seed(tmp_path: Path) -> None:
    all_rows, few = converted(tmp_path / "a.parquet", 30), converted(tmp_path / "b.parquet", 10, first=20)
    shares = ("--part", "x=0.5", "--part", "y=0.5")
    data_prep("split", all_rows, "--out", tmp_path / "all", *shares)
    data_prep("split", few, "--out", tmp_path / "few", *shares)
    data_prep("split", all_rows, "--out", tmp_path / "other", *shares, "--seed", 1)
    all_x, few_x, other_x = (
        {row["extra_info"]["index"] for row in rows_of(tmp_path / name / "x.parquet")}
        for name in ("all", "few", "other")
    )
    assert few_x == {index for index in all_x if index >= 20}
    assert all_x != other_x


def test_a_mix_has_the_weights_and_no_row_twice_unless_it_must(tmp_path: Path) -> None:
    a, b = converted(tmp_path / "a.parquet", 30, "a"), converted(tmp_path / "b.parquet", 10, "b", first=100)
    summary = data_prep("mix", f"{a}=3", f"{b}=2", "--out", tmp_path / "m.parquet")
    rows = rows_of(tmp_path / "m.parquet")
    assert Counter(row["data_source"] for row in rows) == {"a": 15, "b": 10}
    assert len({row["extra_info"]["index"] for row in rows}) == 25
    assert summary["epochs"] == {str(a): 0.5, str(b): 1.0}
    halves = Counter(row["data_source"] for row in rows[:10])
    assert halves == {"a": 6, "b": 4}
    data_prep("mix", f"{a}=1", f"{b}=1", "--out", tmp_path / "n.parquet", "--rows", 50)
    often = Counter(row["extra_info"]["index"] for row in rows_of(tmp_path / "n.parquet") if row["data_source"] == "b")
    assert sorted(often.values()) == [2] * 5 + [3] * 5


def test_the_same_seed_mixes_the_same_bytes(tmp_path: Path) -> None:
    a, b = converted(tmp_path / "a.parquet", 12, "a"), converted(tmp_path / "b.parquet", 12, "b", first=100)
    for name, seed in (("1", 5), ("2", 5), ("3", 6)):
        data_prep("mix", f"{a}=1", f"{b}=1", "--rows", 12, "--seed", seed, "--out", tmp_path / f"{name}.parquet")
    first, again, other = ((tmp_path / f"{name}.parquet").read_bytes() for name in "123")
    assert first == again != other


def test_mixing_in_non_commercial_data_says_so(tmp_path: Path) -> None:
    data_prep(
        "convert", SETS["CodeVision-SFT"](tmp_path), "--to", "sft", "--out", tmp_path / "nc.parquet", "--workers", 1
    )
    free = tmp_path / "free.parquet"
    drawn = SETS["V-Interaction-400K"](tmp_path)
    data_prep("convert", drawn, "--to", "sft", "--out", free, "--licence", "Apache-2.0", "--workers", 1)
    summary = data_prep("mix", f"{free}=1", f"{tmp_path / 'nc.parquet'}=1", "--out", tmp_path / "m.parquet")
    assert summary["licences"] == {"CodeVision-SFT": "CC-BY-NC-4.0", "V-Interaction-400K": "Apache-2.0"}
    assert summary["non_commercial"]
    assert "CodeVision-SFT is CC-BY-NC-4.0" in summary["stderr"]
    assert not data_prep("mix", f"{free}=1", "--out", tmp_path / "f.parquet")["non_commercial"]
    assert [row["licence"] for row in rows_of(tmp_path / "m.parquet")].count("CC-BY-NC-4.0") == 2


def test_shards_hold_all_rows_in_order(tmp_path: Path) -> None:
    a = converted(tmp_path / "a.parquet", 23)
    summary = data_prep("shard", a, "--rows", 10, "--out", tmp_path / "s")
    names = [f"s-{number:05d}-of-00003" for number in range(3)]
    assert summary["rows"] == dict(zip(names, (10, 10, 3), strict=True))
    rows = [row for name in names for row in rows_of(tmp_path / "s" / f"{name}.parquet")]
    assert rows == rows_of(a)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("split", "A", "--out", "O", "--part", "x=0.5"), "must sum to 1"),
        (("split", "A", "--out", "O", "--part", "x"), "needs NAME=NUMBER"),
        (("mix", "A", "--out", "O.parquet"), "needs NAME=NUMBER"),
        (("mix", "A=0", "--out", "O.parquet"), "above 0"),
        (("mix", "A=1", "S=1", "--out", "O.parquet"), "can't go into one file"),
        (("mix", "A=1", "--out", "O.json"), "must end in .parquet"),
        (("shard", "J", "--out", "O", "--rows", "3"), "data_prep convert"),
    ],
)
def test_what_can_not_be_done_ends_with_one_sentence_and_no_file(
    tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    sft = SETS["CodeVision-SFT"](tmp_path)
    files = {"A": converted(tmp_path / "a.parquet", 2), "J": sft, "S": tmp_path / "sft.parquet"}
    data_prep("convert", sft, "--to", "sft", "--out", files["S"], "--workers", 1)
    for name in ("O", "O.parquet", "O.json"):
        files[name] = tmp_path / name
    arguments = [str(files[word]) if word in files else word for word in words]
    arguments = [f"{files[word[0]]}{word[1:]}" if word[1:2] == "=" and word[0] in files else word for word in arguments]
    with pytest.raises(InputError, match=message):
        data_prep(*arguments)
    assert not (tmp_path / "O").exists()
    assert not (tmp_path / "O.parquet").exists()
