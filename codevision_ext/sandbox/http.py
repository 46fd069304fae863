"""Runs code on other machines, through a server that speaks SandboxFusion's `POST /run_code`.

The server gets a self-contained program (our own runner, as in the zygote's children, with its request as a file) and
returns a file with the result. That file is read and checked like a child's result: nothing in it is trusted. At start
the doors of the server are tried (`conformance.DOORS`). A server with an open door is refused unless the setting is
`unsafe`. The server and the program itself limit wall time and memory.

Not covered: code that forges its own result (it may return any image anyway), and what the server's owner sees.
The start of the server's interpreter and the loading of its libraries count as wall time.
"""

import base64
import binascii
import dataclasses
import functools
import os
import threading
import time
from importlib.resources import files
from typing import Any

import httpx

from codevision_ext.errors import SandboxError
from codevision_ext.sandbox.backend import Backend
from codevision_ext.sandbox.conformance import PROOF, open_doors
from codevision_ext.sandbox.protocol import (
    ExecRequest,
    ExecResult,
    Isolation,
    Limits,
    new_result,
    pack_request,
    read_result,
)
from codevision_ext.sandbox.wire import EXIT_NO_MEMORY
from codevision_ext.types import ExecStatus

ATTEMPTS = 3
"""Maximum attempts of a request that the server doesn't answer, or answers with 429 or 5xx."""
PAUSE_S = 0.5
"""Pause before the second attempt in seconds; it doubles before each further attempt."""
GRACE_S = 60.0
"""Seconds beyond the wall time limit in which an answer may come, because the server may have a queue."""
REQUEST_FILE, RESULT_FILE = "request.bin", "result.bin"

_DRIVER = """
import os, resource, sys, types
for name, source in {sources!r}.items():
    module = sys.modules[name] = types.ModuleType(name)
    module.__path__ = []
    exec(compile(source, name, "exec"), module.__dict__)
from codevision_ext.sandbox import child, preload, wire
tools = preload.preload(lazily=True)
request = child.read_request(os.open({request!r}, os.O_RDONLY))
result = os.open({result!r}, os.O_RDWR | os.O_CREAT, 0o600)
os.truncate(result, {size})
pages = int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, 2 * (pages * resource.getpagesize() + {memory},))
try:
    os.truncate(result, child.perform(request, result, tools))
except MemoryError:
    os._exit(wire.EXIT_NO_MEMORY)
os._exit(0)
"""
_CARRIED = (
    "wire",
    "pixels",
    "coordinates",
    "snippet.source",
    "snippet.files",
    "snippet.images",
    "snippet.guards",
    "snippet.errors",
    "child",
    "preload",
)
"""Modules of this package that are part of the program, in the order of their imports."""


