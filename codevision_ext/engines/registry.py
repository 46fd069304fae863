"""The engines that run a checkpoint token for token, without a trainer: one entry each."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from codevision_ext.engines.base import Engine, EngineConfig, LoadedModel
from codevision_ext.errors import InputError
from codevision_ext.rollout.loop import Policy

MOST_CONTEXT: Final = 32_768
"""Maximum tokens of a prompt and its response, where no setting gives them and the model could take more."""


def context_of(checkpoint: Path) -> int:
    """Return the context length of the model in tokens, at most MOST_CONTEXT.

    Raises:
        InputError: the folder isn't a checkpoint.
    """
    from codevision_ext.models.checkpoint import longest  # noqa: PLC0415  it imports transformers

    return min(MOST_CONTEXT, longest(checkpoint) or MOST_CONTEXT)


class Replicas:
    """Several engines as one: all turns of a rollout go to the same engine."""

    def __init__(self, engines: Sequence[Engine]) -> None:
        self._engines = engines
        self.renderer = engines[0].renderer

    async def load(self, checkpoint: Path) -> None:
        """Load the weights of `checkpoint` into each engine, one after the other."""
        for engine in self._engines:
            await engine.load(checkpoint)

    def policy(self, seed: int, *, temperature: float = 1.0) -> Policy:
        """Return the policy of the engine that the rollout's seed chooses."""
        return self._engines[seed % len(self._engines)].policy(seed, temperature=temperature)


@contextmanager
def sglang(config: EngineConfig) -> Iterator[Engine]:
    """Run SGLang in child processes, as training does; call this from the main thread."""
    from codevision_ext.engines.sglang.engine import SGLangEngine as SGLang  # noqa: PLC0415  SGLang takes long to import

    with ExitStack() as opened:
        engines = []
        for at in range(config.replicas):
            gpus = range(at * config.gpus, (at + 1) * config.gpus)
            engine = SGLang(config.checkpoint, context=config.context, seed=config.seed, gpus=gpus, stop=config.stop)
            engines.append(opened.enter_context(engine))
        yield Replicas(engines)


def vllm(config: EngineConfig) -> AbstractContextManager[Engine]:
    """Run vLLM in child processes; it logs errors only, as SGLang does here."""
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    from codevision_ext.engines.vllm import VLLMEngine  # noqa: PLC0415  vLLM takes long to import

    return VLLMEngine(
        config.checkpoint,
        context=config.context,
        seed=config.seed,
        replicas=config.replicas,
        gpus=config.gpus,
        stop=config.stop,
    )


def transformers(config: EngineConfig) -> AbstractContextManager[Engine]:
    """Run `generate()` of transformers in this process."""
    from codevision_ext.engines.transformers import TransformersEngine  # noqa: PLC0415  after the device is settled

    return TransformersEngine(config.checkpoint, context=config.context, stop=config.stop)


ENGINES: Final[dict[str, Callable[[EngineConfig], AbstractContextManager[Engine]]]] = {
    each.__name__: each for each in (sglang, vllm, transformers)
}
"""Engines by their names in `codevision eval --engine`, which are the names of their packages."""


@contextmanager
def open_model(engine: str, config: EngineConfig) -> Iterator[LoadedModel]:
    """Opens one of ENGINES for checkpoints of one architecture; `LoadedModel.load` loads their weights."""
    with ENGINES[engine](config) as opened:
        policy = partial(opened.policy, temperature=config.temperature)
        yield LoadedModel(policy=policy, renderer=opened.renderer, load=opened.load)


def check_config(engine: str, config: EngineConfig) -> None:
    """Check that this machine can run the engine; call `device.use_cpu_if_no_cuda` first.

    Raises:
        InputError: there is no such engine, it isn't installed, knows no replicas, or needs more GPUs than there are;
            or the folder has no weights, or damaged ones.
    """
    import torch  # noqa: PLC0415  after the device is settled

    from codevision_ext.models.checkpoint import weight_shapes  # noqa: PLC0415  it imports transformers

    if engine not in ENGINES:
        raise InputError(f"--engine of a folder is {', '.join(ENGINES)}; not {engine!r}")
    if find_spec(engine) is None:
        raise InputError(f"--engine {engine}: {engine} isn't installed here")
    if engine == "transformers" and (config.replicas, config.gpus) != (1, 1):
        raise InputError("--engine transformers takes neither --replicas nor --gpus")
    there = torch.cuda.device_count()
    if there == 0 and config.gpus > 1:
        raise InputError(f"--gpus {config.gpus}: there is none here")
    if there and config.replicas * config.gpus > there:
        raise InputError(f"--replicas {config.replicas} of --gpus {config.gpus} each: there are {there} here")
    weight_shapes(config.checkpoint)
