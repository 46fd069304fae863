"""Which engines play a checkpoint token for token, without a trainer? One entry each."""

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
"""Tokens of a prompt and its response, where nobody says how many and the model could take more."""


def context_of(checkpoint: Path) -> int:
    """Tokens that the model was made for, at most MOST_CONTEXT.

    Raises:
        InputError: the folder isn't a checkpoint.
    """
    from codevision_ext.models.checkpoint import longest  # noqa: PLC0415  it imports transformers

    return min(MOST_CONTEXT, longest(checkpoint) or MOST_CONTEXT)


class Replicas:
    """Several engines as one: all turns of a rollout are played by the same."""

    def __init__(self, engines: Sequence[Engine]) -> None:
        self._engines = engines
        self.renderer = engines[0].renderer

    async def load(self, checkpoint: Path) -> None:
        """Puts the weights of `checkpoint` into each, one after the other."""
        for engine in self._engines:
            await engine.load(checkpoint)

    def policy(self, seed: int, *, temperature: float = 1.0) -> Policy:
        """Of the engine that the rollout's seed chooses."""
        return self._engines[seed % len(self._engines)].policy(seed, temperature=temperature)


@contextmanager
def sglang(wanted: EngineConfig) -> Iterator[Engine]:
    """SGLang in child processes, as training runs it; from the main thread."""
    from codevision_ext.engines.sglang.engine import SGLangEngine as SGLang  # noqa: PLC0415  SGLang takes long to import

    with ExitStack() as opened:
        engines = []
        for at in range(wanted.replicas):
            gpus = range(at * wanted.gpus, (at + 1) * wanted.gpus)
            engine = SGLang(wanted.checkpoint, context=wanted.context, seed=wanted.seed, gpus=gpus)
            engines.append(opened.enter_context(engine))
        yield Replicas(engines)


@contextmanager
def vllm(wanted: EngineConfig) -> Iterator[Engine]:
    """The same with vLLM, which says no more at a start than SGLang does."""
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    from codevision_ext.engines.vllm import VLLMEngine  # noqa: PLC0415  vLLM takes long to import

    with VLLMEngine(
        wanted.checkpoint, context=wanted.context, seed=wanted.seed, replicas=wanted.replicas, gpus=wanted.gpus
    ) as engine:
        yield engine


@contextmanager
def transformers(wanted: EngineConfig) -> Iterator[Engine]:
    """`generate()` in this process."""
    from codevision_ext.engines.transformers import TransformersEngine  # noqa: PLC0415  after the device is settled

    with TransformersEngine(wanted.checkpoint, context=wanted.context) as reference:
        yield reference


ENGINES: Final[dict[str, Callable[[EngineConfig], AbstractContextManager[Engine]]]] = {
    each.__name__: each for each in (sglang, vllm, transformers)
}
"""By the name that `codevision eval --engine` knows them by, which is that of the package."""


@contextmanager
def open_model(engine: str, wanted: EngineConfig) -> Iterator[LoadedModel]:
    """Opens one of ENGINES for checkpoints of one architecture; `LoadedModel.load` loads their weights."""
    with ENGINES[engine](wanted) as opened:
        policy = partial(opened.policy, temperature=wanted.temperature)
        yield LoadedModel(policy=policy, renderer=opened.renderer, load=opened.load)


def check_config(engine: str, wanted: EngineConfig) -> None:
    """Whether this machine can open it; call `device.use_cpu_if_no_cuda` first.

    Raises:
        InputError: there is no such engine, it isn't installed, knows no replicas, or wants more GPUs than there are;
            or the folder has no weights, or damaged ones.
    """
    import torch  # noqa: PLC0415  after the device is settled

    from codevision_ext.models.checkpoint import weight_shapes  # noqa: PLC0415  it imports transformers

    if engine not in ENGINES:
        raise InputError(f"--engine of a folder is {', '.join(ENGINES)}; not {engine!r}")
    if find_spec(engine) is None:
        raise InputError(f"--engine {engine}: {engine} isn't installed here")
    if engine == "transformers" and (wanted.replicas, wanted.gpus) != (1, 1):
        raise InputError("--engine transformers takes neither --replicas nor --gpus")
    there = torch.cuda.device_count()
    if there == 0 and wanted.gpus > 1:
        raise InputError(f"--gpus {wanted.gpus}: there is none here")
    if there and wanted.replicas * wanted.gpus > there:
        raise InputError(f"--replicas {wanted.replicas} of --gpus {wanted.gpus} each: there are {there} here")
    weight_shapes(wanted.checkpoint)
