"""Tests `python -m data_prep`: its bytes, its summary, one sentence for an error, and no half-written output."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import typer

from codevision_ext.cli import app as cli
from codevision_ext.io.atomic_files import whole_folder
from data_prep.__main__ import main
from data_prep.cli.app import app
from data_prep.curate.difficulty import Route
from data_prep.demonstrations.from_model import Discarded, TurnKind
from data_prep.formats.readers import READERS
from data_prep.formats.row_errors import Reason
from data_prep.formats.schema import RL_SCHEMA, SFT_SCHEMA

SMALL = ("--rows", "12", "--read-rows", "12", "--sft-rows", "12", "--test-items", "2", "--seed", "5")


def data_prep(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "data_prep", *arguments], capture_output=True, text=True, timeout=120, check=False
    )


def here(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """The exit code of the command, run in this process."""
    monkeypatch.setattr(sys, "argv", ["data_prep", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


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
    summary = json.loads(ended.stdout)
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
        assert table.num_rows == summary["rows"][name]
    assert summary["rows"]["test"] == 12
    assert summary["rows"]["val"] >= 120


def test_the_json_names_images_that_are_there_and_are_those_of_the_parquet(
    drawn: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    out, _ = drawn
    items = json.loads((out / "sft.json").read_text())
    rows = pq.read_table(out / "sft.parquet").to_pylist()
    for item, row in zip(items, rows, strict=True):
        assert [(out / name).read_bytes() for name in item["images"]] == [image["bytes"] for image in row["images"]]
        assert [turn["value"] for turn in item["conversations"]] == [turn["content"] for turn in row["messages"]]


@pytest.mark.parametrize(
    ("parts", "names"), [("read", "letters|read"), ("rl", "train|val|test"), ("sft", "sft|images")]
)
def test_the_same_seed_writes_the_same_bytes_and_one_part_alone_is_that_part_of_the_whole(
    drawn: tuple[Path, subprocess.CompletedProcess[str]], monkeypatch: pytest.MonkeyPatch, parts: str, names: str
) -> None:
    out, _ = drawn
    part = out.with_name(parts)
    assert here(monkeypatch, "glyphs", "--out", str(part), *SMALL, "--parts", parts) == 0
    assert contents(part) == {name: data for name, data in contents(out).items() if re.match(names, name)}


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
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    named: str,
) -> None:
    assert here(monkeypatch, "glyphs", "--out", str(tmp_path / "out"), *arguments) == 2
    out, err = capsys.readouterr()
    assert named in err.splitlines()[-1]
    assert "Traceback" not in err
    assert out == ""
    assert list(tmp_path.iterdir()) == []


def test_existing_output_is_only_replaced_with_force(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("kept")
    small = ("glyphs", "--out", str(tmp_path / "out"), "--rows", "1", "--read-rows", "1", "--parts", "read")
    assert here(monkeypatch, *small) == 2
    assert "--force" in capsys.readouterr().err
    assert (tmp_path / "out" / "mine.txt").read_text() == "kept"
    assert here(monkeypatch, *small, "--force") == 0
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


DOCS = (Path(__file__).parents[3] / "docs" / "data.md").read_text()


@pytest.mark.parametrize("line", re.findall(r"^    python -m (data_prep .*)$", DOCS, re.MULTILINE))
def test_a_command_of_the_documentation_is_understood(line: str) -> None:
    _, name, *words = shlex.split(line)
    command = typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]
    command.make_context(name, words)


def test_the_documentation_names_every_command_schema_reason_and_turn() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for name in (*commands, *READERS, *Reason, *TurnKind, *Discarded, *Route):
        assert f"`{name}`" in DOCS, name


def test_the_commands_are_those_of_codevision_data_too(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.app(["data", "check", "--help"])
    assert ended.value.code == 0
    assert "codevision data check [OPTIONS]" in capsys.readouterr().out
