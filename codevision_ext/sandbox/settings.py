"""The settings of the code tool, and the sandbox that they open."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any

from codevision_ext.errors import InputError
from codevision_ext.sandbox.backend import Backend
from codevision_ext.sandbox.http import HttpSandbox
from codevision_ext.sandbox.pool import Sandbox
from codevision_ext.sandbox.protocol import Isolation, Limits, check_whole


class BackendKind(StrEnum):
    """Where the code runs."""

    LOCAL = "local"
    """In children of this process."""
    HTTP = "http"
    """On a SandboxFusion-compatible server."""
    RAY = "ray"
    """In actors that Ray places over its nodes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolSettings:
    """The `config` of the code tool in a tool config of verl, where the limits stand beside the rest."""

    limits: Limits = field(default_factory=Limits)
    backend: BackendKind = BackendKind.LOCAL
    url: str = ""
    """`http`: what `/run_code` is appended to."""
    actors: int = 2
    """`ray`: sandboxes of each process that makes calls."""
    live: int | None = None
    """Calls run at the same time, with `ray` in each actor; None: one a core, 32 with `http`, 1 an actor."""
    max_text_chars: int = 512
    isolation: Isolation = Isolation.STRICT
    """The least that the code may run behind."""
    keep_variables: bool = False
    """What earlier calls of the trajectory bound is there, by running them again first: their time counts too."""


_CHOICES: dict[str, type[StrEnum]] = {"isolation": Isolation, "backend": BackendKind}


def read_tool_settings(config: Mapping[str, Any], where: str) -> ToolSettings:
    """Checks the settings of a tool config; `where` names it, and `type` is verl's own.

    Raises:
        InputError: a setting is unknown (the known ones are listed), of the wrong kind, too small or too large.
    """
    limits, own = {limit.name for limit in fields(Limits)}, {own.name for own in fields(ToolSettings)} - {"limits"}
    given = {name: value for name, value in config.items() if name != "type"}
    for name, value in given.items():
        if name not in limits | own:
            raise InputError(f"{where}: unknown setting {name}; known are {', '.join(sorted(limits | own))}")
        if name in _CHOICES:
            choices: list[StrEnum] = list(_CHOICES[name])
            if value not in choices:
                raise InputError(f"{where}: setting {name} is {value!r}, not one of {', '.join(choices)}")
            given[name] = _CHOICES[name](value)
        elif name == "url":
            if not str(value).startswith(("http://", "https://")):
                raise InputError(f"{where}: setting url is {value!r}, it doesn't begin with http:// or https://")
        elif name == "keep_variables":
            if not isinstance(value, bool):
                raise InputError(f"{where}: setting keep_variables is {value!r}, not true or false")
        elif isinstance(value, bool) or not isinstance(value, int | float):
            raise InputError(f"{where}: setting {name} is {value!r}, not a number")
        elif name in own:
            check_whole(f"{where}: setting {name}", value, least=int(name != "max_text_chars"))
    for name, kind in (("url", BackendKind.HTTP), ("actors", BackendKind.RAY)):
        if name in given and given.get("backend") is not kind:
            raise InputError(f"{where}: setting {name} is read with backend: {kind} only")
    if given.get("backend") is BackendKind.HTTP and "url" not in given:
        raise InputError(f"{where}: setting url is missing, backend: http needs it")
    try:
        bounds = Limits(**{name: value for name, value in given.items() if name in limits})
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    return ToolSettings(
        limits=bounds,
        **{name: value for name, value in given.items() if name in own},
    )


def open_sandbox(settings: ToolSettings) -> Backend:
    """Returns the back end that the settings name, not started yet."""
    if settings.backend is BackendKind.RAY:
        from codevision_ext.sandbox.ray_pool import RaySandbox  # noqa: PLC0415  Ray takes long to import

        return RaySandbox(
            settings.limits, actors=settings.actors, live=settings.live or 1, isolation=settings.isolation
        )
    if settings.backend is BackendKind.HTTP:
        return HttpSandbox(settings.url, settings.limits, settings.live or 32, settings.isolation)
    return Sandbox(settings.limits, settings.live, settings.isolation)
