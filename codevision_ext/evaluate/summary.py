"""Summarises the records of a suite: accuracy by column, behaviour of the rollouts, and differences between runs."""

import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

from codevision_ext.errors import InputError
from codevision_ext.evaluate.metrics import Score
from codevision_ext.evaluate.results import ColumnResult, Health, ModeResult, VerifierAgreement
from codevision_ext.evaluate.statistics import Difference, paired, pass_at
from codevision_ext.evaluate.suites.base import Suite
from codevision_ext.io.records import Record
from codevision_ext.judge.agreement import agreement
from codevision_ext.rewards.terms import faithful_crop


def score_of(record: Record) -> float:
    """Returns the score of a rollout, in [0, 1]; an older record without a score gets 1 if it is correct, else 0."""
    return record.numbers.get("score", float(record.observed.correct))


def item_scores(
    suite: Suite, records: Iterable[Record], score: Callable[[Record], float] = score_of
) -> dict[str, list[float]]:
    """Returns the scores of each group's rollouts; invalid rollouts are left out, or get 0 if the suite says so."""
    scores: defaultdict[str, list[float]] = defaultdict(list)
    for record in records:
        if record.observed.valid:
            scores[record.group].append(score(record))
        elif suite.invalid_are_wrong:
            scores[record.group].append(0.0)
    return dict(scores)


def score_columns(suite: Suite, records: Iterable[Record]) -> dict[str, set[str]]:
    """Returns the names of each column's items; columns that combine others come last."""
    fine: defaultdict[str, set[str]] = defaultdict(set)
    coarse: defaultdict[str, set[str]] = defaultdict(set)
    for record in records:
        column = record.column or "all"
        fine[column].add(record.group)
        if (whole := suite.sums(column)) is not None:
            coarse[whole].add(record.group)
    order = [column for column in suite.columns if column in fine] or sorted(fine)
    return {column: fine[column] for column in order} | {column: coarse[column] for column in sorted(coarse)}


def summarise_suite(suite: Suite, records: Sequence[Record], k: int, rows: str) -> ModeResult:
    """Summarises the records of one suite in one mode; `rows` is the path of their file.

    Raises:
        InputError: a column has no valid rollout.
    """
    scores = item_scores(suite, records)
    undecided = item_scores(suite, records, lambda record: float(record.observed.undecided))

    def score(names: Iterable[str]) -> Score:
        own = list(names)
        return Score.of(*[[statistics.fmean(values[name]) for name in own] for values in (scores, undecided)])

    columns: dict[str, ColumnResult] = {}
    for column, names in score_columns(suite, records).items():
        valid = [name for name in sorted(names) if name in scores]
        if not valid:
            raise InputError(f"suite {suite.name}: no valid rollout in column {column}; every column needs one")
        columns[column] = ColumnResult(score=score(valid), pass_k=_pass_at_k([scores[name] for name in valid], k))
    if suite.overall == "columns":
        own = [columns[column] for column in {record.column or "all" for record in records}]
        passed = [result.pass_k for result in own if result.pass_k is not None]
        complete = len(passed) == len(own)
        overall = ColumnResult(
            score=Score.mean(result.score for result in own), pass_k=Score.mean(passed) if complete else None
        )
    else:
        overall = ColumnResult(score=score(scores), pass_k=_pass_at_k(list(scores.values()), k))
    success = None
    if (succeeds := suite.success) is not None:
        outcomes = item_scores(suite, records, lambda record: float(succeeds(record)))
        success = Score.of(map(statistics.fmean, outcomes.values()))
    return ModeResult(
        overall=overall,
        columns=columns,
        success=success,
        health=health_of(records),
        rows=rows,
        verifier=verifier_agreement(records),
    )


def verifier_agreement(records: Iterable[Record]) -> VerifierAgreement | None:
    """Returns how the drawing verifier agrees with the judge, over the drawings that the judge decided.

    None if the verifier checked none of the drawings.
    """
    pairs = [
        (record.verdict.score == 1, None if record.numbers["verifier_unknown"] else record.numbers["verifier"])
        for record in records
        if record.verdict and record.verdict.score is not None and "verifier" in record.numbers
    ]
    if not pairs:
        return None
    agreed = agreement(pairs)
    low, high = agreed.kappa_interval or (None, None)
    return VerifierAgreement(
        drawings=len(pairs),
        judge_right=sum(judge for judge, _ in pairs),
        verifier_right=sum(verifier == 1 for _, verifier in pairs),
        unknown=sum(verifier is None for _, verifier in pairs),
        kappa=agreed.kappa,
        low=low,
        high=high,
    )


def _pass_at_k(scores: Sequence[Sequence[float]], k: int) -> Score | None:
    complete = [item for item in scores if len(item) == k]
    if k == 1 or not complete:
        return None
    return Score.of(pass_at(sum(score >= 0.5 for score in item), k, k) for item in complete)


def health_of(records: Sequence[Record]) -> Health:
    """Summarises the behaviour of the rollouts."""
    valid = [record for record in records if record.observed.valid]
    logged = [record.numbers for record in valid]

    def total(*names: str) -> float:
        return math.fsum(numbers[name] for numbers in logged for name in names)

    def mean(*names: str) -> float | None:
        return _share(total(*names), len(logged))

    calls = total("calls", "malformed_calls")
    crops = [faithful for record in valid if (faithful := faithful_crop(record)) is not None]
    seconds = sorted(numbers["seconds"] for numbers in logged)
    return Health(
        rollouts=len(records),
        invalid_share=1 - len(valid) / len(records),
        undecided=sum(record.observed.undecided for record in valid),
        tool_rate=mean("tool"),
        calls=mean("calls", "malformed_calls"),
        call_success=_share(total("calls") - total("failed_calls"), calls),
        recovery=_share(total("recovered_calls"), total("recoverable_calls")),
        faithful_crop=_share(sum(crops), len(crops)),
        drawn_f1=_share(*[sum(numbers.get(name, 0.0) for numbers in logged) for name in ("drawn_f1", "drawn")]),
        truncated=mean("end_length", "end_turn_cap"),
        format=mean("format"),
        turns=mean("turns"),
        sampled_tokens=mean("sampled_tokens"),
        prompt_tokens=mean("prompt_tokens"),
        seconds=statistics.median(seconds) if seconds else None,
        seconds_p95=seconds[math.ceil(0.95 * len(seconds)) - 1] if seconds else None,
    )


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def differences(suite: Suite, first: Sequence[Record], second: Sequence[Record], seed: int) -> dict[str, Difference]:
    """Returns the accuracy of `second` minus the accuracy of `first` on common items, by column and `overall`.

    Columns without a common item are left out. In `overall` all items have equal weights. Items made from one image are
    resampled together.
    """
    means = [
        {name: statistics.fmean(scores) for name, scores in item_scores(suite, records).items()}
        for records in (first, second)
    ]
    clusters = {record.group: record.picture_id for record in (*first, *second) if record.picture_id}
    results: dict[str, Difference | None] = {}
    columns = score_columns(suite, (*first, *second))
    for column, names in columns.items():
        parts = [{name: value for name, value in items.items() if name in names} for items in means]
        results[column] = paired(parts[0], parts[1], clusters, seed)
    results["overall"] = paired(means[0], means[1], clusters, seed)
    return {column: difference for column, difference in results.items() if difference is not None}
