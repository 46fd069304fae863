"""Defines the interface of every back end that runs model-written code: `run`, and `in_thread` for event loops."""

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

    The cases in `conformance` define the behaviour of `run` that every back end must have.
    """

    def __init__(self, limits: Limits | None, live: int) -> None:
        """Keeps the limits; nothing is started.

        Args:
            limits: Limits of one execution; None: the defaults.
            live: Maximum concurrent executions. Further calls wait; waiting doesn't count as wall time.
        """
        self.limits = limits or Limits()
        self.live = live
        self._threads = ThreadPoolExecutor(max_workers=2 * live, thread_name_prefix="sandbox")

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:  # a start that failed or was interrupted leaves nothing open
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @abstractmethod
    def start(self) -> Isolation:
        """Starts the sandbox now instead of at the first call, and returns its isolation.

        Raises:
            SandboxError: the sandbox can't be reached, or its isolation is weaker than the settings require.
        """

    def run(self, request: ExecRequest) -> ExecResult:
        """Runs the code and waits for its result. Raises SandboxError when the sandbox itself is broken."""
        if len(request.code) > self.limits.code_chars:
            return ExecResult(status=ExecStatus.TOO_LONG, detail=f"{len(request.code)} characters")
        return self._execute(request)

    @abstractmethod
    def _execute(self, request: ExecRequest) -> ExecResult:
        """Does what `run` does, for code that isn't too long."""

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Runs a blocking function, such as an execution or its tracing, on a thread of the sandbox."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def close(self) -> None:
        """Ends the sandbox for good; later calls raise SandboxError."""
        self._threads.shutdown(wait=False)
