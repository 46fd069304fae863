"""How does a model do on rows? Plays each as in training, scores it, keeps the record; goes on where it was stopped."""

import asyncio
import hashlib
import logging
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from codevision_ext.config import Settings, system_prompt
from codevision_ext.errors import InfraError, InputError, first_line
from codevision_ext.evaluate.metrics import COLUMNS
from codevision_ext.io.atomic_files import write_whole
from codevision_ext.io.records import Record, RecordWriter, decode_record, encode_record
from codevision_ext.monitor.rollout_metrics import rollout_numbers
from codevision_ext.rollout.code_tool import CodeTool
from codevision_ext.rollout.loop import Policy, Renderer, Trajectory, run_rollout
from codevision_ext.rollout.token_buffer import RolloutLimits
from codevision_ext.sandbox.settings import ToolSettings
from codevision_ext.scoring import SuiteScore, score_rollouts, with_images
from codevision_ext.task.item import Item, read_item
from codevision_ext.task.rows import check_columns, read_prompt, split_prompt

logger = logging.getLogger(__name__)

CONCURRENCY = 128
"""Rollouts under way at the same time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutConfig:
    """How rollouts are played."""

    settings: Settings
    limits: RolloutLimits
    context: int
    """Tokens of a prompt and its response, at most."""
    tool: ToolSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalItem:
    """One row to evaluate; its images stay encoded until it is played."""

    name: str
    """Unique among the cases of a file."""
    item: Item
    row: dict[str, Any]
    raw: Mapping[str, Any] = field(default_factory=dict)
    """The record as its file has it, for what a benchmark's rule asks for beside the row."""
    reference: bytes | None = None
    """The image that a drawing is compared with, as a file."""
    picture_id: str = ""
    turns: int | None = None
    """Assistant turns that the benchmark allows; None: as many as the evaluation does."""


Scorer = Callable[[EvalItem, Trajectory, Settings], SuiteScore]
"""A benchmark's own rule; may wait for a judge. Raises nothing: an undecided item is a `SuiteScore` without a score."""


def read_cases(path: Path, limit: int | None = None) -> list[EvalItem]:
    """The rows of a parquet file in the CodeVision-RL schema, each checked, at most `limit` a column.

    Raises:
        InputError: the file can't be read, lacks a field, or has a row that can't be evaluated; names file and row.
    """
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path}: can't be read as parquet: {first_line(error)}") from error
    check_columns(table.column_names, str(path))
    cases: list[EvalItem] = []
    taken: Counter[str] = Counter()
    for number, row in enumerate(table.to_pylist()):
        where = f"{path}, row {number}"
        column = (row["extra_info"] or {}).get("column")
        if column not in COLUMNS:
            raise InputError(f"{where}: extra_info.column is {column!r}, none of {', '.join(COLUMNS)}")
        if limit is not None and taken[column] >= limit:
            continue
        taken[column] += 1
        _, images = split_prompt(read_prompt(row, where), "")
        try:
            item = read_item(row, images[0].size if images else (0, 0))
        except InputError as error:
            raise InputError(f"{where}: {error}") from None
        cases.append(EvalItem(name=f"{item.id}-{column}-{number}", item=item, row=row))
    absent = [column for column in COLUMNS if not taken[column]]
    if absent:
        raise InputError(f"{path}: no row of column {absent[0]}; every column needs one")
    return cases


def rollout_seed(seed: int, case: str, number: int) -> int:
    """The seed of one rollout, in [0, 2**63); the same for every checkpoint and mode."""
    return int.from_bytes(hashlib.sha256(f"{seed} {number} {case}".encode()).digest()[:8]) >> 1


