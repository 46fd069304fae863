"""Evaluates one model on the items of one suite, and records the scored rollouts; continues a stopped run."""

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from codevision_ext.config import Settings, system_prompt, tool_schemas
from codevision_ext.errors import InfraError
from codevision_ext.io.atomic_files import write_whole
from codevision_ext.io.records import Record, RecordWriter, decode_record, encode_record
from codevision_ext.monitor.rollout_metrics import rollout_numbers
from codevision_ext.rollout.code_tool import CodeTool
from codevision_ext.rollout.dialects.registry import DIALECTS
from codevision_ext.rollout.first_code import run_first_code
from codevision_ext.rollout.loop import Policy, Renderer, Trajectory, Watch, run_rollout
from codevision_ext.rollout.seeds import seed_of
from codevision_ext.rollout.token_buffer import RolloutLimits
from codevision_ext.sandbox.settings import ToolSettings
from codevision_ext.scoring import SuiteScore, score_rollouts, with_images
from codevision_ext.task.item import Item
from codevision_ext.task.rows import read_prompt, split_prompt

logger = logging.getLogger(__name__)

CONCURRENCY = 128
"""Number of rollouts that run at the same time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutConfig:
    """Settings and limits of the rollouts of an evaluation."""

    settings: Settings
    limits: RolloutLimits
    context: int
    """Maximum tokens of a prompt and its response."""
    tool: ToolSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalItem:
    """Row to evaluate; its images stay encoded until its rollouts start."""

    name: str
    """Name of the item's group of rollouts, unique in a suite."""
    item: Item
    row: dict[str, Any]
    """Row in the CodeVision-RL schema."""
    raw: Mapping[str, Any] = field(default_factory=dict)
    """Record of the benchmark's own file, for its scoring rule."""
    reference: bytes | None = None
    """Encoded image that a drawing is compared with."""
    picture_id: str = ""
    """Id shared by all rows made from one image; empty if unknown."""
    turns: int | None = None
    """Maximum assistant turns of the benchmark; None: the evaluation's limit."""
    first_code: bool = False
    """True: the first code block of a single turn is run, whatever the turn says behind it (`rollout.first_code`)."""


Scorer = Callable[[EvalItem, Trajectory, Settings], SuiteScore]
"""Scoring rule of a benchmark; may wait for a judge. The result has no score if the rule can't decide."""


def rollout_seed(seed: int, item: str, number: int) -> int:
    """Returns the seed of one rollout, in [0, 2**63); it doesn't depend on checkpoint and mode."""
    return seed_of(seed, number, item)


async def run_prompt(
    prompt: Sequence[Mapping[str, Any]],
    system: str,
    *,
    policy: Policy,
    renderer: Renderer | None,
    tool: CodeTool | None,
    limits: RolloutLimits,
    settings: Settings,
    watch: Watch | None = None,
) -> Trajectory:
    """Runs one rollout on a prompt; evaluations and `codevision serve` both call this function.

    Args:
        prompt: Messages whose image parts have their images, as `read_prompt` returns them.
        system: System message of a prompt that brings none; empty for none.
        policy: Policy of the rollout.
        renderer: Renderer of the model family; None: the policy is its own renderer (`Dialogue`).
        tool: Tool that runs the calls; None: the model has no tool.
        limits: Limits of the rollout.
        settings: Settings of the plugin.
        watch: Function that gets each message as soon as it exists.

    Raises:
        InfraError: the engine or the sandbox broke.
        InputError: the prompt can't be rendered.
    """
    messages, images = split_prompt(prompt, system)
    return await run_rollout(
        messages,
        images,
        policy=policy,
        renderer=_renderer(policy, renderer),
        tool=tool,
        limits=limits,
        coordinates=settings.coordinates,
        schemas=tool_schemas(settings),
        dialect=DIALECTS[settings.dialect],
        think_prefix=settings.think_prefix,
        watch=watch,
    )


def _renderer(policy: Policy, renderer: Renderer | None) -> Renderer:
    return renderer or policy  # type: ignore[return-value]  # a policy without a renderer beside it is one


