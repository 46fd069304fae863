"""The plugin's own settings, the `codevision` section of a verl config; a setting that nobody reads is an error."""

import json
import os
from collections.abc import Mapping
from dataclasses import fields
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, DirectoryPath, Field, ValidationError

from codevision_ext.errors import InputError
from codevision_ext.rewards.rubric import Rubric
from codevision_ext.rewards.settings import CuriositySettings, RewardSettings
from codevision_ext.rollout.token_buffer import RolloutLimits
from codevision_ext.types import CoordinateSystem


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


_AnySection = TypeVar("_AnySection", bound=BaseModel)


def _url(value: str) -> str:
    if not value.startswith(("http://", "https://")):
        raise ValueError(f"{value!r} doesn't begin with http:// or https://")
    return value


def _variable(name: str) -> str:
    if not os.environ.get(name):
        raise ValueError(f"the environment has no variable {name}, or an empty one")
    return name


def _request(given: Any) -> Any:
    fields = json.loads(given) if isinstance(given, str) else given
    if not isinstance(fields, Mapping):
        return fields
    ours = sorted(fields.keys() & {"messages", "model", "n", "stream"})
    if ours:
        raise ValueError(f"{ours[0]} isn't yours to set")
    plain = json.dumps(dict(fields), allow_nan=False, default=lambda v: dict(v) if isinstance(v, Mapping) else list(v))
    return json.loads(plain)  # verl's config has mappings and lists of its own


class JudgeSettings(_Section):
    """Which model reads the answers that no rule decides, behind an OpenAI-compatible endpoint; see `judge`."""

    base_url: Annotated[str, AfterValidator(_url)]
    """`http://host:8000/v1`: what `/chat/completions` is appended to."""
    model: str = Field(min_length=1)
    """The id that the endpoint knows the model by."""
    api_key_env: Annotated[str, AfterValidator(_variable)] | None = None
    """Name of the environment variable with the key; None: the endpoint wants none."""
    concurrency: int = Field(32, ge=1)
    """Requests under way at the same time, in each process."""
    timeout_s: float = Field(60.0, gt=0)
    """Of one attempt, from the connection to the last byte, seconds."""
    retries: int = Field(6, ge=0)
    """Attempts after the first; waits grow from 0.5 s to 8 s, or are what `Retry-After` asks for, up to 60 s."""
    cache: Path | None = None
    """Folder of what was decided before, made where it is missing; None: nothing is kept."""
    prompts: DirectoryPath | None = None
    """Folder of prompts in place of the package's own; see `docs/judge.md`."""
    request: Annotated[dict[str, Any], BeforeValidator(_request)] = {"temperature": 0, "max_tokens": 1024}
    """More fields of each request, as the endpoint knows them; also as JSON."""


_Share = Annotated[float, Field(ge=0, le=1)]


class WatchSettings(_Section):
    """From where on a step's numbers mean that training goes wrong; None switches a bound off. See `health`."""

    steps: Annotated[int, Field(ge=1)] = 3
    """Steps in a row past a bound before it is said, once."""
    stop: bool = False
    """The run ends behind the step at which something was said."""
    min_tool_rate: _Share | None = 0.05
    """Share of rollouts that call the tool; None where there is no tool."""
    max_invalid_call_rate: _Share | None = 0.5
    """Share of calls that failed or couldn't be read."""
    min_recovery_rate: _Share | None = 0.05
    """Share of those that a successful call follows."""
    max_repeated_call_rate: _Share | None = 0.3
    """Share of calls that run the code of an earlier one on the same image."""
    max_truncation_rate: _Share | None = 0.5
    """Share of rollouts that ran into the length or turn limit."""
    min_entropy: Annotated[float, Field(ge=0)] | None = 0.01
    """verl's `actor/entropy`, nats a token."""
    min_group_std: Annotated[float, Field(ge=0)] | None = 0.05
    """Mean over groups of the standard deviation of rewards."""
    max_all_wrong_rate: _Share | None = 0.8
    """Share of groups without a right answer."""
    max_all_right_rate: _Share | None = 0.8
    """Share of groups without a wrong answer."""


