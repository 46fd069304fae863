"""VTBench by its published protocol and by ours: what is shown to the judge, what counts as right, what is recorded."""

import base64
import hashlib
import io
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chat_server import Request, call, chat_server, texts
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw
from sets import coded, write_parquet

from codevision_ext.cli.eval import run_eval
from codevision_ext.cli.eval_options import EvalOptions
from codevision_ext.errors import InputError
from codevision_ext.evaluate.published import published_tables
from codevision_ext.evaluate.results import read_evaluation
from codevision_ext.evaluate.suites.vtbench_ink import compare_ink
from codevision_ext.io.records import read_records
from codevision_ext.judge.published import PROMPTS, PublishedPrompts, read_binary

SIZE = (1300, 900)
"""Larger than any bound on the images of a judge."""
RED, BLUE = (255, 0, 0), (0, 0, 255)
SKETCH = "d = ImageDraw.Draw(image)\nd.line(({}, 100, 1100, 700), fill='red', width=6)"


def figure() -> Image.Image:
    grid = np.random.default_rng(3).integers(60, 200, (6, 8, 3), np.uint8)
    return Image.fromarray(grid).resize(SIZE, Image.Resampling.BICUBIC)


def drawn(colour: tuple[int, int, int] = RED, x: int = 200) -> Image.Image:
    image = figure()
    ImageDraw.Draw(image).line((x, 100, 1100, 700), fill=colour, width=6)
    return image


def vtbench(path: Path, number: int = 4) -> Path:
    """Records of three tasks each; each drawing is a line."""
    reference = {"bytes": coded(drawn(BLUE)), "path": None}
    rows = [
        {
            "id": str(at), "image": {"bytes": coded(figure()), "path": None},
            "annotation_instruction": reference, "annotation_perception": reference,
            "question_reasoning": f"Which is longer, {at}?", "question_perception": f"Mark A{at}.",
            "question_instruction": f"Draw AB{at}.", "answer_reasoning": "AB", "answer_instruction": "",
        }
        for at in range(number)
    ]  # fmt: skip
    return write_parquet(path, rows)


def prompts(folder: Path) -> Path:
    folder.mkdir()
    (folder / "perception.txt").write_text("PERCEPTION moderate {instruction}\n")
    (folder / "instruction.txt").write_text("INSTRUCTION significant")
    (folder / "extract.txt").write_text("EXTRACT {question} | {response}")
    (folder / "reasoning.txt").write_text("REASONING {question} | {answer} | {extraction}")
    return folder


def shown(request: Request) -> list[Image.Image]:
    parts = [
        part for message in request["messages"] if isinstance(message["content"], list) for part in message["content"]
    ]
    urls = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
    return [Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) for url in urls]


def published_judge(request: Request) -> str | None:
    """Follows the published prompts: extracts the text after "So:", and calls the image with a red line right."""
    (text,) = texts(request)
    if text.startswith("EXTRACT"):
        return text.rpartition("So: ")[2]
    if text.startswith("REASONING"):
        _, answer, extraction = text.split(" | ")
        return "1" if answer == extraction else "0"
    original, made, reference = shown(request)
    assert original.size == made.size == reference.size == SIZE
    return "Score: 1, not 0." if made.getpixel((650, 400)) == RED else "0"


def draftsman(request: Request) -> str | None:
    """Answers each task in another way; the digit at the end of the question chooses it."""
    question, turns = texts(request)[1], len(request["messages"])
    if "longer" in question:
        if "1?" in question and turns == 2:
            return call(SKETCH.format(200))
        return (
            None if "3?" in question else f"<think>t</think>So: {'AB' if '0' in question or '1' in question else 'CD'}"
        )
    kind = int(re.search(r"(\d)\.", question)[1])  # type: ignore[index]
    assert turns == 2, "the published protocol has no second turn"
    right, other = SKETCH.format(200), "image = Image.new('RGB', image.size, 'red')"
    return [
        f"<think>t <code>\n```python\n{right}\n```\n</code> then <code>{other}</code></think>",
        "<think>I see it.</think><answer>A</answer>",
        "```python\nimage = image.copy()\n```",
        call("raise ValueError('no')"),
    ][kind]


