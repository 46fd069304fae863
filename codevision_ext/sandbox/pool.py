"""Who runs the code: a zygote process, how many of its children may live at once, and what happens when it dies.

Model code that fails is a result. A zygote that dies is our fault: it is replaced and the call tried once more, then
`SandboxError` is raised. The zygote ends when this process closes its end of the socket, so it never outlives it.
"""

import asyncio
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self, TypeVar

from codevision_ext.errors import SandboxError
from codevision_ext.sandbox import worker
from codevision_ext.sandbox.protocol import ExecRequest, ExecResult, Limits, new_result, pack_request, read_result
from codevision_ext.types import ExecStatus

T = TypeVar("T")

START_TIMEOUT_S = 120.0
"""A cold disk can take long to load numpy and cv2."""
GRACE_S = 20.0
"""How long after the deadline an outcome may come before the zygote counts as dead."""
ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "LANG": "C.UTF-8",
    "HOME": "/nonexistent",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}


class _ZygoteGoneError(Exception):
    """The zygote closed its end, or never answered."""


class _Zygote:
    """One warm interpreter and the socket to it; `call` may be used from many threads."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control = ours
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the zygote
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", worker.__file__, str(theirs.fileno()), *_library_dirs()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._log,
                env=ENVIRONMENT,
                cwd="/",
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        self._control.settimeout(START_TIMEOUT_S)
        try:
            ready = self._control.recv(len(worker.READY))
        except OSError as error:
            self.close()
            raise SandboxError(f"the sandbox did not start within {START_TIMEOUT_S:.0f} s") from error
        if ready != worker.READY:
            said = self._last_words()
            self.close()
            raise SandboxError(f"the sandbox did not start: {said}")

    def call(self, request: ExecRequest, limits: Limits) -> ExecResult:
        """Run one request in a fresh child; raises _ZygoteGoneError when the zygote can't be reached."""
        start = worker.START.pack(limits.wall_s, limits.memory_mb * 2**20)
        reply, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        result = new_result(limits)
        try:
            with reply:
                with theirs:
                    code = pack_request(request, limits)
                    try:
                        socket.send_fds(self._control, [start], [code, result, theirs.fileno()])
                    finally:
                        os.close(code)
                reply.settimeout(limits.wall_s + GRACE_S)
                outcome = reply.recv(worker.OUTCOME.size)
            if len(outcome) != worker.OUTCOME.size:
                raise _ZygoteGoneError(self._last_words())
            wait_status, late, ms = worker.OUTCOME.unpack(outcome)
            return _judge(wait_status, late, ms, result, limits)
        except OSError as error:  # reset, timed out, or closed by another thread
            raise _ZygoteGoneError(str(error)) from error
        finally:
            os.close(result)

    def close(self) -> None:
        """End the zygote and its children."""
        self._control.close()
        try:
            self._process.wait(timeout=2.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()

    def _last_words(self) -> str:
        self._log.seek(0)
        lines = self._log.read()[-4096:].decode("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"


def _library_dirs() -> list[str]:
    """Where the libraries of the snippets are installed; without `site` the worker wouldn't find them."""
    found = {name: importlib.util.find_spec(name) for name in ("PIL", "numpy", "cv2")}
    missing = [name for name, spec in found.items() if spec is None or spec.origin is None]
    if missing:
        raise SandboxError(f"the sandbox needs {', '.join(missing)}, which this interpreter doesn't have")
    return sorted({str(Path(spec.origin).parents[1]) for spec in found.values() if spec and spec.origin})


def _judge(wait_status: int, late: bool, ms: float, result: int, limits: Limits) -> ExecResult:
    """The outcome of a dead child."""
    if late:
        return ExecResult(status=ExecStatus.TIMEOUT, ms=ms)
    code = os.waitstatus_to_exitcode(wait_status)
    if code == 0:
        return read_result(result, limits, ms)
    if code == -signal.SIGXCPU:
        return ExecResult(status=ExecStatus.TIMEOUT, ms=ms)
    if code == worker.EXIT_NO_MEMORY:
        return ExecResult(status=ExecStatus.MEMORY, ms=ms)
    return ExecResult(status=ExecStatus.CRASHED, ms=ms)


class Sandbox:
    """Runs model-written code on pictures, in a process of its own; safe to use from many threads.

    `live` is how many executions may run at once (default: the cores this process may use); more callers wait, and
    their clock doesn't run while they do.
    """

    def __init__(self, limits: Limits | None = None, live: int | None = None) -> None:
        self.limits = limits or Limits()
        self.live = live or len(os.sched_getaffinity(0))
        self._slots = threading.BoundedSemaphore(self.live)
        self._lock = threading.Lock()
        self._zygote: _Zygote | None = None
        self._closed = False
        self._threads = ThreadPoolExecutor(max_workers=2 * self.live, thread_name_prefix="sandbox")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Start the zygote now (about half a second) instead of at the first call. Raises SandboxError."""
        with self._lock:
            self._running()

    def run(self, request: ExecRequest) -> ExecResult:
        """Execute and wait. Raises SandboxError when the sandbox itself is broken."""
        if len(request.code) > self.limits.code_chars:
            return ExecResult(status=ExecStatus.TOO_LONG, detail=f"{len(request.code)} characters")
        with self._slots:
            with self._lock:
                zygote = self._running()
            try:
                return zygote.call(request, self.limits)
            except _ZygoteGoneError:
                zygote = self._replace(zygote)
            try:
                return zygote.call(request, self.limits)
            except _ZygoteGoneError as error:
                raise SandboxError(f"the sandbox died twice during one call: {error}") from error

    async def arun(self, request: ExecRequest) -> ExecResult:
        """Execute without blocking the event loop."""
        return await self.in_thread(lambda: self.run(request))

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Do blocking work (executions and what belongs to them) on the sandbox's own threads."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def close(self) -> None:
        """End the zygote for good; calls that run, and later ones, raise SandboxError."""
        with self._lock:
            self._closed = True
            zygote, self._zygote = self._zygote, None
        if zygote is not None:
            zygote.close()
        self._threads.shutdown(wait=False)

    def _running(self) -> _Zygote:
        if self._closed:
            raise SandboxError("the sandbox is closed")
        if self._zygote is None:
            self._zygote = _Zygote()
        return self._zygote

    def _replace(self, dead: _Zygote) -> _Zygote:
        """A new zygote in place of the dead one, unless another thread has replaced it already."""
        with self._lock:
            if self._zygote is dead:
                self._zygote = None
                dead.close()
            return self._running()
