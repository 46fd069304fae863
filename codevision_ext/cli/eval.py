"""Runs `codevision eval`: reads the options, opens the engine, and runs the evaluation."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

from codevision_ext.cli.endpoint import read_endpoint, refuse_endpoint_options
from codevision_ext.cli.eval_options import EvalOptions
from codevision_ext.engines.base import LoadedModel
from codevision_ext.engines.device import use_cpu_if_no_cuda
from codevision_ext.engines.registry import ENGINES, context_of
from codevision_ext.errors import InputError
from codevision_ext.evaluate import options
from codevision_ext.evaluate.command import open_checkpoints, read_modes, run_evaluation
from codevision_ext.evaluate.recipe_config import read_recipe_config
from codevision_ext.evaluate.results import MODEL, Evaluation
from codevision_ext.evaluate.run import RolloutConfig
from codevision_ext.evaluate.setup import ModelRun, model_used, setup_of, with_checkpoint
from codevision_ext.io.inputs import require_checkpoint, require_files
from codevision_ext.models.checkpoint_settings import checkpoint_settings, print_notes
from data_prep import eval_items
from data_prep.formats.sources import read_names

URLS: Final = ("http://", "https://")
SERVED: Final = ("openai", "sglang", "vllm")
"""Engines that may serve an endpoint; the requests are the same for all."""

_Opener = Callable[[], AbstractContextManager[LoadedModel]]


def run_eval(args: EvalOptions) -> Evaluation:
    """Evaluates one model, or several checkpoints; `evaluate.command` describes the files in OUT.

    Raises:
        InputError: an option, a file or a row is wrong; no engine is started.
        InfraError: the engine or the sandbox broke; finished rollouts are kept.
    """
    served = _check_options(args)
    modes = read_modes(args.tools)
    folders = _folders(args)
    for folder in folders.values():  # before anything that takes long to import
        require_checkpoint(folder)
    require_files([args.recipe] if args.recipe else [])
    if args.recipe or not served:
        use_cpu_if_no_cuda()  # before verl, transformers or SGLang is imported
    config = options.read_rollout_config(
        read_recipe_config(args.recipe) if args.recipe else None,
        args.settings or (),
        turns=args.max_turns,
        tokens=args.max_tokens,
        context=None if args.recipe or not folders else context_of(next(iter(folders.values()))),
    )
    models, engine = _served(args, config) if served else _checkpoints(args, folders, config)
    suites = options.read_suites(
        [*(args.suites or ()), *([f"transformed={args.data}"] if args.data else ())],
        eval_items,
        images=args.images,
        names=read_names(args.names),
        lists=args.lists,
        limit=args.limit,
        holdout=args.holdout,
        seed=args.seed,
        max_rejected=args.max_rejected,
    )
    return run_evaluation(
        models,
        suites,
        args.out,
        modes=modes,
        engine=engine,
        concurrency=args.concurrency,
        retries=args.retries,
        replace=args.force,
    )


def _check_options(args: EvalOptions) -> bool:
    """Checks that the options go together, and returns whether the model is behind a URL."""
    if bool(args.checkpoints) == bool(args.model):
        raise InputError("give either --model, to evaluate one model, or --checkpoint NAME=FOLDER, for several")
    if args.data is not None and not args.checkpoints:
        raise InputError(f"--data belongs to --checkpoint; write --suite transformed={args.data}")
    if not args.suites and args.data is None:
        raise InputError("give the items: --suite" + (", or --data for --checkpoint" if args.checkpoints else ""))
    served = args.model is not None and args.model.startswith(URLS)
    known = SERVED if served else tuple(ENGINES)
    if args.engine not in known:
        hint = "" if served else "; serve the folder and pass --model http://HOST:PORT/v1 for any other"
        name = args.model or "a checkpoint"
        raise InputError(f"--engine of {name} is {', '.join(known)}; not {args.engine!r}{hint}")
    if served and (args.replicas, args.gpus) != (1, 1):
        raise InputError("--replicas and --gpus need a checkpoint's folder; a server has its own number of both")
    of_urls = {
        "--model-id": args.model_id,
        "--api-key-env": args.api_key_env,
        "--request": args.request != "{}",
        "--trained": args.trained,
    }
    if not served:
        refuse_endpoint_options(of_urls, "a model behind a URL")
    return served


def _folders(args: EvalOptions) -> dict[str, Path]:
    """Returns the folder of each checkpoint by its name in results.json; none for a URL."""
    if args.checkpoints:
        return {str(name): folder for name, folder in options.read_checkpoints(args.checkpoints).items()}
    return {} if str(args.model).startswith(URLS) else {MODEL: Path(str(args.model))}


def _served(args: EvalOptions, config: RolloutConfig) -> tuple[list[ModelRun], _Opener]:
    served = read_endpoint(str(args.model), args.model_id, args.api_key_env, args.request, args.trained, config)
    setup = setup_of(
        model_used(served.endpoint.model, served.endpoint.url),
        args.engine,
        served.config,
        served.own,
        seed=args.seed,
        temperature=args.temperature,
        k=args.k,
        request=served.endpoint.request,
    )
    return [ModelRun(name=MODEL, setup=setup, config=served.config)], served.opener(args.temperature)


def _checkpoints(args: EvalOptions, folders: dict[str, Path], config: RolloutConfig) -> tuple[list[ModelRun], _Opener]:
    opener = open_checkpoints(
        list(folders.values()),
        args.engine,
        config,
        seed=args.seed,
        temperature=args.temperature,
        replicas=args.replicas,
        gpus=args.gpus,
    )
    own = {folder: checkpoint_settings(config.settings, folder) for folder in folders.values()}
    print_notes(own)
    models = []
    for name, folder in folders.items():
        used, ours = model_used(str(folder)), with_checkpoint(config, own[folder])
        setup = setup_of(used, args.engine, ours, own[folder], seed=args.seed, temperature=args.temperature, k=args.k)
        rows = "eval/{suite}_{mode}.jsonl" if name == MODEL else f"eval/{name}_{{part}}{{mode}}.jsonl"
        models.append(ModelRun(name=name, setup=setup, config=ours, checkpoint=folder, records=rows))
    return models, opener
