"""Applies each patch as soon as the module that it patches is imported.

No module is imported here: a process pays for a patch when it uses the library. Two sets of patches are installed
separately, because they are asked for in different ways (`verl_adapter.activation`): by the config of a run, and by
`VERL_PLATFORM=cpu`.
"""

import os
from collections.abc import Callable, Mapping
from functools import cache
from types import ModuleType
from typing import Final

import wrapt

from codevision_ext.patches import transfer_queue, transformers, verl, vllm

Patch = Callable[[ModuleType], None]
"""Function that changes a module which has just been imported."""

PATCHES: Final[dict[str, Patch]] = {
    "verl.models.transformers.qwen2_vl": verl.text_only_batches,
    "verl.utils.checkpoint.checkpoint_handler": verl.sft_checkpoints,
    "verl.utils.tensordict_utils": verl.position_ids_of_equal_length,
    "vllm.model_executor.model_loader.dummy_loader": vllm.buffers_beside_dummy_weights,
}
"""Patches for every device, by the module that each one changes."""
CPU_PATCHES: Final[dict[str, Patch]] = {
    "transfer_queue.utils.common": transfer_queue.cores_for_ranks,
    "transformers.processing_utils": transformers.typed_dicts_once,
    "verl.utils.distributed": verl.gloo_once,
    "verl.utils.torch_functional": verl.vectorised_logprobs,
    "verl.workers.engine.fsdp.transformer_impl": verl.unpinned_reference,
    "vllm.config.vllm": vllm.architectures_of_parts,
    "vllm.model_executor.layers.utils": vllm.plain_linears,
}
"""Patches for a machine without a GPU, by the module that each one changes."""


def on_cpu() -> bool:
    """Returns whether the environment asks verl for the CPU."""
    return os.environ.get("VERL_PLATFORM", "").strip().lower() == "cpu"


@cache
def install_patches() -> None:
    """Installs the patches for every device in this process."""
    _install(PATCHES)


@cache
def install_cpu_patches() -> None:
    """Installs the patches for a machine without a GPU in this process."""
    _install(CPU_PATCHES)


def _install(patches: Mapping[str, Patch]) -> None:
    for module, patch in patches.items():
        when_imported(module)(patch)


def when_imported(name: str) -> Callable[[Patch], Patch]:
    """Calls the decorated function with the module `name` as soon as that is imported, or now if it has been.

    An error of the function ends the process: verl reports errors of a plugin at level DEBUG only and continues.
    """

    def register(hook: Patch) -> Patch:
        def run(module: ModuleType) -> None:
            try:
                hook(module)
            except Exception as error:  # whatever it is, verl would continue without the plugin
                raise SystemExit(f"codevision: could not set up {name}: {error}") from error

        wrapt.register_post_import_hook(run, name)
        return hook

    return register
