"""Applies each patch as soon as the module that it changes is imported; imports none of these modules itself.

`verl_adapter.activation` installs the two sets of patches: one for a run whose config has a `codevision` section, the
other for `VERL_PLATFORM=cpu`.
"""

import os
from collections.abc import Callable, Mapping
from functools import cache
from types import ModuleType
from typing import Final

import wrapt

from codevision_ext.patches import transfer_queue, transformers, verl, vllm

Patch = Callable[[ModuleType], None]
"""Function that changes a module right after its import."""

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
    """Returns whether `VERL_PLATFORM` is `cpu`."""
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
    """Calls the decorated function with the module `name` as soon as the module is imported.

    An error of the function ends the process, because verl would log it at level DEBUG and continue.
    """

    def register(hook: Patch) -> Patch:
        def run(module: ModuleType) -> None:
            try:
                hook(module)
            except Exception as error:  # verl would continue without the patch after any error
                raise SystemExit(f"codevision: could not set up {name}: {error}") from error

        wrapt.register_post_import_hook(run, name)
        return hook

    return register
