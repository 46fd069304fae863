"""A study adds seeds until its comparisons are decided; a killed one continues and comes to the same end."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import stub_study

from codevision_ext.errors import InputError
from codevision_ext.experiments.study.looks import run_until_decided
from codevision_ext.experiments.study.plan import StudyPlan, Training
from codevision_ext.experiments.study.train import TrainingJob


def findings(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "out" / "findings.json").read_text()))


def calls(folder: Path) -> Counter[str]:
    return Counter((folder / "calls").read_text().splitlines())


def test_only_undecided_trainings_get_more_seeds_and_the_table_says_why_it_ended(tmp_path: Path) -> None:
    table = stub_study.main(stub_study.write_study(tmp_path), minutes=10)
    outcomes = findings(tmp_path)["outcomes"]
    assert (outcomes["worse"]["decision"], outcomes["worse"]["difference"]["seeds"]) == ("below", 3)
    assert (outcomes["equal"]["decision"], outcomes["equal"]["difference"]["seeds"]) == ("undecided", 5)
    assert outcomes["worse"]["difference"]["confidence"] > outcomes["equal"]["difference"]["confidence"] > 0.95
    assert sorted(outcomes["full"]["by_seed"]) == ["0", "1", "2", "3", "4"]
    assert "| below 0 | worse |" in table
    assert "The study ended because all 5 seeds are used." in table


def test_no_seed_begins_that_would_end_too_late(tmp_path: Path) -> None:
    now = 0.0

    def measure(jobs: Any) -> Any:
        nonlocal now
        now += 60 * (6 if len(jobs) == 6 else 2)
        return stub_study.evaluate(jobs)

    def jobs_of(plan: StudyPlan) -> list[TrainingJob]:
        made = [
            TrainingJob(name=name, seed=seed, folder=tmp_path / f"{name}-{seed}", script="")
            for seed in plan.seeds
            for name in plan.trainings
        ]
        for job in made:
            job.folder.mkdir()
            (job.folder / "results.txt").write_text("50")
        return made

    plan = StudyPlan(question="?", steps=1, trainings={"full": Training(), "equal": Training()})
    jobs, found = run_until_decided(plan, jobs_of, measure, 11, clock=lambda: now)
    assert found.ended == "the 11 minutes are up"  # 6 + 2 + 2 minutes; one more seed would end after 12
    assert {job.seed for job in jobs} == {0, 1, 2, 3, 4}
    with pytest.raises(InputError, match="--until-decided needs at least two seeds"):
        run_until_decided(plan.model_copy(update={"seeds": (0,)}), jobs_of, measure, 11)


def test_a_study_killed_in_the_middle_continues_and_ends_like_one_that_was_not(tmp_path: Path) -> None:
    whole = stub_study.write_study(tmp_path / "whole")
    table = stub_study.main(whole, minutes=10)

    killed = stub_study.write_study(tmp_path / "killed", seconds=0.5)
    words = [sys.executable, stub_study.__file__, str(killed), "10"]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, env=os.environ)
    deadline = time.monotonic() + 60
    while not (killed / "calls").exists() or not calls(killed)["full-1 begins"]:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = calls(killed)
    assert 0 < sum(count for line, count in before.items() if line.endswith("ends")) < 9

    done = subprocess.run(words, capture_output=True, text=True, env=os.environ, check=True)
    after = calls(killed)
    assert {line for line, count in after.items() if line.endswith("ends") and count > 1} == set()
    for line in before:  # what was finished isn't repeated
        if line.endswith("ends"):
            assert after[line.replace("ends", "begins")] == 1
    assert findings(killed) == findings(whole)
    assert table in done.stdout

    again = subprocess.run(words, capture_output=True, text=True, env=os.environ, check=True)
    assert calls(killed) == after
    assert table in again.stdout
