"""What an evaluation takes over from a recipe's training config, so that both play by the same rules."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from codevision_ext.code_tool import ToolSettings, read_tool_settings
from codevision_ext.config import read_settings
from codevision_ext.errors import InputError
from codevision_ext.evaluate.run import Rules
from codevision_ext.verl_adapter.check_recipe import composed


def read_rules(path: Path) -> Rules:
    """Reads a training config with what its `defaults` bring in, without overrides.

    Raises:
        InputError: a file can't be read, or a setting is missing, unknown or wrong; names it.
    """
    config = _read(path)
    if "defaults" in config:
        config = cast("dict[str, Any]", OmegaConf.to_container(composed(path.parent, path.stem)))
    settings = dict(config.get("codevision") or {})
    settings.pop("records", None)  # where training keeps its own
    response = _number(config, "data.max_response_length", path)
    multi_turn = _at(config, "actor_rollout_ref.rollout.multi_turn", path)
    tool_config = multi_turn.get("tool_config_path")
    checked = read_settings(settings)
    tool = read_tool_config(_beside(path, tool_config)) if tool_config else ToolSettings()
    return Rules(
        settings=checked,
        limits=checked.limits(
            response_tokens=response, assistant_turns=multi_turn.get("max_assistant_turns") or response
        ),
        context=_number(config, "data.max_prompt_length", path) + response,
        tool=tool,
    )


def _beside(path: Path, name: str) -> Path:
    """A file that `path` names: from the working directory, as verl reads it, or else in the folder of `path`."""
    return Path(name) if Path(name).is_file() else path.parent / Path(name).name


def read_tool_config(path: Path) -> ToolSettings:
    """The settings of the code tool in a tool config of verl.

    Raises:
        InputError: the file can't be read, has no code tool, or a setting is unknown or wrong; names it.
    """
    for tool in _read(path).get("tools") or ():
        if str(tool.get("class_name", "")).endswith(".CodeImageTool"):
            return read_tool_settings(tool.get("config") or {}, str(path))
    raise InputError(f"{path}: there is no CodeImageTool among its tools")


def _at(config: Mapping[str, Any], name: str, path: Path) -> Any:
    value: Any = config
    for part in name.split("."):
        if not isinstance(value, Mapping) or part not in value:
            raise InputError(f"{path}: setting {name} is missing")
        value = value[part]
    return value


def _number(config: Mapping[str, Any], name: str, path: Path) -> int:
    value = _at(config, name, path)
    if not isinstance(value, int):
        raise InputError(f"{path}: setting {name} is {value!r}, not a number")
    return value


def _read(path: Path) -> Mapping[str, Any]:
    try:
        config = OmegaConf.load(path)
    except OSError as error:
        raise InputError(f"{path}: can't be read: {error.strerror}") from error
    except (YAMLError, OmegaConfBaseException) as error:
        raise InputError(f"{path}: isn't YAML: {str(error).splitlines()[0]}") from error
    if not isinstance(config, DictConfig):
        raise InputError(f"{path}: isn't a mapping of settings")
    plain = OmegaConf.to_container(config, resolve=False)
    assert isinstance(plain, dict)
    return plain
