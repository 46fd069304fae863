"""Activates CodeVision in the processes of a verl run that asks for it.

A run asks for CodeVision if its config has a `codevision` section, or names a part of this package: the agent loop, the
trainer, the reward manager or the advantage estimator `codevision`, or a class of `codevision_ext` (`data.custom_cls`,
`agent_loop_manager_class`). A program that isn't an entry point of verl asks by `CODEVISION_ACTIVE=1`.

Each class is registered when verl imports the module that owns the registry. The names `codevision` are added. The
engines `sglang` and `vllm` are replaced. verl compares the name of an engine with these two in many places, so a third
name would not work.

Drop the replacements when verl accepts every registered name of an engine.
"""

import os
import re
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from functools import cache, partial, wraps
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

from codevision_ext.errors import CompatError, InputError
from codevision_ext.patches.guard import expect, replace
from codevision_ext.patches.install import install_patches, when_imported
from codevision_ext.patches.verl import change_built_modules
from codevision_ext.types import ModelPart

if TYPE_CHECKING:
    from codevision_ext.models.checkpoint_settings import CheckpointSettings

VARIABLE: Final = "CODEVISION_ACTIVE"
"""Environment variable that activates CodeVision in a process: `1` or unset. Ray hands it to the processes of a run."""
FROZEN: Final = "CODEVISION_FREEZE"
"""Environment variable that names the parts of the model to freeze, with commas; a run sets it for its processes."""
NAMED: Final = frozenset(
    {
        "actor_rollout_ref.rollout.agent.default_agent_loop",
        "algorithm.adv_estimator",
        "reward.reward_manager.name",
        "trainer.v1.trainer_mode",
    }
)
"""Settings of verl that ask for CodeVision when their value is `codevision`."""
_OWN_PATH = re.compile(r"(pkg://)?codevision_ext\.")


MODEL_PATH: Final = "actor_rollout_ref.model.path"
"""Setting of verl that names the checkpoint of the rollouts."""
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
"""Dotted paths of verl's class for the trainer's side of an engine and of its replacement, by verl's registry key."""


def active() -> bool:
    """Returns whether CodeVision is active in this process and in those that it starts."""
    return os.environ.get(VARIABLE) == "1"


def require_active() -> None:
    """Checks that CodeVision is active, for the classes whose results would be wrong on stock engines.

    Raises:
        InputError: It isn't, because the run was not started by an entry point of verl.
    """
    if not active():
        raise InputError(
            "CodeVision isn't active in this process. verl's entry points activate it for a config that asks for it; "
            f"another program needs {VARIABLE}=1 in its environment and in ray_kwargs.ray_init.runtime_env.env_vars"
        )


def asks(config: Any) -> bool:
    """Returns whether the config of a verl run asks for CodeVision; interpolations are not resolved."""
    from omegaconf import DictConfig, OmegaConf  # noqa: PLC0415  # verl imports it too, but later

    if not isinstance(config, DictConfig):
        return False
    return "codevision" in config or any(
        (name in NAMED and value == "codevision") or (isinstance(value, str) and _OWN_PATH.match(value))
        for name, value in _settings(OmegaConf.to_container(config, resolve=False))
    )


