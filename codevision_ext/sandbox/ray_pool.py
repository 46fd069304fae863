"""Spreads calls over the nodes of a Ray cluster, with one sandbox per actor; Ray places the actors.

It pays only where the nodes of the rollouts have no free cores: images travel through Ray's object store, which takes
longer than the call for an image of one megapixel. An actor that dies is started again, perhaps on another node, and
its call is tried once more.
"""

from queue import SimpleQueue
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from codevision_ext.errors import SandboxError, first_line
from codevision_ext.sandbox import ExecRequest, ExecResult, Isolation, Limits, Sandbox
from codevision_ext.sandbox.backend import Backend


class RaySandbox(Backend):
    """Runs code in sandboxes that are Ray actors."""

    def __init__(
        self, limits: Limits | None = None, actors: int = 2, live: int = 1, isolation: Isolation = Isolation.STRICT
    ) -> None:
        """Starts the actors, and Ray itself where this process hasn't joined it. The actors end with this process.

        `live` is the number of concurrent executions, and of cores, of each actor, `isolation` its minimum isolation.
        """
        super().__init__(limits, actors * live)
        if not ray.is_initialized():
            ray.init()
        host: Any = ray.remote(  # type: ignore[call-overload]  # its annotations lack max_concurrency
            num_cpus=live, max_concurrency=live, max_restarts=-1, max_task_retries=1, scheduling_strategy="SPREAD"
        )(Sandbox)
        self._hosts = [host.remote(self.limits, live, isolation) for _ in range(actors)]
        self._free: SimpleQueue[Any] = SimpleQueue()
        for host in self._hosts * live:
            self._free.put(host)

    def start(self) -> Isolation:
        """Starts every sandbox, and returns the weakest isolation. Raises what `Backend.start` raises."""
        isolations: list[Isolation] = self._get([host.start.remote() for host in self._hosts])
        return min(isolations, key=list(Isolation).index)

    def _execute(self, request: ExecRequest) -> ExecResult:
        host = self._free.get()
        try:
            result: ExecResult = self._get(host.run.remote(request))
            return result
        finally:
            self._free.put(host)

    def _get(self, results: Any) -> Any:
        try:
            return ray.get(results)
        except RayTaskError as error:
            raise error.cause from error  # the error that the actor raised
        except RayError as error:
            raise SandboxError(f"a sandbox on the Ray cluster is lost: {first_line(error)}") from error

    def close(self) -> None:
        """Ends the actors; running and later calls raise SandboxError."""
        super().close()
        for host in self._hosts:
            ray.kill(host)
