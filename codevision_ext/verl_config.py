"""Reads tool configs, and recipe configs as verl composes them, and checks that every setting of a config is used.

verl ignores unknown names in a config file. In this module, a name that verl's own config lacks is an error, except in
sections that are open by design: settings that verl passes on to Ray, to the engine or to the model's config.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, cast

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from codevision_ext.errors import InputError, first_line
from codevision_ext.sandbox.settings import ToolSettings, read_tool_settings

BASES = {"grpo": "ppo_trainer", "sft": "sft_trainer_engine"}
"""Name of a recipe's config, and of verl's config that it builds on."""

SHARED = ("base", "demo")
"""Folders beside the folder of a recipe; a recipe may include their configs."""

OPEN: Final = ("codevision", "ray_kwargs.ray_init", "async_training", "rollout")
"""Sections whose settings verl passes on, and sections that only its experimental entry points have. A section that is
an empty mapping or null in verl's own config is open too."""

NUMBERS: Final = frozenset(
    {
        "gen_batch_size",
        "log_prob_micro_batch_size",
        "log_prob_micro_batch_size_per_gpu",
        "max_actor_ckpt_to_keep",
        "max_assistant_turns",
        "max_ckpt_to_keep",
        "max_critic_ckpt_to_keep",
        "max_model_len",
        "max_user_turns",
        "ppo_micro_batch_size",
        "ppo_micro_batch_size_per_gpu",
        "seed",
        "total_training_steps",
        "val_batch_size",
    }
)
"""Settings, by the last part of their name, that verl reads as numbers although its default is null."""

WORDS: Final = {("sft_trainer_engine", f"trainer.{name}"): "after_each_epoch" for name in ("save_freq", "test_freq")}
"""Texts that are allowed in place of a number, by verl config and setting."""


def composed(folder: Path, name: str, settings: Sequence[str] = ()) -> DictConfig:
    """Composes a recipe's config, `grpo` or `sft`, as verl does with these overrides; verl isn't imported.

    Raises:
        InputError: the config is missing or can't be composed.
    """
    path = folder / f"{name}.yaml"
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    if name not in BASES:
        raise InputError(f"{path}: a recipe's config is called {' or '.join(f'{known}.yaml' for known in BASES)}")
    beside = [part for shared in SHARED if (part := folder.absolute().parent / shared).is_dir()]
    searchpath = ",".join(f"'file://{part}'" for part in [verl_configs(), *beside])
    try:
        with _hydra_in(folder.absolute()):
            return compose(name, overrides=[f"hydra.searchpath=[{searchpath}]", *settings])
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        raise InputError(f"{path}: {' '.join(str(error).split())}") from error


@contextmanager
def _hydra_in(folder: Path) -> Iterator[None]:
    """Lets `compose` read a folder; inside a program of Hydra that program's own state is put aside meanwhile."""
    state = GlobalHydra.instance()
    running = state.hydra
    state.clear()
    try:
        with initialize_config_dir(str(folder), version_base=None):
            yield
    finally:
        state.clear()
        if running is not None:
            state.initialize(running)


def base_of(config: DictConfig) -> str | None:
    """Returns the name of the verl config that a composed config builds on; None for a config of another program."""
    if "actor_rollout_ref" in config:
        return BASES["grpo"]
    return BASES["sft"] if "engine" in config and "optim" in config else None


def check_names_and_types(config: DictConfig, base: str) -> None:
    """Checks that verl knows every setting of a composed config, and that every value has the type of verl's default.

    Args:
        config: Config with verl's own settings in it.
        base: Name of the verl config that it builds on, a value of `BASES`.

    Raises:
        InputError: a setting isn't verl's, or has another type; names the first one.
    """
    ours = plain_dict(config)
    with _hydra_in(verl_configs()):
        known = plain_dict(compose(base, overrides=_groups(ours)))
    for setting in unknown(ours, known):
        raise InputError(f"{setting}: verl's {base} has no such setting")
    for problem in mistyped(ours, known, base):
        raise InputError(f"{problem}, as it is in verl's {base}")


