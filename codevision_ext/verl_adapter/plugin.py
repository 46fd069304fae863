"""What `import verl` loads through the `verl.plugins` entry point: registrations, each made when verl needs it.

verl loads plugins while it is still being imported, and in every Ray process; so nothing is imported here. Each hook
below runs when verl imports the module that owns a registry, and a process that never does pays nothing.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any

import wrapt

from codevision_ext.verl_adapter import torchvision_cpu
from codevision_ext.verl_adapter.device import CPU_ENVIRONMENT

PACKAGE = "codevision_ext.verl_adapter"
ON_CPU = os.environ.get("VERL_PLATFORM", "").strip().lower() == "cpu"

# SGLang ends its server by SIGQUIT when its scheduler has died; what a script starts in the background has that
# ignored and would wait for ever. Only a main thread may set it; a run's other processes inherit it from the first.
if threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)


def _when(module: str, *, cpu_only: bool = False) -> Callable[[Callable[[ModuleType], None]], None]:
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


@_when("verl.plugin.platform.platform_manager")
def _platform(manager: ModuleType) -> None:
    from codevision_ext.verl_adapter.platform_cpu import PlatformCPU  # noqa: PLC0415

    manager.PlatformRegistry.register("cpu")(PlatformCPU)


MENDED = {
    "vllm.model_executor.model_loader.dummy_loader": "buffers_beside_dummy_weights",
    "verl.utils.tensordict_utils": "position_ids_of_equal_length",
    "verl.models.transformers.qwen2_vl": "text_only_batches",
    "verl.utils.checkpoint.checkpoint_handler": "no_epoch_left_out",
}
MENDED_ON_CPU = {
    "verl.utils.distributed": "gloo_once",
    "verl.utils.torch_functional": "vectorised_logprobs",
    "verl.workers.engine.fsdp.transformer_impl": "unpinned_reference",
    "transfer_queue.utils.common": "cores_for_ranks",
    "transformers.processing_utils": "typed_dicts_once",
    "vllm.model_executor.layers.utils": "plain_linears",
    "vllm.config.vllm": "architectures_of_parts",
}
"""Modules of others, and the function of `compat` that says what is wrong with each and mends it."""


def _mend(how: str, module: ModuleType) -> None:
    from codevision_ext.verl_adapter import compat  # noqa: PLC0415

    getattr(compat, how)(module)


for _table, _cpu_only in ((MENDED, False), (MENDED_ON_CPU, True)):
    for _module, _how in _table.items():
        _when(_module, cpu_only=_cpu_only)(partial(_mend, _how))


@_when("verl.utils.config")
def _config(module: ModuleType) -> None:
    validate = module.validate_config

    def validate_config(config: Any, *args: Any, **kwargs: Any) -> None:
        """Verl's check, which comes before Ray, and that of our section."""
        validate(config, *args, **kwargs)
        from codevision_ext.config import read_settings  # noqa: PLC0415
        from codevision_ext.errors import InputError  # noqa: PLC0415

        try:
            read_settings(config.get("codevision"))
        except InputError as error:
            sys.stderr.write(f"codevision: {error}\n")
            raise SystemExit(2) from error

    module.validate_config = validate_config


@_when("verl.workers.rollout.replica")
def _replica(module: ModuleType) -> None:
    def sglang() -> type:
        from codevision_ext.verl_adapter.sglang_backend import CodeVisionSGLangReplica  # noqa: PLC0415

        return CodeVisionSGLangReplica

    def vllm() -> type:
        from codevision_ext.verl_adapter.vllm_backend import CodeVisionVLLMReplica  # noqa: PLC0415

        return CodeVisionVLLMReplica

    module.RolloutReplicaRegistry.register("sglang", sglang)
    module.RolloutReplicaRegistry.register("vllm", vllm)


@_when("verl.workers.rollout.base")
def _rollout(module: ModuleType) -> None:
    module._ROLLOUT_REGISTRY[("sglang", "async")] = f"{PACKAGE}.sglang_backend.CodeVisionServerAdapter"
    module._ROLLOUT_REGISTRY[("vllm", "async")] = f"{PACKAGE}.vllm_backend.CodeVisionVLLMAdapter"


@_when("verl.experimental.agent_loop.agent_loop")
def _agent_loop(module: ModuleType) -> None:
    module._agent_loop_registry["codevision"] = {"_target_": f"{PACKAGE}.agent_loop.CodeVisionAgentLoop"}


@_when("verl.experimental.reward_loop.reward_manager.registry")
def _reward_manager(module: ModuleType) -> None:
    lookup = module.get_reward_manager_cls

    def get_reward_manager_cls(name: str) -> type:
        if name == "codevision":
            import codevision_ext.verl_adapter.reward_manager  # noqa: F401, PLC0415  # registers itself
        return lookup(name)

    module.get_reward_manager_cls = get_reward_manager_cls


@_when("verl.trainer.ppo.v1")
def _trainer(module: ModuleType) -> None:  # noqa: ARG001
    import codevision_ext.verl_adapter.trainer  # noqa: F401, PLC0415  # registers itself


if ON_CPU:
    torchvision_cpu.arm()
    for name, value in CPU_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
