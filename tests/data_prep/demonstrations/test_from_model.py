"""Tests demonstrations and measurements of a model behind an endpoint, and the correction of its wrong turns."""

import base64
import io
import json
import re
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from chat_server import Request, answer, call, chat_server, images, texts
from PIL import Image
from sets import coded, data_prep, rl_row, write_parquet

from codevision_ext.errors import EngineError, InputError
from codevision_ext.io.chat_client import Endpoint
from codevision_ext.rollout.code_tool import CodeTool
from codevision_ext.rollout.trained_format import TrainedFormat, write_trained_format
from codevision_ext.types import CoordinateSystem
from data_prep.convert.validate import ImageLimits, validate_demonstration
from data_prep.curate.difficulty import Route, benefit_interval
from data_prep.demonstrations.from_model import Discarded, TurnKind, demonstrate_by_model
from data_prep.demonstrations.model_client import open_model_client
from data_prep.formats.schema import Demonstration, Row, SampleType
from data_prep.tasks.reading.glyphs import Mix, draw_rows

RIGHT = {
    "rotate_90": "image = image.rotate(270, expand=True)",
    "rotate_180": "image = image.rotate(180)",
    "rotate_270": "image = image.rotate(90, expand=True)",
    "flip_horizontal": "image = ImageOps.mirror(image)",
    "flip_vertical": "image = ImageOps.flip(image)",
}


def row_with(*applied: str) -> Row:
    return next(row for row in draw_rows(Mix(seed=4, crop_share=0.4), 200, "train", "train") if row.applied == applied)


def run_teacher(
    row: Row, tool: CodeTool, replies: list[str], *, without: tuple[str, ...] = ()
) -> tuple[Demonstration | Discarded, Counter[TurnKind], list[Request]]:
    """Returns the demonstration of a model that gives these replies, one per turn, then the answer."""

    def reply(request: Request) -> str:
        turn = sum(message["role"] == "assistant" for message in request["messages"])
        return replies[turn] if turn < len(replies) else answer(row.answers[0])

    with chat_server(reply) as server, open_model_client(Endpoint(url=server.url, model="m", retries=0)) as chat:
        result, turns = demonstrate_by_model(row, chat, tool, seed=0, without=without)
    if isinstance(result, Demonstration):
        assert validate_demonstration(result, ImageLimits())[1] == []
    return result, turns, server.requests


def test_the_teacher_gets_the_metadata_and_the_demonstration_never_shows_it(tool: CodeTool) -> None:
    row = row_with("rotate_90")
    result, turns, requests = run_teacher(row, tool, [call(RIGHT["rotate_90"], "It lies on its side.")])
    assert isinstance(result, Demonstration)
    assert turns == {TurnKind.KEPT: 2}
    briefing = texts(requests[0])[1]
    assert json.loads(briefing.splitlines()[1])["applied_to_the_picture"] == ["rotate_90"]
    assert briefing.endswith(row.question)
    assert (images(requests[0]), images(requests[1])) == (1, 2)
    assert result.sample_type is SampleType.SINGLE_TOOL
    assert result.messages[0].content == f"<image>\n{row.question}"
    assert "It lies on its side." in result.messages[1].content
    assert "applied" not in "".join(message.content for message in result.messages)
    assert result.metadata["calls"] == [{"status": "ok", "net": "r270", "ops": ["rotate_270"]}]


@pytest.mark.parametrize(
    ("wrong", "counted"),
    [
        (call("image = image.rotate(90, expand=True)"), TurnKind.OFF_TRACK),
        (call("image = image.convert('L')"), TurnKind.OFF_TRACK),
        ("<think>x</think><tool_call>{</tool_call>", TurnKind.MALFORMED),
        ("<tool_call>{}</tool_call>", TurnKind.MALFORMED),
        (answer("no idea"), TurnKind.TOO_EARLY),
    ],
)
def test_a_turn_that_does_not_help_is_replaced_by_one_that_does(tool: CodeTool, wrong: str, counted: TurnKind) -> None:
    result, turns, _ = run_teacher(row_with("rotate_90"), tool, [wrong])
    assert isinstance(result, Demonstration)
    assert turns == {counted: 1, TurnKind.KEPT: 1}
    assert result.metadata["calls"] == [{"status": "ok", "net": "r270", "ops": ["rotate_270"]}]
    assert wrong not in [message.content for message in result.messages]


