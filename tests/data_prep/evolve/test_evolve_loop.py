"""A run depends on its seed only, survives SIGKILL, computes nothing twice, and counts what it rejects."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import evolve_stand_in
import pytest
from evolve_stand_in import ProgramGenerator

from data_prep.__main__ import main
from data_prep.cli import evolve_command
from data_prep.cli.evolve_command import OpenBackend
from data_prep.evolve.item import Item
from data_prep.evolve.knowledge import parse_seeds
from data_prep.evolve.yields import EXAMPLES

SETTINGS = ("--items", "24", "--seed", "3", "--expand", "0.5", "--shown", "4")


def open_stand_in(generator: ProgramGenerator | None = None) -> OpenBackend:
    return OpenBackend(
        generator=generator or ProgramGenerator(), prompt="", concepts=parse_seeds(evolve_stand_in.seeds(), "stand-in")
    )


@pytest.fixture(autouse=True)
def _stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(evolve_command.BACKENDS, "program", open_stand_in)  # type: ignore[arg-type]


def run(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    """Returns the exit code of the command, run in this process."""
    monkeypatch.setattr(sys, "argv", ["data_prep", "evolve", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, object]]:
    """An undisturbed run of the real command in a process of its own, and what it printed."""
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    done = subprocess.run(command(out), capture_output=True, text=True, check=True)
    return out, json.loads(done.stdout)


def command(out: Path) -> list[str]:
    return [sys.executable, evolve_stand_in.__file__, "evolve", str(out), *SETTINGS, "--workers", "2"]


def test_another_run_with_another_number_of_workers_gives_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: tuple[Path, dict[str, object]]
) -> None:
    assert run(monkeypatch, tmp_path / "out", *SETTINGS, "--workers", "1") == 0
    assert contents(tmp_path / "out") == contents(undisturbed[0])


def test_a_killed_run_goes_on_with_the_same_command_and_gives_the_same_bytes(
    tmp_path: Path, undisturbed: tuple[Path, dict[str, object]]
) -> None:
    out = tmp_path / "out"
    with subprocess.Popen(
        command(out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    ) as process:
        results = tmp_path / "out.store" / "results.sqlite-wal"
        deadline = time.monotonic() + 60
        while (not results.exists() or results.stat().st_size < 200_000) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert process.poll() is None, "the run ended before it could be killed"
        os.kill(process.pid, signal.SIGKILL)
    assert not out.exists()
    done = subprocess.run(command(out), capture_output=True, text=True, check=True)
    printed, before = json.loads(done.stdout), undisturbed[1]
    assert contents(out) == contents(undisturbed[0])
    assert 0 < printed["executed"] < before["executed"]  # type: ignore[operator]
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".draft")] == []


def test_a_repeated_run_executes_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    undisturbed: tuple[Path, dict[str, object]],
) -> None:
    store = f"{undisturbed[0]}.store"
    assert run(monkeypatch, tmp_path / "out", *SETTINGS, "--store", store) == 0
    assert json.loads(capsys.readouterr().out)["executed"] == 0
    assert contents(tmp_path / "out") == contents(undisturbed[0])


def test_rejects_are_counted_by_reason_and_named_on_the_card(undisturbed: tuple[Path, dict[str, object]]) -> None:
    out, printed = undisturbed
    rejected, stages = printed["rejected"], printed["stages"]
    assert isinstance(rejected, dict)
    assert isinstance(stages, dict)
    assert set(rejected) >= {"hint", "original_failed"}
    assert stages["parse"]["entered"] == stages["write"]["passed"] + sum(rejected.values())
    assert stages["write"]["passed"] == 24
    assert stages["original"]["entered"] - stages["original"]["passed"] == rejected["original_failed"]
    card = (out / "card.md").read_text()
    for reason, count in rejected.items():
        (line,) = [line for line in card.splitlines() if line.startswith(f"| {reason} | {count} |")]
        assert 1 <= line.count("stand-") <= EXAMPLES
    assert "license: apache-2.0" in card


def test_items_of_every_depth_have_their_lineage(undisturbed: tuple[Path, dict[str, object]]) -> None:
    items = [json.loads(line) for line in (undisturbed[0] / "items.jsonl").read_text().splitlines()]
    depths = {item["id"]: len(item["overlays"]) for item in items}
    children = [item for item in items if item["parent"]]
    assert {depths[item["id"]] for item in items if not item["level"]} == {1, 2, 3}
    assert all(depths[item["id"]] == depths[item["parent"]] + 1 for item in children)
    assert {item["relation"] for item in children} == {"parallel", "sequential"}
    assert len(depths) == len(items) == 24


def test_a_suite_with_the_items_of_another_run_leaves_none_of_them(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    undisturbed: tuple[Path, dict[str, object]],
) -> None:
    suite = undisturbed[0] / "train.parquet"
    words = (tmp_path / "out", *SETTINGS, "--store", f"{undisturbed[0]}.store", "--suite", suite)
    assert run(monkeypatch, *words) == 0
    printed = json.loads(capsys.readouterr().out)
    ids = [
        {json.loads(line)["id"] for line in (folder / "items.jsonl").read_text().splitlines()}
        for folder in (tmp_path / "out", undisturbed[0])
    ]
    assert printed["rejected"]["leaked_text"] + printed["rejected"].get("leaked_image", 0) >= 24
    assert not ids[0] & ids[1]


class Mute(ProgramGenerator):
    """Makes no items."""

    def generate(self, *_: object) -> tuple[Item, ...]:  # type: ignore[override]
        return ()

    def perceive(self, *_: object) -> tuple[Item, ...]:  # type: ignore[override]
        return ()


def test_a_back_end_without_items_ends_the_run_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(evolve_command.BACKENDS, "program", lambda: open_stand_in(Mute()))  # type: ignore[arg-type]
    assert run(monkeypatch, tmp_path / "out", "--items", "5") == 2
    (*_, message) = capsys.readouterr().err.strip().splitlines()
    assert message.startswith("data_prep: 0 of 5 items: 320 calls brought no new item")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--backend", "gpt"), "--backend must be among program, endpoint; not 'gpt'"),
        (("--items", "0"), "--items must be at least 1, it is 0"),
        (("--workers", "0"), "--workers must be at least 1, it is 0"),
        (("--expand", "1.5"), "--expand is a share in [0, 1], not 1.5"),
        (("--perception", "nan"), "--perception is a share in [0, 1], not nan"),
        (("--seeds", "none.yaml"), "--seeds none.yaml: can't be read: No such file or directory"),
        (("--suite", "none.parquet"), "none.parquet"),
    ],
)
def test_bad_input_is_one_sentence_and_writes_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, "out", *words) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("data_prep: ")
    assert message in error
    assert len(error.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
