"""Which engines play a checkpoint token for token, without a trainer? One entry each."""

import asyncio
import json
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from codevision_ext.errors import InputError
from codevision_ext.evaluate.command import Player
from codevision_ext.rollout import Policy

MOST_CONTEXT: Final = 32_768
"""Tokens of a prompt and its response, where nobody says how many and the model could take more."""


def context_of(checkpoint: Path) -> int:
    """Tokens that the model was made for, at most MOST_CONTEXT.

    Raises:
        InputError: the folder isn't a checkpoint.
    """
    path = checkpoint / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"--model {checkpoint}: not a checkpoint: config.json can't be read: {error}") from error
    return min(MOST_CONTEXT, (config.get("text_config") or config).get("max_position_embeddings", MOST_CONTEXT))


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
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


@contextmanager
def sglang(wanted: Wanted) -> Iterator[Player]:
    """SGLang in child processes, as training runs it; from the main thread."""
    from codevision_ext.verl_adapter.engine import Engine  # noqa: PLC0415  SGLang takes long to import

    with ExitStack() as opened:
        engines = []
        for at in range(wanted.replicas):
            engine = Engine(
                wanted.checkpoint,
                context=wanted.context,
                seed=wanted.seed,
                gpus=range(at * wanted.gpus, (at + 1) * wanted.gpus),
            )
            engines.append(opened.enter_context(engine))
            asyncio.run(engine.load(wanted.checkpoint))

        def policy(seed: int) -> Policy:
            return engines[seed % len(engines)].policy(seed, temperature=wanted.temperature)

        yield Player(policy=policy, codec=engines[0].codec)


@contextmanager
def vllm(wanted: Wanted) -> Iterator[Player]:
    """The same with vLLM, which says no more at a start than SGLang does."""
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    from codevision_ext.verl_adapter.vllm_engine import VLLM  # noqa: PLC0415  vLLM takes long to import

    with VLLM(
        wanted.checkpoint,
        context=wanted.context,
        seed=wanted.seed,
        replicas=wanted.replicas,
        gpus=wanted.gpus,
    ) as engine:
        yield Player(policy=partial(engine.policy, temperature=wanted.temperature), codec=engine.codec)


@contextmanager
def transformers(wanted: Wanted) -> Iterator[Player]:
    """`generate()` in this process."""
    from codevision_ext.verl_adapter.reference import Reference  # noqa: PLC0415  after the device is settled

    with Reference(wanted.checkpoint, context=wanted.context) as reference:
        yield Player(policy=partial(reference.policy, temperature=wanted.temperature), codec=reference.codec)


ENGINES: Final[dict[str, Callable[[Wanted], AbstractContextManager[Player]]]] = {
    each.__name__: each for each in (sglang, vllm, transformers)
}
"""By the name that `codevision eval --engine` knows them by, which is that of the package."""


def check(engine: str, wanted: Wanted) -> None:
    """Whether this machine can open it; call `device.use_cpu_if_no_cuda` first.

    Raises:
        InputError: the engine isn't installed, knows no replicas, or wants more GPUs than there are.
    """
    import torch  # noqa: PLC0415  after the device is settled

    if find_spec(engine) is None:
        raise InputError(f"--engine {engine}: {engine} isn't installed here")
    if engine == "transformers" and (wanted.replicas, wanted.gpus) != (1, 1):
        raise InputError("--engine transformers takes neither --replicas nor --gpus")
    there = torch.cuda.device_count()
    if there == 0 and wanted.gpus > 1:
        raise InputError(f"--gpus {wanted.gpus}: there is none here")
    if there and wanted.replicas * wanted.gpus > there:
        raise InputError(f"--replicas {wanted.replicas} of --gpus {wanted.gpus} each: there are {there} here")