def test_a_call_that_fails_is_kept_once_with_its_error(tool: CodeTool) -> None:
    failing = call("image = image.turn(90)")
    result, turns, _ = run_teacher(row_with("flip_vertical"), tool, [failing, failing])
    assert isinstance(result, Demonstration)
    assert turns == {TurnKind.KEPT_ERROR: 1, TurnKind.FAILED_AGAIN: 1, TurnKind.KEPT: 1}
    assert [each["status"] for each in result.metadata["calls"]] == ["error", "ok"]
    assert result.messages[2].content.startswith("Error: ")
    assert result.sample_type is SampleType.ERROR_HANDLING


def test_windows_that_a_teacher_crops_shrink_and_hold_the_box(tool: CodeTool) -> None:
    row = row_with("crop")
    assert row.box is not None
    x1, y1, x2, y2 = map(int, row.box)
    wider = f"image = image.crop(({max(0, x1 - 9)}, {max(0, y1 - 9)}, {x2 + 9}, {y2 + 9}))"
    left, top = x1 - max(0, x1 - 9), y1 - max(0, y1 - 9)
    closer = f"image = image.crop(({left}, {top}, {left + x2 - x1}, {top + y2 - y1}))"
    result, turns, _ = run_teacher(row, tool, [call(wider), call(closer, image_index=1)])
    assert isinstance(result, Demonstration)
    assert (result.sample_type, turns) == (SampleType.MULTI_CROP, {TurnKind.KEPT: 3})
    beside, corrected, _ = run_teacher(row, tool, [call("image = image.crop((0, 0, 9, 9))")])
    assert isinstance(beside, Demonstration)
    assert corrected == {TurnKind.OFF_TRACK: 1, TurnKind.KEPT: 1}


def test_a_wrong_answer_and_a_missing_answer_are_discarded(tool: CodeTool) -> None:
    assert run_teacher(row_with(), tool, [answer("1")])[0] is Discarded.WRONG_ANSWER
    assert run_teacher(row_with(), tool, ["It is hard to say."])[0] is Discarded.NO_ANSWER


def test_an_answer_that_no_rule_decides_is_discarded_and_counted_by_itself(tool: CodeTool) -> None:
    row = replace(row_with(), answers=("a red car",))
    assert run_teacher(row, tool, [answer("an automobile")])[0] is Discarded.UNDECIDED


def test_a_call_with_an_operation_that_is_left_out_is_replaced(tool: CodeTool) -> None:
    """The inverted image would be nearer to the goal: it is upright."""
    turned = call("image = ImageOps.invert(image.rotate(270, expand=True))")
    for without, counted in (((), TurnKind.KEPT), (("invert",), TurnKind.LEFT_OUT)):
        result, turns, _ = run_teacher(row_with("rotate_90"), tool, [turned], without=without)
        assert isinstance(result, Demonstration)
        assert turns == Counter({counted: 1}) + Counter({TurnKind.KEPT: 1})
        assert ["invert" in each["ops"] for each in result.metadata["calls"]] == [not without]


def test_a_step_that_would_need_an_operation_that_is_left_out_starts_from_the_first_image(tool: CodeTool) -> None:
    """The crop turns its image so that only the left-out operation would put it upright."""
    row = row_with("crop")
    assert row.box is not None
    x1, y1, x2, y2 = map(int, row.box)
    turned = call(f"image = image.crop(({x1}, {y1}, {x2}, {y2})).rotate(90, expand=True)")
    for wrong in (turned, turned.replace("rotate(90, expand=True)", "transpose(Image.Transpose.TRANSPOSE)")):
        result, _, _ = run_teacher(row, tool, [wrong, answer("?")], without=("rotate_270",))
        assert isinstance(result, Demonstration)
        first, second = result.metadata["calls"]
        assert (first["ops"][-1], second["ops"]) == ("crop", ["crop"])


