"""The plugin's own settings, the `codevision` section of a verl config; a setting that nobody reads is an error."""

from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from codevision_ext.errors import InputError
from codevision_ext.rewards.composite import GroupSplit, weighted_terms


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RewardSettings(_Section):
    """Which reward; see `rewards.composite`."""

    preset: str = "verified"
    weights: dict[str, float] = {}
    """Weights that replace the preset's, by term name."""
    group_split: GroupSplit = "optional"


class Settings(_Section):
    """Everything that verl's own config has no place for."""

    reward: RewardSettings = RewardSettings()
    system_prompt: str | None = None
    """Path of a text file; empty: no system message, only the tool's schema; None: the package's own words.

    It must be what SFT had: a checkpoint that never saw the message forgets how to call the tool.
    """
    turn_tokens: int | None = None
    """Tokens of one assistant turn; None: whatever the response length leaves."""
    malformed_calls: int = 2
    """Calls that can't be read before a rollout ends as `malformed`."""
    think_prefix: str = ""
    """What the chat template writes before each assistant turn (`<think>` on thinking models).

    The format is judged with it.
    """
    records: str | None = None
    """Folder for one JSON line a rollout, pictures beside it; None: none are kept."""
    invalid_limit: float = 0.25
    """Share of invalid rollouts in one step above which the run stops, in [0, 1]."""


def read_settings(section: Mapping[str, Any] | None) -> Settings:
    """Checks a `codevision` section.

    Raises:
        InputError: a setting is unknown (the known ones are listed) or has the wrong type; or a reward term is unknown.
    """
    try:
        settings = Settings.model_validate(dict(section or {}))
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            owner = RewardSettings if first["loc"][0] == "reward" else Settings
            raise InputError(f"codevision.{name}: unknown setting; known are {', '.join(owner.model_fields)}") from None
        raise InputError(f"codevision.{name}: {first['msg'][:1].lower()}{first['msg'][1:]}") from None
    weighted_terms(settings.reward.preset, settings.reward.weights, settings.reward.group_split)
    return settings


def system_prompt(settings: Settings, *, tools: bool) -> str:
    """The words of the system message; none where there is to be no message.

    Raises:
        InputError: the file can't be read.
    """
    if settings.system_prompt is None:
        name = "system.txt" if tools else "system_no_tool.txt"
        return (files("codevision_ext") / "prompts" / name).read_text(encoding="utf-8").strip()
    if not settings.system_prompt:
        return ""
    try:
        with open(settings.system_prompt, encoding="utf-8") as file:  # noqa: PTH123
            return file.read().strip()
    except OSError as error:
        raise InputError(f"codevision.system_prompt: {settings.system_prompt}: {error.strerror}") from error
