"""The protocol that every engine of an evaluation keeps."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from codevision_ext.rollout.loop import Policy, Renderer


async def _load_nothing(_: Path) -> None:
    pass


async def _close_nothing() -> None:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedModel:
    """A model that is ready to play."""

    policy: Callable[[int], Policy]
    """The engine, given the seed of a rollout."""
    renderer: Renderer | None
    """None: each policy is its own."""
    load: Callable[[Path], Awaitable[None]] = _load_nothing
    """Loads the weights of a checkpoint; called before the first rollout. A model behind an endpoint is loaded."""
    close: Callable[[], Awaitable[None]] = _close_nothing
    """Called in the event loop that played, behind the last rollout."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """Which model is played, and with what."""

    checkpoint: Path
    context: int
    """Tokens of a prompt and its response, at most."""
    seed: int = 0
    temperature: float = 1.0
    """0: the likeliest token each time."""
    replicas: int = 1
    """Engines, which share the rollouts."""
    gpus: int = 1
    """Of each engine (tensor parallel); the CPU counts as one."""


class Engine(Protocol):
    """Plays the weights that were loaded last; the first load comes before the first rollout."""

    @property
    def renderer(self) -> Renderer: ...

    async def load(self, checkpoint: Path) -> None: ...

    def policy(self, seed: int, *, temperature: float = 1.0) -> Policy: ...
