"""Models behind endpoints write, check, repair, solve and expand items; nothing is paid twice."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from judge_server import JudgeServer, Reply, fails, serve
from scripted_endpoint import Script

from data_prep.__main__ import main
from data_prep.cli import evolve_command
from data_prep.evolve.store import ResultStore

SEEDS = {"knowledge": ["plane geometry/triangle/median", "plane geometry/triangle/side"], "tools": []}
SETTINGS = ("--seed", "0", "--perception", "0", "--solves", "2", "--workers", "2", "--shown", "2")


def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: object
) -> tuple[int, dict[str, Any], str]:
    """Returns exit code, printed summary and last line on stderr of the command, run in this process."""
    monkeypatch.setattr(sys, "argv", ["data_prep", "evolve", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main()
    output = capsys.readouterr()
    lines = output.err.strip().splitlines()
    return int(ended.value.code or 0), json.loads(output.out) if output.out else {}, lines[-1] if lines else ""


@pytest.fixture
def seeds(tmp_path: Path) -> Path:
    path = tmp_path / "seeds.yaml"
    path.write_text(yaml.safe_dump(SEEDS))
    return path


def words(out: Path, server: JudgeServer, seeds: Path, items: int, *more: object) -> list[object]:
    models = [word for role in ("generator", "checker") for word in (f"--{role}", f"{server.url},{role}")]
    common = ["--seeds", seeds, "--items", items, *SETTINGS, "--expand", "0", *models]
    return [out, "--backend", "endpoint", *common, *more]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_accepted_items_are_checked_and_solved_and_a_second_run_pays_nothing(
    tmp_path: Path, seeds: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = Script()
    with serve(script) as server:
        code, printed, error = run(monkeypatch, capsys, *words(tmp_path / "out", server, seeds, 3))
        assert code == 0, error
        assert printed["items"] == 3
        assert printed["spent"]["sent"] == sum(script.seen.values()) > 0
        assert printed["spent"]["tokens"] == 1500 * printed["spent"]["sent"]
        assert script.seen["check_answer"] == script.seen["check_overlay"] == script.seen["check_original"]
        asked = sum(script.seen.values())
        again = run(
            monkeypatch, capsys, *words(tmp_path / "again", server, seeds, 3, "--store", tmp_path / "out.store")
        )
    assert sum(script.seen.values()) == asked
    assert again[1]["spent"]["sent"] == again[1]["executed"] == 0
    assert contents(tmp_path / "again") == contents(tmp_path / "out")
    items = [json.loads(line) for line in (tmp_path / "out" / "items.jsonl").read_text().splitlines()]
    assert {item["difficulty"] for item in items} == {"medium"}  # half of the blind solves are right
    card = (tmp_path / "out" / "card.md").read_text()
    assert "generator generator, checker checker" in card


@pytest.mark.parametrize(
    ("fault", "kind", "reason", "count"),
    [
        ("broken", "replies", "reply_not_json", 1),
        ("cut", "replies", "reply_cut_off", 1),
        ("refused", "replies", "reply_refused", 1),
        ("two", "replies", "reply_count", 1),
        ("reject", "rejected", "original_score", 3),
        ("misplaced", "rejected", "overlay_score", 3),
        ("unreadable", "rejected", "no_score", 3),
        ("hopeless", "rejected", "answer_score", 3),
        ("unsolved", "rejected", "unsolved", 3),
        ("not_needed", "rejected", "not_needed", 3),
    ],
)
def test_a_fault_is_counted_by_its_reason_and_the_run_goes_on(
    tmp_path: Path,
    seeds: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    fault: str,
    kind: str,
    reason: str,
    count: int,
) -> None:
    with serve(Script(plan={0: fault})) as server:
        code, printed, error = run(monkeypatch, capsys, *words(tmp_path / "out", server, seeds, 3))
    assert code == 0, error
    assert printed["items"] == 3
    assert printed[kind] == ({reason: count} if fault != "unreadable" else printed[kind])
    assert printed[kind][reason] == count
    card = (tmp_path / "out" / "card.md").read_text()
    assert f"| {reason} | {count} |" in card
    if fault == "unreadable":
        assert printed["replies"] == {"reply_not_json": 6}
    if fault == "hopeless":
        assert printed["stages"]["repair"] == {"entered": 3, "passed": 0}


def test_a_wrong_answer_is_repaired_and_checked_again(
    tmp_path: Path, seeds: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = Script(plan={0: "repair"})
    with serve(script) as server:
        code, printed, error = run(monkeypatch, capsys, *words(tmp_path / "out", server, seeds, 3))
    assert code == 0, error
    assert printed["stages"]["repair"] == {"entered": 3, "passed": 3}
    assert script.seen["repair"] == 3
    items = [json.loads(line) for line in (tmp_path / "out" / "items.jsonl").read_text().splitlines()]
    assert all(item["answer"] != "9999" and item["answer"] in item["solution"] for item in items)


def test_verified_items_are_expanded_to_three_drawings_and_names_are_merged(
    tmp_path: Path, seeds: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with serve(Script()) as server:
        code, printed, error = run(monkeypatch, capsys, *words(tmp_path / "out", server, seeds, 9, "--expand", "1"))
    assert code == 0, error
    assert printed["depths"] == {"1": 3, "2": 3, "3": 3}
    assert set(printed["relations"]) <= {"generated", "parallel", "sequential"}
    items = [json.loads(line) for line in (tmp_path / "out" / "items.jsonl").read_text().splitlines()]
    ids = {item["id"] for item in items}
    assert all(item["parent"] in ids for item in items if item["relation"])
    paths = {path for item in items for path in item["knowledge"]}
    assert "plane geometry/ratio" in paths  # proposed as `Plane Geometry/Ratio`


def test_tools_that_models_propose_are_drawn_and_their_knowledge_is_merged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seeds = tmp_path / "tools.yaml"
    known = "plane geometry/triangle/median"
    seeds.write_text(yaml.safe_dump({"knowledge": [known], "tools": ["median segment"]}))
    with serve(Script()) as server:
        code, _, error = run(monkeypatch, capsys, *words(tmp_path / "out", server, seeds, 6))
    assert code == 0, error
    items = [json.loads(line) for line in (tmp_path / "out" / "items.jsonl").read_text().splitlines()]
    assert {item["id"].split("-")[2] for item in items} == {"0", "1"}  # call 1 draws tools, and names (..)-(Medians)
    assert {path for item in items for path in item["knowledge"]} == {known}


def test_perception_items_are_checked_without_a_drawing(
    tmp_path: Path, seeds: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = Script()
    with serve(script) as server:
        code, printed, error = run(monkeypatch, capsys, *words(tmp_path / "out", server, seeds, 3, "--perception", "1"))
    assert code == 0, error
    assert printed["kinds"] == {f"perception, {level}": 1 for level in ("integrated", "semantic", "surface")}
    assert script.seen["check_overlay"] == script.seen["solve"] == 0


def test_429_500_and_a_timeout_are_tried_again(
    tmp_path: Path, seeds: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = Script(plan={0: "busy", 1: "slow"})
    with serve(script) as server:
        role = {"url": server.url, "timeout_s": 2.0}
        content = {name: {**role, "model": name} for name in ("generator", "checker")}
        settings = tmp_path / "endpoints.yaml"
        settings.write_text(yaml.safe_dump({**content, "solves": 2}))
        given = [tmp_path / "out", "--backend", "endpoint", "--endpoints", settings, "--seeds", seeds]
        code, printed, error = run(monkeypatch, capsys, *given, "--items", "6", *SETTINGS, "--expand", "0")
    assert code == 0, error
    assert printed["items"] == 6
    assert printed["rejected"] == printed["replies"] == {}
    assert sum(script.seen.values()) > printed["spent"]["sent"]


def test_an_endpoint_that_is_down_ends_the_run_in_one_sentence_and_the_same_command_goes_on(
    tmp_path: Path, seeds: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script, down = Script(), threading.Event()

    def reply(request: dict[str, Any]) -> Any:
        if sum(script.seen.values()) == 6:
            down.set()
        return script(request) if not down.is_set() else broken

    broken = Reply(status=400, body=b'{"error": {"message": "the model is not loaded"}}')
    with serve(reply) as server:
        code, _, error = run(monkeypatch, capsys, *words(tmp_path / "out", server, seeds, 3))
        assert code == 2
        assert "the model is not loaded" in error
        assert error.endswith("the replies so far are kept: give the same command again")
        assert not (tmp_path / "out").exists()
        down.clear()
        script.seen["again"] += 1
        code, printed, error = run(monkeypatch, capsys, *words(tmp_path / "out", server, seeds, 3))
    assert code == 0, error
    assert printed["items"] == 3
    assert script.repeated == 0


def test_an_address_without_a_server_is_named(
    tmp_path: Path, seeds: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with serve(Script()) as server:
        pass
    content = {name: {"url": server.url, "model": name, "retries": 0} for name in ("generator", "checker")}
    settings = tmp_path / "endpoints.yaml"
    settings.write_text(yaml.safe_dump(content))
    given = [tmp_path / "out", "--backend", "endpoint", "--endpoints", settings, "--seeds", seeds, "--items", "3"]
    code, _, error = run(monkeypatch, capsys, *given)
    assert code == 2
    assert error.startswith(f"data_prep: generator: generator at {server.url} gave no reply")


@pytest.mark.parametrize(("option", "limit"), [("--max-calls", 12), ("--max-tokens", 40_000), ("--max-cost", 1.0)])
def test_a_limit_is_never_exceeded_and_a_higher_one_goes_on(
    tmp_path: Path,
    seeds: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    option: str,
    limit: float,
) -> None:
    script = Script()
    with serve(script) as server:
        role = {"url": server.url, "price_in": 20.0, "price_out": 120.0, "max_tokens": 1000}
        settings = tmp_path / "endpoints.yaml"
        settings.write_text(
            yaml.safe_dump({name: {**role, "model": name} for name in ("generator", "checker")} | {"solves": 2})
        )
        given = [tmp_path / "out", "--backend", "endpoint", "--endpoints", settings, "--seeds", seeds, "--items", "6"]
        given += [*SETTINGS, "--expand", "0"]
        code, _, error = run(monkeypatch, capsys, *given, option, limit)
        assert code == 2
        assert f"{option} {limit:g} is reached" in error
        assert "of 6 items are ready, and all replies are kept: raise the limit" in error
        asked = sum(script.seen.values())
        paid = {"--max-calls": asked, "--max-tokens": asked * 1500, "--max-cost": asked * 0.08}[option]
        assert 0 < paid <= limit
        code, _, error = run(monkeypatch, capsys, *given, option, limit)  # what was paid before counts
        assert code == 2
        assert sum(script.seen.values()) <= limit / (paid / asked)
        code, printed, error = run(monkeypatch, capsys, *given, option, limit * 50)
    assert code == 0, error
    assert printed["items"] == 6
    assert printed["spent"]["cost"] == pytest.approx(0.08 * sum(printed["spent"]["calls"].values()))
    assert script.repeated == 0


def test_the_items_before_a_limit_can_be_written(
    tmp_path: Path, seeds: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with serve(Script()) as server:
        settings = tmp_path / "endpoints.yaml"
        role = {"url": server.url, "concurrency": 1}
        settings.write_text(
            yaml.safe_dump({name: {**role, "model": name} for name in ("generator", "checker")} | {"max_calls": 60})
        )
        given = [tmp_path / "out", "--backend", "endpoint", "--endpoints", settings, "--seeds", seeds]
        given += [*SETTINGS, "--expand", "0", "--items"]
        code, _, error = run(monkeypatch, capsys, *given, 30)
        assert code == 2
        ready = int(error.split("cost 0.00; ")[1].split()[0])
        assert 0 < ready < 30
        code, printed, error = run(monkeypatch, capsys, *given, ready)
    assert code == 0, error
    assert printed["items"] == ready
    assert printed["spent"]["sent"] == 0


@pytest.fixture
def blocked() -> Iterator[tuple[Script, JudgeServer, threading.Event]]:
    """A script that answers 20 requests, and keeps others waiting until the event is set."""
    script, go_on, slots = Script(), threading.Event(), threading.Semaphore(20)

    def reply(request: dict[str, Any]) -> Any:
        if not go_on.is_set() and not slots.acquire(blocking=False):
            go_on.wait(120)
            return fails(500)
        return script(request)

    with serve(reply) as server:
        yield script, server, go_on
        go_on.set()


def test_a_killed_run_pays_for_nothing_twice_and_gives_the_bytes_of_an_undisturbed_one(
    tmp_path: Path, seeds: Path, blocked: tuple[Script, JudgeServer, threading.Event]
) -> None:
    script, server, go_on = blocked
    given = [sys.executable, "-m", "data_prep", "evolve", *map(str, words(tmp_path / "out", server, seeds, 6))]
    with subprocess.Popen(
        given, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    ) as process:
        deadline = time.monotonic() + 60
        while sum(script.bodies.values()) < 40 and time.monotonic() < deadline:  # 20 requests, 20 completions
            time.sleep(0.05)
        time.sleep(1.0)  # until the last replies are in the store
        assert process.poll() is None
        os.kill(process.pid, signal.SIGKILL)
    assert not (tmp_path / "out").exists()
    assert sum(script.seen.values()) == 20
    go_on.set()
    done = subprocess.run(given, capture_output=True, text=True, check=True)
    printed = json.loads(done.stdout)
    assert script.repeated == 0
    assert printed["spent"]["sent"] == sum(printed["spent"]["calls"].values()) - 20
    undisturbed = subprocess.run(
        [*given[:4], str(tmp_path / "other"), *given[5:]], capture_output=True, text=True, check=True
    )
    assert json.loads(undisturbed.stdout)["spent"]["sent"] == sum(printed["spent"]["calls"].values())
    assert contents(tmp_path / "other") == contents(tmp_path / "out")


class SmallDisk(ResultStore):
    """A store on SQLite's own disk of 30 pages."""

    def _open(self) -> sqlite3.Connection:
        connection = super()._open()
        connection.execute("PRAGMA max_page_count=30")
        return connection


