"""A command that is told to stop ends with one sentence and exit code 130, whenever the signal comes."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from codevision_ext.io.stopping import Stopped, stoppable

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
STOPPABLE = "from codevision_ext.io.stopping import stoppable\n"


def run(folder: Path, program: str, *words: str, ignored: signal.Signals | None = None) -> tuple[int, str]:
    """Exit code and stderr of `python -m program`; modules in `folder` come before all others."""
    path = os.pathsep.join([str(folder), str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])])

    def ignore() -> None:
        if ignored:
            signal.signal(ignored, signal.SIG_IGN)

    done = subprocess.run(
        [sys.executable, "-m", program, *words],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=ignore,
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_within_an_executed_string_ends_the_process_like_any_other(
    tmp_path: Path, number: signal.Signals
) -> None:
    """The case of a signal while a named tuple or a dataclass is made, as most imports do."""
    lines = ["with stoppable('stopped'):", f"    exec('import os; os.kill(os.getpid(), {int(number)}); print()')"]
    (tmp_path / "program.py").write_text(STOPPABLE + "\n".join(lines))
    assert run(tmp_path, "program") == (130, "stopped\n")


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_within_a_callback_that_drops_exceptions_is_not_lost(tmp_path: Path, number: signal.Signals) -> None:
    """The case of a signal while an import lets go of its lock."""
    lines = ["import os, time, weakref", "with stoppable('stopped'):", "    thing = type('Thing', (), {})()"]
    lines += [f"    reference = weakref.ref(thing, lambda _: os.kill(os.getpid(), {int(number)}))"]
    lines += ["    del thing", "    time.sleep(60)"]
    (tmp_path / "program.py").write_text(STOPPABLE + "\n".join(lines))
    assert run(tmp_path, "program") == (130, "stopped\n")


WRAPPED = (
    STOPPABLE
    + """
import os, sys, time

class Name:
    def __set_name__(self, owner, name):
        os.kill(os.getpid(), {number})

with stoppable("stopped"):
    try:
        type("Owner", (), dict(name=Name()))
    except RuntimeError:
        {handled}
"""
)


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("handled", ["sys.exit(2)", "raise", "pass\n    time.sleep(20)"])
def test_a_signal_while_a_class_is_made_is_not_lost(tmp_path: Path, handled: str, number: signal.Signals) -> None:
    """The case of a signal while Pillow imports the plugin of a file format, for which it has a handler."""
    (tmp_path / "program.py").write_text(WRAPPED.format(number=int(number), handled=handled))
    assert run(tmp_path, "program") == (130, "stopped\n")


def test_a_signal_that_is_repeated_while_the_first_one_is_still_reported_is_not_lost(tmp_path: Path) -> None:
    """The case of a busy machine: the thread that repeats the signal is faster than the one that started it."""
    program = f"""
import os, threading, time, weakref
later = threading.Timer
class Early(later):
    def start(self):
        threading.Timer = later
        self.function(*self.args)
threading.Timer = Early
with stoppable('stopped'):
    thing = type('Thing', (), {{}})()
    reference = weakref.ref(thing, lambda _: os.kill(os.getpid(), {int(signal.SIGTERM)}))
    del thing
    time.sleep(10)
"""
    (tmp_path / "program.py").write_text(STOPPABLE + program)
    assert run(tmp_path, "program") == (130, "stopped\n")


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize(
    ("program", "sentence"),
    [("codevision_ext.cli", "codevision: stopped\n"), ("data_prep", "data_prep: stopped; nothing was written\n")],
)
def test_a_command_that_is_still_importing_ends_with_its_sentence(
    tmp_path: Path, program: str, sentence: str, number: signal.Signals
) -> None:
    (tmp_path / "typer.py").write_text(f"import os\nos.kill(os.getpid(), {int(number)})\n")
    assert run(tmp_path, program, "--help") == (130, sentence)


def test_a_command_that_typer_ends_says_so_too(tmp_path: Path) -> None:
    body = (
        "    import os, signal, typer\n    app = typer.Typer()\n    app.command()(lambda: os.kill(os.getpid(), 15))\n"
    )
    (tmp_path / "program.py").write_text(f"{STOPPABLE}with stoppable('stopped'):\n{body}    app()\n")
    assert run(tmp_path, "program") == (130, "stopped\n")


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_that_the_caller_ignores_stays_ignored(tmp_path: Path, number: signal.Signals) -> None:
    lines = ["import os", "with stoppable('stopped'):", f"    os.kill(os.getpid(), {int(number)})"]
    (tmp_path / "program.py").write_text(STOPPABLE + "\n".join(lines))
    assert run(tmp_path, "program", ignored=number) == (0, "")


def test_the_innermost_block_writes_its_sentence_and_the_handlers_are_put_back(
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    with pytest.raises(SystemExit) as end, stoppable("outer"), stoppable("inner"):
        raise Stopped(signal.SIGINT)
    assert (end.value.code, capsys.readouterr().err) == (130, "inner\n")
    assert [signal.getsignal(number) for number in SIGNALS] == before


@pytest.mark.parametrize("code", [0, 2, None])
def test_another_end_of_the_command_passes_unchanged(code: int | None, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end, stoppable("stopped"):
        raise SystemExit(code)
    assert (end.value.code, capsys.readouterr().err) == (code, "")


BUSY = (
    STOPPABLE
    + """
import asyncio, os, threading, time
from codevision_ext.io.stopping import run_stoppable

async def work():
    while True:
        sum(range(2000))
        await asyncio.sleep(0)

async def request():
    try:
        await work()
    except asyncio.CancelledError:
        raise
    except BaseException as error:
        raise BaseExceptionGroup("as anyio's task groups do", [error])

async def main():
    async with asyncio.TaskGroup() as tasks:
        for _ in range(20):
            tasks.create_task(request())

with stoppable("stopped"):
    threading.Timer(0.3, os.kill, (os.getpid(), {number})).start()
    run_stoppable(main())
"""
)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_among_busy_tasks_cancels_them_all_and_nothing_else_is_reported(
    tmp_path: Path, number: signal.Signals
) -> None:
    (tmp_path / "busy.py").write_text(BUSY.format(number=int(number)))
    assert run(tmp_path, "busy") == (130, "stopped\n")


BLOCKING = (
    STOPPABLE
    + """
import os, threading, time
from codevision_ext.io.stopping import run_stoppable

async def main():
    time.sleep(1000)

with stoppable("stopped"):
    for seconds in (0.3, 0.6):
        threading.Timer(seconds, os.kill, (os.getpid(), {number})).start()
    run_stoppable(main())
"""
)


def test_a_second_signal_ends_a_task_that_blocks(tmp_path: Path) -> None:
    (tmp_path / "busy.py").write_text(BLOCKING.format(number=int(signal.SIGINT)))
    code, message = run(tmp_path, "busy")
    assert code == 130
    assert "stopped\n" in message
