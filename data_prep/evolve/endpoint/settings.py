"""Reads which models make and check items, what they cost, and where a run stops."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from codevision_ext.errors import InputError, first_line, first_problem
from codevision_ext.io.chat_client import Endpoint

RoleName = Literal["generator", "checker", "solver", "repairer", "expander"]
ROLES: Final[tuple[RoleName, ...]] = get_args(RoleName)
"""Tasks of the models, each with an endpoint."""
INSTEAD: Final[Mapping[RoleName, RoleName]] = {"solver": "checker", "repairer": "generator", "expander": "generator"}
"""Role whose model takes the place of a role that isn't given."""


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RoleSettings(_Settings):
    """A model, how requests are sent to it, and its prices."""

    url: str = Field(pattern=r"^https?://")
    """URL before `/chat/completions`, such as `http://host:8000/v1`."""
    model: str = Field(min_length=1)
    """Id by which the endpoint knows the model."""
    api_key_env: str | None = None
    """Name of the environment variable with the key; None: the endpoint needs no key."""
    concurrency: int = Field(16, ge=1)
    """Maximum requests under way at the same time."""
    timeout_s: float = Field(300.0, gt=0)
    """Seconds of one attempt, from the connection to the last byte."""
    retries: int = Field(6, ge=0)
    """Attempts after the first one."""
    max_tokens: int = Field(16_384, ge=1)
    """Maximum tokens of a reply, thoughts included."""
    request: dict[str, Any] = {}
    """Further fields of each request, such as `temperature`."""
    price_in: float = Field(0.0, ge=0)
    """Price of a million tokens of prompts, in the unit of `max_cost`."""
    price_out: float = Field(0.0, ge=0)
    """Price of a million tokens of replies, in the unit of `max_cost`."""

    @property
    def endpoint(self) -> Endpoint:
        """Address of the model."""
        fields = self.model_dump(exclude={"max_tokens", "price_in", "price_out"})
        return Endpoint(**fields)

    def cost(self, prompt_tokens: int, tokens: int) -> float:
        """Return the price of a reply, in the unit of `max_cost`."""
        return (prompt_tokens * self.price_in + tokens * self.price_out) / 1e6


def _solves(value: int) -> int:
    if value != 0 and not 2 <= value <= 64:  # the interval of one solve on each side always has 0 in it
        raise ValueError(f"must be 0 or from 2 to 64, it is {value}")
    return value


class EndpointSettings(_Settings):
    """Settings of a run with endpoints, as in the file `--endpoints`."""

    generator: RoleSettings
    checker: RoleSettings
    solver: RoleSettings | None = None
    repairer: RoleSettings | None = None
    expander: RoleSettings | None = None
    max_calls: Annotated[int, Field(ge=1)] | None = None
    """Maximum number of replies in the store, which earlier runs may have paid; None: no limit."""
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    """Maximum number of tokens of prompts and replies, counted as `max_calls` is; None: no limit."""
    max_cost: Annotated[float, Field(gt=0)] | None = None
    """Maximum of money, counted as `max_calls` is, in the unit of the prices; None: no limit."""
    pass_score: int = Field(7, ge=0, le=10)
    """Minimum of each of the checker's three scores, in [0, 10]."""
    solves: Annotated[int, AfterValidator(_solves)] = 4
    """Number of blind solves of the original image, and of the edited image; 0: none, and necessity isn't measured."""
    repairs: int = Field(3, ge=0, le=10)
    """Maximum number of repairs of an item."""
    prompts: Path | None = None
    """Folder of prompts that replace the project's own; None: the project's own."""

    def role(self, name: RoleName) -> RoleSettings:
        """Return the settings of a role, or of the role that takes its place."""
        given: RoleSettings | None = getattr(self, name)
        return given if given is not None else self.role(INSTEAD[name])

    @property
    def threads(self) -> int:
        """Number of calls that the run works on at once: enough to keep every role busy, at most 256."""
        given: list[RoleSettings] = [role for name in ROLES if (role := getattr(self, name)) is not None]
        return min(256, sum(role.concurrency for role in given))


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenOptions:
    """Options of the command, which win over the settings file."""

    file: Path | None = None
    roles: Mapping[RoleName, str] = field(default_factory=dict)
    """`URL,MODEL` by role."""
    api_key_env: str | None = None
    """Environment variable with the key of each role that the options name."""
    limits: Mapping[str, float | None] = field(default_factory=dict)
    """Values of `max_calls`, `max_tokens`, `max_cost` and `solves`; None: as in the file."""

    @property
    def names(self) -> list[str]:
        """Names of the options that are given."""
        options = [f"--{name}" for name in self.roles] + (["--endpoints"] if self.file else [])
        options += ["--api-key-env"] if self.api_key_env else []
        return options + [f"--{name.replace('_', '-')}" for name, value in self.limits.items() if value is not None]


def read_endpoint_settings(given: GivenOptions) -> EndpointSettings:
    """Return the settings of file and options.

    Raises:
        InputError: The file can't be read, a field is missing, unknown or out of range, or an option isn't URL,MODEL.
    """
    content: dict[str, Any] = {}
    if given.file is not None:
        try:
            read = yaml.safe_load(given.file.read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(f"--endpoints {given.file}: can't be read: {error.strerror}") from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise InputError(f"--endpoints {given.file}: isn't YAML: {first_line(error)}") from error
        if not isinstance(read, dict):
            raise InputError(f"--endpoints {given.file}: must be an object with generator and checker")
        content = read
    for name, text in given.roles.items():
        url, comma, model = text.partition(",")
        if not (comma and model and url.startswith(("http://", "https://"))):
            raise InputError(f"--{name} {text}: must be URL,MODEL, such as http://localhost:8000/v1,Qwen3-VL")
        earlier = content.get(name)
        key = {"api_key_env": given.api_key_env} if given.api_key_env else {}
        content[name] = {**(earlier if isinstance(earlier, dict) else {}), "url": url, "model": model, **key}
    content |= {name: value for name, value in given.limits.items() if value is not None}
    for name in ("generator", "checker"):
        if name not in content:
            raise InputError(f"--backend endpoint needs a {name}: give --{name} URL,MODEL or --endpoints FILE")
    try:
        return EndpointSettings.model_validate(content)
    except ValidationError as error:
        place, problem = first_problem(error, EndpointSettings.model_fields)
        where = f"--endpoints {given.file}: field {place}" if given.file else f"--{place.replace('_', '-')}"
        raise InputError(f"{where}: {problem}") from error
