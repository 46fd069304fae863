"""Reads the plugin's own settings, the `codevision` section of a verl config; an unknown setting is an error."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar, cast, get_args

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    DirectoryPath,
    Field,
    PrivateAttr,
    ValidationError,
)
from yaml import YAMLError

from codevision_ext.errors import InputError, first_line, first_problem
from codevision_ext.rewards.rubric import Rubric
from codevision_ext.rewards.settings import RewardSettings
from codevision_ext.rollout.dialects.base import DialectName
from codevision_ext.rollout.dialects.registry import DIALECTS
from codevision_ext.rollout.token_buffer import RolloutLimits
from codevision_ext.rollout.trained_format import TrainedFormat
from codevision_ext.types import CoordinateSystem, ModelPart


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


def _request(value: Any) -> Any:
    fields = json.loads(value) if isinstance(value, str) else value
    if not isinstance(fields, Mapping):
        return fields
    reserved = sorted(fields.keys() & {"messages", "model", "n", "stream"})
    if reserved:
        raise ValueError(f"{reserved[0]} is set by the judge itself; leave it out")
    plain = json.dumps(dict(fields), allow_nan=False, default=lambda v: dict(v) if isinstance(v, Mapping) else list(v))
    return json.loads(plain)  # verl's config has mappings and lists of its own


class JudgeSettings(_Section):
    """The judge: a model behind an OpenAI-compatible endpoint that decides on answers that no rule decides."""

    base_url: Annotated[str, AfterValidator(_url)]
    """URL of the endpoint without `/chat/completions`, for example `http://host:8000/v1`."""
    model: str = Field(min_length=1)
    """Id of the model at the endpoint."""
    api_key_env: Annotated[str, AfterValidator(_variable)] | None = None
    """Name of the environment variable that holds the key; None: the endpoint needs no key."""
    concurrency: int = Field(32, ge=1)
    """Maximum concurrent requests of each process."""
    timeout_s: float = Field(60.0, gt=0)
    """Time limit of one attempt in seconds, from the connection to the last byte."""
    retries: int = Field(6, ge=0)
    """Number of attempts after the first. Waits grow from 0.5 s to 8 s; a `Retry-After` of at most 60 s is obeyed."""
    cache: Path | None = None
    """Folder that keeps the verdicts for later runs; it is created where it is missing. None: no cache."""
    prompts: DirectoryPath | None = None
    """Folder of prompts that replace the package's own; see docs/judge.md. None: the package's own."""
    published_prompts: DirectoryPath | None = None
    """Folder of the prompts that a benchmark published for its judge; suite `vtbench_published` needs it."""
    request: Annotated[dict[str, Any], BeforeValidator(_request)] = {"temperature": 0, "max_tokens": 1024}
    """Further fields of each request, as a mapping or as JSON."""


_Share = Annotated[float, Field(ge=0, le=1)]


class WatchSettings(_Section):
    """Bounds on the metrics of a training step. A metric beyond its bound is a sign of trouble; None: no bound.

    See `monitor.signals`.
    """

    steps: Annotated[int, Field(ge=1)] = 3
    """Number of consecutive steps past a bound before a warning is logged, once."""
    stop: bool = False
    """True: the run ends after the step with the first warning."""
    min_tool_rate: _Share | None = 0.05
    """Minimum share of rollouts that call the tool, in [0, 1]; set None if there is no tool."""
    max_invalid_call_rate: _Share | None = 0.5
    """Maximum share of calls that fail or can't be read, in [0, 1]."""
    min_recovery_rate: _Share | None = 0.05
    """Minimum share of invalid calls that a successful call follows, in [0, 1]."""
    max_repeated_call_rate: _Share | None = 0.3
    """Maximum share of calls that repeat an earlier call: the same code on the same image, in [0, 1]."""
    max_truncation_rate: _Share | None = 0.5
    """Maximum share of rollouts that run into the length limit or the turn limit, in [0, 1]."""
    max_undecided_rate: _Share | None = 0.2
    """Maximum share of answers that no rule decides and no judge was asked about, in [0, 1]."""
    min_entropy: Annotated[float, Field(ge=0)] | None = 0.01
    """Minimum of verl's `actor/entropy`, nats per token."""
    min_group_std: Annotated[float, Field(ge=0)] | None = 0.05
    """Minimum standard deviation of the rewards within a group, as a mean over groups."""
    max_all_wrong_rate: _Share | None = 0.8
    """Maximum share of groups without a right answer, in [0, 1]."""
    max_all_right_rate: _Share | None = 0.8
    """Maximum share of groups without a wrong answer, in [0, 1]."""


