"""Runs a command as a tree of processes that ends as a whole, daemons included.

Linux lets a process adopt orphans among its descendants, so a daemon that detaches itself from the command (as Ray's
daemons do) stays in the tree. Covered: all descendants of the command in any session or group. Not covered: processes
that another service starts for the command (systemd, a container engine). If this process is killed with SIGKILL, its
tree lives until `end_marked` ends it.
"""

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import psutil

from codevision_ext.errors import InfraError

_PR_SET_CHILD_SUBREAPER = 36
_GRACE_S = 10.0
"""Seconds between SIGTERM and SIGKILL."""
_POLL_S = 0.1


class Command(AbstractContextManager["Command"]):
    """One running command: `with Command(words, env=..., log=...) as command: command.poll()`.

    Leaving the block ends whatever of the tree still runs. Children that this process had before aren't touched. Raises
    InfraError if it can't be started.
    """

    def __init__(self, words: Sequence[str], *, env: Mapping[str, str], log: Path) -> None:
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self._others = set(_descendants())
        try:
            with log.open("ab") as out:
                self._child = subprocess.Popen(  # its own session: Ctrl-C reaches this process, which ends the tree
                    words,
                    env=env,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        except OSError as error:
            raise InfraError(f"{words[0]}, with its log in {log}, can't be started: {error.strerror}") from error

    def __exit__(self, *_: object) -> None:
        self.end()

    def poll(self) -> int | None:
        """Returns the exit status, negative for a signal; None while the command runs."""
        return self._child.poll()

    def processes(self) -> list[psutil.Process]:
        """Returns the running processes of the tree, without zombies."""
        return [process for process in _descendants() if process not in self._others and self._alive(process)]

    def memory_bytes(self) -> int:
        """Returns the current memory of the tree; a page that processes share counts once (sum of their PSS)."""
        return sum(map(_pss, self.processes()))

    def end(self, grace_s: float = _GRACE_S) -> None:
        """Ends the tree: asks every process, kills what is left after `grace_s` seconds, waits until none is left."""
        with _deaf():
            _end(self.processes, grace_s)
            self._child.wait()
            remove_unused_loads()

    def _alive(self, process: psutil.Process) -> bool:
        try:
            if process.status() != psutil.STATUS_ZOMBIE:
                return True
            if process.pid != self._child.pid and process.ppid() == os.getpid():
                os.waitpid(process.pid, os.WNOHANG)
        except (psutil.NoSuchProcess, ChildProcessError):
            pass  # it ended while we looked
        return False


def end_marked(name: str, value: str, grace_s: float = _GRACE_S) -> int:
    """Ends every process with NAME=VALUE in its environment, except this process and its parents; returns the number.

    This ends a tree whose parent was killed.
    """
    ours = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}

    def marked() -> list[psutil.Process]:
        return [p for p in psutil.process_iter() if p.pid not in ours and _environment(p).get(name) == value]

    processes = marked()
    if processes:
        with _deaf():
            _end(marked, grace_s)
    remove_unused_loads()
    return len(processes)


def remove_unused_loads(folder: Path = Path("/dev/shm")) -> None:
    """Remove this user's files in which SGLang's processes share their load (16 KB) and which no process has open.

    SGLang opens such a file when it starts, holds it open to the end, and never removes it. Processes of another
    container that shares `folder` aren't seen; an engine there that is just starting then reports no load.
    """
    paths = [path for path in folder.glob("sglang_loads_*.shm") if _is_own(path)]
    used = _open_files() if paths else set()  # behind the list of paths: what is created now isn't in it
    for path in paths:
        if str(path) not in used:
            path.unlink(missing_ok=True)


def _is_own(path: Path) -> bool:
    try:
        return path.stat().st_uid == os.geteuid()
    except FileNotFoundError:  # another run removed it
        return False


def _open_files() -> set[str]:
    """Returns the paths that a process has open, as far as this user may read them."""
    paths = set()
    for pid in psutil.pids():
        with suppress(OSError):  # it ended, or belongs to somebody else
            for descriptor in Path(f"/proc/{pid}/fd").iterdir():
                with suppress(OSError):  # closed in the meantime
                    paths.add(str(descriptor.readlink()))
    return paths


def available_bytes() -> int:
    """Returns the memory that new processes can use, within the limit of this control group if it has one."""
    free = int(psutil.virtual_memory().available)
    group = Path("/sys/fs/cgroup")
    try:
        limit = (group / "memory.max").read_text().strip()
        used = int((group / "memory.current").read_text())
    except OSError:  # no control group with a limit here
        return free
    return free if limit == "max" else min(free, int(limit) - used)


def _end(running: Callable[[], list[psutil.Process]], grace_s: float) -> None:
    signalled: set[psutil.Process] = set()
    deadline = time.monotonic() + grace_s
    while left := running():
        late = time.monotonic() > deadline
        for process in left:
            if late or process not in signalled:
                signalled.add(process)
                with suppress(psutil.NoSuchProcess):  # it ended by itself
                    process.send_signal(signal.SIGKILL if late else signal.SIGTERM)
        time.sleep(_POLL_S)


def _descendants() -> list[psutil.Process]:
    children: list[psutil.Process] = psutil.Process().children(recursive=True)
    return children


def _pss(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except (psutil.NoSuchProcess, psutil.AccessDenied):  # it ended, or belongs to somebody else
        return 0


def _environment(process: psutil.Process) -> dict[str, str]:
    try:
        return dict(process.environ())
    except (psutil.Error, OSError):  # it ended, or belongs to somebody else
        return {}


@contextmanager
def _deaf() -> Iterator[None]:
    """Ignores further signals, so that a second Ctrl-C doesn't interrupt the clean-up after the first."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
