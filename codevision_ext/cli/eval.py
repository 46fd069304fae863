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
from codevision_ext.evaluate.setup import ModelRun, model_used, setup_of
from data_prep import eval_items

URLS: Final = ("http://", "https://")
SERVED: Final = ("openai", "sglang", "vllm")
"""Engines that may serve an endpoint; the requests are the same for all."""
DEMO_RECIPE: Final = Path("recipe/demo/grpo.yaml")
"""Recipe of an evaluation with --checkpoint and without --recipe."""

_Opener = Callable[[], AbstractContextManager[LoadedModel]]


def run_eval(given: EvalOptions) -> Evaluation:
    """Evaluates one model, or several checkpoints; OUT/results.json and the rest are as `evaluate.command` describes.

    Raises:
        InputError: an option, a file or a row is wrong; no engine is started.
        InfraError: the engine or the sandbox broke; finished rollouts are kept.
    """
    if given.checkpoints and (given.model or given.suites or given.data is None):
        raise InputError("--checkpoint needs --data, and excludes --model and --suite")
    if not given.checkpoints and (not given.model or not given.suites or given.data is not None):
        raise InputError("give --model and --suite, to evaluate one model, or --checkpoint and --data")
    served = given.model is not None and given.model.startswith(URLS)
    known = SERVED if served else tuple(ENGINES)
    if given.engine not in known:
        hint = "" if served else "; serve the folder and pass --model http://HOST:PORT/v1 for any other"
        raise InputError(f"--engine of {given.model} is {', '.join(known)}; not {given.engine!r}{hint}")
    modes = read_modes(given.tools)
    folders = _folders(given)
    recipe = given.recipe or (DEMO_RECIPE if given.checkpoints else None)
    if recipe or not served:
        use_cpu_if_no_cuda()  # before verl, transformers or SGLang is imported
    config = options.read_rollout_config(
        read_recipe_config(recipe) if recipe else None,
        given.settings or (),
        turns=given.max_turns,
        tokens=given.max_tokens,
        context=None if recipe or not folders else context_of(folders[MODEL]),
    )
    models, engine = _served(given, config) if served else _checkpoints(given, folders, config)
    suites = options.read_suites(
        given.suites or [f"transformed={given.data}"],
        eval_items,
        images=given.images,
        limit=given.limit,
        holdout=given.holdout,
        seed=given.seed,
    )
    return run_evaluation(
        models,
        suites,
        given.out,
        config=config,
        modes=modes,
        engine=engine,
        concurrency=given.concurrency,
        retries=given.retries,
        replace=given.force,
    )


def _folders(given: EvalOptions) -> dict[str, Path]:
    """Returns the folder of each checkpoint by its name in results.json; none for a URL."""
    if given.checkpoints:
        return {str(name): folder for name, folder in options.read_checkpoints(given.checkpoints).items()}
    return {} if str(given.model).startswith(URLS) else {MODEL: Path(str(given.model))}


def _served(given: EvalOptions, config: RolloutConfig) -> tuple[list[ModelRun], _Opener]:
    if (given.replicas, given.gpus) != (1, 1):
        raise InputError("--replicas and --gpus need a checkpoint's folder; a server has its own number of both")
    endpoint = options.endpoint_of(str(given.model), given.model_id, given.api_key_env, given.request, config)
    setup = setup_of(
        model_used(endpoint.model, endpoint.url),
        given.engine,
        config,
        seed=given.seed,
        temperature=given.temperature,
        k=given.k,
        request=endpoint.request,
    )
    return [ModelRun(name=MODEL, setup=setup)], partial(open_chat, endpoint, given.temperature)


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
    models = []
    for name, folder in folders.items():
        used = model_used(str(folder))
        setup = setup_of(used, given.engine, config, seed=given.seed, temperature=given.temperature, k=given.k)
        rows = "eval/{suite}_{mode}.jsonl" if name == MODEL else f"eval/{name}_{{mode}}.jsonl"
        models.append(ModelRun(name=name, setup=setup, checkpoint=folder, records=rows))
    return models, opener
