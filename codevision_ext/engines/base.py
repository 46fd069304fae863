"""The interface of every engine of an evaluation."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from codevision_ext.rollout.loop import Policy, Renderer


async def _nothing(*_: object) -> None:
    pass


class PolicyMaker(Protocol):
    """Function from the seed of a rollout to its policy; without `temperature` it samples as the model was opened."""

    def __call__(self, seed: int, /, *, temperature: float = ...) -> Policy: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedModel:
    """A model that is ready to generate."""

    policy: PolicyMaker
    renderer: Renderer | None
    """None: each policy is its own renderer."""
    load: Callable[[Path], Awaitable[None]] = _nothing
    """Loads the weights of a checkpoint; called before the first rollout. A model behind an endpoint is loaded."""
    close: Callable[[], Awaitable[None]] = _nothing
    """Function to call after the last rollout, in the same event loop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """A checkpoint, and how its engine runs it."""

    checkpoint: Path
    context: int
    """Maximum tokens of a prompt and its response together."""
    seed: int = 0
    temperature: float = 1.0
    """Sampling temperature; 0: greedy."""
    replicas: int = 1
    """Number of engines, which share the rollouts."""
    gpus: int = 1
    """GPUs of each engine (tensor parallel); the CPU counts as one."""
    stop: tuple[str, ...] = ()
    """Texts at which the engine ends a turn (`Dialect.stop`), together with the token that completes the text."""


class Engine(Protocol):
    """Generates with the weights that were loaded last; the first load comes before the first rollout."""

    @property
    def renderer(self) -> Renderer: ...

    async def load(self, checkpoint: Path) -> None: ...

    def policy(self, seed: int, *, temperature: float = 1.0) -> Policy: ...
