"""The settings of the code tool, and the sandbox that they open."""

import json
from collections.abc import Mapping
from dataclasses import field, fields
from enum import StrEnum
from typing import Annotated, Any, Final

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from codevision_ext.errors import InputError, first_problem
from codevision_ext.sandbox.backend import Backend
from codevision_ext.sandbox.http import HttpSandbox
from codevision_ext.sandbox.pool import Sandbox
from codevision_ext.sandbox.protocol import MOST, Isolation, Limits
from codevision_ext.sandbox.wire import MAX_IMAGES_BACK


class BackendKind(StrEnum):
    """Place where the code runs."""

    LOCAL = "local"
    """Children of this process."""
    HTTP = "http"
    """A SandboxFusion-compatible server."""
    RAY = "ray"
    """Actors that Ray places over its nodes."""


_Count = Annotated[int, Field(ge=1, le=MOST)]


@dataclass(frozen=True, slots=True, kw_only=True, config=ConfigDict(strict=True))
class ToolSettings:
    """The `config` of the code tool in a tool config of verl, where the limits stand beside the other settings."""

    limits: Limits = field(default_factory=Limits)
    backend: BackendKind = BackendKind.LOCAL
    url: str = ""
    """URL before `/run_code`; for `http`."""
    actors: _Count = 2
    """Sandboxes of each process that makes calls; for `ray`."""
    live: _Count | None = None
    """Calls that run at the same time, with `ray` in each actor; None: one per core, 32 with `http`, 1 per actor."""
    max_text_chars: Annotated[int, Field(ge=0, le=MOST)] = 512
    """Characters of printed text that an observation holds."""
    isolation: Isolation = Isolation.STRICT
    """Weakest isolation that the code may run behind."""
    keep_variables: bool = False
    """Whether variables of earlier calls of the rollout exist: those calls run again first, and their time counts."""
    images_per_call: Annotated[int, Field(ge=1, le=MAX_IMAGES_BACK)] = 4
    """Maximum images that one call adds to the rollout; the model is told how many more were left out."""


_READER: Final = TypeAdapter(ToolSettings)


def read_tool_settings(config: Mapping[str, Any], where: str) -> ToolSettings:
    """Return the settings of a tool config; errors begin with `where`, and `type` is verl's own.

    Raises:
        InputError: a setting is unknown (the known ones are listed), of the wrong type, too small or too large.
    """
    given = {name: value for name, value in config.items() if name != "type"}
    limits = {limit.name for limit in fields(Limits)}
    known = limits | {own.name for own in fields(ToolSettings)} - {"limits"}
    if unknown := sorted(given.keys() - known):
        raise InputError(f"{where}: {unknown[0]}: unknown setting; known are {', '.join(sorted(known))}")
    bounds = {name: given.pop(name) for name in limits & given.keys()}
    try:
        settings = _READER.validate_json(json.dumps(given | {"limits": bounds}, default=repr))
    except ValidationError as error:
        name, problem = first_problem(error)
        raise InputError(f"{where}: {name.removeprefix('limits.')}: {problem}") from None
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    for name, kind in (("url", BackendKind.HTTP), ("actors", BackendKind.RAY)):
        if name in given and settings.backend is not kind:
            raise InputError(f"{where}: {name}: is read with backend: {kind} only")
    if settings.backend is BackendKind.HTTP and not settings.url.startswith(("http://", "https://")):
        raise InputError(f"{where}: url: must begin with http:// or https://, it is {settings.url!r}")
    return settings


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
