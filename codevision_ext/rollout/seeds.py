"""Derives the ids and the seeds of rollouts from the seed of a run."""

import hashlib

_DIGITS = 12
"""Hexadecimal digits in the id of a prompt that come from the seed of the run."""


def seed_of(*parts: object) -> int:
    """Returns a seed in [0, 2**63) that depends on the text of every part and on their order."""
    return int.from_bytes(hashlib.sha256(" ".join(map(str, parts)).encode()).digest()[:8]) >> 1


def prompt_id(seed: int, split: str, step: int, position: int) -> str:
    """Returns the id of a prompt, which is also the name of its group.

    Ids of a split sort in the order in which the prompts were submitted, and contain no underscore, at which verl
    splits them.

    Args:
        seed: Seed of the run.
        split: `train` or `val`.
        step: Training step.
        position: Number of the prompts that were submitted before in the same step and split.
    """
    return f"{step:06d}-{position:05d}-{seed_of(seed, split, step, position):016x}"[: 6 + 1 + 5 + 1 + _DIGITS]


def request_seed(prompt: str, row: int, rollout: int, tokens: int) -> int:
    """Returns the seed of one request to a rollout engine, in [0, 2**63); no two turns of a run share one.

    Args:
        prompt: Id of the prompt (`prompt_id`), which has the seed of the run and the step in it.
        row: Index of the prompt's row in the data.
        rollout: Number of the rollout among those of its prompt.
        tokens: Number of the tokens before the turn.
    """
    return seed_of(prompt, row, rollout, tokens)
