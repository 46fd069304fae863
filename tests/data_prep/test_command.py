"""What does who types `python -m data_prep` get: the same bytes, a summary, one sentence, nothing by halves?"""

import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from codevision_ext.files import whole_folder
from data_prep.schema import RL_SCHEMA, SFT_SCHEMA

SMALL = ("--rows", "12", "--read-rows", "12", "--sft-rows", "12", "--test-items", "2", "--seed", "5")


def data_prep(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "data_prep", *arguments], capture_output=True, text=True, timeout=120, check=False
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    out = tmp_path_factory.mktemp("data") / "one"
    return out, data_prep("glyphs", "--out", str(out), *SMALL)


def test_it_writes_every_file_in_its_schema_and_says_how_many_rows(
    drawn: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    out, ended = drawn
    assert ended.returncode == 0
    told = json.loads(ended.stdout)
    schemas = dict.fromkeys(("train", "val", "test"), RL_SCHEMA)
    schemas |= dict.fromkeys(("letters", "read", "read_val", "sft", "sft_val"), SFT_SCHEMA)
    assert {path.name for path in out.iterdir()} == {
        *(f"{name}.parquet" for name in schemas),
        "sft.json",
        "sft_val.json",
        "images",
    }
    for name, schema in schemas.items():
        table = pq.read_table(out / f"{name}.parquet")
        assert table.schema.remove_metadata() == schema
        assert table.num_rows == told["rows"][name]
    assert told["rows"]["test"] == 12
    assert told["rows"]["val"] >= 120


def test_the_json_names_pictures_that_are_there_and_are_those_of_the_parquet(
    drawn: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    out, _ = drawn
    items = json.loads((out / "sft.json").read_text())
    rows = pq.read_table(out / "sft.parquet").to_pylist()
    for item, row in zip(items, rows, strict=True):
        assert [(out / name).read_bytes() for name in item["images"]] == [image["bytes"] for image in row["images"]]
        assert [turn["value"] for turn in item["conversations"]] == [turn["content"] for turn in row["messages"]]


def test_the_same_seed_writes_the_same_bytes(drawn: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    out, _ = drawn
    again = out.with_name("again")
    assert data_prep("glyphs", "--out", str(again), *SMALL).returncode == 0
    assert contents(again) == contents(out)


def test_one_part_alone_is_the_same_as_that_part_of_the_whole(
    drawn: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    out, _ = drawn
    part = out.with_name("part")
    assert data_prep("glyphs", "--out", str(part), *SMALL, "--parts", "read").returncode == 0
    assert contents(part) == {
        name: content
        for name, content in contents(out).items()
        if name in ("letters.parquet", "read.parquet", "read_val.parquet")
    }


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--sizes", "84"), "--sizes"),
        (("--parts", "reed"), "--parts"),
        (("--rows", "0"), "--rows"),
        (("--wrong-first", "2"), "--wrong-first"),
        (("--words-share", "2"), "words_share"),
        (("--no-such", "1"), "--no-such"),
    ],
)
def test_a_bad_argument_ends_with_one_sentence_that_names_it(
    tmp_path: Path, arguments: tuple[str, ...], named: str
) -> None:
    ended = data_prep("glyphs", "--out", str(tmp_path / "out"), *arguments)
    assert ended.returncode == 2
    assert named in ended.stderr.splitlines()[-1]
    assert "Traceback" not in ended.stderr
    assert ended.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_only_replaced_when_asked(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("kept")
    small = ("glyphs", "--out", str(tmp_path / "out"), "--rows", "1", "--read-rows", "1", "--parts", "read")
    refused = data_prep(*small)
    assert refused.returncode == 2
    assert "--force" in refused.stderr
    assert (tmp_path / "out" / "mine.txt").read_text() == "kept"
    assert data_prep(*small, "--force").returncode == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "letters.parquet",
        "read.parquet",
        "read_val.parquet",
    }
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_run_that_breaks_leaves_what_was_there_and_nothing_else(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "old.txt").write_text("old")

    def break_off() -> None:
        with whole_folder(out, force=True) as folder:
            (folder / "new.txt").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        break_off()
    assert contents(tmp_path) == {"out/old.txt": b"old"}
    assert list(tmp_path.iterdir()) == [out]