def test_a_call_that_nothing_asks_for_is_replaced_by_the_answer(tool: CodeTool) -> None:
    for needless in ("image = image.rotate(90)", "image = image.turn(90)"):
        result, turns, _ = run_teacher(row_with(), tool, [call(needless)])
        assert isinstance(result, Demonstration)
        assert (result.sample_type, turns) == (SampleType.NO_TOOL, {TurnKind.OFF_TRACK: 1})
        assert len(result.messages) == 2


def helpful(request: Request) -> str:
    """Calls the ops that the metadata asks for, then answers."""
    metadata = json.loads(texts(request)[1].splitlines()[1])
    steps = [op for op in metadata["applied_to_the_picture"] if op != "crop"]
    used = sum(message["role"] == "assistant" for message in request["messages"])
    return call(RIGHT[steps[0]]) if used < len(steps) else answer(metadata["answer"])


def test_the_command_counts_what_became_of_turns(tmp_path: Path) -> None:
    words = ("--parts", "sft", "--sft-rows", 6, "--kinds", "table,geometry", "--max-megapixels", 0.3, "--workers", 1)
    with chat_server(helpful) as server:
        teacher = ("--teacher", server.url, "--model", "m", "--cache", tmp_path / "cache")
        summary = data_prep("synth", "--out", tmp_path / "a", *words, *teacher)
        again = data_prep("synth", "--out", tmp_path / "b", *words, *teacher)
    assert summary["rows"]["sft"] == 6
    assert summary["turns"]["kept"] == summary["asked"] - summary["turns"].get("corrected_too_early", 0)
    assert again["asked"] == 0
    assert (tmp_path / "a" / "sft.parquet").read_bytes() == (tmp_path / "b" / "sft.parquet").read_bytes()


def difficulty(
    tmp_path: Path, reply: Callable[[Request], str | None], k: int = 4, *flags: str, **words: object
) -> tuple[dict[str, Any], list[Any]]:
    rows = [rl_row(index, ("rotate_90",)) for index in range(4)]
    source = write_parquet(tmp_path / "a.parquet", rows)
    options = [word for pair in words.items() for word in (f"--{pair[0]}", pair[1])]
    with chat_server(reply) as server:
        summary = data_prep("filter", source, "--out", tmp_path / "out", "--base-url", server.url, "--model", "m",
                         "-k", k, "--cache", tmp_path / "cache", "--concurrency", 4, *flags, *options)  # fmt: skip
    lines = [json.loads(line) for line in (tmp_path / "out" / "difficulty.jsonl").read_text().splitlines()]
    return summary, lines


def number(request: Request) -> int:
    return int(re.findall(r"word (\d)\?", texts(request)[1])[0])


def pupil(request: Request) -> str:
    """Reads word 0 always, word 3 never, the others more often with the tool."""
    word, seed = number(request), request["seed"]
    with_tool = "<tools>" in texts(request)[0]
    right = {0: True, 1: with_tool and seed > 0, 2: not with_tool or seed > 2, 3: False}[word]
    if with_tool and len(request["messages"]) == 2:
        return call("image = image.rotate(270, expand=True)")
    return answer(f"word{word}" if right else "maybe blue")  # which the rules refuse


