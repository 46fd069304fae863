"""Which engines play a checkpoint token for token, without a trainer? One entry each."""

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Final

from codevision_ext.errors import InputError
from codevision_ext.evaluate.command import Player

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


@contextmanager
def sglang(checkpoint: Path, context: int, seed: int, temperature: float) -> Iterator[Player]:
    """SGLang in child processes, as training runs it; from the main thread."""
    from codevision_ext.verl_adapter.engine import Engine  # noqa: PLC0415  SGLang takes long to import

    with Engine(checkpoint, context=context, seed=seed) as engine:
        asyncio.run(engine.load(checkpoint))
        yield Player(policy=partial(engine.policy, temperature=temperature), codec=engine.codec)


@contextmanager
def transformers(checkpoint: Path, context: int, seed: int, temperature: float) -> Iterator[Player]:  # noqa: ARG001
    """`generate()` in this process."""
    from codevision_ext.verl_adapter.reference import Reference  # noqa: PLC0415  after the device is settled

    with Reference(checkpoint, context=context) as reference:
        yield Player(policy=partial(reference.policy, temperature=temperature), codec=reference.codec)


ENGINES: Final[dict[str, Callable[[Path, int, int, float], AbstractContextManager[Player]]]] = {
    "sglang": sglang,
    "transformers": transformers,
}
"""By the name that `codevision eval --engine` knows them by."""


@contextmanager
def open_engine(engine: str, checkpoint: Path, context: int, seed: int, temperature: float) -> Iterator[Player]:
    """A checkpoint on one of ENGINES; call `device.use_cpu_if_no_cuda` first."""
    with ENGINES[engine](checkpoint, context, seed, temperature) as player:
        yield player