def options(model: str, path: Path, out: Path, judge: str, *settings: str, **more: Any) -> EvalOptions:
    judged = [f"judge.base_url={judge}", "judge.model=eyes", "judge.retries=0", *settings]
    return EvalOptions(
        model=model, model_id="m", engine="openai", suites=[f"vtbench_published={path}"], out=out, tools="on",
        retries=0, temperature=0.0, settings=judged, **more,
    )  # fmt: skip


# the published protocol


def test_the_published_protocol_in_real_processes(tmp_path: Path) -> None:
    path, folder, out = vtbench(tmp_path / "v.parquet"), prompts(tmp_path / "prompts"), tmp_path / "out"
    with chat_server(draftsman) as model, chat_server(published_judge) as judge:
        command = [
            *(sys.executable, "-W", "ignore", "-m", "codevision_ext.cli", "eval", "--model", model.url),
            *("--model-id", "m"),
            *("--engine", "openai", "--suite", f"vtbench_published={path}", "--out", out, "--retries", "0"),
            *("--tools", "on", "--temperature", "0", "--set", f"judge.base_url={judge.url}"),
            *("--set", "judge.model=eyes", "--set", f"judge.published_prompts={folder}", "--set", "judge.retries=0"),
        ]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result = read_evaluation(out).models["model"]
    mode = result.suites["vtbench_published"].modes["tool_on"]
    scores = {column: (each.score.accuracy, each.score.n) for column, each in mode.columns.items()}
    # of four drawings one is right, one missing, one unchanged, one failed; of four answers two are right
    assert scores == {"perception": (0.25, 4), "instruction": (0.25, 4), "reasoning": (0.5, 4)}
    assert mode.overall.score.accuracy == pytest.approx(4 / 12)
    pictures = [request for request in judge.requests if shown(request)]
    assert len(pictures) == 2, "what nobody drew is wrong without being judged"
    assert {texts(request)[0] for request in pictures} == {
        "PERCEPTION moderate Mark A0.\n",
        "INSTRUCTION significant\n\nInstruction: Draw AB0.",
    }
    assert all(request["temperature"] == 0 for request in (*judge.requests, *model.requests))
    assert result.setup.judge is not None
    expected = {name: hashlib.sha256((folder / f"{name}.txt").read_bytes()).hexdigest() for name in PROMPTS}
    assert result.setup.judge.published_prompts == expected
    records = {record.group: record for record in read_records(out / mode.rows)}
    judged = [record for record in records.values() if record.column == "perception" and record.verdict]
    assert [record.verdict.prompt_sha256 for record in judged if record.verdict] == [expected["perception"]]
    assert [len(record.pictures) for record in judged] == [2], "the second code block wasn't run"


def test_reasoning_has_up_to_five_turns_and_a_drawing_one(tmp_path: Path) -> None:
    folder, asked = prompts(tmp_path / "prompts"), []

    def busy(request: Request) -> str:
        asked.append(texts(request)[1].strip())
        return call(f"image = image.resize((40, {30 + len(asked)}))")

    path = vtbench(tmp_path / "v.parquet", 1)
    with chat_server(busy) as model, chat_server(published_judge) as judge:
        run_eval(options(model.url, path, tmp_path / "out", judge.url, f"judge.published_prompts={folder}"))
    assert {question: asked.count(question) for question in set(asked)} == {
        "Which is longer, 0?": 5,
        "Mark A0.": 1,
        "Draw AB0.": 1,
    }


def test_a_judge_that_fails_makes_the_item_invalid_and_the_score_still_divides_by_all(tmp_path: Path) -> None:
    folder, path = prompts(tmp_path / "prompts"), vtbench(tmp_path / "v.parquet", 1)

    def mute(request: Request) -> str | None:
        return None if shown(request) else "no digit"

    with chat_server(draftsman) as model, chat_server(mute) as judge:
        asked = options(model.url, path, tmp_path / "out", judge.url, f"judge.published_prompts={folder}")
        result = run_eval(asked).models["model"]
    mode = result.suites["vtbench_published"].modes["tool_on"]
    assert {column: (each.score.accuracy, each.score.n) for column, each in mode.columns.items()} == {
        "perception": (0, 1),
        "instruction": (0, 1),
        "reasoning": (0, 1),
    }
    assert mode.health is not None
    assert mode.health.invalid_share == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"temperature": 1.0}, "vtbench_published: its protocol is one greedy generation.*--temperature 0"),
        ({"k": 2}, "leave out -k"),
        ({"tools": "on,off"}, "--tools on"),
        ({"settings": ["judge.base_url=http://x", "judge.model=m"]}, "needs the prompts that the benchmark published"),
        ({"settings": []}, "vtbench_published: needs a judge"),
    ],
)
def test_options_that_leave_the_protocol_are_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    from dataclasses import replace  # noqa: PLC0415

    path, folder = vtbench(tmp_path / "v.parquet", 1), prompts(tmp_path / "prompts")
    with chat_server(draftsman) as model:
        asked = options(model.url, path, tmp_path / "out", "http://127.0.0.1:1", f"judge.published_prompts={folder}")
        with pytest.raises(InputError, match=message):
            run_eval(replace(asked, **change))