def _groups(config: Mapping[str, Any]) -> list[str]:
    """Returns the overrides that select the config groups of verl, such as Megatron's, which a config selected."""
    if "model_engine" in config:
        return [f"model_engine={config['model_engine']}"]
    strategy = str((config.get("engine") or {}).get("strategy"))
    known = (verl_configs() / "engine" / f"{strategy}.yaml").is_file()
    return [f"{group}={strategy}" for group in ("engine", "optim")] if known else []


def unknown(ours: Mapping[str, Any], known: Mapping[str, Any], above: str = "") -> Iterator[str]:
    """Yields the dotted names that are in `ours` and not in `known`, outside of open sections.

    A section with a `_target_` becomes an object of that dataclass, and verl's config needn't list all of its fields.
    """
    fields = (
        {field.name for field in dataclasses.fields(get_class(known["_target_"]))} if "_target_" in known else set()
    )
    for name, value in ours.items():
        path = f"{above}{name}"
        if path in OPEN:
            continue
        if name not in known and name not in fields:
            yield path
        elif isinstance(value, Mapping) and isinstance(known.get(name), Mapping) and known[name]:
            yield from unknown(value, known[name], f"{path}.")


def mistyped(ours: Mapping[str, Any], stock: Mapping[str, Any], base: str, above: str = "") -> Iterator[str]:
    """Yields settings whose type differs from verl's default; null and interpolated values are skipped."""
    for name, value in ours.items():
        path, known = f"{above}{name}", stock.get(name)
        if isinstance(value, Mapping) and isinstance(known, Mapping):
            yield from mistyped(value, known, base, f"{path}.")
        elif value is None or str(value).startswith("${") or value == WORDS.get((base, path)):
            continue
        elif (kind := "a number" if known is None and name in NUMBERS else _kind(known)) and kind != _kind(value):
            yield f"{path}: {value!r} isn't {kind}"


def _kind(value: Any) -> str:
    kinds = {bool: "true or false", int: "a number", float: "a number", dict: "a section"}
    return kinds.get(type(value), "")


def verl_configs() -> Path:
    """Returns the folder of verl's own configs."""
    spec = find_spec("verl")
    assert spec and spec.submodule_search_locations, "verl is installed"  # noqa: PT018
    return Path(spec.submodule_search_locations[0]) / "trainer" / "config"


def file_beside(path: Path, name: str) -> Path:
    """Returns the file `name` in the working directory, where verl looks, or else beside the config `path`."""
    return Path(name) if Path(name).is_file() else path.parent / Path(name).name


def read_tool_config(path: Path) -> ToolSettings:
    """Returns the settings of the code tool in a tool config of verl.

    Raises:
        InputError: the file can't be read, has no code tool, or has a setting that is unknown or wrong.
    """
    for tool in read_yaml(path).get("tools") or ():
        if str(tool.get("class_name", "")).endswith(".CodeImageTool"):
            return read_tool_settings(tool.get("config") or {}, str(path))
    raise InputError(f"{path}: there is no CodeImageTool among its tools")


def read_yaml(path: Path) -> Mapping[str, Any]:
    """Reads a YAML file of settings; interpolations stay unresolved.

    Raises:
        InputError: the file can't be read, isn't YAML, or isn't a mapping.
    """
    try:
        config = OmegaConf.load(path)
    except OSError as error:
        raise InputError(f"{path}: can't be read: {error.strerror}") from error
    except (YAMLError, OmegaConfBaseException, UnicodeDecodeError) as error:
        raise InputError(f"{path}: isn't YAML: {first_line(error)}") from error
    if not isinstance(config, DictConfig):
        raise InputError(f"{path}: isn't a mapping of settings")
    return plain_dict(config)


def plain_dict(config: DictConfig) -> dict[str, Any]:
    """Returns the settings of `config` as plain values; interpolated values stay text."""
    return cast("dict[str, Any]", OmegaConf.to_container(config, resolve=False))
