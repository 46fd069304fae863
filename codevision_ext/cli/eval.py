"""Evaluates the models that the command line names: reads the options, opens the engine, runs the evaluation."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Final

from codevision_ext.cli.eval_options import EvalOptions
from codevision_ext.engines.base import LoadedModel
from codevision_ext.engines.device import use_cpu_if_no_cuda
from codevision_ext.engines.registry import ENGINES, context_of
from codevision_ext.errors import InputError
from codevision_ext.evaluate import options
from codevision_ext.evaluate.command import open_chat, open_checkpoints, read_modes, run_evaluation
from codevision_ext.evaluate.recipe_config import read_recipe_config
from codevision_ext.evaluate.results import MODEL, Evaluation
from codevision_ext.evaluate.run import RolloutConfig
from codevision_ext.evaluate.setup import ModelRun, model_used, setup_of, with_checkpoint
from codevision_ext.io.inputs import require_checkpoint, require_files
from codevision_ext.models.checkpoint_settings import checkpoint_settings, print_notes, served_settings
from codevision_ext.types import CoordinateSystem
from data_prep import eval_items
from data_prep.formats.sources import read_names

URLS: Final = ("http://", "https://")
SERVED: Final = ("openai", "sglang", "vllm")
"""Engines that may serve an endpoint; the requests are the same for all."""

_Opener = Callable[[], AbstractContextManager[LoadedModel]]


def run_eval(given: EvalOptions) -> Evaluation:
    """Evaluates one model, or several checkpoints; OUT/results.json and the rest are as `evaluate.command` describes.

    Raises:
        InputError: an option, a file or a row is wrong; no engine is started.
        InfraError: the engine or the sandbox broke; finished rollouts are kept.
    """
    served = _check_options(given)
    modes = read_modes(given.tools)
    folders = _folders(given)
    for folder in folders.values():  # before anything that takes long to import
        require_checkpoint(folder)
    require_files([given.recipe] if given.recipe else [])
    if given.recipe or not served:
        use_cpu_if_no_cuda()  # before verl, transformers or SGLang is imported
    config = options.read_rollout_config(
        read_recipe_config(given.recipe) if given.recipe else None,
        given.settings or (),
        turns=given.max_turns,
        tokens=given.max_tokens,
        context=None if given.recipe or not folders else context_of(next(iter(folders.values()))),
    )
    models, engine = _served(given, config) if served else _checkpoints(given, folders, config)
    suites = options.read_suites(
        [*(given.suites or ()), *([f"transformed={given.data}"] if given.data else ())],
        eval_items,
        images=given.images,
        names=read_names(given.names),
        lists=given.lists,
        limit=given.limit,
        holdout=given.holdout,
        seed=given.seed,
        max_rejected=given.max_rejected,
    )
    return run_evaluation(
        models,
        suites,
        given.out,
        modes=modes,
        engine=engine,
        concurrency=given.concurrency,
        retries=given.retries,
        replace=given.force,
    )


def _check_options(given: EvalOptions) -> bool:
    """Checks that the options go together, and returns whether the model is behind a URL."""
    if bool(given.checkpoints) == bool(given.model):
        raise InputError("give either --model, to evaluate one model, or --checkpoint NAME=FOLDER, for several")
    if given.data is not None and not given.checkpoints:
        raise InputError(f"--data belongs to --checkpoint; write --suite transformed={given.data}")
    if not given.suites and given.data is None:
        raise InputError("give the items: --suite" + (", or --data for --checkpoint" if given.checkpoints else ""))
    served = given.model is not None and given.model.startswith(URLS)
    known = SERVED if served else tuple(ENGINES)
    if given.engine not in known:
        hint = "" if served else "; serve the folder and pass --model http://HOST:PORT/v1 for any other"
        name = given.model or "a checkpoint"
        raise InputError(f"--engine of {name} is {', '.join(known)}; not {given.engine!r}{hint}")
    if served and (given.replicas, given.gpus) != (1, 1):
        raise InputError("--replicas and --gpus need a checkpoint's folder; a server has its own number of both")
    of_urls = {
        "--model-id": given.model_id,
        "--api-key-env": given.api_key_env,
        "--request": given.request != "{}",
        "--trained": given.trained,
    }
    for option, value in of_urls.items():
        if value and not served:
            raise InputError(f"{option} needs a model behind a URL; a checkpoint's folder has no use for it")
    return served


def _folders(given: EvalOptions) -> dict[str, Path]:
    """Returns the folder of each checkpoint by its name in results.json; none for a URL."""
    if given.checkpoints:
        return {str(name): folder for name, folder in options.read_checkpoints(given.checkpoints).items()}
    return {} if str(given.model).startswith(URLS) else {MODEL: Path(str(given.model))}


def _served(given: EvalOptions, config: RolloutConfig) -> tuple[list[ModelRun], _Opener]:
    endpoint = options.endpoint_of(str(given.model), given.model_id, given.api_key_env, given.request)
    folder, own = served_settings(config.settings, endpoint.model, given.trained)
    print_notes({folder: own})
    if own.settings.coordinates is CoordinateSystem.SEEN:
        raise InputError("coordinates=seen needs a checkpoint's folder: an endpoint doesn't tell how it resizes images")
    config = with_checkpoint(config, own)
    setup = setup_of(
        model_used(endpoint.model, endpoint.url),
        given.engine,
        config,
        own,
        seed=given.seed,
        temperature=given.temperature,
        k=given.k,
        request=endpoint.request,
    )
    return [ModelRun(name=MODEL, setup=setup, config=config)], partial(open_chat, endpoint, given.temperature)


def _checkpoints(given: EvalOptions, folders: dict[str, Path], config: RolloutConfig) -> tuple[list[ModelRun], _Opener]:
    opener = open_checkpoints(
        list(folders.values()),
        given.engine,
        config,
        seed=given.seed,
        temperature=given.temperature,
        replicas=given.replicas,
        gpus=given.gpus,
    )
    own = {folder: checkpoint_settings(config.settings, folder) for folder in folders.values()}
    print_notes(own)
    models = []
    for name, folder in folders.items():
        used, ours = model_used(str(folder)), with_checkpoint(config, own[folder])
        setup = setup_of(
            used, given.engine, ours, own[folder], seed=given.seed, temperature=given.temperature, k=given.k
        )
        rows = "eval/{suite}_{mode}.jsonl" if name == MODEL else f"eval/{name}_{{part}}{{mode}}.jsonl"
        models.append(ModelRun(name=name, setup=setup, config=ours, checkpoint=folder, records=rows))
    return models, opener
