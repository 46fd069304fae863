"""Reads recipe configs as verl composes them, and tool configs."""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from codevision_ext.errors import InputError, first_line
from codevision_ext.sandbox.settings import ToolSettings, read_tool_settings

BASES = {"grpo": "ppo_trainer", "sft": "sft_trainer_engine"}
"""Name of a recipe's config, and of verl's config that it builds on."""

SHARED = ("base", "demo")
"""Folders beside the folder of a recipe; a recipe may include their configs."""


def composed(folder: Path, name: str, settings: Sequence[str] = ()) -> DictConfig:
    """Composes a recipe's config as verl does, without importing verl.

    Args:
        folder: Folder of the recipe.
        name: `grpo` or `sft`.
        settings: Overrides, as on verl's command line.

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
        with initialize_config_dir(str(folder.absolute()), version_base=None):
            return compose(name, overrides=[f"hydra.searchpath=[{searchpath}]", *settings])
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        raise InputError(f"{path}: {' '.join(str(error).split())}") from error


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
