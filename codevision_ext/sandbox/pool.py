"""Who runs the code: a zygote process, how many of its children may live at once, and what happens when it dies.

Model code that fails is a result. A zygote that dies is our fault: it is replaced and the call tried once more, then
`SandboxError` is raised. The zygote ends when this process closes its end of the socket, so it never outlives it.
Every zygote proves itself before its first call: canaries must find each door shut, honest snippets must pass.
"""

import dataclasses
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from codevision_ext.errors import SandboxError
from codevision_ext.sandbox import wire
from codevision_ext.sandbox.backend import Backend
from codevision_ext.sandbox.conformance import PROOF, open_doors
from codevision_ext.sandbox.lockdown import PRIMITIVES, compile_filters, primitives
from codevision_ext.sandbox.protocol import (
    ExecRequest,
    ExecResult,
    Isolation,
    Limits,
    check_whole,
    new_result,
    pack_request,
    read_result,
)
from codevision_ext.types import ExecStatus

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


MOST_LIVE = 256
"""Executions at once: a zygote holds two descriptors for each, of `lockdown.MAX_FILES`."""
PLOTTING = "matplotlib"
"""Code that mentions it runs in a zygote of its own: what matplotlib maps makes every fork twice as dear."""
NOT_SAFE = "the sandbox can't be"
OR_UNSAFE = "To run behind less, with every result saying so, set isolation: unsafe"
BOOT = """
import sys, types
for name, path in ("codevision_ext", ""), ("codevision_ext.sandbox", sys.argv.pop(1)):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [path]
from codevision_ext.sandbox.zygote import main
main()
"""
"""Imports the worker without running the `__init__` modules above it, which load this process's side."""


class _ZygoteGoneError(Exception):
    """The zygote closed its end, or never answered."""


class _Zygote:
    """One warm, locked-down interpreter and the socket to it; `call` may be used from many threads."""

    isolation: Isolation
    """What its children really run behind."""

    def __init__(self, least: Isolation, *, plotting: bool) -> None:
        missing = {primitive.name: primitive.missing for primitive in primitives() if primitive.missing}
        self._require(least, missing)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control = ours
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the zygote
        own, dirs = str(Path(__file__).parent), _library_dirs()
        with theirs, tempfile.TemporaryDirectory() as scratch:
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-I", "-S", "-c", BOOT, own, str(theirs.fileno()), str(int(plotting)), *dirs],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=self._log,
                    env=ENVIRONMENT | {"MPLCONFIGDIR": scratch},
                    cwd="/",
                    pass_fds=[theirs.fileno()],
                    start_new_session=True,
                )
            except OSError as error:
                ours.close()
                self._log.close()
                raise SandboxError(f"the sandbox did not start: {error}") from error
            theirs.close()
            try:
                missing |= self._hand_over((b"", b"") if "libseccomp" in missing else compile_filters())
                self._require(least, missing)
                self._prove(least)
            except BaseException:
                self.close()
                raise

    def _hand_over(self, filters: tuple[bytes, bytes]) -> dict[str, str]:
        """Give the zygote its filters; returns which primitives failed in it, and why."""
        self._control.settimeout(START_TIMEOUT_S)
        try:
            self._control.send(b"".join([wire.FILTERS.pack(*map(len, filters)), *filters]))
            report = self._control.recv(wire.REPORT_BYTES)
        except OSError as error:
            raise SandboxError(f"the sandbox did not start: {error}; {self._last_words()}") from error
        if not report:
            raise SandboxError(f"the sandbox did not start: {self._last_words()}")
        failed: dict[str, str] = json.loads(report)
        return failed

    def _require(self, least: Isolation, missing: dict[str, str]) -> None:
        """Settle what the children run behind. Raises SandboxError when it is less than was asked for."""
        unsafe = any(PRIMITIVES[name][2] for name in missing)
        self.isolation = Isolation.UNSAFE if unsafe else Isolation.STRICT if missing else Isolation.LANDLOCK
        if not self.isolation.at_least(least):
            faults = (f"{name} ({why}): {PRIMITIVES[name][1]}" for name, why in missing.items())
            raise SandboxError(f"{NOT_SAFE} {least}, it lacks {'; '.join(faults)}. {OR_UNSAFE}")

    def _prove(self, least: Isolation) -> None:
        """Run honest snippets and canaries. Raises SandboxError when one fails, or finds a door open."""

        def run(request: ExecRequest) -> ExecResult:
            return self.call(request, Limits(wall_s=30.0))

        try:
            for case in PROOF:
                fault = case.fault(run)
                if fault:
                    raise SandboxError(f"the sandbox failed its own proof: {case.name}: {fault}")
            doors = open_doors(run)
        except _ZygoteGoneError as error:
            raise SandboxError(f"the sandbox died while it proved itself: {error}") from error
        if doors:
            self.isolation = Isolation.UNSAFE
            if not self.isolation.at_least(least):
                raise SandboxError(f"{NOT_SAFE} {least}, code inside could {', '.join(doors)}. {OR_UNSAFE}")

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def call(self, request: ExecRequest, limits: Limits) -> ExecResult:
        """Run one request in a fresh child; raises _ZygoteGoneError when the zygote can't be reached."""
        start = wire.START.pack(limits.wall_s, limits.memory_mb * 2**20)
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
                outcome = reply.recv(wire.OUTCOME.size)
            if len(outcome) != wire.OUTCOME.size:
                raise _ZygoteGoneError(self._last_words())
            wait_status, late, ms = wire.OUTCOME.unpack(outcome)
            return dataclasses.replace(_judge(wait_status, late, ms, result, limits), isolation=self.isolation)
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
        try:
            self._log.seek(0)
            lines = self._log.read()[-4096:].decode("utf-8", "replace").strip().splitlines()
        except ValueError:  # closed by another call, that found the zygote dead before this one
            lines = []
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
    return ExecResult(status=ENDINGS.get(code, ExecStatus.CRASHED), ms=ms)


