"""Does the command end in one sentence and a number, whatever it was asked for?"""

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
    done = codevision("report", str(run), "-o", str(tmp_path / "page.html"))
    assert done.stdout.strip() == str(tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text() == (run / "report.html").read_text()


def test_what_is_wrong_is_one_sentence_on_stderr_and_exit_code_2(tmp_path: Path) -> None:
    done = codevision("report", str(tmp_path / "nowhere"))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"codevision: {tmp_path / 'nowhere'}: no such folder\n"


def test_a_command_that_does_not_exist_is_refused_without_a_stack_trace() -> None:
    done = codevision("raport")
    assert done.returncode == 2
    assert "raport" in done.stderr
    assert "Traceback" not in done.stderr


def test_help_names_the_commands() -> None:
    done = codevision("--help")
    assert done.returncode == 0
    assert "report" in done.stdout