class Settings(_Section):
    """The `codevision` section: the settings that verl's own config doesn't have."""

    reward: RewardSettings = RewardSettings()
    judge: JudgeSettings | None = None
    """Judge of the answers that no rule decides; None: these answers count as wrong, and as undecided."""
    exact_answers: bool = False
    """True: an answer that no rule accepts is wrong, as with generated data, and no answer is undecided.

    It can't be combined with a judge.
    """
    system_prompt: str | None = None
    """Path of a text file with the system message; empty: no message, only the tool's schema; None: the package's own.

    If it isn't set, it is the message that the checkpoint was trained with (`codevision.json`). With another message,
    a checkpoint may no longer call the tool.
    """
    dialect: DialectName = "tool_call"
    """Form of the model's calls: `tool_call` or `code_tags`; see docs/loop.md.

    If it isn't set, it is the checkpoint's own (`codevision.json`). The same holds for `coordinates`, `think_prefix`,
    `calls_per_turn` and `force_answer`.
    """
    coordinates: CoordinateSystem = CoordinateSystem.ORIGINAL
    """Coordinate system of the model: `seen`, `relative` or `original`; see docs/coordinates.md."""
    freeze: tuple[ModelPart, ...] = ()
    """Parts of the model whose weights SFT leaves as they are, `visual` and `projector`; empty: none."""
    turn_tokens: Annotated[int, Field(ge=1)] | None = None
    """Maximum tokens of one assistant turn; None: only the response length limits a turn."""
    malformed_calls: Annotated[int, Field(ge=1)] = 2
    """Number of unreadable tool calls that ends a rollout as `malformed`; a turn without call and answer counts."""
    calls_per_turn: Annotated[int, Field(ge=1)] = 1
    """Maximum tool calls that are run in one turn, in order; the model is told that the others were not run."""
    force_answer: bool = False
    """True: before its last turn the model is told that it must answer now."""
    think_prefix: str = ""
    """Text that the chat template writes before each assistant turn (`<think>` on thinking models).

    It counts as the beginning of the turn when the format is checked.
    """
    records: str | None = None
    """Folder of the records: one JSON line per rollout, and the images; None: no records are written."""
    log_trajectories: Annotated[int, Field(ge=0)] = 0
    """Number of rollouts per training step that are logged with their images, to `wandb` and `tensorboard`.

    They are read from the folder `records`, which must lie on a file system that the trainer sees.
    """
    deterministic: bool = False
    """True: the same command on the same machine trains the same weights, whatever else the machine does.

    It needs `data.seed`, the seed of the run; see docs/reproducible.md.
    """
    invalid_limit: _Share = 0.25
    """Maximum share of invalid rollouts in one step, in [0, 1]; above it the run stops."""
    watch: WatchSettings = WatchSettings()

    _trained: TrainedFormat | None = PrivateAttr(None)
    """Prompt and format that the checkpoint was trained with; set by `trained_settings`, never by a config."""

    def limits(self, *, response_tokens: int, assistant_turns: int) -> RolloutLimits:
        """Returns the limits of a rollout: the two arguments are verl's own settings, the rest is in this section."""
        names = [field.name for field in fields(RolloutLimits) if field.name in type(self).model_fields]
        own = {name: getattr(self, name) for name in names}
        return RolloutLimits(response_tokens=response_tokens, assistant_turns=assistant_turns, **own)


def read_settings(section: Mapping[str, Any] | None) -> Settings:
    """Reads a `codevision` section.

    Raises:
        InputError: a setting is unknown (the message lists the known ones), a setting has the wrong type, or a reward
            term is unknown.
    """
    settings = _read(Settings, section or {}, "codevision")
    weights = Rubric(settings.reward).weights
    if settings.reward.weights.get("faithful"):
        raise InputError("codevision.reward.weights.faithful: no step judge runs here; only `codevision score` has it")
    if weights.get("consistency") and settings.judge is None:
        raise InputError(
            f"codevision.reward.weights.consistency: is {weights['consistency']:g}, but there is no codevision.judge to"
            " compare thought and answer; set a judge, or this weight to 0"
        )
    if settings.exact_answers and settings.judge:
        raise InputError(
            "codevision.exact_answers: true leaves nothing for codevision.judge to decide; set one of them"
        )
    return settings


_EMPTY: Final = "''"
"""Empty text in YAML, where nothing at all is null."""


