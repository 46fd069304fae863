"""Reads the options of a model behind a URL, which `eval` and `serve` have in common."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from codevision_ext.engines.base import LoadedModel
from codevision_ext.errors import InputError
from codevision_ext.evaluate import options
from codevision_ext.evaluate.command import open_chat
from codevision_ext.evaluate.run import RolloutConfig
from codevision_ext.evaluate.setup import with_checkpoint
from codevision_ext.io.chat_client import Endpoint
from codevision_ext.models.checkpoint_settings import CheckpointSettings, print_notes, served_settings
from codevision_ext.rollout.dialects.registry import DIALECTS
from codevision_ext.types import CoordinateSystem


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointModel:
    """A model behind a URL, with the settings that it was trained with."""

    endpoint: Endpoint
    own: CheckpointSettings
    config: RolloutConfig

    def opener(self, temperature: float) -> Callable[[], AbstractContextManager[LoadedModel]]:
        """Returns the function that opens the model; it samples at `temperature`."""
        return partial(open_chat, self.endpoint, temperature, DIALECTS[self.config.settings.dialect].stop)


def read_endpoint(
    url: str, model: str | None, api_key_env: str | None, request: str, trained: Path | None, config: RolloutConfig
) -> EndpointModel:
    """Returns the model behind a URL, and prints how its settings differ from those that were given.

    Raises:
        InputError: the endpoint doesn't answer, an option is wrong, or the coordinates depend on resized images.
    """
    endpoint = options.endpoint_of(url, model, api_key_env, request)
    folder, own = served_settings(config.settings, endpoint.model, trained)
    print_notes({folder: own})
    if own.settings.coordinates is CoordinateSystem.SEEN:
        raise InputError("coordinates=seen needs a checkpoint's folder: an endpoint doesn't tell how it resizes images")
    return EndpointModel(endpoint=endpoint, own=own, config=with_checkpoint(config, own))


def refuse_endpoint_options(given: Mapping[str, object], needed: str) -> None:
    """Raises InputError for the first option of an endpoint that has a value; it needs `needed`."""
    for option, value in given.items():
        if value:
            raise InputError(f"{option} needs {needed}; a checkpoint's folder has no use for it")