class HttpSandbox(Backend):
    """Runs code on a SandboxFusion-compatible server."""

    def __init__(
        self, url: str, limits: Limits | None = None, live: int = 32, isolation: Isolation = Isolation.STRICT
    ) -> None:
        """Keeps the settings; the server is tried at the first call.

        `url` stops before `/run_code`. `live` is the maximum of concurrent requests, `isolation` the minimum isolation.
        """
        super().__init__(limits, live)
        self._url = url.rstrip("/") + "/run_code"
        self._least = isolation
        self._client = httpx.Client(timeout=self.limits.wall_s + GRACE_S, limits=httpx.Limits(max_connections=live))
        self._slots = threading.BoundedSemaphore(live)
        self._starting = threading.Lock()
        self._isolation: Isolation | None = None

    def start(self) -> Isolation:
        """Tries the server's doors and returns its isolation. Raises what `Backend.start` raises."""
        with self._starting:
            if self._isolation is None:
                self._isolation = self._proved()
        return self._isolation

    def _proved(self) -> Isolation:
        """Runs the proof and tries the doors; returns the server's isolation. Raises SandboxError."""
        for case in PROOF:
            fault = case.fault(self._post)
            if fault:
                raise SandboxError(f"the sandbox server {self._url} failed its proof: {case.name}: {fault}")
        doors = open_doors(self._post)
        isolation = Isolation.UNSAFE if doors else Isolation.STRICT
        if not isolation.at_least(self._least):
            could = f"code inside could {', '.join(doors)}" if doors else "it can't be seen whether it has Landlock"
            remedy = f"Use a server that isolates better, or set isolation: {isolation}"
            raise SandboxError(f"the sandbox server {self._url} isn't {self._least}: {could}. {remedy}")
        return isolation

    def _execute(self, request: ExecRequest) -> ExecResult:
        isolation = self.start()
        with self._slots:
            result = self._post(request)
        return dataclasses.replace(result, isolation=isolation)

    def _post(self, request: ExecRequest) -> ExecResult:
        packed = pack_request(request, self.limits)
        try:
            content = os.pread(packed, os.fstat(packed).st_size, 0)
        finally:
            os.close(packed)
        answer = self._answered(
            {
                "language": "python",
                "code": program(self.limits),
                "run_timeout": self.limits.wall_s,
                "files": {REQUEST_FILE: base64.b64encode(content).decode()},
                "fetch_files": [RESULT_FILE],
            }
        )
        ran = answer.get("run_result")
        if answer.get("status") not in ("Success", "Failed") or not isinstance(ran, dict):
            raise SandboxError(f"the sandbox server {self._url} failed: {str(answer.get('message'))[:400]}")
        ms = 1000 * float(ran.get("execution_time") or 0.0)
        if ran.get("status") == "TimeLimitExceeded":
            return ExecResult(status=ExecStatus.TIMEOUT, ms=ms)
        if ran.get("return_code") != 0:
            full = ran.get("return_code") in (EXIT_NO_MEMORY, -9, 137)  # the kernel's out-of-memory killer
            return ExecResult(status=ExecStatus.MEMORY if full else ExecStatus.CRASHED, ms=ms)
        return self._read((answer.get("files") or {}).get(RESULT_FILE), ms)

    def _answered(self, body: dict[str, Any]) -> dict[str, Any]:
        """Returns the server's answer. Raises SandboxError if there is none after ATTEMPTS."""
        for attempt in range(ATTEMPTS):
            if attempt:
                time.sleep(PAUSE_S * 2 ** (attempt - 1))
            try:
                response = self._client.post(self._url, json=body)
                if response.status_code == 429 or response.status_code >= 500:
                    fault = f"it answers with {response.status_code}"
                    continue
                response.raise_for_status()
                answer = response.json()
            except httpx.TransportError as error:
                fault = str(error) or type(error).__name__
                continue
            except (httpx.HTTPStatusError, ValueError, RuntimeError) as error:  # RuntimeError: the client is closed
                raise SandboxError(f"the sandbox server {self._url} can't be used: {error}") from error
            if isinstance(answer, dict):
                return answer
            raise SandboxError(f"the sandbox server {self._url} answers with something that isn't an object")
        raise SandboxError(f"the sandbox server {self._url} can't be reached: {fault}")

    def _read(self, encoded: object, ms: float) -> ExecResult:
        """Reads the result in the returned file; an inconsistent one is `crashed`."""
        result = new_result(self.limits)
        try:
            content = base64.b64decode(encoded, validate=True) if isinstance(encoded, str) else b""
            if len(content) > os.fstat(result).st_size:
                return ExecResult(status=ExecStatus.CRASHED, ms=ms)
            os.pwrite(result, content, 0)
            return read_result(result, self.limits, ms)
        except binascii.Error as error:
            raise SandboxError(f"the sandbox server {self._url} sends files that aren't base64") from error
        finally:
            os.close(result)

    def close(self) -> None:
        """Ends the sandbox for good; running and later calls raise SandboxError."""
        super().close()
        self._client.close()


@functools.cache
def program(limits: Limits) -> str:
    """Returns the program that a server runs: Python source that needs only PIL, numpy and cv2."""
    folder = files("codevision_ext") / "sandbox"
    sources = {"codevision_ext": "", "codevision_ext.sandbox": "", "codevision_ext.sandbox.snippet": ""}
    for name in _CARRIED:
        sources[f"codevision_ext.sandbox.{name}"] = (folder / f"{name.replace('.', '/')}.py").read_text(
            encoding="utf-8"
        )
    size = os.fstat(probe := new_result(limits)).st_size
    os.close(probe)
    return _DRIVER.format(
        sources=sources, request=REQUEST_FILE, result=RESULT_FILE, size=size, memory=limits.memory_mb * 2**20
    )
