"""Opens the back end `endpoint` for a run."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from data_prep.evolve.endpoint.generator import EndpointGenerator
from data_prep.evolve.endpoint.models import open_models
from data_prep.evolve.endpoint.prompts import PromptFiles
from data_prep.evolve.endpoint.review import EndpointReviewer
from data_prep.evolve.endpoint.settings import EndpointSettings
from data_prep.evolve.endpoint.spending import Spending
from data_prep.evolve.stages import Examiner
from data_prep.evolve.store import ResultStore


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRoles:
    """The models of a run, ready."""

    generator: EndpointGenerator
    reviewer: EndpointReviewer
    spending: Spending


@contextmanager
def open_endpoint(
    settings: EndpointSettings, store: ResultStore, examiner: Examiner, seed: int
) -> Iterator[ModelRoles]:
    """Yield the models of a run; leaving the block ends their requests.

    Raises:
        InputError: The variable of a key isn't set, or a prompt can't be used.
    """
    prompts = PromptFiles(settings.prompts)
    with open_models(settings, store) as models:
        yield ModelRoles(
            generator=EndpointGenerator(models, prompts),
            reviewer=EndpointReviewer(models, prompts, examiner.examine, seed),
            spending=models.spending,
        )
