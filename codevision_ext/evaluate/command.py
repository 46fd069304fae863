"""Evaluates models on suites, one after the other in one engine.

OUT/setup.json                setup of each model; results under another setup are refused or replaced
OUT/eval/SUITE_MODE.jsonl     one record per rollout, written when it finishes; NAME_MODE.jsonl for a named checkpoint
OUT/results.json              accuracies with their intervals, and setup of each model
"""

import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from rich.console import Console

from codevision_ext.engines.base import EngineConfig, LoadedModel
from codevision_ext.engines.endpoint import Dialogue
from codevision_ext.engines.registry import check_config, open_model
from codevision_ext.errors import InputError
from codevision_ext.evaluate.metrics import TOOL_MODES, ToolMode
from codevision_ext.evaluate.results import (
    MODEL,
    Evaluation,
    ModelResult,
    ModeResult,
    SuiteResult,
    write_evaluation,
)
from codevision_ext.evaluate.run import CONCURRENCY, EvalItem, RolloutConfig, evaluate, finished
from codevision_ext.evaluate.setup import ModelRun, start_evaluation
from codevision_ext.evaluate.suites.base import Suite
from codevision_ext.evaluate.summary import differences, summarise_suite
from codevision_ext.io.chat_client import ChatClient, Endpoint
from codevision_ext.io.progress import Stages
from codevision_ext.io.records import Record, RecordWriter, read_records
from codevision_ext.io.stopping import run_stoppable
from codevision_ext.judge.shared import close_judges
from codevision_ext.models.checkpoint_settings import checkpoint_settings
from codevision_ext.rollout.code_tool import CodeTool
from codevision_ext.rollout.dialects.registry import DIALECTS
from codevision_ext.rollout.loop import Policy
from codevision_ext.sandbox.backend import Backend
from codevision_ext.sandbox.settings import open_sandbox

MODES: Final[dict[str, ToolMode]] = {"on": "tool_on", "off": "tool_off"}


@contextmanager
def open_chat(endpoint: Endpoint, temperature: float, stop: Sequence[str] = ()) -> Iterator[LoadedModel]:
    """Opens a model behind an endpoint; not every server samples by the seed.

    `stop` are the texts at which a turn ends.

    Raises:
        InputError: the environment variable of the key isn't set.
    """
    client = ChatClient(endpoint)

    def policy(seed: int, *, temperature: float = temperature) -> Dialogue:
        return Dialogue(client, {"seed": seed % 2**31, "temperature": temperature}, stop)

    yield LoadedModel(policy=policy, renderer=None, close=client.close)


def open_checkpoints(
    folders: Sequence[Path],
    engine: str,
    config: RolloutConfig,
    *,
    seed: int,
    temperature: float = 1.0,
    replicas: int = 1,
    gpus: int = 1,
) -> Callable[[], AbstractContextManager[LoadedModel]]:
    """Checks the checkpoints and returns a function that opens their engine; call `use_cpu_if_no_cuda` first.

    Raises:
        InputError: the engine isn't installed, the checkpoints differ in architecture or tokenizer, or a
            codevision.json can't be read.
    """
    from codevision_ext.models.checkpoint import check_alike  # noqa: PLC0415  it imports transformers

    names = [checkpoint_settings(config.settings, folder).settings.dialect for folder in folders]
    engine_config = EngineConfig(
        checkpoint=folders[0],
        context=config.context,
        seed=seed,
        temperature=temperature,
        replicas=replicas,
        gpus=gpus,
        stop=tuple(dict.fromkeys(text for name in names for text in DIALECTS[name].stop)),
    )
    check_config(engine, engine_config)
    for folder in folders[1:]:
        check_alike(folders[0], folder)
    return partial(open_model, engine, engine_config)


def _unused_policy(_: int, *, temperature: float = 1.0) -> Policy:  # noqa: ARG001
    raise AssertionError("every rollout was finished before")


