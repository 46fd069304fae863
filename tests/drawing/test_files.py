"""Drawings in files are checked alone and in batches; a bad line is named, and no good one is lost."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw

from codevision_ext.drawing.files import check_batch, check_one
from codevision_ext.errors import InputError

TARGET = {"primitives": [{"kind": "segment", "x1": 40, "y1": 40, "x2": 240, "y2": 150}]}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    image = Image.effect_noise((320, 200), 60).convert("RGB")
    image.save("input.png")
    ImageDraw.Draw(image).line((40, 40, 240, 150), (255, 0, 0), 4)
    image.save("made.png")
    Path("target.json").write_text(json.dumps(TARGET))
    Path("text.png").write_text("no image")
    Path("cut.png").write_bytes(Path("made.png").read_bytes()[:3000])
    return tmp_path


def line(**changes: Any) -> bytes:
    content = {"id": 1, "input": "input.png", "made": "made.png", "target": TARGET} | changes
    return json.dumps({name: value for name, value in content.items() if value is not None}).encode() + b"\n"


def test_one_drawing_gives_one_object(folder: Path) -> None:  # noqa: ARG001
    result = json.loads(check_one(Path("input.png"), Path("made.png"), Path("target.json")))
    assert result.keys() == {"correct", "f1", "recall", "precision", "preserved", "reason"}
    assert result["correct"] is True
    assert result["reason"] == "right"
    wrong = json.loads(check_one(Path("input.png"), Path("input.png"), Path("target.json")))
    assert wrong["correct"] is False
    assert wrong["f1"] == 0


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        (b"\n", "in.jsonl, line 2: is empty"),
        (b"{\n", "in.jsonl, line 2: "),
        (b"[]\n", "in.jsonl, line 2: "),
        (line(id=2, made=None), "in.jsonl, line 2: field made: is missing"),
        (line(id=2, made="away.png"), "in.jsonl, line 2: field made: away.png: can't be read: No such file"),
        (line(id=2, made="text.png"), "in.jsonl, line 2: field made: text.png: isn't an image"),
        (line(id=2, input="cut.png"), "in.jsonl, line 2: field input: cut.png: can't be read"),
        (line(id=2, target={"primitives": []}), "in.jsonl, line 2: field target: field primitives: is empty"),
        (line(id=2, target={}), "in.jsonl, line 2: field target: field primitives: is missing"),
        (
            line(id=2, target={"primitives": [{"kind": "point", "x": float("nan"), "y": 2}]}),
            "in.jsonl, line 2: ",
        ),
        (
            line(id=2, target={"primitives": [{"kind": "point", "x": 400, "y": 2}]}),
            "in.jsonl, line 2: field target: field primitives.0.x, y: (400, 2) lies outside the input image",
        ),
        (line(id=2, made=""), "in.jsonl, line 2: field made: is empty"),
        (line(id=True), "in.jsonl, line 2: field id: must be a string or a whole number, it is True"),
        (b'{"id": 2, "id": 3}\n', "in.jsonl, line 2: the key 'id' occurs twice"),
        (line(id=1), "in.jsonl, line 2: field id: 1 is the id of an earlier line"),
    ],
)
def test_a_bad_line_is_listed_and_the_good_ones_are_checked(folder: Path, bad: bytes, problem: str) -> None:
    Path("in.jsonl").write_bytes(line() + bad + line(id="three"))
    number, listed = check_batch(Path("in.jsonl"), folder / "out.jsonl")
    assert number == 2
    assert [result.error.startswith(problem) for result in listed] == [True], listed
    assert "\n" not in listed[0].error
    results = [json.loads(text) for text in (folder / "out.jsonl").read_text().splitlines()]
    assert [result["id"] for result in results if "error" not in result] == [1, "three"]
    assert results[0]["correct"] is results[2]["correct"] is True
    assert results[1]["error"] == listed[0].error


def test_the_command_says_by_its_exit_code_that_lines_are_bad(folder: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-m", "codevision_ext.cli", "drawing"]

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*command, *words], capture_output=True, text=True, check=False, cwd=folder)

    one = run("--input", "input.png", "--made", "made.png", "--target", "target.json")
    assert (one.returncode, json.loads(one.stdout)["correct"]) == (0, True)
    Path("in.jsonl").write_bytes(line() + b"{}\n")
    batch = run("--batch", "in.jsonl", "-o", "out.jsonl")
    assert batch.returncode == 1
    assert batch.stderr == "codevision: in.jsonl, line 2: field id: is missing\n"
    assert len((folder / "out.jsonl").read_text().splitlines()) == 2
    for words in ((), ("--batch", "in.jsonl"), ("--input", "input.png", "--made", "made.png")):
        assert run(*words).returncode == 2
    missing = run("--input", "away.png", "--made", "made.png", "--target", "target.json")
    assert missing.returncode == 2
    assert missing.stderr == "codevision: --input away.png: can't be read: No such file or directory\n"


def test_a_folder_or_a_missing_file_is_named(folder: Path) -> None:
    with pytest.raises(InputError, match=r"away\.jsonl: can't be read"):
        check_batch(Path("away.jsonl"), Path("out.jsonl"))
    Path("in.jsonl").write_bytes(line())
    with pytest.raises(InputError, match="is a folder"):
        check_batch(Path("in.jsonl"), folder)
    with pytest.raises(InputError, match="there is no folder away"):
        check_batch(Path("in.jsonl"), Path("away/out.jsonl"))
    with pytest.raises(InputError, match="--target away"):
        check_one(Path("input.png"), Path("made.png"), Path("away"))


def test_an_empty_batch_and_one_that_would_replace_itself_are_refused(folder: Path) -> None:
    (folder / "empty.jsonl").write_bytes(b"\n \n")
    with pytest.raises(InputError, match=r"empty\.jsonl: has no lines"):
        check_batch(folder / "empty.jsonl", folder / "out.jsonl")
    (folder / "own.jsonl").write_bytes(b"{}\n")
    with pytest.raises(InputError, match="is the file that is read"):
        check_batch(folder / "own.jsonl", folder / "own.jsonl")
    assert (folder / "own.jsonl").read_bytes() == b"{}\n"