# prompts


def test_a_prompt_is_checked_against_its_sum(tmp_path: Path) -> None:
    folder = prompts(tmp_path / "prompts")
    read = PublishedPrompts(folder)
    sums = "".join(f"{digest}  {name}.txt\n" for name, digest in read.sha256.items())
    (folder / "SHA256SUMS").write_text(sums)
    assert PublishedPrompts(folder).sha256 == read.sha256
    (folder / "extract.txt").write_text("other")
    with pytest.raises(InputError, match=rf"extract\.txt: has the SHA-256 .*SHA256SUMS says {read.sha256['extract']}"):
        PublishedPrompts(folder)


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda folder: (folder / "perception.txt").unlink(), r"perception\.txt: can't be read"),
        (lambda folder: (folder / "perception.txt").write_text(" \n"), r"perception\.txt: is empty"),
        (lambda folder: (folder / "perception.txt").write_bytes(b"\xff\xfe"), r"perception\.txt: isn't UTF-8"),
        (lambda folder: (folder / "SHA256SUMS").write_text("\nabc"), r"SHA256SUMS, line 2: isn't a SHA-256"),
    ],
)
def test_a_prompt_that_can_not_be_used_is_named(tmp_path: Path, break_it: Callable[[Path], Any], message: str) -> None:
    folder = prompts(tmp_path / "prompts")
    break_it(folder)
    with pytest.raises(InputError, match=message):
        PublishedPrompts(folder)


@given(st.text(), st.text())
def test_what_fills_a_slot_is_not_filled_again(tmp_path_factory: pytest.TempPathFactory, one: str, other: str) -> None:
    folder = tmp_path_factory.getbasetemp() / "prompts"
    read = PublishedPrompts(folder if folder.exists() else prompts(folder))
    written = read.write("reasoning", question=one, answer="{question}", extraction=other)
    assert written == f"REASONING {one} | {{question}} | {other}"


@pytest.mark.parametrize(
    ("reply", "score"), [("1", 1), ("0", 0), ("Score: 1. It isn't 0.", 1), ("10", 1), ("no", None), ("", None)]
)
def test_the_first_0_or_1_is_the_verdict(reply: str, score: float | None) -> None:
    assert read_binary(reply) == score


# our protocol


def test_the_verifier_stands_beside_the_judge_with_their_kappa(tmp_path: Path) -> None:
    def artist(request: Request) -> str:
        question, turns = texts(request)[1], len(request["messages"])
        if "longer" in question or turns > 2:
            return "<think>t</think><answer>AB</answer>"
        kind = int(re.search(r"(\d)\.", question)[1])  # type: ignore[index]
        return call([SKETCH.format(200), SKETCH.format(200), SKETCH.format(700), "image = images[0]"][kind])

    def eyes(request: Request) -> str:
        _, made, reference = shown(request)
        assert made.size == reference.size == SIZE
        nonce = re.search(r"VERDICT (\w+):", request["messages"][0]["content"])[1]  # type: ignore[index]
        perceived = "Mark A1." in texts(request)[1]  # the judge refuses one drawing that the verifier accepts
        right = made.getpixel((202, 101)) == RED and not perceived
        return f"VERDICT {nonce}: {'CORRECT' if right else 'INCORRECT'}"

    path, out = vtbench(tmp_path / "v.parquet"), tmp_path / "out"
    with chat_server(artist) as model, chat_server(eyes) as judge:
        judged = [f"judge.base_url={judge.url}", "judge.model=eyes"]
        suites = [f"vtbench={path}"]
        asked = EvalOptions(
            model=model.url, model_id="m", engine="openai", suites=suites, out=out, tools="on", settings=judged
        )
        mode = run_eval(asked).models["model"].suites["vtbench"].modes["tool_on"]
    assert mode.columns["perception"].score.accuracy == 0.25
    assert mode.columns["instruction"].score.accuracy == 0.5
    found = mode.verifier
    assert found is not None
    assert (found.drawings, found.judge_right, found.verifier_right, found.unknown) == (6, 3, 4, 0)
    # 5 of 6 agree; by chance (3/6)(4/6) + (3/6)(2/6) = 1/2
    assert found.kappa == pytest.approx((5 / 6 - 1 / 2) / (1 - 1 / 2))
    assert read_evaluation(out).models["model"].suites["vtbench"].modes["tool_on"].verifier == found
    prompts_used = {record.verdict.prompt for record in read_records(out / mode.rows) if record.verdict}
    assert prompts_used == {"perception", "instruction"}