_NO_MODEL: Final = LoadedModel(policy=_unused_policy, renderer=None)
"""Model of an evaluation whose rollouts are all finished."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteRun:
    """A suite and its items."""

    suite: Suite
    data: str
    """File or folder of the items; empty if the items were generated."""
    items: Sequence[EvalItem]
    rejected: Sequence[str] = ()
    """One sentence for each item that can't be used and was left out."""
    notes: Sequence[str] = ()
    """Sentences about unread columns, and about answers that look like lists."""

    def sha256(self) -> str:
        """Returns the hash of the items, images included."""
        digest = hashlib.sha256()
        for each in self.items:
            for image in each.row["images"]:
                digest.update(hashlib.sha256(image["bytes"]).digest())
            digest.update(hashlib.sha256(each.reference or b"").digest())
            values = [each.name, each.row["prompt"], each.item.references, each.item.task.applied, each.item.column]
            digest.update(json.dumps(values, sort_keys=True).encode())
        return digest.hexdigest()


def read_modes(tools: str) -> list[ToolMode]:
    """Reads `on`, `off` or `on,off` as modes.

    Raises:
        InputError: a word is neither `on` nor `off`.
    """
    words = [word.strip() for word in tools.split(",")]
    unknown = [word for word in words if word not in MODES]
    if unknown:
        raise InputError(f"--tools {tools}: {unknown[0]!r} is neither on nor off")
    return [mode for word, mode in MODES.items() if word in words]


def run_evaluation(
    models: Sequence[ModelRun],
    suites: Sequence[SuiteRun],
    out: Path,
    *,
    modes: Sequence[ToolMode],
    engine: Callable[[], AbstractContextManager[LoadedModel]],
    concurrency: int = CONCURRENCY,
    retries: int = 0,
    replace: bool = False,
) -> Evaluation:
    """Evaluates every model on every suite, and adds the results to results.json.

    Finished rollouts of an earlier run under the same setup are reused.

    Args:
        models: Models of one architecture and tokenizer, with the same tool settings; their weights are loaded one
            after the other.
        suites: Suites with their items.
        out: Folder of the evaluation; created if missing.
        modes: Modes of each suite: with the tool, without the tool, or both.
        engine: Function that opens the engine; not called if every rollout is finished.
        concurrency: Number of rollouts that run at the same time.
        retries: Number of times that a rollout is repeated after an engine or sandbox failure.
        replace: Whether to replace results of these models under another setup.

    Raises:
        InputError: `out` has results of a model under another setup, a file in `out` can't be read, or a suite needs a
            judge and none is set.
        InfraError: the engine or the sandbox broke, or too many rollouts are invalid; finished rollouts are kept.
    """
    for each in suites:
        _check_protocol(each.suite, models, modes)
    for each in suites:
        sys.stderr.writelines(f"codevision: suite {each.suite.name}: {note}\n" for note in each.notes)
        if each.rejected:
            share = f"{len(each.rejected):,} of {len(each.rejected) + len(each.items):,} items"
            message = f"{share} can't be used and are left out of all accuracies; the first: {each.rejected[0]}"
            sys.stderr.write(f"codevision: suite {each.suite.name}: {message}\n")
    hashes = {each.suite.name: each.sha256() for each in suites}
    earlier = start_evaluation(out, models, hashes, force=replace)
    parts = {_title(model, each, mode): (model, each, mode) for model in models for each in suites for mode in modes}
    unfinished = {
        title: mode
        for title, (model, each, mode) in parts.items()
        if {item.name for item in each.items} - finished(out / model.rows(each.suite.name, mode), model.setup.k).keys()
    }
    results: dict[str, dict[str, dict[ToolMode, ModeResult]]] = {
        model.name: {each.suite.name: {} for each in suites} for model in models
    }

    async def run_suites(opened: LoadedModel, sandbox: Backend | None, stages: Stages) -> None:
        loaded = None
        try:
            for title, (model, each, mode) in parts.items():
                stages.start(title)
                config = model.config
                tool = CodeTool.of(sandbox, config.tool) if sandbox else None
                if title in unfinished and model.checkpoint and model.checkpoint != loaded:
                    await opened.load(model.checkpoint)
                    loaded = model.checkpoint
                path = out / model.rows(each.suite.name, mode)
                records = await evaluate(
                    each.items,
                    policy=opened.policy,
                    renderer=opened.renderer,
                    tool=tool if mode == "tool_on" else None,
                    limits=config.limits,
                    settings=config.settings,
                    out=RecordWriter(path.parent, path.stem),
                    rollouts=model.setup.k,
                    seed=model.setup.seed,
                    concurrency=concurrency,
                    retries=retries,
                    scorer_of=each.suite.scorer_of,
                    progress=stages.advance,
                )
                result = summarise_suite(each.suite, records, model.setup.k, model.rows(each.suite.name, mode))
                results[model.name][each.suite.name][mode] = result
                score = result.overall.score
                stages.done(f"{score.readings} % ({score.interval})")
        finally:
            await opened.close()

    with Stages(["engine", *parts], console=Console(stderr=True)) as stages:
        stages.start("engine")
        with (
            open_sandbox(models[0].config.tool) if "tool_on" in unfinished.values() else nullcontext() as sandbox,
            engine() if unfinished else nullcontext(_NO_MODEL) as opened,
        ):
            try:
                run_stoppable(run_suites(opened, sandbox, stages))
            finally:
                close_judges()
    measured = dict(earlier.models) if earlier else {}
    for model in models:
        before = measured[model.name].suites if model.name in measured else {}
        own = {
            each.suite.name: _suite_result(
                each, hashes[each.suite.name], results[model.name][each.suite.name], before, model.setup.seed, out
            )
            for each in suites
        }
        measured[model.name] = ModelResult(setup=model.setup, suites={**before, **own})
    evaluation = Evaluation(models=measured, costs=earlier.costs if earlier else None)
    write_evaluation(out / "results.json", evaluation)
    return evaluation


