"""A model is evaluated with its training settings, a killed run resumes, and results are replaced only on request."""

import json
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from judge_server import Reply, Request, fails, says, serve
from sets import coded, rl_row, scene, write_parquet

from codevision_ext.cli.eval import run_eval
from codevision_ext.cli.eval_options import EvalOptions
from codevision_ext.errors import InfraError, InputError
from codevision_ext.evaluate.metrics import COLUMNS
from codevision_ext.evaluate.results import ModelResult, read_evaluation
from codevision_ext.evaluate.setup import ModelRun
from codevision_ext.io.records import image_path, read_records
from codevision_ext.report.page import write_report
from codevision_ext.rollout.trained_format import TrainedFormat, write_trained_format
from data_prep.tasks.reading.glyphs import COLUMNS as OPS

TURN = "image = image.rotate(270, expand=True)"
THINK = "<think>a</think>"


def call(code: str) -> str:
    arguments = json.dumps({"name": "code_image_tool", "arguments": {"code": code}})
    return f"{THINK}<tool_call>{arguments}</tool_call>"


def benchmark(path: Path, items: int = 2) -> Path:
    """Six columns of each item; the question names item and column, the answer the item."""
    rows = []
    for item in range(items):
        for at, (column, op) in enumerate(OPS.items()):
            row = rl_row(item, [op] if op else None, column=column, bbox=None)
            row["images"] = [{"bytes": coded(scene(item, (32, 28))), "path": None}]
            row["prompt"][0]["content"] = f"<image>\nWhat is word {item} of {column}?"
            row["extra_info"] |= {"picture_id": f"p{item}", "index": 6 * item + at}
            rows.append(row)
    return write_parquet(path, rows)


def asked_for(request: Request) -> tuple[int, str]:
    text = json.dumps(request["messages"][1])
    found = re.search(r"word (\d+) of (\w+)\?", text)
    assert found
    return int(found[1]), found[2]


def pupil(request: Request) -> Reply:
    """Reads what stands upright; what doesn't, behind a call only."""
    item, column = asked_for(request)
    tool = "<tools>" in request["messages"][0]["content"]
    if tool and len(request["messages"]) == 2:
        return says(call(TURN), tokens=(50, 10))
    right = column == "source" or (tool and column != "flip_v")
    return says(f"{THINK}<answer>{f'word{item}' if right else 'blue'}</answer>", tokens=(90, 10))


def measure(
    tmp_path: Path, reply: Callable[[Request], Reply] | Reply, **options: Any
) -> tuple[ModelResult, list[Request]]:
    path = tmp_path / "test.parquet"
    if not path.exists():
        benchmark(path)
    given = {"suites": [str(path)], "out": tmp_path / "out", "engine": "openai", "concurrency": 4} | options
    with serve(reply) as server:
        return run_eval(EvalOptions(model=server.url, **given)).models["model"], server.requests


def test_a_model_behind_a_url_is_measured_with_and_without_the_tool(tmp_path: Path) -> None:
    found, requests = measure(tmp_path, pupil, tools="on,off")
    assert read_evaluation(tmp_path / "out").models == {"model": found}
    suite = found.suites["transformed"]
    on, off = suite.modes["tool_on"], suite.modes["tool_off"]
    assert tuple(on.columns) == COLUMNS
    assert {column: each.score.accuracy for column, each in on.columns.items()} == dict.fromkeys(COLUMNS, 1.0) | {
        "flip_v": 0.0
    }
    assert (on.overall.score.accuracy, off.overall.score.accuracy) == pytest.approx((5 / 6, 1 / 6))
    assert suite.benefit["overall"].value == pytest.approx(4 / 6)
    assert (suite.benefit["rot90"].value, suite.benefit["source"].value) == (1, 0)
    assert (on.health.tool_rate, off.health.tool_rate) == (1, 0)
    assert (on.health.rollouts, on.health.turns, on.health.sampled_tokens) == (12, 2, 20)
    assert (on.health.call_success, off.health.call_success) == (1, None)
    assert len(requests) == 12 * 2 + 12
    setup = found.setup
    assert (setup.model.name, setup.engine, setup.k, setup.seed) == ("m", "openai", 1, 0)
    assert setup.versions["codevision_ext"]
    records = list(read_records(tmp_path / "out" / on.rows))
    assert [record.column for record in records] == [*COLUMNS, *COLUMNS]
    assert all(image_path(tmp_path / "out" / "eval", name).is_file() for r in records for name in r.pictures)
    assert {record.picture_id for record in records} == {"p0", "p1"}
    assert records[1].observed.steps[0].net == "r270"


