"""Reads the training's settings and limits from a recipe's config, for an evaluation under the same conditions."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from omegaconf import OmegaConf

from codevision_ext.config import read_settings
from codevision_ext.errors import InputError
from codevision_ext.evaluate.run import RolloutConfig
from codevision_ext.sandbox.settings import ToolSettings
from codevision_ext.verl_config import composed, file_beside, read_tool_config, read_yaml


def read_recipe_config(path: Path) -> RolloutConfig:
    """Reads a training config and the configs in its `defaults`, without overrides.

    Raises:
        InputError: a file can't be read, or a setting is missing, unknown or wrong; names the setting.
    """
    config = read_yaml(path)
    if "defaults" in config:
        config = cast("dict[str, Any]", OmegaConf.to_container(composed(path.parent, path.stem)))
    settings = dict(config.get("codevision") or {})
    settings.pop("records", None)  # the folder of the training's records
    response = _number(config, "data.max_response_length", path)
    multi_turn = _at(config, "actor_rollout_ref.rollout.multi_turn", path)
    tool_config = multi_turn.get("tool_config_path")
    checked = read_settings(settings)
    tool = read_tool_config(file_beside(path, tool_config)) if tool_config else ToolSettings()
    return RolloutConfig(
        settings=checked,
        limits=checked.limits(
            response_tokens=response, assistant_turns=multi_turn.get("max_assistant_turns") or response
        ),
        context=_number(config, "data.max_prompt_length", path) + response,
        tool=tool,
    )


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
