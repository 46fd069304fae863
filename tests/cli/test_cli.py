"""Every command ends in one sentence and an exit code, whatever it is called with."""

import json
import subprocess
import sys
from pathlib import Path

from made_up_run import make_run


def codevision(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "codevision_ext.cli", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_report_writes_the_page_and_says_where(tmp_path: Path) -> None:
    run = make_run(tmp_path / "demo")
    done = codevision("report", str(run))
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, str(run / "report.html"), "")
    words = ("-o", str(tmp_path / "page.html"), "--inline", "--limit", "3")
    done = codevision("report", str(run), str(make_run(tmp_path / "other")), *words)
    assert done.stdout.strip() == str(tmp_path / "page.html")
    assert "12 rollouts, 3 of them on this page" in (tmp_path / "page.html").read_text()
    assert not (tmp_path / "page_images").exists()


def test_what_is_wrong_is_one_sentence_on_stderr_and_exit_code_2(tmp_path: Path) -> None:
    done = codevision("report", str(tmp_path / "nowhere"))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"codevision: {tmp_path / 'nowhere'}: no such folder\n"


def test_a_full_disk_behind_stdout_is_one_sentence(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "codevision_ext.cli", "report", str(make_run(tmp_path / "demo"))]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (2, "codevision: can't write: [Errno 28] No space left on device\n")


def test_a_command_that_does_not_exist_is_refused_without_a_stack_trace() -> None:
    done = codevision("raport")
    assert done.returncode == 2
    assert "raport" in done.stderr
    assert "Traceback" not in done.stderr


def test_help_names_the_commands() -> None:
    done = codevision("--help")
    assert done.returncode == 0
    assert "report" in done.stdout


def test_score_writes_records_or_compares_weights(tmp_path: Path) -> None:
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    line = {"group": "g", "id": "g-0", "task": {"applied": []}, "observed": {"correct": True, "format": 1, "steps": []}}
    source.write_text(f"{json.dumps(line)}\n{json.dumps(line | {'id': 'g-1'})}\n")
    done = codevision("score", "--preset", "paper", "--weight", "format=0.5", str(source), "-o", str(out))
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, f"{out}: 2 records", "")
    assert [json.loads(line)["reward"] for line in out.read_text().splitlines()] == [1.5, 1.5]
    done = codevision("score", "--grid", "alpha=0,.5", "--grid", "beta=0,.2", str(source))
    assert len(json.loads(done.stdout)["effects"]) == 5
    assert "rank correlation" in done.stderr
    done = codevision("score", str(source))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("codevision: give either -o OUT.jsonl")


def test_a_hack_is_tried_with_the_weights_that_are_asked_for_or_refused_before_the_sandbox_starts() -> None:
    done = codevision("hacks", "--weight", "delta=1")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("codevision: unknown reward term 'delta'")