def test_half_an_emoji_is_recorded_reported_and_scored_and_one_bad_reply_costs_one_rollout(tmp_path: Path) -> None:
    def strange(request: Request) -> Reply:
        item, column = asked_for(request)
        if (item, column) == (0, "source"):
            return says("\ud83d", finish="content_filter")
        return says(f"{THINK} t \ud83d \0 <answer>word{item} \udc00</answer>")

    found, _ = measure(tmp_path, strange, tools="off", retries=0)
    records = list(read_records(tmp_path / "out" / found.suites["transformed"].modes["tool_off"].rows))
    assert [record.observed.valid for record in records].count(False) == 1
    assert {record.answer for record in records} == {None, "word0 \ufffd", "word1 \ufffd"}
    assert read_evaluation(tmp_path / "out").models == {"model": found}
    assert "word1 \ufffd" in write_report([tmp_path / "out"]).read_text(encoding="utf-8")


def test_several_rollouts_of_an_item_give_avg_and_pass_at_k(tmp_path: Path) -> None:
    seen: Counter[tuple[int, str]] = Counter()

    def now_and_then(request: Request) -> Reply:
        seen[asked_for(request)] += 1
        right = seen[asked_for(request)] % 4 == 0
        return says(f"{THINK}<answer>{f'word{asked_for(request)[0]}' if right else 'blue'}</answer>")

    found, requests = measure(tmp_path, now_and_then, tools="off", k=4)
    column = found.suites["transformed"].modes["tool_off"].columns["rot90"]
    assert column.pass_k is not None
    assert (column.score.accuracy, column.score.n, column.pass_k.accuracy) == (0.25, 2, 1)
    assert len({request["seed"] for request in requests}) == len(requests) == 48


def test_a_damaged_image_is_left_out_and_counted_as_far_as_an_option_allows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [rl_row(at, None, bbox=None, column="source") for at in range(4)]
    rows[1]["images"] = [{"bytes": coded(scene(1))[:200], "path": None}]
    path = write_parquet(tmp_path / "some.parquet", rows)
    reply = says(f"{THINK}<answer>word2</answer>")
    options: dict[str, Any] = {"suites": [f"rows={path}"], "tools": "off"}
    with pytest.raises(InputError, match=r"some.parquet, row 1: images.*; --max-rejected leaves out such rows"):
        measure(tmp_path, reply, **options)
    with pytest.raises(InputError, match=r"1 of 4 rows are rejected .* --max-rejected allows 10%"):
        measure(tmp_path, reply, max_rejected="10%", **options)
    with pytest.raises(InputError, match="--max-rejected is a number of rows or a percentage"):
        measure(tmp_path, reply, max_rejected="few", **options)
    assert not (tmp_path / "out").exists()
    found, requests = measure(tmp_path, reply, max_rejected="25%", **options)
    suite = found.suites["rows"]
    (sentence,) = suite.rejected
    assert sentence.startswith(f"{path}, row 1: images[0]: ")
    score = suite.modes["tool_off"].overall.score
    assert (suite.items, score.n, score.accuracy, len(requests)) == (3, 3, pytest.approx(1 / 3), 3)
    assert (
        "codevision: suite rows: 1 of 4 items can't be used and are left out of all accuracies; the "
        f"first: {sentence}\n"
    ) in capsys.readouterr().err


def test_suites_of_a_named_checkpoint_have_record_files_of_their_own() -> None:
    run = ModelRun(name="rl", setup=None, config=None, records="eval/rl_{part}{mode}.jsonl")  # type: ignore[arg-type]
    assert run.rows("transformed", "tool_on") == "eval/rl_tool_on.jsonl"
    assert run.rows("vstar", "tool_on") == "eval/rl_vstar_tool_on.jsonl"