def test_rows_are_routed_by_how_often_they_are_solved(tmp_path: Path) -> None:
    requests: list[Request] = []

    def note(request: Request) -> str:
        requests.append(request)
        return pupil(request)

    summary, lines = difficulty(tmp_path, note, hard=0.3)
    first = next(request for request in requests if len(request["messages"]) == 2)
    assert texts(first)[1] == f"\nWhat is word {number(first)}?"  # behind the image, as in training
    assert images(first) == 1
    assert not any("rotate_90" in text for request in requests for text in texts(request))
    assert [line["route"] for line in lines] == ["easy", "rl", "sft", "hopeless"]
    assert [(line["acc_tool"], line["acc_no_tool"]) for line in lines] == [(1, 1), (0.75, 0), (0.25, 1), (0, 0)]
    assert [line["benefit"] for line in lines] == [0, 0.75, -0.75, 0]
    assert all(line["benefit_interval"][0] <= line["benefit"] <= line["benefit_interval"][1] for line in lines)
    assert [line["calls"] for line in lines] == [4, 4, 4, 4]
    assert summary["routes"] == dict.fromkeys(Route, 1)
    assert summary["benefit"] == pytest.approx(0)
    for route in Route:
        [row] = pq.read_table(tmp_path / "out" / f"{route}.parquet").to_pylist()
        assert row["extra_info"]["benefit"][0] == lines[row["extra_info"]["index"]]["benefit"]


def test_with_edited_the_drawing_is_measured_in_place_of_the_tool(tmp_path: Path) -> None:
    edited = coded(Image.new("RGB", (8, 8), "red"))
    rows = [rl_row(index, None) for index in range(3)]
    for row in rows[:2]:
        row["extra_info"]["edited_image"] = {"bytes": edited, "path": None}

    def is_edited(request: Request) -> bool:
        [part] = [part for part in request["messages"][-1]["content"] if part["type"] == "image_url"]
        return Image.open(io.BytesIO(base64.b64decode(part["image_url"]["url"].partition(",")[2]))).size == (8, 8)

    def reply(request: Request) -> str:
        word = number(request)
        return answer(f"word{word}" if word == 0 or is_edited(request) else "maybe blue")

    source = write_parquet(tmp_path / "a.parquet", rows)
    with chat_server(reply) as server:
        words = ("--base-url", server.url, "--model", "m", "-k", 2, "--edited", "--max-rejected", 1)
        summary = data_prep("filter", source, "--out", tmp_path / "out", *words)
        assert not any("<tools>" in text for request in server.requests for text in texts(request))
    assert summary["routes"] == {"rl": 1, "sft": 0, "easy": 1, "hopeless": 0}
    assert summary["examples"] == [f"{source}, row 2: edited_image: is missing, and --edited needs it"]
    [row] = pq.read_table(tmp_path / "out" / "rl.parquet").to_pylist()
    assert row["extra_info"]["benefit"][0] == 1
    assert row["extra_info"]["edited_image"]["bytes"] == edited
    assert row["images"][0]["bytes"] != edited


def test_undecided_answers_are_counted_and_decide_no_file(tmp_path: Path) -> None:
    def reply(request: Request) -> str:
        return answer(("word0", "some word", "maybe", "maybe")[number(request)])

    summary, lines = difficulty(tmp_path, reply, k=2)
    assert [line["route"] for line in lines] == ["easy", "rl", "hopeless", "hopeless"]
    assert [(line["undecided_tool"], line["undecided_no_tool"]) for line in lines] == [(0, 0), (1, 1), (0, 0), (0, 0)]
    assert lines[1]["benefit_interval"] == [-1, 1]
    assert (summary["undecided_tool"], summary["undecided_no_tool"]) == (0.25, 0.25)
    assert "data_prep: 4 of 16 answers are undecided: no rule decides them" in summary["stderr"]
    shutil.rmtree(tmp_path / "out")
    summary, lines = difficulty(tmp_path, reply, 2, "--exact-answers")
    assert [line["route"] for line in lines] == ["easy", "hopeless", "hopeless", "hopeless"]
    assert (summary["undecided_tool"], "undecided:" in summary["stderr"]) == (0, False)


