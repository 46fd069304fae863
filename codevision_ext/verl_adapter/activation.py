"""Activates CodeVision in the processes of a verl run that asks for it.

A run asks when its config has a `codevision` section, or names something of this package: the agent loop, the trainer,
the reward manager or the advantage estimator `codevision`, or a class of `codevision_ext` (`data.custom_cls`,
`agent_loop_manager_class`). Setting `CODEVISION_ACTIVE=1` asks too, for programs that are no entry point of verl.
"""

import os
import re
import signal
import sys
import threading
from collections.abc import Iterator
from functools import cache
from typing import Any, Final

from codevision_ext.errors import InputError
from codevision_ext.patches.install import install_patches

VARIABLE: Final = "CODEVISION_ACTIVE"
"""Environment variable that activates CodeVision in a process: `1` or unset. Ray hands it to the processes of a run."""
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


def activate_run(config: Any) -> None:
    """Activates CodeVision for the run of a config, before Ray starts; a wrong `codevision` section ends the process.

    Ray gets the environment variable through verl's own setting for it, so that processes on other machines have it
    too.
    """
    from omegaconf import OmegaConf  # noqa: PLC0415

    from codevision_ext.config import read_settings  # noqa: PLC0415  # only a run that asks pays for these

    try:
        read_settings(config.get("codevision"))
    except InputError as error:
        sys.stderr.write(f"codevision: {error}\n")
        raise SystemExit(2) from error
    activate()
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
    from codevision_ext.verl_adapter.registrations import register  # noqa: PLC0415

    register()
