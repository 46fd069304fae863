"""How do calls spread over the nodes of a Ray cluster? One sandbox an actor, and Ray places the actors.

Worth it where the nodes of the rollouts have no cores to spare: images travel through Ray's object store, which at
one megapixel costs more than the call. An actor that dies is started again, perhaps elsewhere, and its call once more.
"""

from queue import SimpleQueue
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from codevision_ext.errors import SandboxError, first_line
from codevision_ext.sandbox import ExecRequest, ExecResult, Isolation, Limits, Sandbox
from codevision_ext.sandbox.backend import Backend


class RaySandbox(Backend):
    """Runs code in `actors` sandboxes of `live` cores each; Ray is started or joined where it isn't yet."""

    def __init__(
        self, limits: Limits | None = None, actors: int = 2, live: int = 1, isolation: Isolation = Isolation.STRICT
    ) -> None:
        """`isolation` is the least that each may run code behind. The actors end with this process."""
        super().__init__(limits, actors * live)
        if not ray.is_initialized():
            ray.init()
        host: Any = ray.remote(  # type: ignore[call-overload]  # its annotations lack max_concurrency
            num_cpus=live,
            max_concurrency=live,
            max_restarts=-1,
            max_task_retries=1,
            scheduling_strategy="SPREAD",
        )(Sandbox)
        self._hosts = [host.remote(self.limits, live, isolation) for _ in range(actors)]
        self._free: SimpleQueue[Any] = SimpleQueue()
        for host in self._hosts * live:
            self._free.put(host)

    def start(self) -> Isolation:
        """The weakest of all. Raises what `Backend.start` raises."""
        levels = list(Isolation)
        found: list[Isolation] = self._get([host.start.remote() for host in self._hosts])
        return min(found, key=levels.index)

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
            raise error.cause from error  # as it was raised there
        except RayError as error:
            raise SandboxError(f"a sandbox on the Ray cluster is lost: {first_line(error)}") from error

    def close(self) -> None:
        """End the actors; calls that run, and later ones, raise SandboxError."""
        super().close()
        for host in self._hosts:
            ray.kill(host)