def test_a_model_that_its_endpoint_names_by_its_folder_is_asked_as_it_was_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained = TrainedFormat(trained_by="sft", system_prompt="Look.", system_prompt_no_tool="Read.")
    write_trained_format(tmp_path / "model", trained)

    def system_of(**options: Any) -> tuple[str, ModelResult]:
        found, requests = measure(tmp_path, says("<answer>x</answer>"), tools="off", limit=1, force=True, **options)
        return requests[0]["messages"][0]["content"], found

    assert system_of(model_id=str(tmp_path / "model"))[0] == "Read."
    system, found = system_of(model_id="m", trained=tmp_path / "model")
    assert (system, found.setup.trained) == ("Read.", trained)
    assert "codevision: " not in capsys.readouterr().err
    system, found = system_of(trained=tmp_path / "model", settings=["system_prompt=null"])
    assert system.startswith("Answer the question about the picture.")
    (difference,) = found.setup.differences
    assert f"codevision: {tmp_path / 'model'}: {difference}\n" in capsys.readouterr().err


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_what_a_stopped_run_finished_is_not_played_again(tmp_path: Path, how: signal.Signals) -> None:
    """Stopped in the middle of an item: half-played items are played again, and no line is lost or doubled."""
    path, out = benchmark(tmp_path / "test.parquet", items=3), tmp_path / "out"
    rows = out / "eval" / "transformed_tool_on.jsonl"
    stopped = threading.Event()

    def some_rows() -> bool:
        return rows.exists() and rows.read_bytes().count(b"\n") >= 4

    def four_rows(request: Request) -> Reply:
        if some_rows():
            stopped.wait(60)
        return pupil(request)

    with serve(four_rows) as server:
        words = ["--model", server.url, "--engine", "openai", "--suite", str(path), "--out", str(out)]
        command = [sys.executable, "-m", "codevision_ext.cli", "eval", *words, "--tools", "on", "--concurrency", "2"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as first:
            while not some_rows():
                assert first.poll() is None, first.communicate()[1]
                time.sleep(0.01)
            first.send_signal(how)
            _, message = first.communicate()
        stopped.set()
        if how is not signal.SIGKILL:
            assert first.returncode == 130, message
            assert message.endswith("codevision: stopped; the same command goes on from here\n")
            assert "Traceback" not in message, message
        with rows.open("ab") as file:
            file.write(b'{"group": "cut off')
        kept = [line for line in rows.read_bytes().splitlines() if line.endswith(b"}")]
        before = len(server.requests)
        second = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        assert second.returncode == 0, second.stderr
        again = {asked_for(request) for request in server.requests[before:]}
        after = len(server.requests)
        asked = EvalOptions(model=server.url, engine="openai", suites=[str(path)], out=out, tools="on")
        assert run_eval(asked) == read_evaluation(out)
    assert len(server.requests) == after, "nothing was left to ask"
    records = list(read_records(rows))
    assert len(records) == len({record.id for record in records}) == 18
    assert 4 <= len(kept) < 18
    finished = {json.loads(line)["group"] for line in kept}
    played = {record.group: record for record in records}
    assert {(int(played[name].question.split()[-1][:-1]), played[name].column) for name in finished}.isdisjoint(again)
    assert set(kept) <= set(rows.read_bytes().splitlines())
    assert "rot90" in second.stderr
    assert second.stdout.strip() == str(out / "results.json")


def test_a_rollout_that_breaks_is_played_again_and_counts_neither_way_if_it_never_works(tmp_path: Path) -> None:
    broken: Counter[tuple[int, str]] = Counter()

    def shaky(request: Request) -> Reply:
        item = asked_for(request)
        broken[item] += 1
        if item == (0, "rot90") or (item == (1, "rot90") and broken[item] == 1):
            return fails(400)
        return pupil(request)

    found, _ = measure(tmp_path, shaky, tools="off", retries=1)
    mode = found.suites["transformed"].modes["tool_off"]
    assert (broken[0, "rot90"], broken[1, "rot90"], broken[0, "source"]) == (2, 2, 1)
    assert (mode.columns["rot90"].score.n, mode.health.invalid_share) == (1, pytest.approx(1 / 12))
    with pytest.raises(InfraError, match=r"more than codevision\.invalid_limit allows"):
        measure(tmp_path, fails(400), tools="off", retries=0, out=tmp_path / "other")
    healed, requests = measure(tmp_path, pupil, tools="off", retries=1)
    assert [asked_for(request) for request in requests] == [(0, "rot90")], "the one that broke, and no other"
    assert healed.suites["transformed"].modes["tool_off"].health.invalid_share == 0


def test_another_setup_wants_another_folder_and_force_replaces(tmp_path: Path) -> None:
    with pytest.raises(InfraError):
        measure(tmp_path, fails(400), tools="off", retries=0, seed=3)
    for path in (tmp_path / "out" / "eval").glob("*.jsonl"):
        path.unlink()
    first, _ = measure(tmp_path, pupil, tools="off")  # nothing is left of the other seed's
    for options, said in (
        ({"seed": 1}, "another setup.seed"),
        ({"temperature": 0.0}, "another setup.temperature"),
        ({"settings": ["malformed_calls=3"]}, "another setup.limits.malformed_calls"),
        ({"limit": 1}, "another data.transformed"),
    ):
        with pytest.raises(InputError, match=said):
            measure(tmp_path, pupil, tools="off", **options)
    again, requests = measure(tmp_path, pupil, tools="off")
    assert (again.suites, requests) == (first.suites, [])
    replaced, requests = measure(tmp_path, pupil, tools="off", seed=1, force=True)
    assert (replaced.setup.seed, len(requests)) == (1, 12)


def test_items_that_want_a_tool_held_out_of_training_succeed_by_using_it(tmp_path: Path) -> None:
    def lucky(request: Request) -> Reply:
        """Answers right, behind a call that changes nothing for item 0."""
        item, _ = asked_for(request)
        if len(request["messages"]) == 2:
            return says(call("image = image.copy()" if item == 0 else "image = ImageOps.flip(image)"))
        return says(f"{THINK}<answer>word{item}</answer>")

    found, _ = measure(tmp_path, lucky, tools="on", holdout="flip_vertical")
    mode = found.suites["transformed-holdout-flip_vertical"].modes["tool_on"]
    assert (tuple(mode.columns), mode.columns["flip_v"].score.accuracy) == (("flip_v",), 1)
    assert mode.success is not None
    assert (mode.success.accuracy, mode.success.n) == (0.5, 2)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"engine": "tgi"}, "is openai, sglang, vllm; not 'tgi'"),
        (
            {"model": "runs/nowhere", "engine": "openai"},
            "is sglang, vllm, transformers; not 'openai'; serve the folder",
        ),
        ({"replicas": 2}, "--replicas and --gpus need a checkpoint's folder"),
        ({"model": "runs/nowhere"}, "nowhere: not a checkpoint: no such folder"),
        ({"model": "runs/nowhere", "request": '{"top_p": 1}'}, "--request needs a model behind a URL"),
        ({"model": "runs/nowhere", "model_id": "x"}, "--model-id needs a model behind a URL"),
        ({"model": "runs/nowhere", "api_key_env": "KEY"}, "--api-key-env needs a model behind a URL"),
        ({"model": "runs/nowhere", "trained": Path("runs")}, "--trained needs a model behind a URL"),
        ({"trained": Path("runs/nowhere")}, "--trained runs/nowhere: there is no codevision.json"),
        ({"tools": "maybe"}, "--tools maybe: 'maybe' is neither on nor off"),
        ({"suites": ["vstar"]}, "vstar needs a file or a folder: vstar=PATH"),
        ({"suites": ["glyphs=x.parquet"]}, "glyphs generates its items and takes no file"),
        ({"suites": ["nosuch=x.parquet"]}, "--suite must be one of transformed, "),
        ({"suites": ["nosuch"]}, "nosuch: a file's name must end in .parquet"),
        ({"suites": ["glyphs", "glyphs"]}, "glyphs occurs twice"),
        ({"holdout": "flip"}, "--holdout must be one of crop, flip_horizontal"),
        ({"settings": ["seed"]}, "--set seed: must be NAME=VALUE"),
        ({"settings": ["turn_limit=3"]}, "codevision.turn_limit: unknown setting; known are"),
        ({"settings": ["coordinates=seen"]}, "coordinates=seen needs a checkpoint's folder"),
        ({"request": "["}, "--request: isn't JSON"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_played(tmp_path: Path, options: dict[str, Any], said: str) -> None:
    served = {"model_id": "m"} if "model" not in options else {}
    given = {"model": "http://127.0.0.1:9/v1", "suites": ["glyphs"], "limit": 1} | served | options
    given |= {"engine": options.get("engine", "openai" if given["model"][:4] == "http" else "sglang")}
    with pytest.raises(InputError, match=re.escape(said)):
        run_eval(EvalOptions(out=tmp_path / "out", **given))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"engine": "vllm"}, "--engine vllm: vllm isn't installed here"),
        ({"engine": "transformers", "replicas": 2}, "takes neither --replicas nor --gpus"),
        ({"engine": "sglang", "gpus": 2}, "--gpus 2: there is none here"),
        ({"engine": "sglang"}, "there are no weights (*.safetensors) in it"),
    ],
)
def test_what_this_machine_has_not_is_said_before_an_engine_starts(
    tmp_path: Path, options: dict[str, Any], said: str
) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match=re.escape(said)):
        run_eval(EvalOptions(model=str(tmp_path), suites=["glyphs"], out=tmp_path / "out", **options))
    assert not (tmp_path / "out").exists()


def test_the_drawn_sets_need_no_file(tmp_path: Path) -> None:
    found, _ = measure(tmp_path, says("<answer>7</answer>"), tools="off", suites=["glyphs", "synth"], limit=1)
    assert [each.items for each in found.suites.values()] == [6, 6]
    assert [tuple(each.modes["tool_off"].columns) for each in found.suites.values()] == [COLUMNS, COLUMNS]