def test_a_model_is_asked_as_its_checkpoint_was_trained_and_what_differs_is_named(tmp_path: Path) -> None:
    schema = {"type": "function", "function": {"name": "code_image_tool", "description": "Mine.", "parameters": {}}}
    trained = TrainedFormat(
        trained_by="rl",
        system_prompt="Look.",
        system_prompt_no_tool="",
        tools=(schema,),
        coordinates=CoordinateSystem.ORIGINAL,
    )
    write_trained_format(tmp_path / "model", trained)
    requests: list[Request] = []

    def note(request: Request) -> str:
        requests.append(request)
        return answer("word0")

    summary, _ = difficulty(tmp_path, note, k=1, limit=1, trained=tmp_path / "model")
    systems = [texts(request)[0] for request in requests if request["messages"][0]["role"] == "system"]
    assert systems == [f"Look.\n<tools>\n{json.dumps(schema)}\n</tools>"], "and without the tool no message"
    assert (len(requests), summary["differences"], summary["stderr"].count("codevision data:")) == (2, [], 0)
    shutil.rmtree(tmp_path / "out")
    summary, _ = difficulty(tmp_path, note, k=1, limit=1, trained=tmp_path / "model", coordinates="relative")
    (difference,) = summary["differences"]
    assert difference == "coordinates is 'relative', but the checkpoint was trained with 'original'"
    assert f"codevision data: {tmp_path / 'model'}: {difference}\n" in summary["stderr"]
    with pytest.raises(InputError, match=r"--trained .*nowhere: there is no codevision\.json"):
        difficulty(tmp_path, note, trained=tmp_path / "nowhere")


def test_a_run_that_broke_off_goes_on_from_its_cache(tmp_path: Path) -> None:
    def breaks(request: Request) -> str | None:
        return None if number(request) == 2 else pupil(request)

    with pytest.raises(EngineError, match=r"m at http://127.0.0.1:\d+/v1 gave no reply: "):
        difficulty(tmp_path, breaks, k=1)
    assert not (tmp_path / "out").exists()
    summary, lines = difficulty(tmp_path, pupil, k=1)
    assert len(lines) == 4
    assert 0 < summary["asked"] < 12


def test_benefit_is_the_difference_with_newcombe_s_interval() -> None:
    """The example of Newcombe (1998), table II, method 10: 56/70 against 48/80."""
    benefit = benefit_interval((56, 70), (48, 80))
    assert (benefit.value, benefit.low, benefit.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)
    nothing = benefit_interval((0, 8), (0, 8))
    assert (nothing.value, nothing.low) == (0, -nothing.high)
    assert benefit_interval((8, 8), (0, 8)).high == 1
    assert (benefit_interval((7, 7), (0, 7)).high, benefit_interval((0, 7), (7, 7)).low) == (1, -1)


def test_a_key_that_is_not_there_is_named(tmp_path: Path) -> None:
    source = write_parquet(tmp_path / "a.parquet", [rl_row()])
    with pytest.raises(InputError, match="the environment has no NO_SUCH_KEY"):
        data_prep("filter", source, "--out", tmp_path / "out", "--base-url", "http://x", "--model", "m",
                  "--api-key-env", "NO_SUCH_KEY")  # fmt: skip


def test_one_of_endpoint_and_engine_is_asked_for_and_a_folder_that_holds_no_model_is_named(tmp_path: Path) -> None:
    words = (
        "filter",
        write_parquet(tmp_path / "a.parquet", [rl_row()]),
        "--out",
        tmp_path / "out",
        "--model",
        tmp_path,
    )
    for which in ((), ("--base-url", "http://x", "--engine", "sglang")):
        with pytest.raises(InputError, match="filter needs --base-url, or --engine and --model FOLDER"):
            data_prep(*words, *which)
    with pytest.raises(InputError, match=r"there is no config\.json in it"):
        data_prep(*words, "--engine", "sglang")
    with pytest.raises(InputError, match="--coordinates must be original or relative"):
        data_prep(*words, "--base-url", "http://x", "--coordinates", "seen")
    assert [path.name for path in tmp_path.iterdir()] == ["a.parquet"]
