"""Computes the outcome of each training over its seeds, with intervals, from the rollouts of its checkpoint."""

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from codevision_ext.errors import InputError
from codevision_ext.evaluate.metrics import COLUMNS, TRANSFORMED, Column, Score
from codevision_ext.evaluate.statistics import Difference, paired
from codevision_ext.experiments.study.plan import StudyPlan
from codevision_ext.experiments.study.train import TrainingJob
from codevision_ext.io.atomic_files import write_whole
from codevision_ext.io.json_codec import JsonCodec
from codevision_ext.io.records import Record
from codevision_ext.rewards.terms import used_optional

Item = tuple[str, str]
"""Column and image of an item."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VariantOutcome:
    """Outcome of one training; shares are in [0, 1]."""

    columns: Mapping[Column, Score]
    """Accuracy by column; the score of an item is its mean over the seeds."""
    transformed: float
    """Mean accuracy over the five transformed columns and the seeds."""
    by_seed: Mapping[int, float]
    """`transformed` by seed."""
    difference: Difference | None
    """Difference from the first training in `transformed`, paired by item; None for the first training itself."""
    must: float
    """Share of the required operations that were performed, on transformed images."""
    tool_rate: float
    failed_calls: float
    """Share of calls that failed."""
    optional_ops: float
    """Share of rollouts with an operation that no task requires."""
    invalid: int
    """Number of invalid rollouts; the other fields leave them out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """The content of findings.json."""

    question: str
    steps: int
    outcomes: Mapping[str, VariantOutcome]
    """Outcomes by the name of the training, in the order of the plan."""


_CODEC: JsonCodec[Findings] = JsonCodec(Findings)


def find_outcomes(
    plan: StudyPlan, jobs: Sequence[TrainingJob], measured: Sequence[Sequence[Record]], out: Path
) -> Findings:
    """Compares the trainings by the rollouts of each job's checkpoint, and writes OUT/findings.json.

    Raises:
        InputError: a column has no valid rollout.
    """
    played: dict[str, dict[int, Sequence[Record]]] = defaultdict(dict)
    for job, records in zip(jobs, measured, strict=True):
        played[job.name][job.seed] = records
    first = _items([r for records in played[next(iter(plan.trainings))].values() for r in records])
    outcomes = {}
    for number, name in enumerate(plan.trainings):
        outcomes[name] = _outcome(name, played[name], first if number else None)
    findings = Findings(question=plan.question, steps=plan.steps, outcomes=outcomes)
    write_whole(out / "findings.json", _CODEC.dump(findings, indent=2) + b"\n")
    return findings


def _outcome(name: str, played: Mapping[int, Sequence[Record]], first: Mapping[Item, float] | None) -> VariantOutcome:
    records = [record for them in played.values() for record in them]
    valid = [record for record in records if record.observed.valid]
    items = _items(records)
    columns = {column: [score for (of, _), score in items.items() if of == column] for column in COLUMNS}
    if empty := [column for column, scores in columns.items() if not scores]:
        raise InputError(f"{name}: no valid rollout in column {empty[0]}")
    steps = [step for record in valid for step in record.observed.steps]
    turned = [record for record in valid if record.column in TRANSFORMED]
    return VariantOutcome(
        columns={column: Score.of(scores) for column, scores in columns.items()},
        transformed=fmean(_transformed(items)),
        by_seed={seed: fmean(_transformed(_items(them))) for seed, them in played.items()},
        difference=None if first is None else _difference(first, items, records),
        must=fmean(record.terms["must"].raw for record in turned),
        tool_rate=fmean(bool(record.observed.steps) for record in valid),
        failed_calls=fmean(not step.ok for step in steps) if steps else 0.0,
        optional_ops=fmean(used_optional(record) for record in valid),
        invalid=len(records) - len(valid),
    )


def _items(records: Sequence[Record]) -> dict[Item, float]:
    """Returns the score of every item, a mean over its rollouts."""
    tried: dict[Item, list[bool]] = defaultdict(list)
    for record in records:
        if record.observed.valid and record.column:
            tried[record.column, record.pictures[0]].append(record.observed.correct)
    return {item: fmean(them) for item, them in tried.items()}


def _transformed(items: Mapping[Item, float]) -> list[float]:
    return [score for (column, _), score in items.items() if column in TRANSFORMED]


def _difference(first: Mapping[Item, float], own: Mapping[Item, float], records: Sequence[Record]) -> Difference | None:
    """Returns the difference over the transformed columns; images with the same text are resampled together."""
    texts: dict[Item, Hashable] = {(r.column or "", r.pictures[0]): r.references for r in records}

    def turned(items: Mapping[Item, float]) -> dict[Item, float]:
        return {item: score for item, score in items.items() if item[0] in TRANSFORMED}

    return paired(turned(first), turned(own), texts, seed=0)