ENDINGS = {
    -signal.SIGXCPU: ExecStatus.TIMEOUT,
    -signal.SIGKILL: ExecStatus.MEMORY,  # before the deadline, nobody but the kernel's out-of-memory killer
    wire.EXIT_NO_MEMORY: ExecStatus.MEMORY,
    -signal.SIGSYS: ExecStatus.DENIED,  # a call of another architecture
}
"""How a child ended that left no result."""


class Sandbox(Backend):
    """Runs model-written code on images, in a process of its own; safe to use from many threads.

    `live` is how many executions may run at once (default: the cores this process may use); more callers wait, and
    their clock doesn't run while they do.
    """

    def __init__(
        self, limits: Limits | None = None, live: int | None = None, isolation: Isolation = Isolation.STRICT
    ) -> None:
        """`isolation` is the least that it may run behind; what it does run behind is in every result.

        Raises:
            InputError: `live` is no whole number from 1 to `MOST_LIVE`.
        """
        live = len(os.sched_getaffinity(0)) if live is None else live
        check_whole("the sandbox setting live", live, least=1, most=MOST_LIVE)
        super().__init__(limits, live)
        self._least = isolation
        self._slots = threading.BoundedSemaphore(self.live)
        self._locks = {False: threading.Lock(), True: threading.Lock()}
        self._zygotes: dict[bool, _Zygote] = {}
        """By whether it is for plotting; each behind its own lock, so that one may start while the other serves."""
        self._closed = False

    def start(self) -> Isolation:
        """Start the zygote now (about half a second) instead of at the first call; returns what it runs behind.

        Raises:
            SandboxError: a primitive is missing that `isolation` requires (which, and what to do), or the proof failed.
        """
        return self._running(plotting=False).isolation

    def _execute(self, request: ExecRequest) -> ExecResult:
        plotting = any(PLOTTING in code for code in (request.code, *(call.code for call in request.earlier)))
        plotting = plotting and importlib.util.find_spec(PLOTTING) is not None
        with self._slots:
            for _ in range(2):
                zygote = self._running(plotting=plotting)
                try:
                    return zygote.call(request, self.limits)
                except _ZygoteGoneError as error:
                    fault = error
                    self._discard(zygote, plotting=plotting)
        raise SandboxError(f"the sandbox died twice during one call: {fault}") from fault

    def close(self) -> None:
        """End the zygotes for good; calls that run, and later ones, raise SandboxError."""
        self._closed = True
        for plotting, lock in self._locks.items():
            with lock:
                zygote = self._zygotes.pop(plotting, None)
            if zygote is not None:
                zygote.close()
        super().close()

    def _running(self, *, plotting: bool) -> _Zygote:
        """The zygote for this kind of code, a new one where it hasn't started yet or is dead."""
        with self._locks[plotting]:
            if self._closed:
                raise SandboxError("the sandbox is closed")
            zygote = self._zygotes.get(plotting)
            if zygote is None or not zygote.alive:
                if zygote is not None:
                    zygote.close()
                self._zygotes[plotting] = zygote = _Zygote(self._least, plotting=plotting)
            return zygote

    def _discard(self, dead: _Zygote, *, plotting: bool) -> None:
        """Forget a zygote that can't be reached, unless another thread has replaced it already."""
        with self._locks[plotting]:
            if self._zygotes.get(plotting) is dead:
                del self._zygotes[plotting]
                dead.close()
