"""How is one model measured from the command line? Reads the options, chooses the engine, and runs the evaluation."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from codevision_ext.engines.base import EngineConfig, LoadedModel
from codevision_ext.engines.device import use_cpu_if_no_cuda
from codevision_ext.engines.registry import ENGINES, check_config, context_of, open_model
from codevision_ext.errors import InputError
from codevision_ext.evaluate import options, recipe_rules
from codevision_ext.evaluate.command import model_used, open_chat, read_modes, run_evaluation
from codevision_ext.evaluate.run import RolloutConfig
from codevision_ext.evaluate.summary import Evaluation, ModelUsed
from codevision_ext.sandbox.backend import Backend
from codevision_ext.sandbox.settings import BackendKind, ToolSettings, open_local_or_http
from data_prep import eval_items

URLS: Final = ("http://", "https://")
SERVED: Final = ("openai", "sglang", "vllm")
"""Engines that an endpoint may stand for; all are asked in the same words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalOptions:
    """The options of `codevision eval`, which says what each means."""

    model: str
    suites: Sequence[str]
    out: Path
    engine: str = "sglang"
    model_id: str | None = None
    api_key_env: str | None = None
    request: str = "{}"
    recipe: Path | None = None
    settings: Sequence[str] = ()
    tools: str = "on,off"
    k: int = 1
    seed: int = 0
    temperature: float = 1.0
    max_turns: int | None = None
    max_tokens: int | None = None
    limit: int | None = None
    holdout: str | None = None
    images: Path | None = None
    replicas: int = 1
    gpus: int = 1
    concurrency: int = 128
    retries: int = 2
    force: bool = False


def evaluate_model(asked: EvalOptions) -> Evaluation:
    """Measures the model; OUT/results.json and the rest are as `evaluate.command` says.

    Raises:
        InputError: an option, a file or a row is wrong; no engine is started.
        InfraError: the engine or the sandbox broke; what was finished is kept.
    """
    served = asked.model.startswith(URLS)
    known = SERVED if served else tuple(ENGINES)
    if asked.engine not in known:
        hint = "" if served else "; serve the folder and pass --model http://HOST:PORT/v1 for any other"
        raise InputError(f"--engine of {asked.model} is {', '.join(known)}; not {asked.engine!r}{hint}")
    modes = read_modes(asked.tools)
    if asked.recipe or not served:
        use_cpu_if_no_cuda()  # before anything of the adapter imports verl, transformers or SGLang
    recipe = recipe_rules.read_recipe_rules(asked.recipe) if asked.recipe else None
    rules = options.read_rollout_config(
        recipe,
        asked.settings,
        turns=asked.max_turns,
        tokens=asked.max_tokens,
        context=None if served or recipe else context_of(Path(asked.model)),
    )
    model, request, open_player = (_endpoint if served else _folder)(asked, rules)
    work = options.read_work(
        asked.suites, eval_items, images=asked.images, limit=asked.limit, holdout=asked.holdout, seed=asked.seed
    )
    setup = options.setup_of(
        model, asked.engine, rules, request, k=asked.k, seed=asked.seed, temperature=asked.temperature
    )
    return run_evaluation(
        work,
        asked.out,
        setup=setup,
        rules=rules,
        modes=modes,
        open_player=open_player,
        open_sandbox=partial(_sandbox, rules.tool),
        concurrency=asked.concurrency,
        retries=asked.retries,
        force=asked.force,
    )


_Opened = tuple[ModelUsed, dict[str, Any], Callable[[], AbstractContextManager[LoadedModel]]]


def _endpoint(asked: EvalOptions, rules: RolloutConfig) -> _Opened:
    if (asked.replicas, asked.gpus) != (1, 1):
        raise InputError("--replicas and --gpus want a checkpoint's folder; a server has its own number of both")
    endpoint = options.endpoint_of(asked.model, asked.model_id, asked.api_key_env, asked.request, rules.settings)
    used = model_used(endpoint.model, endpoint.url)
    return used, dict(endpoint.request), partial(open_chat, endpoint, asked.temperature)


def _folder(asked: EvalOptions, rules: RolloutConfig) -> _Opened:
    wanted = EngineConfig(
        checkpoint=Path(asked.model),
        context=rules.context,
        seed=asked.seed,
        temperature=asked.temperature,
        replicas=asked.replicas,
        gpus=asked.gpus,
    )
    check_config(asked.engine, wanted)
    return model_used(asked.model, ""), {}, partial(open_model, asked.engine, wanted)


def _sandbox(settings: ToolSettings) -> Backend:
    if settings.backend is BackendKind.RAY:
        from codevision_ext.sandbox.ray_pool import open_sandbox  # noqa: PLC0415  Ray takes long to import

        return open_sandbox(settings)
    return open_local_or_http(settings)
