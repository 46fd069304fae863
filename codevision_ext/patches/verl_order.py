"""Patches of verl 0.9.1 for `codevision.deterministic`: ids of prompts, order of rollouts, and verl's settings."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import Any, Final

from omegaconf import DictConfig, OmegaConf

from codevision_ext.errors import InputError
from codevision_ext.patches.guard import expect
from codevision_ext.patches.install import on_cpu

SEED_FIELDS: Final = {"sglang": "sampling_seed", "vllm": "seed"}
"""Name of the seed among the sampling parameters of a request, by engine."""


def make_deterministic(config: DictConfig) -> None:
    """Changes the settings of verl that a deterministic run needs; call it before Ray starts.

    `full_determinism` of the rollout fixes the engine of each request and Python's hash seed, and turns on vLLM's
    batch invariance. `full_determinism` of the trainer's engine chooses deterministic kernels, which a CPU doesn't
    need. Validation reads its rows in order.

    Drop when one setting of verl changes all of them.

    Raises:
        InputError: `data.seed` isn't set, or a setting excludes determinism.
    """
    if config.data.get("seed") is None:
        raise InputError("codevision.deterministic needs data.seed, the seed of the run")
    if config.trainer.v1.sampler.get("custom_sampler") and config.trainer.v1.sampler.custom_sampler.get("name"):
        raise InputError(
            "codevision.deterministic doesn't support trainer.v1.sampler.custom_sampler, which orders the rows"
        )
    engine = config.actor_rollout_ref.rollout.name
    if engine not in SEED_FIELDS:
        raise InputError(f"codevision.deterministic doesn't support actor_rollout_ref.rollout.name={engine}")
    OmegaConf.update(config, "data.validation_shuffle", False, force_add=True)
    parts = ["rollout"] if on_cpu() else ["rollout", "actor.fsdp_config", "ref.fsdp_config"]
    for part in parts:
        if OmegaConf.select(config.actor_rollout_ref, part) is not None:
            OmegaConf.update(config.actor_rollout_ref, f"{part}.full_determinism", True, force_add=True)


def fix_order(buffer: Any) -> None:
    """Makes verl's replay buffer return rollouts in the order in which their prompts were submitted.

    verl's buffer returns rollouts in the order of their arrival, and selects rollouts and prompts to submit again while
    other prompts are still running. The patched buffer waits until no prompt is running.

    Drop when verl's replay buffer keeps the order of the data.

    Raises:
        CompatError: verl isn't the version that the patch was written for.
    """
    buffer_type = type(buffer)
    expect(buffer_type, "sample", "self._sync_metadata_from_transfer_queue()", "self._materialize_batch(")
    expect(buffer_type, "_select_prompt_uids", "return ordered_keys[:batch_size], partition_snapshot,")
    expect(buffer_type, "_materialize_batch", "for key, tag in partition_snapshot.items():")
    read, select = buffer._sync_metadata_from_transfer_queue, buffer._select_prompt_uids

    def read_when_none_is_running() -> None:
        read()
        while any(map(len, [*buffer.pending_keys.values(), *buffer.running_keys.values()])):
            time.sleep(buffer.poll_interval)
            read()

    def select_in_order(partition: str, keys: set[str], count: int) -> Any:
        _, rollouts, steps = select(partition, keys, count)
        return sorted(keys)[:count], dict(sorted(rollouts.items(), key=lambda item: _place(item[0]))), steps

    buffer._sync_metadata_from_transfer_queue, buffer._select_prompt_uids = read_when_none_is_running, select_in_order


def _place(key: str) -> tuple[str, int, int]:
    """Splits a rollout's key in verl's store into its prompt, its number, and the number of its output."""
    prompt, rollout, output = key.rsplit("_", 2)
    return prompt, int(rollout), int(output)


@contextmanager
def prompt_ids(trainer_base: ModuleType, next_id: Callable[[], str]) -> Iterator[None]:
    """Makes verl's trainer take the ids of prompts from `next_id` instead of `uuid.uuid4` while the block runs.

    Drop when verl lets a trainer choose the ids of its prompts.

    Raises:
        CompatError: verl isn't the version that the patch was written for.
    """
    for method in ("_fetch_one_gen_batch", "_validate"):
        expect(trainer_base.PPOTrainer, method, "str(uuid.uuid4())")
    stock: Any = vars(trainer_base)["uuid"]
    vars(trainer_base)["uuid"] = SimpleNamespace(uuid4=next_id)
    try:
        yield
    finally:
        vars(trainer_base)["uuid"] = stock
