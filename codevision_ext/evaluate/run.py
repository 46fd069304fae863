"""How does a checkpoint do on a transformed benchmark? Plays every row as in training, scores it, keeps the record."""

import asyncio
import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from codevision_ext.code_tool import CodeTool
from codevision_ext.config import Settings, system_prompt
from codevision_ext.episode import EpisodeLimits
from codevision_ext.errors import InfraError, InputError
from codevision_ext.evaluate.metrics import COLUMNS
from codevision_ext.files import write_whole
from codevision_ext.records import Record, RecordWriter, encode
from codevision_ext.rollout import Codec, Policy, Trajectory, play
from codevision_ext.rows import check_columns, read_prompt, split_prompt
from codevision_ext.scoring import Item, read_item, score, with_pictures

logger = logging.getLogger(__name__)

CONCURRENCY = 128
"""Rollouts under way at the same time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One row to evaluate; its pictures stay encoded until it is played."""

    name: str
    """Unique among the cases of a file."""
    item: Item
    row: dict[str, Any]


def read_cases(path: Path, limit: int | None = None) -> list[Case]:
    """The rows of a parquet file in the CodeVision-RL schema, each checked, at most `limit` a column.

    Raises:
        InputError: the file can't be read, lacks a field, or has a row that can't be evaluated; names file and row.
    """
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path}: can't be read as parquet: {str(error).splitlines()[0]}") from error
    check_columns(table.column_names, str(path))
    cases: list[Case] = []
    taken: Counter[str] = Counter()
    for number, row in enumerate(table.to_pylist()):
        where = f"{path}, row {number}"
        column = (row["extra_info"] or {}).get("column")
        if column not in COLUMNS:
            raise InputError(f"{where}: extra_info.column is {column!r}, none of {', '.join(COLUMNS)}")
        if limit is not None and taken[column] >= limit:
            continue
        taken[column] += 1
        _, pictures = split_prompt(read_prompt(row, where), "")
        try:
            item = read_item(row, pictures[0].size if pictures else (0, 0))
        except InputError as error:
            raise InputError(f"{where}: {error}") from None
        cases.append(Case(name=f"{item.id}-{column}-{number}", item=item, row=row))
    absent = [column for column in COLUMNS if not taken[column]]
    if absent:
        raise InputError(f"{path}: no row of column {absent[0]}; every column needs one")
    return cases


def rollout_seed(seed: int, case: str, number: int) -> int:
    """The seed of one rollout, in [0, 2**63); the same for every checkpoint and mode."""
    return int.from_bytes(hashlib.sha256(f"{seed} {number} {case}".encode()).digest()[:8]) >> 1


async def evaluate(
    cases: Sequence[Case],
    *,
    policy: Callable[[int], Policy],
    codec: Codec,
    tool: CodeTool | None,
    limits: EpisodeLimits,
    settings: Settings,
    out: RecordWriter,
    rollouts: int = 1,
    seed: int = 0,
    concurrency: int = CONCURRENCY,
    progress: Callable[[int, int], None] | None = None,
) -> list[Record]:
    """Plays every case `rollouts` times and writes the records, in the order of the cases, when the last one is played.

    Args:
        cases: What to play.
        policy: The engine, given the seed of a rollout.
        codec: The model family's tokens.
        tool: Runs the calls; None: the model has no tool, and the system prompt doesn't speak of one.
        limits: What a rollout may use up.
        settings: The plugin's settings, the reward among them.
        out: Where pictures and records go; the records replace those of an earlier evaluation.
        rollouts: How often each case is played; its rollouts are a group.
        seed: Of the evaluation; every rollout gets its own, made of this, its row and its number.
        concurrency: Rollouts under way at the same time.
        progress: Called with the number of cases played and of all cases.

    Raises:
        InfraError: more than `settings.invalid_limit` of the rollouts broke under us; nothing is written.
    """
    system = system_prompt(settings, tools=tool is not None)
    slots = asyncio.Semaphore(concurrency)
    faults: list[InfraError] = []
    done = 0

    async def once(case: Case, number: int) -> Trajectory | None:
        async with slots:
            prompt = await asyncio.to_thread(read_prompt, case.row, case.name)
            messages, pictures = split_prompt(prompt, system)
            try:
                return await play(
                    messages,
                    pictures,
                    policy=policy(rollout_seed(seed, case.name, number)),
                    codec=codec,
                    tool=tool,
                    limits=limits,
                    frame=settings.coordinates,
                )
            except InfraError as error:
                faults.append(error)
                logger.warning("a rollout of %s is invalid: %s", case.name, error)
                if len(faults) > settings.invalid_limit * rollouts * len(cases):
                    raise InfraError(
                        f"{len(faults)} rollouts broke, more than codevision.invalid_limit allows; the last: {error}"
                    ) from error
                return None

    def scored_group(case: Case, played: Sequence[Trajectory | None]) -> list[Record]:
        records = score(case.item, case.name, played, settings, split="test", seed=seed)
        return [with_pictures(record, trajectory, out) for record, trajectory in zip(records, played, strict=True)]

    async def group(case: Case) -> list[Record]:
        nonlocal done
        played = await asyncio.gather(*[once(case, number) for number in range(rollouts)])
        kept = await asyncio.to_thread(scored_group, case, played)
        done += 1
        if progress:
            progress(done, len(cases))
        return kept

    try:
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(group(case)) for case in cases]
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    records = [record for task in running for record in task.result()]
    write_whole(out.path, b"".join(map(encode, records)))
    return records
