"""Applies each patch as soon as the module that it works around is imported."""

import os
from collections.abc import Callable
from functools import partial
from types import ModuleType

import wrapt

ON_CPU = os.environ.get("VERL_PLATFORM", "").strip().lower() == "cpu"


def when(module: str, *, cpu_only: bool = False) -> Callable[[Callable[[ModuleType], None]], None]:
    """Calls the decorated function with `module` as soon as that is imported; a failure there ends the process."""

    def arm(hook: Callable[[ModuleType], None]) -> None:
        def run(loaded: ModuleType) -> None:
            try:
                hook(loaded)
            except Exception as error:  # verl would go on without us and say so at DEBUG only; an exit passes it
                raise SystemExit(f"codevision: could not set up {module}: {error}") from error

        if ON_CPU or not cpu_only:
            wrapt.register_post_import_hook(run, module)

    return arm


MENDED = {
    "vllm.model_executor.model_loader.dummy_loader": "vllm.buffers_beside_dummy_weights",
    "verl.utils.tensordict_utils": "verl.position_ids_of_equal_length",
    "verl.models.transformers.qwen2_vl": "verl.text_only_batches",
    "verl.utils.checkpoint.checkpoint_handler": "verl.no_epoch_left_out",
}
MENDED_ON_CPU = {
    "verl.utils.distributed": "verl.gloo_once",
    "verl.utils.torch_functional": "verl.vectorised_logprobs",
    "verl.workers.engine.fsdp.transformer_impl": "verl.unpinned_reference",
    "transfer_queue.utils.common": "verl.cores_for_ranks",
    "transformers.processing_utils": "verl.typed_dicts_once",
    "vllm.model_executor.layers.utils": "vllm.plain_linears",
    "vllm.config.vllm": "vllm.architectures_of_parts",
}
"""Modules of others, and the function in `patches` that says what is wrong with each and mends it."""


def _mend(how: str, module: ModuleType) -> None:
    from codevision_ext.patches import verl, vllm  # noqa: PLC0415

    library, name = how.split(".")
    getattr({"verl": verl, "vllm": vllm}[library], name)(module)


for _table, _cpu_only in ((MENDED, False), (MENDED_ON_CPU, True)):
    for _module, _how in _table.items():
        when(_module, cpu_only=_cpu_only)(partial(_mend, _how))
