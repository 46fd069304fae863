"""The benchmarks of the flywheel run, print JSON, and fail where a target is missed."""

import json
import sys
from pathlib import Path

import evolve_faults
import evolve_store
import pytest
from evolve_stand_in import ProgramGenerator, seeds

from data_prep.cli import evolve_command
from data_prep.cli.evolve_command import OpenBackend
from data_prep.evolve.knowledge import parse_seeds


def test_the_store_is_measured_and_a_missed_target_is_an_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["evolve_store", "--results", "50", "--bytes", "100", "--folder", str(tmp_path)])
    evolve_store.main()
    assert json.loads(capsys.readouterr().out)["results"] == 50
    monkeypatch.setattr(evolve_store, "MOST_RESTART_S", 0.0)
    assert evolve_store.main() == 1


def test_faults_are_planted_and_found_in_the_items_of_a_back_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    concepts = parse_seeds(seeds(), "stand-in")
    opened = OpenBackend(generator=ProgramGenerator(), prompt="", concepts=concepts)
    monkeypatch.setitem(evolve_command.BACKENDS, "program", lambda: opened)  # type: ignore[arg-type]
    monkeypatch.setattr(sys, "argv", ["evolve_faults", "--each", "2", "--good", "4"])
    evolve_faults.main()
    result = json.loads(capsys.readouterr().out)
    assert result["rejected"] == []
    kinds = result["kinds"]
    assert {"duplicate", "leak from a suite", "overlay elsewhere", "code that fails"} <= set(kinds)
    for kind in ("overlay elsewhere", "question gives it away", "code that fails", "duplicate", "leak from a suite"):
        assert kinds[kind]["found"] == kinds[kind]["planted"] == 2, kind
