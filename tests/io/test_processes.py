"""A command ends together with every process it started, and their memory and time are counted."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from codevision_ext.io.processes import Command, available_bytes, end_marked, remove_unused_loads

ENV = dict(os.environ)
DETACHED = "import subprocess, sys; subprocess.Popen(['sleep', '300'], start_new_session=True)"
"""Leaves a daemon behind that has no parent any more."""
STUBBORN = "import signal, time; signal.signal(15, signal.SIG_IGN); print('ready', flush=True); time.sleep(300)"


def until(condition: Callable[[], bool], timeout_s: float = 20) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.05)


def test_a_command_gives_its_exit_status_and_its_words_stand_in_the_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("before\n")
    with Command(["bash", "-c", "echo out; echo err >&2; exit 7"], env=ENV, log=log) as command:
        until(lambda: command.poll() is not None)
        assert command.poll() == 7
    assert log.read_text() == "before\nout\nerr\n"


def test_a_daemon_that_detached_itself_ends_with_the_command(tmp_path: Path) -> None:
    with Command([sys.executable, "-c", DETACHED], env=ENV, log=tmp_path / "log") as command:
        until(lambda: command.poll() == 0)
        (daemon,) = command.processes()
        assert daemon.name() == "sleep"
    assert not daemon.is_running()


def test_a_command_that_ignores_the_request_to_end_is_killed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with Command([sys.executable, "-c", STUBBORN], env=ENV, log=log) as command:
        until(lambda: log.read_text() == "ready\n")
        command.end(grace_s=0.3)
        assert command.poll() == -signal.SIGKILL


def test_other_children_of_the_caller_are_left_alone(tmp_path: Path) -> None:
    with Command(["sleep", "300"], env=ENV, log=tmp_path / "other") as other:
        with Command(["sleep", "300"], env=ENV, log=tmp_path / "log") as command:
            assert len(command.processes()) == 1
        assert other.poll() is None


def test_memory_is_that_of_the_whole_tree(tmp_path: Path) -> None:
    hold = "import os, time; block = os.urandom(60_000_000); print('ready', flush=True); time.sleep(300)"
    both = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {hold!r}]); {hold}"
    log = tmp_path / "log"
    with Command([sys.executable, "-c", both], env=ENV, log=log) as command:
        until(lambda: log.read_text() == "ready\nready\n")
        assert 120e6 < command.memory_bytes() < 200e6


def test_processes_of_a_tree_without_its_parent_are_found_by_their_mark(tmp_path: Path) -> None:
    mark = str(tmp_path)
    with Command(
        [sys.executable, "-c", DETACHED], env=ENV | {"CODEVISION_TEST": mark}, log=tmp_path / "log"
    ) as command:
        until(lambda: command.poll() == 0)
        (daemon,) = command.processes()
        assert end_marked("CODEVISION_TEST", f"{mark}x") == 0
        assert daemon.is_running()
        assert end_marked("CODEVISION_TEST", mark) == 1
        until(lambda: not daemon.is_running() or daemon.status() == psutil.STATUS_ZOMBIE)


def test_free_memory_is_no_more_than_the_machine_has() -> None:
    assert 0 < available_bytes() <= psutil.virtual_memory().total


@pytest.fixture
def loads(tmp_path: Path) -> Iterator[Path]:
    """A name for a file like those that SGLang leaves, which no other run has."""
    path = Path("/dev/shm") / f"sglang_loads_{tmp_path.name}_{os.getpid()}.shm"
    yield path
    path.unlink(missing_ok=True)


HOLD = "import sys, time; file = open(sys.argv[1], 'wb'); print('ready', flush=True); time.sleep(300)"


def test_what_sglang_leaves_in_shared_memory_is_removed_once_no_process_has_it_open(loads: Path) -> None:
    loads.with_suffix(".other").touch()
    with subprocess.Popen([sys.executable, "-c", HOLD, loads], stdout=subprocess.PIPE) as engine:
        assert engine.stdout
        engine.stdout.readline()
        remove_unused_loads()
        assert loads.exists()
        engine.kill()
    remove_unused_loads()
    assert not loads.exists()
    assert loads.with_suffix(".other").exists()
    loads.with_suffix(".other").unlink()


def test_a_command_that_is_stopped_leaves_no_file_of_sglang(loads: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with Command([sys.executable, "-c", HOLD, str(loads)], env=ENV, log=log):
        until(lambda: log.read_text() == "ready\n")
        assert loads.exists()
    assert not loads.exists()


def test_the_next_run_removes_what_a_killed_one_left(loads: Path, tmp_path: Path) -> None:
    loads.touch()
    assert end_marked("CODEVISION_TEST", str(tmp_path)) == 0
    assert not loads.exists()
