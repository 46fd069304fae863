"""Registers the classes of this package with verl, in a run that asks for them (`activation`).

Each function below runs when verl imports the module that owns a registry. The names `codevision` are added. The
engines `sglang` and `vllm` are replaced: verl checks the name of an engine in many places, so ours can't have a name of
its own.

Drop the replacements when verl accepts registered names of engines wherever it now compares with its own.
"""

from types import ModuleType
from typing import Final

from codevision_ext.errors import CompatError
from codevision_ext.patches.guard import expect
from codevision_ext.patches.install import when_imported

PACKAGE: Final = "codevision_ext.verl_adapter"
"""Dotted path of the classes that verl loads by name."""
ADAPTERS: Final = {
    ("sglang", "async"): (
        "verl.workers.rollout.sglang_rollout.sglang_rollout.ServerAdapter",
        f"{PACKAGE}.sglang_rollout.CodeVisionServerAdapter",
    ),
    ("vllm", "async"): (
        "verl.workers.rollout.vllm_rollout.ServerAdapter",
        f"{PACKAGE}.vllm_rollout.CodeVisionVLLMAdapter",
    ),
}
"""Dotted paths of verl's class and of ours on the trainer's side of an engine, by the key of verl's registry."""


def register() -> None:
    """Registers every class as soon as its registry is imported."""
    for name, hook in {
        "verl.workers.rollout.replica": replicas,
        "verl.workers.rollout.base": adapters,
        "verl.experimental.agent_loop.agent_loop": agent_loop,
        "verl.experimental.reward_loop.reward_manager": reward_manager,
        "verl.trainer.ppo.v1": trainer,
    }.items():
        when_imported(name)(hook)


def replicas(module: ModuleType) -> None:
    """Replaces verl's loaders of the engines' servers.

    Raises:
        CompatError: verl isn't the version that this was written for.
    """
    expect(module, "_load_sglang", "import SGLangReplica")
    expect(module, "_load_vllm", "import vLLMReplica")
    expect(module, "get_rollout_replica_class", "return RolloutReplicaRegistry.get(rollout)")

    def sglang() -> type:
        from codevision_ext.verl_adapter.sglang_rollout import CodeVisionSGLangReplica  # noqa: PLC0415

        return CodeVisionSGLangReplica

    def vllm() -> type:
        from codevision_ext.verl_adapter.vllm_rollout import CodeVisionVLLMReplica  # noqa: PLC0415

        return CodeVisionVLLMReplica

    module.RolloutReplicaRegistry.register("sglang", sglang)
    module.RolloutReplicaRegistry.register("vllm", vllm)


def adapters(module: ModuleType) -> None:
    """Replaces the trainer's side of the engines in verl's private registry.

    Raises:
        CompatError: verl isn't the version that this was written for.
    """
    expect(module, "get_rollout_class", "_ROLLOUT_REGISTRY[(rollout_name, mode)]")
    for key, (stock, ours) in ADAPTERS.items():
        if module._ROLLOUT_REGISTRY.get(key) != stock:
            raise CompatError(f"verl's rollout {key} is no longer {stock}: this plugin was written for verl 0.9.1")
        module._ROLLOUT_REGISTRY[key] = ours


def agent_loop(module: ModuleType) -> None:
    """Adds the agent loop, by its dotted path: its own module can't be imported yet.

    Raises:
        CompatError: verl isn't the version that this was written for.
    """
    expect(module, "register", '_agent_loop_registry[agent_name] = {"_target_": fqdn}')
    module._agent_loop_registry["codevision"] = {"_target_": f"{PACKAGE}.agent_loop.CodeVisionAgentLoop"}


def reward_manager(module: ModuleType) -> None:  # noqa: ARG001
    """Imports the reward manager, which registers itself."""
    import codevision_ext.verl_adapter.reward_manager  # noqa: F401, PLC0415


def trainer(module: ModuleType) -> None:  # noqa: ARG001
    """Imports the trainer, which registers itself and its advantage estimator."""
    import codevision_ext.verl_adapter.trainer  # noqa: F401, PLC0415
