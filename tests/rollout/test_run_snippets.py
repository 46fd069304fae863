"""`codevision exec` answers every snippet in order with what a rollout's record would hold, and refuses a bad line."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from scenes import noise

from codevision_ext.errors import InputError
from codevision_ext.rollout.run_snippets import run_batch, run_one
from codevision_ext.sandbox import Sandbox

TURN = "image = image.rotate(90, expand=True)"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    noise(40, 30).save(tmp_path / "in.png")
    return tmp_path / "in.png"


def batch(folder: Path, *lines: Any) -> Path:
    texts = (line if isinstance(line, str) else json.dumps(line) for line in lines)
    (folder / "in.jsonl").write_text("".join(f"{text}\n" for text in texts))
    return folder / "in.jsonl"


def answers(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_batch_is_answered_in_order_whatever_the_snippets_did(
    impatient: Sandbox, tmp_path: Path, image: Path
) -> None:
    given = str(image)
    source = batch(
        tmp_path,
        {"id": "slow", "code": "while True: pass", "image": given},
        {"id": "turn", "code": f"print('hi')\n{TURN}", "image": given},
        {"id": 3, "code": "result = [images[1], images[0].crop((1, 2, 21, 22))]", "images": [given, given]},
        {"id": "idle", "code": "pass", "image": given},
        {"id": "none", "code": "print(images)\nresult = Image.new('RGB', (4, 3))"},
        {"id": "unbound", "code": TURN},
        {"id": "long", "code": "#" * 3000, "image": given},
    )
    assert run_batch(source, tmp_path / "out.jsonl", impatient, tmp_path / "made") == 7
    got = answers(tmp_path / "out.jsonl")
    assert [line["id"] for line in got] == ["slow", "turn", 3, "idle", "none", "unbound", "long"]
    assert [line["status"] for line in got] == ["timeout", "ok", "ok", "ok", "ok", "error", "too_long"]
    slow, turn, two, idle, none, unbound, long = got
    assert slow["images"] == unbound["images"] == []
    assert slow["ms"] >= 1000
    assert turn["stdout"] == "hi\n"
    assert turn["images"] == [str(tmp_path / "made" / "000002-0.png")]
    assert Image.open(turn["images"][0]).tobytes() == noise(40, 30).transpose(Image.Transpose.ROTATE_90).tobytes()
    (step,) = turn["steps"]
    shown = {"ok": True, "ops": ["rotate_90"], "crops": [], "net": "r90", "region": [0, 0, 40, 30], "noop": False}
    assert shown.items() <= step.items()
    assert (step["node"], step["parent"], step["status"]) == (1, 0, "ok")
    assert [Path(path).name for path in two["images"]] == ["000003-0.png", "000003-1.png"]
    assert idle["steps"][0]["noop"] is True
    assert (none["stdout"], none["steps"][0]["node"], none["steps"][0]["parent"]) == ("[]\n", 0, None)
    assert unbound["detail"].startswith("NameError: name 'image' is not defined")
    assert (long["isolation"], turn["isolation"]) == (None, str(impatient.start()))
    assert sorted(path.name for path in (tmp_path / "made").iterdir()) == [
        *("000002-0.png", "000003-0.png", "000003-1.png", "000004-0.png", "000005-0.png")
    ]


def test_without_a_folder_images_are_made_and_not_kept(sandbox: Sandbox, tmp_path: Path, image: Path) -> None:
    source = batch(tmp_path, {"id": "a", "code": TURN, "image": str(image)})
    run_batch(source, tmp_path / "out.jsonl", sandbox)
    assert answers(tmp_path / "out.jsonl")[0]["images"] == []
    assert {path.name for path in tmp_path.iterdir()} == {"in.jsonl", "in.png", "out.jsonl"}


def test_an_empty_batch_has_no_answers(sandbox: Sandbox, tmp_path: Path) -> None:
    assert run_batch(batch(tmp_path), tmp_path / "out.jsonl", sandbox) == 0
    assert (tmp_path / "out.jsonl").read_bytes() == b""


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "line 2: isn't JSON"),
        ("", "line 2: is empty"),
        ('{"id": "b"}', "line 2: field code: is missing"),
        ('{"id": "b", "code": "", "pictures": []}', "line 2: field pictures: isn't known"),
        ('{"id": "b", "code": "", "image": "a", "images": []}', "line 2: image and images are both there"),
        ('{"id": "b", "code": "", "image": "nowhere.png"}', "line 2: nowhere.png: can't be read: No such file"),
        ('{"id": "b", "code": "", "image": "%s/in.jsonl"}', "in.jsonl: isn't an image"),
        ('{"id": "b", "code": "", "image": "%s/cut.png"}', "line 2: .*cut.png: can't be read"),
    ],
)
def test_a_bad_line_is_named_and_nothing_is_written(
    sandbox: Sandbox, tmp_path: Path, image: Path, line: str, said: str
) -> None:
    (tmp_path / "cut.png").write_bytes(image.read_bytes()[:1500])
    good = {"id": "a", "code": TURN, "image": str(image)}
    source = batch(tmp_path, good, line.replace("%s", str(tmp_path)))
    with pytest.raises(InputError, match=said):
        run_batch(source, tmp_path / "out.jsonl", sandbox, tmp_path / "made")
    assert not (tmp_path / "out.jsonl").exists()
    assert not list((tmp_path / "made").glob("*"))


def test_a_place_that_cannot_be_written_is_named_before_anything_runs(sandbox: Sandbox, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no folder"):
        run_batch(batch(tmp_path), tmp_path / "no" / "out.jsonl", sandbox)
    with pytest.raises(InputError, match="can't be written: it is a folder"):
        run_batch(batch(tmp_path), tmp_path, sandbox)
    with pytest.raises(InputError, match="File exists"):
        run_batch(batch(tmp_path), tmp_path / "out.jsonl", sandbox, tmp_path / "in.jsonl")


def test_one_snippet_is_answered_and_its_images_are_kept(sandbox: Sandbox, tmp_path: Path, image: Path) -> None:
    (tmp_path / "code.py").write_text("result = [images[0], images[1].crop((0, 0, 9, 9))]")
    got = json.loads(run_one(tmp_path / "code.py", [image, image], sandbox, tmp_path / "o.jpg"))
    assert (got["id"], got["status"]) == (str(tmp_path / "code.py"), "ok")
    assert got["images"] == [str(tmp_path / "o.jpg"), str(tmp_path / "o-1.jpg")]
    with Image.open(tmp_path / "o-1.jpg") as made:
        assert (made.format, made.size) == ("JPEG", (9, 9))
    with pytest.raises(InputError, match="no image format"):
        run_one(tmp_path / "code.py", [image], sandbox, tmp_path / "o.xyz")
    with pytest.raises(InputError, match=r"no\.py: can't be read"):
        run_one(tmp_path / "no.py", [image], sandbox)
    with pytest.raises(InputError, match=r"o\.png: can't be written: No such file"):
        run_one(tmp_path / "code.py", [image, image], sandbox, tmp_path / "no" / "o.png")


def test_a_damaged_image_is_named_whatever_its_decoder_raises(tmp_path: Path, sandbox: Sandbox) -> None:
    (tmp_path / "code.py").write_text("pass")
    broken = tmp_path / "broken.ppm"
    broken.write_bytes(b"P6\n20 2x\n255\n")
    with pytest.raises(InputError, match=r"broken\.ppm: can't be read: invalid literal"):
        run_one(tmp_path / "code.py", [broken], sandbox)


def command(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "codevision_ext.cli", "exec", *words]
    return subprocess.run(line, cwd=folder, env=os.environ, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.usefixtures("image")
def test_the_command_takes_one_or_many_and_says_in_one_sentence_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "code.py").write_text("image = images[1].rotate(90, expand=True)")
    done = command(tmp_path, "--image", "in.png", "in.png", "--code", "code.py", "--out", "o.png", "--timeout", "30")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["images"] == ["o.png"]
    source = batch(tmp_path, {"id": 1, "code": "1/0", "image": "in.png"})
    done = command(tmp_path, "--batch", source.name, "-o", "out.jsonl", "--timeout", "30", "--memory-mb", "256")
    assert (done.returncode, done.stdout, done.stderr) == (0, "out.jsonl: 1 answers\n", "")
    for words, said in (
        ((), "give either --code"),
        (("--code", "code.py", "--timeout", "0"), "limit wall_s must be greater than 0"),
        (("--code", "code.py", "--isolation", "none"), "isolation: must be 'unsafe'"),
        (("--code", "code.py", "--images-dir", "d"), "--images-dir belongs to --batch"),
        (("--batch", source.name), "--batch needs -o"),
    ):
        done = command(tmp_path, *words)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
        assert said in done.stderr