def test_a_full_disk_ends_the_run_in_one_sentence_and_what_was_paid_is_kept(
    tmp_path: Path, seeds: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = Script()
    with serve(script) as server:
        monkeypatch.setattr(evolve_command, "ResultStore", SmallDisk)
        code, _, error = run(monkeypatch, capsys, *words(tmp_path / "out", server, seeds, 9))
        assert code == 2
        store = tmp_path / "out.store"
        full = "its disk is full; free space and give the same command again; the results so far are kept"
        assert error == f"data_prep: --store {store}: {full}"
        assert not (tmp_path / "out").exists()
        lost = sum(script.seen.values())
        monkeypatch.undo()
        code, printed, error = run(monkeypatch, capsys, *words(tmp_path / "out", server, seeds, 9))
    assert code == 0, error
    assert printed["items"] == 9
    assert script.repeated < lost


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("--generator", "http://localhost:1/v1,m"), "--generator needs --backend endpoint; program asks no model"),
        (("--backend", "endpoint"), "--backend endpoint needs a generator: give --generator URL,MODEL"),
        (("--backend", "endpoint", "--generator", "localhost"), "--generator localhost: must be URL,MODEL"),
        (("--backend", "endpoint", "--endpoints", "none.yaml"), "--endpoints none.yaml: can't be read"),
        (("--backend", "endpoint", "--endpoints", "odd.yaml"), "--endpoints odd.yaml: field checker.modle: unknown"),
        (("--backend", "endpoint", "--endpoints", "key.yaml"), "the environment has no MISSING_KEY"),
        (("--backend", "endpoint", "--endpoints", "one.yaml"), "field solves: must be 0 or from 2 to 64, it is 1"),
    ],
)
def test_bad_settings_are_one_sentence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    given: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    role = {"url": "http://localhost:1/v1", "model": "m"}
    files: dict[str, dict[str, Any]] = {
        "odd": {"generator": role, "checker": {**role, "modle": "n"}},
        "key": {"generator": {**role, "api_key_env": "MISSING_KEY"}, "checker": role},
        "one": {"generator": role, "checker": role, "solves": 1},
    }
    for name, content in files.items():
        Path(f"{name}.yaml").write_text(yaml.safe_dump(content))
    code, _, error = run(monkeypatch, capsys, "out", "--items", "2", *given)
    assert code == 2
    assert message in error
    assert not Path("out").exists()
