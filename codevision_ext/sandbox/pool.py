"""Runs the code in children of a zygote process, and replaces a zygote that dies.

Model code that fails is a result. A zygote that dies is our fault: it is replaced and the call is tried once more, then
`SandboxError` is raised. The zygote ends when this process closes its end of the socket, so it never outlives this
process. Every zygote proves itself before its first call: honest snippets must pass, and every door must be shut
(`conformance`).
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
"""Time limit of a start in seconds; loading numpy and cv2 from a cold disk can take long."""
GRACE_S = 20.0
"""Seconds after the deadline until a zygote that reports no outcome counts as dead."""
ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "LANG": "C.UTF-8",
    "HOME": "/nonexistent",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    "PYTHONHASHSEED": "0",  # so that a set of strings has the same order in every sandbox
}
"""Environment of the zygote, in place of this process's own."""
FLAGS = ("-P", "-s", "-S")
"""Flags of the zygote's Python: no folder but its own libraries', no `site`. `-I` would ignore `PYTHONHASHSEED` too."""
MOST_LIVE = 256
"""Maximum concurrent executions; a zygote holds two descriptors for each, of `lockdown.MAX_FILES`."""
PLOTTING = "matplotlib"
"""Library whose users run in a second zygote, because matplotlib's memory doubles the cost of every fork."""
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
"""Program of the zygote. It imports `zygote` without the `__init__` modules, which would load the parent's side."""


class _ZygoteGoneError(Exception):
    """The zygote closed its end of the socket, or never answered."""


class _Zygote:
    """A locked-down interpreter with its libraries loaded, and the socket to it; `call` is safe from many threads."""

    isolation: Isolation
    """Actual isolation of its children."""

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
                    [
                        sys.executable,
                        "-P",
                        "-s",
                        "-S",
                        "-c",
                        BOOT,
                        own,
                        str(theirs.fileno()),
                        str(int(plotting)),
                        *dirs,
                    ],
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
        """Sends the filters to the zygote; returns the steps of its lockdown that failed, with their reasons."""
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
        """Sets the isolation. Raises SandboxError when it is weaker than `least`."""
        unsafe = any(PRIMITIVES[name][2] for name in missing)
        self.isolation = Isolation.UNSAFE if unsafe else Isolation.STRICT if missing else Isolation.LANDLOCK
        if not self.isolation.at_least(least):
            faults = (f"{name} ({why}): {PRIMITIVES[name][1]}" for name, why in missing.items())
            raise SandboxError(f"{NOT_SAFE} {least}, it lacks {'; '.join(faults)}. {OR_UNSAFE}")

    def _prove(self, least: Isolation) -> None:
        """Runs honest snippets and tries the doors. Raises SandboxError when a snippet fails or a door is open."""

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
        """Runs one request in a fresh child. Raises _ZygoteGoneError when the zygote can't be reached."""
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
        """Ends the zygote and its children."""
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
        except ValueError:  # another call found the zygote dead first, and closed the log
            lines = []
        return lines[-1] if lines else "it said nothing"


def _library_dirs() -> list[str]:
    """Returns the folders of the snippets' libraries, which the zygote needs because it runs without `site`."""
    specs = {name: importlib.util.find_spec(name) for name in ("PIL", "numpy", "cv2")}
    missing = [name for name, spec in specs.items() if spec is None or spec.origin is None]
    if missing:
        raise SandboxError(f"the sandbox needs {', '.join(missing)}, which this interpreter doesn't have")
    return sorted({str(Path(spec.origin).parents[1]) for spec in specs.values() if spec and spec.origin})


def _judge(wait_status: int, late: bool, ms: float, result: int, limits: Limits) -> ExecResult:
    """Returns the result of a dead child."""
    if late:
        return ExecResult(status=ExecStatus.TIMEOUT, ms=ms)
    code = os.waitstatus_to_exitcode(wait_status)
    if code == 0:
        return read_result(result, limits, ms)
    return ExecResult(status=ENDINGS.get(code, ExecStatus.CRASHED), ms=ms)


ENDINGS = {
    -signal.SIGXCPU: ExecStatus.TIMEOUT,
    -signal.SIGKILL: ExecStatus.MEMORY,  # before the deadline only the kernel's out-of-memory killer sends it
    wire.EXIT_NO_MEMORY: ExecStatus.MEMORY,
    -signal.SIGSYS: ExecStatus.DENIED,  # a call of another architecture
}
"""Status by exit code of a child that left no result; a negative code is a signal."""


class Sandbox(Backend):
    """Runs model-written code on images in child processes; safe to use from many threads."""

    def __init__(
        self, limits: Limits | None = None, live: int | None = None, isolation: Isolation = Isolation.STRICT
    ) -> None:
        """Keeps the settings; the zygote starts at the first call.

        Args:
            limits: Limits of one execution; None: the defaults.
            live: Maximum concurrent executions; None: the number of cores that this process may use. Further callers
                wait, and their clock starts after the wait.
            isolation: Minimum isolation. Every result names the actual isolation.

        Raises:
            InputError: `live` isn't a whole number from 1 to `MOST_LIVE`.
        """
        live = len(os.sched_getaffinity(0)) if live is None else live
        check_whole("the sandbox setting live", live, least=1, most=MOST_LIVE)
        super().__init__(limits, live)
        self._least = isolation
        self._slots = threading.BoundedSemaphore(self.live)
        self._locks = {False: threading.Lock(), True: threading.Lock()}
        self._zygotes: dict[bool, _Zygote] = {}
        """Zygotes by whether they load matplotlib; each has its own lock, so one can start while the other serves."""
        self._closed = False

    def start(self) -> Isolation:
        """Starts the zygote now (about half a second) instead of at the first call, and returns its isolation.

        Raises:
            SandboxError: a feature is missing that `isolation` requires (the message names it), or the proof failed.
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
        """Ends the zygotes for good; running and later calls raise SandboxError."""
        self._closed = True
        for plotting, lock in self._locks.items():
            with lock:
                zygote = self._zygotes.pop(plotting, None)
            if zygote is not None:
                zygote.close()
        super().close()

    def _running(self, *, plotting: bool) -> _Zygote:
        """Returns the zygote for this kind of code; starts it where there is none, or where it is dead."""
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
        """Drops a zygote that can't be reached, unless another thread has replaced it already."""
        with self._locks[plotting]:
            if self._zygotes.get(plotting) is dead:
                del self._zygotes[plotting]
                dead.close()
