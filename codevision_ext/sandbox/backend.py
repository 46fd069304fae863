"""What does every place that runs model-written code offer? `run`, and the same without blocking an event loop."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Self, TypeVar

from codevision_ext.sandbox.protocol import ExecRequest, ExecResult, Isolation, Limits
from codevision_ext.types import ExecStatus

T = TypeVar("T")


class Backend(ABC):
    """Runs model-written code on images; safe to use from many threads.

    `conformance` says what `run` must do, wherever the code ends up.
    """

    def __init__(self, limits: Limits | None, live: int) -> None:
        """`live` is how many executions may run at once; more callers wait, and their clock doesn't run meanwhile."""
        self.limits = limits or Limits()
        self.live = live
        self._threads = ThreadPoolExecutor(max_workers=2 * live, thread_name_prefix="sandbox")

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:  # what was opened for a start that failed, or was interrupted, is closed too
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @abstractmethod
    def start(self) -> Isolation:
        """Make ready now instead of at the first call; returns what code runs behind.

        Raises:
            SandboxError: it can't be reached, or runs code behind less than was asked for.
        """

    def run(self, request: ExecRequest) -> ExecResult:
        """Execute and wait. Raises SandboxError when the sandbox itself is broken."""
        if len(request.code) > self.limits.code_chars:
            return ExecResult(status=ExecStatus.TOO_LONG, detail=f"{len(request.code)} characters")
        return self._execute(request)

    @abstractmethod
    def _execute(self, request: ExecRequest) -> ExecResult:
        """`run` for code that isn't too long."""

    async def arun(self, request: ExecRequest) -> ExecResult:
        """Execute without blocking the event loop."""
        return await self.in_thread(lambda: self.run(request))

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Do blocking work (executions and what belongs to them) on the sandbox's own threads."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def close(self) -> None:
        """End for good; later calls raise SandboxError."""
        self._threads.shutdown(wait=False)