def test_ink_is_compared_with_the_ink_of_the_reference() -> None:
    def drawing(*lines: tuple[int, int, int, int], colour: str = "red", width: int = 4) -> Image.Image:
        image = figure().resize((400, 300))
        for line in lines:
            ImageDraw.Draw(image).line(line, fill=colour, width=width)
        return image

    right, other = (40, 40, 360, 240), (40, 240, 360, 40)
    original, reference = drawing(), drawing(right, colour="blue", width=3)

    def compare(made: Image.Image) -> Any:
        return compare_ink(original, made, reference)

    assert compare(drawing(right)).correct
    assert compare(drawing(right).resize((800, 600))).correct
    assert not compare(drawing(other)).correct
    assert not compare(drawing(right, other)).correct
    assert not compare(drawing((40, 40, 200, 140))).correct
    assert compare(original).f1 == 0
    assert not compare(Image.new("RGB", original.size, "red")).correct
    noise = np.random.default_rng(0).integers(0, 256, (250, 250, 3), np.uint8)
    assert compare(Image.fromarray(noise)) is None
    assert compare_ink(original, drawing(right), original) is None


# published results


def test_published_results_of_the_two_releases_stand_apart() -> None:
    second, first = published_tables(["vtbench"])
    assert (second.release, first.release) == ("second release", "first release")
    assert published_tables(["vtbench_published", "vtbench"]) == (second, first)
    assert published_tables(["docvqa"]) == ()
    by_model = {table.release: {row[0]: row[1:4] for row in table.rows} for table in (second, first)}
    assert by_model["second release"]["V-Thinker-7B"] == (18.6, 31.6, 40.4)
    assert by_model["first release"]["V-Thinker-7B"] == (18.0, 34.6, 41.8)
    for _, *values, mean in second.rows:
        assert sum(map(float, values)) / 3 == pytest.approx(float(mean), abs=0.051)


def test_compare_and_report_show_published_results_beside_ours(tmp_path: Path) -> None:
    from typer.testing import CliRunner  # noqa: PLC0415

    from codevision_ext.cli.app import app  # noqa: PLC0415

    def mute(_: Request) -> str:
        return "<think>t</think><answer>AB</answer>"

    path, out = vtbench(tmp_path / "v.parquet", 1), tmp_path / "out"
    with chat_server(mute) as model:
        judged = ["judge.base_url=http://127.0.0.1:1/v1", "judge.model=eyes"]
        suites = [f"vtbench={path}"]
        run_eval(
            EvalOptions(
                model=model.url, model_id="m", engine="openai", suites=suites, out=out, tools="on", settings=judged
            )
        )
    for words, piece in (
        (["--markdown"], "| V-Thinker-7B | 18.6 | 31.6 | 40.4 | 30.2 |"),
        (["--latex"], "18.6 & 31.6"),
    ):
        done = CliRunner().invoke(app, ["compare", str(out), *words])
        assert done.exit_code == 0, done.output
        assert piece in done.output
        assert done.output.index("vtbench, with the tool") < done.output.index("(second release)")
        assert "(first release)" in done.output
    done = CliRunner().invoke(app, ["report", str(out), "--out", str(tmp_path / "r.html")])
    assert done.exit_code == 0, done.output
    page = re.sub(r"<[^>]+>|\s+", " ", (tmp_path / "r.html").read_text())
    assert re.search(r"V-Thinker-7B +18\.6 +31\.6 +40\.4 +30\.2", page)
    assert json.dumps("first release").strip('"') in page
