"""Measures checkpoints on a real engine: the stages behind `codevision eval`."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from codevision_ext.engines.base import Engine, EngineConfig
from codevision_ext.engines.registry import ENGINES, check_config
from codevision_ext.errors import InputError
from codevision_ext.evaluate.command import read_modes, versions
from codevision_ext.evaluate.metrics import (
    CHECKPOINTS,
    TRANSFORMED,
    Checkpoint,
    Column,
    Score,
    ToolMode,
    by_column,
    merge_results,
    read_results,
)
from codevision_ext.evaluate.recipe_rules import read_recipe_rules
from codevision_ext.evaluate.run import EvalItem, RolloutConfig, evaluate, read_cases
from codevision_ext.io.progress import Stages
from codevision_ext.io.records import Record, RecordWriter
from codevision_ext.models.checkpoint import check_alike
from codevision_ext.rollout.code_tool import CodeTool
from codevision_ext.sandbox.backend import Backend
from codevision_ext.sandbox.ray_pool import open_sandbox


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalRun:
    """One checkpoint that plays every case once, with the tool or without."""

    name: str
    """As progress shows it."""
    checkpoint: Path
    mode: ToolMode
    seed: int
    """Of the sampling; see `engine.Engine` for what it can't promise."""
    records: Path
    """File that its records go to, FOLDER/NAME.jsonl; images beside it."""


def evaluate_checkpoints(
    checkpoints: Sequence[str],
    data: Path,
    out: Path,
    *,
    recipe: Path,
    tools: str = "on,off",
    temperature: float = 1.0,
    seed: int = 0,
    limit: int | None = None,
    engine: str = "sglang",
    replicas: int = 1,
    gpus: int = 1,
) -> Path:
    """Plays every row of `data` with every checkpoint, and puts the scores into OUT/results.json, which it gives.

    OUT/eval/NAME_MODE.jsonl is written as soon as that checkpoint and mode are done, results.json at the end.

    Args:
        checkpoints: `NAME=FOLDER`, all of one architecture and tokenizer.
        data: Rows of the transformed benchmark.
        out: Folder of the run; made where it is missing.
        recipe: Training config, see `recipe.read_rules`.
        tools: Modes by their names in `command.MODES`, separated by commas.
        temperature: Of the sampling; 0: greedy.
        seed: Of the sampling; see `engine.Engine` for what it can't promise.
        limit: Rows of each column at most.
        engine: One of `players.ENGINES`.
        replicas: As `players.Wanted` has it.
        gpus: As `players.Wanted` has it.

    Raises:
        InputError: an argument, a file or a row is wrong; nothing is written.
        InfraError: the engine or the sandbox broke.
    """
    folders = _read_checkpoints(checkpoints)
    modes = read_modes(tools)
    rules = read_recipe_rules(recipe)
    cases = read_cases(data, limit)
    path = out / "results.json"
    if path.exists():
        read_results(path)  # a file that can't be merged is said before the work, not behind it
    sittings = [
        EvalRun(
            name=f"{name} {mode}",
            checkpoint=folder,
            mode=mode,
            seed=seed,
            records=out / "eval" / f"{name}_{mode}.jsonl",
        )
        for name, folder in folders.items()
        for mode in modes
    ]
    played = iter(
        play_checkpoint(sittings, cases, rules, engine=engine, replicas=replicas, gpus=gpus, temperature=temperature)
    )
    scores = {name: {mode: by_column(next(played)) for mode in modes} for name in folders}
    merge_results(path, scores, seed, versions())
    return path


def play_checkpoint(
    sittings: Sequence[EvalRun],
    cases: Sequence[EvalItem],
    rules: RolloutConfig,
    *,
    engine: str = "sglang",
    replicas: int = 1,
    gpus: int = 1,
    temperature: float = 1.0,
    resume: bool = False,
) -> list[list[Record]]:
    """Plays them in turn in one engine; each one's records are written as soon as it is done, and given in order.

    Args:
        sittings: One at least, their checkpoints of one architecture and tokenizer.
        cases: Rows of the transformed benchmark.
        rules: How they are played.
        engine: One of `players.ENGINES`.
        replicas: As `players.Wanted` has it.
        gpus: As `players.Wanted` has it.
        temperature: Of the sampling; 0: greedy.
        resume: As `evaluate` has it.

    Raises:
        InputError: the engine isn't here, the checkpoints differ, or a column has no valid rollout.
        InfraError: the engine or the sandbox broke.
    """
    first = sittings[0]
    wanted = EngineConfig(
        checkpoint=first.checkpoint, context=rules.context, seed=first.seed, replicas=replicas, gpus=gpus
    )
    check_config(engine, wanted)
    for sitting in sittings:
        check_alike(first.checkpoint, sitting.checkpoint)

    async def play_all(player: Engine, sandbox: Backend, stages: Stages) -> list[list[Record]]:
        tool = CodeTool(sandbox, rules.tool.max_text_chars, rules.tool.keep_variables)
        played, loaded = [], None
        for sitting in sittings:
            stages.start(sitting.name)
            if sitting.checkpoint != loaded:
                await player.load(sitting.checkpoint)
                loaded = sitting.checkpoint
            records = await evaluate(
                cases,
                policy=lambda seed: player.policy(seed, temperature=temperature),
                renderer=player.renderer,
                tool=tool if sitting.mode == "tool_on" else None,
                limits=rules.limits,
                settings=rules.settings,
                out=RecordWriter(sitting.records.parent, sitting.records.stem),
                seed=sitting.seed,
                resume=resume,
                progress=stages.advance,
            )
            played.append(records)
            stages.done(_note(by_column(records)))
        return played

    with Stages(["engine", *[sitting.name for sitting in sittings]]) as stages:
        stages.start("engine")
        with (
            open_sandbox(rules.tool) as sandbox,
            ENGINES[engine](wanted) as player,
        ):
            return asyncio.run(play_all(player, sandbox, stages))


def _note(scores: Mapping[Column, Score]) -> str:
    turned = Score.mean(scores[column] for column in TRANSFORMED)
    return f"source {scores['source'].accuracy:.0%}, transformed {turned.accuracy:.0%}"


def _read_checkpoints(arguments: Sequence[str]) -> dict[Checkpoint, Path]:
    """Folder of each checkpoint, in the order given."""
    folders: dict[Checkpoint, Path] = {}
    for argument in arguments:
        given, _, folder = argument.partition("=")
        name = next((known for known in CHECKPOINTS if known == given), None)
        if name is None or not folder:
            raise InputError(f"--checkpoint {argument}: must be NAME=FOLDER, NAME one of {', '.join(CHECKPOINTS)}")
        if name in folders:
            raise InputError(f"--checkpoint {argument}: {name} is given twice")
        folders[name] = Path(folder)
    return folders