def _settings(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yields the dotted name and the value of every setting; the items of a list have the name of the list."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _settings(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list):
        for inner in value:
            yield from _settings(inner, name)
    else:
        yield name, value


def run_settings(config: Any) -> "CheckpointSettings":
    """Returns the settings of a run: its `codevision` section, and the checkpoint's settings if that leaves them out.

    Raises:
        InputError: A setting is unknown or wrong, or the checkpoint's codevision.json can't be read.
    """
    from omegaconf import OmegaConf  # noqa: PLC0415

    from codevision_ext.config import read_settings  # noqa: PLC0415  # only a run that asks pays for these
    from codevision_ext.models.checkpoint_settings import CheckpointSettings, checkpoint_settings  # noqa: PLC0415

    settings = read_settings(config.get("codevision"))
    path = OmegaConf.select(config, MODEL_PATH, throw_on_missing=False)
    if path is None:  # no rollouts, as in SFT
        return CheckpointSettings(settings=settings, trained=None)
    return checkpoint_settings(settings, Path(path))


def watch_config(device: ModuleType) -> None:
    """Wraps verl's `auto_set_device`, so that the config of a run is read before anything else.

    Drop when verl passes its config to plugins.
    """
    stock = expect(device, "auto_set_device", 'if config and hasattr(config, "trainer")')

    @wraps(stock)
    def auto_set_device(config: Any) -> None:
        if asks(config):
            activate_run(config)
        stock(config)

    replace(device, "auto_set_device", auto_set_device)


def activate_run(config: Any) -> None:
    """Activates CodeVision for the run of a config, before Ray starts; a wrong setting ends the process.

    Ray gets the environment variable through verl's own setting for it, so that processes on other machines have it
    too.
    """
    from omegaconf import OmegaConf  # noqa: PLC0415

    from codevision_ext.models.checkpoint_settings import print_notes  # noqa: PLC0415  # only a run that asks pays for these
    from codevision_ext.patches import verl_order  # noqa: PLC0415
    from codevision_ext.verl_config import base_of, check_names_and_types  # noqa: PLC0415

    try:
        if base := base_of(config):
            check_names_and_types(config, base)
        settings = run_settings(config)
        check_freeze(config, settings.settings.freeze)
        if settings.settings.deterministic:
            verl_order.make_deterministic(config)
    except InputError as error:
        sys.stderr.write(f"codevision: {error}\n")
        raise SystemExit(2) from error
    if settings.settings.freeze:
        os.environ[FROZEN] = ",".join(settings.settings.freeze)
    if path := OmegaConf.select(config, MODEL_PATH, throw_on_missing=False):
        print_notes({Path(path): settings})
    activate()
    freeze_weights()
    if "ray_kwargs" in config:
        OmegaConf.update(config, f"ray_kwargs.ray_init.runtime_env.env_vars.{VARIABLE}", "1", force_add=True)


@cache
def activate() -> None:
    """Activates CodeVision in this process, and in the processes that it starts from now on.

    Nothing is imported: each patch is applied, and each class registered, when the module that it belongs to is
    imported. Modules that are loaded already are changed at once.
    """
    os.environ[VARIABLE] = "1"
    # SGLang ends its server by SIGQUIT when its scheduler has died. A program that a script starts in the background
    # ignores that signal, and so would its engines, and wait for ever. Only a main thread can change it.
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    install_patches()
    freeze_weights()
    for name, hook in {
        "verl.workers.rollout.replica": register_replicas,
        "verl.workers.rollout.base": register_adapters,
        "verl.experimental.agent_loop.agent_loop": register_agent_loop,
        "verl.experimental.reward_loop.reward_manager": register_reward_manager,
        "verl.trainer.ppo.v1": register_trainer,
    }.items():
        when_imported(name)(hook)


def check_freeze(config: Any, parts: Sequence[ModelPart]) -> None:
    """Checks that the run is one that can freeze parts of its model: SFT with verl's engine `fsdp2`.

    Raises:
        InputError: It is RL, or has another engine.
    """
    if not parts:
        return
    if "actor_rollout_ref" in config:
        raise InputError("codevision.freeze: only SFT freezes parts of a model; leave it out of grpo.yaml")
    strategy = config.get("engine", {}).get("strategy")
    if strategy != "fsdp2":
        raise InputError(f"codevision.freeze: needs engine.strategy fsdp2, not {strategy}")


def freeze_weights() -> None:
    """Freezes the parts named by the environment variable FROZEN, in each model that this process will load."""
    if parts := os.environ.get(FROZEN):
        _freeze_weights(tuple(ModelPart(part) for part in parts.split(",")))


@cache
def _freeze_weights(parts: tuple[ModelPart, ...]) -> None:
    @when_imported("verl.workers.engine.fsdp.transformer_impl")
    def install(module: ModuleType) -> None:
        from codevision_ext.models.freeze import freeze  # noqa: PLC0415  # torch is loaded with verl

        change_built_modules(module, partial(freeze, parts=parts))


def register_replicas(module: ModuleType) -> None:
    """Replaces verl's loaders of the engines' servers. Raises CompatError for another version of verl."""
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


def register_adapters(module: ModuleType) -> None:
    """Replaces the trainer's side of the engines in verl's private registry. Raises what `register_replicas` raises."""
    expect(module, "get_rollout_class", "_ROLLOUT_REGISTRY[(rollout_name, mode)]")
    for key, (stock, ours) in ADAPTERS.items():
        if module._ROLLOUT_REGISTRY.get(key) != stock:
            raise CompatError(f"verl's rollout {key} is no longer {stock}: this plugin was written for verl 0.9.1")
        module._ROLLOUT_REGISTRY[key] = ours


def register_agent_loop(module: ModuleType) -> None:
    """Adds the agent loop by its dotted path, since its module can't be imported yet. Raises CompatError as well."""
    expect(module, "register", '_agent_loop_registry[agent_name] = {"_target_": fqdn}')
    module._agent_loop_registry["codevision"] = {"_target_": f"{PACKAGE}.agent_loop.CodeVisionAgentLoop"}


def register_reward_manager(module: ModuleType) -> None:  # noqa: ARG001
    """Imports the reward manager, which registers itself."""
    import codevision_ext.verl_adapter.reward_manager  # noqa: F401, PLC0415


def register_trainer(module: ModuleType) -> None:  # noqa: ARG001
    """Imports the trainer, which registers itself and its advantage estimator."""
    import codevision_ext.verl_adapter.trainer  # noqa: F401, PLC0415
