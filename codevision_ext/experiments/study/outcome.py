"""Computes the outcome of each training over its seeds, with intervals, from the rollouts of its checkpoint."""

from collections import defaultdict
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from codevision_ext.errors import InputError
from codevision_ext.evaluate.metrics import COLUMNS, TRANSFORMED, Column, Score
from codevision_ext.experiments.study.plan import StudyPlan
from codevision_ext.experiments.study.seed_statistics import (
    ALPHA,
    Decision,
    SeedDifference,
    mean_spread,
    seed_difference,
    tellable,
)
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
    """Accuracy by column; the score of an item is its mean over the seeds. The interval is over items only."""
    transformed: float
    """Mean accuracy over the five transformed columns and the seeds."""
    by_seed: Mapping[int, float]
    """`transformed` by seed."""
    difference: SeedDifference | None
    """Difference from the first training in `transformed`, paired by seed and item; None for the first training."""
    decision: Decision | None
    """Position of the difference's interval relative to the study's threshold; None for the first training."""
    published: str | None
    """Published effect, as in the study's plan: `better`, `worse` or `same`; None: nothing is published."""
    must: float
    """Share of the required operations that were performed, on transformed images."""
    tool_rate: float
    failed_calls: float
    """Share of calls that failed."""
    optional_ops: float
    """Share of rollouts with an operation that no task requires."""
    invalid: int
    """Number of invalid rollouts, which don't count in the other fields."""
    sampled: float
    """Number of rollouts that the training sampled, those of filtered groups included, as a mean over the seeds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """Content of findings.json."""

    question: str
    steps: int
    threshold: float
    """Difference against which the study decides, in points."""
    outcomes: Mapping[str, VariantOutcome]
    """Outcomes by the name of the training, in the order of the plan."""
    power: Mapping[int, float]
    """Smallest difference in points that a number of seeds tells from the threshold, with a probability of 80 %."""
    ended: str | None
    """Reason why a study with `--until-decided` ended; None for other studies."""


_CODEC: JsonCodec[Findings] = JsonCodec(Findings)


def find_outcomes(
    plan: StudyPlan,
    jobs: Sequence[TrainingJob],
    measured: Sequence[Sequence[Record]],
    levels: Mapping[int, float] | None = None,
) -> Findings:
    """Compares the trainings by the rollouts of each job's checkpoint.

    Args:
        plan: The study.
        jobs: Trainings with their seeds; the trainings may have different numbers of seeds.
        measured: Rollouts of the checkpoint of each job.
        levels: Level of the look at each number of seeds (`seed_statistics.look_levels`); None: there is one look.

    Raises:
        InputError: a column has no valid rollout.
    """
    levels = levels or {}
    played: dict[str, dict[int, Sequence[Record]]] = defaultdict(dict)
    for job, records in zip(jobs, measured, strict=True):
        played[job.name][job.seed] = records
    first = played[next(iter(plan.trainings))]
    outcomes = {}
    for number, (name, training) in enumerate(plan.trainings.items()):
        own = played[name]
        alpha = levels.get(len(own.keys() & first.keys()), ALPHA)
        difference = _difference(first, own, alpha) if number else None
        sampled = fmean(_lines(job.folder / "rollouts" / "train.jsonl") for job in jobs if job.name == name)
        outcomes[name] = _outcome(name, own, difference, plan.threshold, training.published, sampled)
    return Findings(
        question=plan.question,
        steps=plan.steps,
        threshold=plan.threshold,
        outcomes=outcomes,
        power=_power(plan, outcomes.values(), levels),
        ended=None,
    )


def write_findings(findings: Findings, out: Path) -> None:
    """Writes OUT/findings.json."""
    write_whole(out / "findings.json", _CODEC.dump(findings, indent=2) + b"\n")


def _outcome(
    name: str,
    played: Mapping[int, Sequence[Record]],
    difference: SeedDifference | None,
    threshold: float,
    published: str | None,
    sampled: float,
) -> VariantOutcome:
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
        transformed=fmean(_transformed(items).values()),
        by_seed={seed: fmean(_transformed(_items(them)).values()) for seed, them in played.items()},
        difference=difference,
        decision=difference.decision(threshold / 100) if difference else None,
        published=published,
        must=fmean(record.terms["must"].raw for record in turned),
        tool_rate=fmean(bool(record.observed.steps) for record in valid),
        failed_calls=fmean(not step.ok for step in steps) if steps else 0.0,
        optional_ops=fmean(used_optional(record) for record in valid),
        invalid=len(records) - len(valid),
        sampled=sampled,
    )


def _lines(path: Path) -> int:
    """Returns the number of lines of a file; 0 if there is none."""
    if not path.exists():
        return 0
    with path.open("rb") as file:
        return sum(1 for _ in file)


def _items(records: Sequence[Record]) -> dict[Item, float]:
    """Returns the score of every item, a mean over its rollouts."""
    tried: dict[Item, list[bool]] = defaultdict(list)
    for record in records:
        if record.observed.valid and record.column:
            tried[record.column, record.pictures[0]].append(record.observed.correct)
    return {item: fmean(them) for item, them in tried.items()}


def _transformed(items: Mapping[Item, float]) -> dict[Item, float]:
    return {item: score for item, score in items.items() if item[0] in TRANSFORMED}


def _difference(
    first: Mapping[int, Sequence[Record]], own: Mapping[int, Sequence[Record]], alpha: float
) -> SeedDifference | None:
    """Returns the difference over the transformed columns; images with equal text are one cluster."""
    texts: dict[Item, Hashable] = {
        (r.column or "", r.pictures[0]): r.references for records in own.values() for r in records if r.pictures
    }

    def scores(played: Mapping[int, Sequence[Record]]) -> dict[int, dict[Item, float]]:
        return {seed: _transformed(_items(records)) for seed, records in played.items()}

    return seed_difference(scores(first), scores(own), texts, alpha)


def _power(plan: StudyPlan, outcomes: Collection[VariantOutcome], levels: Mapping[int, float]) -> dict[int, float]:
    """Returns the differences in points that the present and the maximum number of seeds can tell."""
    differences = [outcome.difference for outcome in outcomes if outcome.difference]
    spread = mean_spread(differences)
    if spread is None:
        return {}
    now, items = max(each.seeds for each in differences), max(each.items for each in differences)
    return {
        seeds: 100 * tellable(spread, seeds, items, levels.get(seeds, ALPHA))
        for seeds in sorted({now, max(now, plan.max_seeds)})
    }