async def evaluate(
    cases: Sequence[EvalItem],
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
    mark_of: Callable[[EvalItem], Scorer | None] = lambda _: None,
    resume: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> list[Record]:
    """Plays every case `rollouts` times; afterwards `out` has the records in the order of the cases.

    Args:
        cases: What to play.
        policy: The engine, given the seed of a rollout.
        renderer: The model family's tokens; None: each policy is its own renderer (`chat.Dialogue`).
        tool: Runs the calls; None: the model has no tool, and the system prompt doesn't speak of one.
        limits: What a rollout may use up.
        settings: The plugin's settings, the reward among them.
        out: Where images and records go.
        rollouts: How often each case is played; its rollouts are a group.
        seed: Of the evaluation; every rollout gets its own, made of this, its row and its number.
        concurrency: Rollouts under way at the same time.
        retries: How often a rollout that broke under us is played again.
        mark_of: The rule that marks a case; None: the rules and the judge of training.
        resume: Whether a case is kept as soon as it is played, with `rollout_numbers`, and cases that `out` has already
            aren't played again, unless a rollout of theirs broke. Else the records replace an earlier evaluation's.
        progress: Called with the number of cases played and of all cases.

    Raises:
        InfraError: more than `settings.invalid_limit` of the rollouts broke under us; without `resume` nothing is
            written.
        InputError: `out` has records of another kind; names file and line.
    """
    system = system_prompt(settings, tools=tool is not None)
    slots = asyncio.Semaphore(concurrency)
    faults: list[InfraError] = []
    known = await asyncio.to_thread(finished, out.path, rollouts) if resume else {}
    done = sum(case.name in known for case in cases)

    async def attempt(case: EvalItem, number: int) -> Trajectory:
        prompt = await asyncio.to_thread(read_prompt, case.row, case.name)
        messages, images = split_prompt(prompt, system)
        own = policy(rollout_seed(seed, case.name, number))
        return await run_rollout(
            messages,
            images,
            policy=own,
            renderer=renderer or own,  # type: ignore[arg-type]  # a policy without a renderer beside it is one
            tool=tool,
            limits=limits if case.turns is None else _fewer_turns(limits, case.turns),
            coordinates=settings.coordinates,
        )

    async def once(case: EvalItem, number: int) -> tuple[Trajectory | None, float]:
        async with slots:
            for left in range(retries, -1, -1):
                start = time.monotonic()
                try:
                    return await attempt(case, number), time.monotonic() - start
                except InfraError as error:
                    if left:
                        logger.info("a rollout of %s is played again: %s", case.name, error)
                        continue
                    faults.append(error)
                    logger.warning("a rollout of %s is invalid: %s", case.name, error)
                    if len(faults) > settings.invalid_limit * rollouts * len(cases):
                        many = f"{len(faults)} rollouts broke, more than codevision.invalid_limit allows"
                        raise InfraError(f"{many}; the last: {error}") from error
        return None, 0.0

    def keep(case: EvalItem, played: Sequence[tuple[Trajectory | None, float]]) -> list[Record]:
        trajectories = [trajectory for trajectory, _ in played]
        mark = mark_of(case)
        marks = [mark(case, each, settings) if each else None for each in trajectories] if mark else None
        fields = {"split": "test", "seed": seed, "picture_id": case.picture_id}
        records = score_rollouts(case.item, case.name, trajectories, settings, marks, **fields)
        records = [with_images(record, each, out) for record, each in zip(records, trajectories, strict=True)]
        if not resume:
            return records
        points = [float(record.observed.correct) for record in records]
        if marks:
            points = [marked.score or 0.0 if marked else 0.0 for marked in marks]
        records = [
            replace(record, numbers=_numbers(record, trajectory, settings) | {"score": point, "seconds": seconds})
            for record, point, (trajectory, seconds) in zip(records, points, played, strict=True)
        ]
        out.write(*records)
        return records

    async def group(case: EvalItem) -> list[Record]:
        nonlocal done
        played = await asyncio.gather(*[once(case, number) for number in range(rollouts)])
        kept = await asyncio.to_thread(keep, case, played)
        done += 1
        if progress:
            progress(done, len(cases))
        return kept

    if progress and done:
        progress(done, len(cases))
    try:
        async with asyncio.TaskGroup() as tasks:
            running = {case.name: tasks.create_task(group(case)) for case in cases if case.name not in known}
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    records = [
        record for case in cases for record in (known[case.name] if case.name in known else running[case.name].result())
    ]
    if running or not resume:
        write_whole(out.path, b"".join(map(encode_record, records)))
    return records


def _fewer_turns(limits: RolloutLimits, turns: int) -> RolloutLimits:
    return replace(limits, assistant_turns=min(turns, limits.assistant_turns))


def finished(path: Path, rollouts: int) -> dict[str, list[Record]]:
    """The groups in a file of records that are complete and valid; the later of two counts.

    A line that a killed process left unfinished counts as not there.
    """
    groups: defaultdict[str, dict[str, Record]] = defaultdict(dict)
    if path.exists():
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.endswith(b"\n"):
                    record = decode_record(line, f"{path}, line {number}")
                    groups[record.group][record.id] = record
    return {
        name: list(found.values())
        for name, found in groups.items()
        if len(found) == rollouts and all(record.observed.valid for record in found.values())
    }


def _numbers(record: Record, trajectory: Trajectory | None, settings: Settings) -> dict[str, float]:
    """What is measured of a rollout beside its score: as training logs it, and what the engine had to do."""
    token_buffer = trajectory.token_buffer if trajectory else None
    return {
        name: value for name, value in rollout_numbers(record, trajectory, settings).items() if name[:5] != "term_"
    } | {
        "prompt_tokens": float(len(token_buffer.prompt_ids)) if token_buffer else 0.0,
        "sampled_tokens": float(sum(token_buffer.response_mask)) if token_buffer else 0.0,
    }