def _check_protocol(suite: Suite, models: Sequence[ModelRun], modes: Sequence[ToolMode]) -> None:
    """Checks that the options are those that the suite's protocol needs.

    Raises:
        InputError: there is no judge, the prompts of its judge are missing, or the generations wouldn't be greedy.
    """
    for model in models:
        judge = model.config.settings.judge
        if suite.judged and judge is None:
            raise InputError(f"suite {suite.name}: needs a judge; --set judge.base_url=URL --set judge.model=ID")
        if suite.published_prompts and (judge is None or judge.published_prompts is None):
            raise InputError(
                f"suite {suite.name}: needs the prompts that the benchmark published for its judge, which this package"
                " doesn't contain; --set judge.published_prompts=FOLDER (docs/evaluation.md)"
            )
        if suite.greedy and (model.setup.temperature, model.setup.k, list(modes)) != (0, 1, ["tool_on"]):
            raise InputError(
                f"suite {suite.name}: its protocol is one greedy generation per item, with the tool; give"
                " --temperature 0 --tools on, and leave out -k"
            )


def _title(model: ModelRun, run: SuiteRun, mode: ToolMode) -> str:
    words = [run.suite.name, *mode.split("_")]
    return " ".join(words if model.name == MODEL else [model.name, *words])


def _suite_result(
    run: SuiteRun,
    sha256: str,
    results: Mapping[ToolMode, ModeResult],
    before: Mapping[str, SuiteResult],
    seed: int,
    out: Path,
) -> SuiteResult:
    """Returns the result of a suite, including the modes in `before` if they were measured on the same items."""
    name = run.suite.name
    same = name in before and before[name].sha256 == sha256
    modes = {**before[name].modes, **results} if same else dict(results)
    benefit = {}
    if len(modes) == len(TOOL_MODES):
        off, on = (_records(run, out / modes[mode].rows) for mode in ("tool_off", "tool_on"))
        benefit = differences(run.suite, off, on, seed)
    return SuiteResult(
        data=run.data,
        sha256=sha256,
        items=len(run.items),
        rejected=tuple(run.rejected),
        overall=run.suite.overall,
        modes=modes,
        benefit=benefit,
    )


def _records(run: SuiteRun, path: Path) -> list[Record]:
    names = {each.name for each in run.items}
    return [record for record in read_records(path) if record.group in names]