class Settings(_Section):
    """Everything that verl's own config has no place for."""

    reward: RewardSettings = RewardSettings()
    judge: JudgeSettings | None = None
    """Reads the answers that no rule decides; None: they are wrong."""
    system_prompt: str | None = None
    """Path of a text file; empty: no system message, only the tool's schema; None: the package's own words.

    It must be what SFT had: a checkpoint that never saw the message forgets how to call the tool.
    """
    coordinates: CoordinateSystem = CoordinateSystem.ORIGINAL
    """What the model writes coordinates in: `seen`, `relative` or `original`; see docs/coordinates.md."""
    turn_tokens: Annotated[int, Field(ge=1)] | None = None
    """Tokens of one assistant turn; None: whatever the response length leaves."""
    malformed_calls: Annotated[int, Field(ge=1)] = 2
    """Calls that can't be read before a rollout ends as `malformed`."""
    calls_per_turn: Annotated[int, Field(ge=1)] = 1
    """Calls of one turn that are run, in order; the model is told of the others."""
    force_answer: bool = False
    """Whether the model is told, before its last turn, that it must answer in it."""
    think_prefix: str = ""
    """What the chat template writes before each assistant turn (`<think>` on thinking models).

    The format is judged with it.
    """
    records: str | None = None
    """Folder for one JSON line a rollout, images beside it; None: none are kept."""
    log_trajectories: Annotated[int, Field(ge=0)] = 0
    """Rollouts of each training step that go, with their images, to `wandb` and `tensorboard` of `trainer.logger`.

    They are read from `records`, on a file system that the trainer sees.
    """
    invalid_limit: _Share = 0.25
    """Share of invalid rollouts in one step above which the run stops, in [0, 1]."""
    watch: WatchSettings = WatchSettings()

    def limits(self, *, response_tokens: int, assistant_turns: int) -> RolloutLimits:
        """Of a rollout, with those that are verl's own settings."""
        names = [field.name for field in fields(RolloutLimits) if field.name in type(self).model_fields]
        ours = {name: getattr(self, name) for name in names}
        return RolloutLimits(response_tokens=response_tokens, assistant_turns=assistant_turns, **ours)


_SECTIONS: Final[dict[Any, type[BaseModel]]] = {
    "reward": RewardSettings,
    "curiosity": CuriositySettings,
    "judge": JudgeSettings,
    "watch": WatchSettings,
}


def read_settings(section: Mapping[str, Any] | None) -> Settings:
    """Checks a `codevision` section.

    Raises:
        InputError: a setting is unknown (the known ones are listed) or has the wrong type; or a reward term is unknown.
    """
    settings = _read(Settings, section or {}, "codevision")
    Rubric(settings.reward)
    if settings.reward.weights.get("faithful"):
        raise InputError("codevision.reward.weights.faithful: no step judge runs here; only `codevision score` has it")
    return settings


def read_reward_settings(section: Mapping[str, Any]) -> RewardSettings:
    """Checks a `codevision.reward` section by itself, for records that are scored again.

    Raises:
        InputError: as `read_settings`.
    """
    reward = _read(RewardSettings, section, "codevision.reward")
    Rubric(reward)
    return reward


def read_judge_settings(**section: Any) -> JudgeSettings:
    """Checks a `codevision.judge` section by itself.

    Raises:
        InputError: as `read_settings`.
    """
    return _read(JudgeSettings, section, "codevision.judge")


def _read(kind: type[_AnySection], section: Mapping[str, Any], where: str) -> _AnySection:
    try:
        return kind.model_validate(dict(section))
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join([where, *map(str, first["loc"])])
        if first["type"] == "extra_forbidden":
            owner = next((_SECTIONS[part] for part in reversed(first["loc"][:-1]) if part in _SECTIONS), kind)
            raise InputError(f"{name}: unknown setting; known are {', '.join(owner.model_fields)}") from None
        said = first["msg"].removeprefix("Value error, ")
        raise InputError(f"{name}: {said[:1].lower()}{said[1:]}") from None


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