def changed(section: Mapping[str, Any], words: Sequence[str], example: str) -> dict[str, Any]:
    """Returns a section with the settings that `--set NAME=VALUE` gives: dots lead to nested ones, values are YAML.

    Args:
        section: Section before the changes.
        words: The words `NAME=VALUE`, in their order; an empty VALUE is an empty text.
        example: An example for the message, such as `such as sim=giou`.

    Raises:
        InputError: a word isn't NAME=VALUE, or its value can't be read.
    """
    config = OmegaConf.create(dict(section))
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name.strip():
            raise InputError(f"--set {word}: must be NAME=VALUE, {example}")
        try:
            config.merge_with_dotlist([f"{name.strip()}={value.strip() or _EMPTY}"])
            OmegaConf.to_container(config, resolve=True)
        except (OmegaConfBaseException, YAMLError) as error:
            raise InputError(f"--set {word}: {first_line(error)}") from error
    return cast("dict[str, Any]", OmegaConf.to_container(config, resolve=True))


def read_reward_settings(section: Mapping[str, Any]) -> RewardSettings:
    """Reads a `codevision.reward` section by itself, to score records again. Raises what `read_settings` raises."""
    reward = _read(RewardSettings, section, "codevision.reward")
    Rubric(reward)
    return reward


def read_judge_settings(**section: Any) -> JudgeSettings:
    """Reads a `codevision.judge` section by itself. Raises what `read_settings` raises."""
    return _read(JudgeSettings, section, "codevision.judge")


def _read(kind: type[_AnySection], section: Mapping[str, Any], where: str) -> _AnySection:
    try:
        return kind.model_validate(dict(section))
    except ValidationError as error:
        name, problem = first_problem(error, _known(kind, error.errors()[0]["loc"][:-1]))
        raise InputError(f"{where}.{name}: {problem}") from None


def _known(section: Any, path: Sequence[str | int]) -> Sequence[str]:
    """Return the names of the settings at a path below the section; none where it leads to a value."""
    for part in path:
        annotation = section.model_fields[part].annotation if section else None
        section = next((kind for kind in (annotation, *get_args(annotation)) if hasattr(kind, "model_fields")), None)
    return tuple(section.model_fields) if section else ()


FROM_CHECKPOINT: Final = ("dialect", "coordinates", "think_prefix", "calls_per_turn", "force_answer")
"""Settings whose value is that of the checkpoint if the config doesn't set them."""


def trained_settings(settings: Settings, trained: TrainedFormat) -> tuple[Settings, list[str]]:
    """Returns the settings, completed by those of a checkpoint, and a sentence for each setting that differs from it.

    Raises:
        InputError: the file of a given system message can't be read.
    """
    given = settings.model_fields_set
    values = {name: value for name in FROM_CHECKPOINT if (value := getattr(trained, name)) is not None}
    differences = [
        f"{name} is {str(getattr(settings, name))!r}, but the checkpoint was trained with {str(value)!r}"
        for name, value in values.items()
        if name in given and _stripped(getattr(settings, name)) != _stripped(value)
    ]
    if "system_prompt" in given:
        tools = trained.system_prompt is not None
        message, own = system_prompt(settings, tools=tools), trained.system(tools=tools)
        if message != own:
            words = f"is {_quoted(message)}, but the checkpoint was trained with {_quoted(own)}"
            differences.append(f"system_prompt {words}")
    settings = settings.model_copy(update={name: value for name, value in values.items() if name not in given})
    settings._trained = trained if trained.dialect else replace(trained, dialect=settings.dialect)
    return settings, differences


def _stripped(value: Any) -> Any:
    """Returns a text without white space around it, and any other value as it is."""
    return value.strip() if isinstance(value, str) else value


def _quoted(message: str) -> str:
    """Returns a message in quotation marks; the end of a long message is cut off."""
    return repr(message if len(message) <= 60 else message[:57] + "...") if message else "no message"


def system_prompt(settings: Settings, *, tools: bool) -> str:
    """Returns the text of the system message; empty for no message.

    Raises:
        InputError: the file can't be read.
    """
    trained = settings._trained
    if trained and trained.dialect == settings.dialect and "system_prompt" not in settings.model_fields_set:
        return trained.system(tools=tools)
    if settings.system_prompt is None:
        return DIALECTS[settings.dialect].system(tools=tools)
    if not settings.system_prompt:
        return ""
    try:
        with open(settings.system_prompt, encoding="utf-8") as file:  # noqa: PTH123
            return file.read().strip()
    except OSError as error:
        raise InputError(f"codevision.system_prompt: {settings.system_prompt}: {error.strerror}") from error


def tool_schemas(settings: Settings) -> list[dict[str, Any]]:
    """Returns the schemas of the tool for the system block: those of the checkpoint, or otherwise the package's.

    The package's schemas are also used if the settings have another dialect or other coordinates than the checkpoint.
    """
    trained = settings._trained
    same = trained and trained.dialect == settings.dialect and trained.coordinates in (None, settings.coordinates)
    if trained and trained.tools and same:
        return list(trained.tools)
    return DIALECTS[settings.dialect].schemas(settings.coordinates)
