"""What `import verl` loads through the `verl.plugins` entry point: registrations, each made when verl needs it.

verl loads plugins while it is still being imported, and in every Ray process; so nothing is imported here. Each hook
below runs when verl imports the module that owns a registry, and a process that never does pays nothing.
"""

import os
import signal
import sys
import threading
from types import ModuleType
from typing import Any

from codevision_ext.engines.device import CPU_ENVIRONMENT
from codevision_ext.patches import torchvision as torchvision_cpu
from codevision_ext.patches.install import ON_CPU, when

PACKAGE = "codevision_ext.verl_adapter"
# SGLang ends its server by SIGQUIT when its scheduler has died; what a script starts in the background has that
# ignored and would wait for ever. Only a main thread may set it; a run's other processes inherit it from the first.
if threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)


@when("verl.plugin.platform.platform_manager")
def _platform(manager: ModuleType) -> None:
    from codevision_ext.verl_adapter.platform_cpu import PlatformCPU  # noqa: PLC0415

    manager.PlatformRegistry.register("cpu")(PlatformCPU)


@when("verl.utils.config")
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


@when("verl.workers.rollout.replica")
def _replica(module: ModuleType) -> None:
    def sglang() -> type:
        from codevision_ext.verl_adapter.sglang_rollout import CodeVisionSGLangReplica  # noqa: PLC0415

        return CodeVisionSGLangReplica

    def vllm() -> type:
        from codevision_ext.verl_adapter.vllm_rollout import CodeVisionVLLMReplica  # noqa: PLC0415

        return CodeVisionVLLMReplica

    module.RolloutReplicaRegistry.register("sglang", sglang)
    module.RolloutReplicaRegistry.register("vllm", vllm)


@when("verl.workers.rollout.base")
def _rollout(module: ModuleType) -> None:
    module._ROLLOUT_REGISTRY[("sglang", "async")] = f"{PACKAGE}.sglang_rollout.CodeVisionServerAdapter"
    module._ROLLOUT_REGISTRY[("vllm", "async")] = f"{PACKAGE}.vllm_rollout.CodeVisionVLLMAdapter"


@when("verl.experimental.agent_loop.agent_loop")
def _agent_loop(module: ModuleType) -> None:
    module._agent_loop_registry["codevision"] = {"_target_": f"{PACKAGE}.agent_loop.CodeVisionAgentLoop"}


@when("verl.experimental.reward_loop.reward_manager.registry")
def _reward_manager(module: ModuleType) -> None:
    lookup = module.get_reward_manager_cls

    def get_reward_manager_cls(name: str) -> type:
        if name == "codevision":
            import codevision_ext.verl_adapter.reward_manager  # noqa: F401, PLC0415  # registers itself
        return lookup(name)

    module.get_reward_manager_cls = get_reward_manager_cls


@when("verl.trainer.ppo.v1")
def _trainer(module: ModuleType) -> None:  # noqa: ARG001
    import codevision_ext.verl_adapter.trainer  # noqa: F401, PLC0415  # registers itself


if ON_CPU:
    torchvision_cpu.arm()
    for name, value in CPU_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