async def evaluate(
    items: Sequence[EvalItem],
    *,
    policy: Callable[[int], Policy],
    renderer: Renderer | None,
    tool: CodeTool | None,
    limits: RolloutLimits,
    settings: Settings,
    out: RecordWriter,
    rollouts: int = 1,
    seed: int = 0,
    concurrency: int = CONCURRENCY,
    retries: int = 0,
    scorer_of: Callable[[EvalItem], Scorer | None] = lambda _: None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Record]:
    """Runs `rollouts` rollouts of every item, and returns their records in the order of the items.

    The records of an item are written when its rollouts are finished. Items with valid records in `out` aren't run
    again. At the end the file has the order of the items.

    Args:
        items: Items to evaluate.
        policy: Returns the engine's policy for the seed of a rollout.
        renderer: Renderer of the model family; None: each policy is its own renderer (`Dialogue`).
        tool: Tool that runs the calls; None: the model has no tool, and the system prompt doesn't mention one.
        limits: Limits of a rollout.
        settings: Settings of the plugin, including the reward.
        out: Destination of images and records.
        rollouts: Number of rollouts per item, which form a group.
        seed: Seed of the evaluation; `rollout_seed` derives the seeds of rollouts.
        concurrency: Number of rollouts that run at the same time.
        retries: Number of times that a rollout is repeated after an engine or sandbox failure.
        scorer_of: Returns the scoring rule of an item; None: the rules and the judge of training.
        progress: Called with the number of finished items and the number of all items.

    Raises:
        InfraError: the share of invalid rollouts exceeds `settings.invalid_limit`; finished records are kept.
        InputError: a line of `out` isn't a record; names file and line.
    """
    system = system_prompt(settings, tools=tool is not None)
    slots = asyncio.Semaphore(concurrency)
    failures: list[InfraError] = []
    known = await asyncio.to_thread(finished, out.path, rollouts)
    done = sum(each.name in known for each in items)

    async def attempt(each: EvalItem, number: int) -> Trajectory:
        prompt = await asyncio.to_thread(read_prompt, each.row, each.name)
        own = policy(rollout_seed(seed, each.name, number))
        most = 1 if each.first_code else each.turns or limits.assistant_turns
        own_limits = replace(limits, assistant_turns=min(most, limits.assistant_turns))
        trajectory = await run_prompt(
            prompt, system, policy=own, renderer=renderer, tool=tool, limits=own_limits, settings=settings
        )
        if each.first_code and tool is not None:
            return await run_first_code(trajectory, tool, _renderer(own, renderer).resize, settings.coordinates)
        return trajectory

    async def once(each: EvalItem, number: int) -> tuple[Trajectory | None, float]:
        async with slots:
            for left in range(retries, -1, -1):
                start = time.monotonic()
                try:
                    return await attempt(each, number), time.monotonic() - start
                except InfraError as error:
                    if left:
                        logger.info("a rollout of %s is repeated: %s", each.name, error)
                        continue
                    failures.append(error)
                    logger.warning("a rollout of %s is invalid: %s", each.name, error)
                    if len(failures) > settings.invalid_limit * rollouts * len(items):
                        message = f"{len(failures)} rollouts broke, more than codevision.invalid_limit allows"
                        raise InfraError(f"{message}; the last: {error}") from error
        return None, 0.0

    def keep(each: EvalItem, results: Sequence[tuple[Trajectory | None, float]]) -> list[Record]:
        trajectories = [trajectory for trajectory, _ in results]
        scorer = scorer_of(each)
        own = [scorer(each, trajectory, settings) if scorer and trajectory else None for trajectory in trajectories]
        fields = {"split": "test", "seed": seed, "picture_id": each.picture_id}
        records = score_rollouts(each.item, each.name, trajectories, settings, own if scorer else None, **fields)
        records = [
            with_images(record, trajectory, out) for record, trajectory in zip(records, trajectories, strict=True)
        ]
        shares = [record.observed.answer_share for record in records]
        scores = [
            float(record.observed.correct) if share is None else share
            for record, share in zip(records, shares, strict=True)
        ]
        if scorer:
            scores = [result.score or 0.0 if result else 0.0 for result in own]
        records = [
            replace(
                record,
                numbers=record_numbers(record, trajectory, settings)
                | {"score": score, "seconds": seconds}
                | (result.numbers if result else {}),
            )
            for record, score, result, (trajectory, seconds) in zip(records, scores, own, results, strict=True)
        ]
        out.write(*records)
        return records

    async def group(each: EvalItem) -> list[Record]:
        nonlocal done
        results = await asyncio.gather(*[once(each, number) for number in range(rollouts)])
        records = await asyncio.to_thread(keep, each, results)
        done += 1
        if progress:
            progress(done, len(items))
        return records

    if progress and done:
        progress(done, len(items))
    try:
        async with asyncio.TaskGroup() as tasks:
            running = {each.name: tasks.create_task(group(each)) for each in items if each.name not in known}
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    groups = known | {name: task.result() for name, task in running.items()}
    records = [record for each in items for record in groups[each.name]]
    if running:
        write_whole(out.path, b"".join(map(encode_record, records)))
    return records


def finished(path: Path, rollouts: int) -> dict[str, list[Record]]:
    """Returns the complete and valid groups of a record file by name; a rollout's later record replaces an earlier one.

    An unfinished last line of a killed process is ignored.
    """
    groups: defaultdict[str, dict[str, Record]] = defaultdict(dict)
    if path.exists():
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.endswith(b"\n"):
                    record = decode_record(line, f"{path}, line {number}")
                    groups[record.group][record.id] = record
    return {
        name: list(records.values())
        for name, records in groups.items()
        if len(records) == rollouts and all(record.observed.valid for record in records.values())
    }


def record_numbers(record: Record, trajectory: Trajectory | None, settings: Settings) -> dict[str, float]:
    """Returns the numbers that training logs for a rollout, without reward terms, and token counts."""
    tokens = trajectory.token_buffer if trajectory else None
    return {
        name: value
        for name, value in rollout_numbers(record, trajectory, settings).items()
        if not name.startswith("term_")
    } | {
        "prompt_tokens": float(len(tokens.prompt_ids)) if tokens else 0.0,
        "sampled_tokens": float(sum(tokens.response_mask)) if tokens else 0.0,
    }
