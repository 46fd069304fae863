"""What did an evaluation give, and what is needed to repeat it? The content of results.json, from the records."""

import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from codevision_ext.errors import InputError
from codevision_ext.evaluate.metrics import Score, ToolMode
from codevision_ext.evaluate.statistics import Difference, paired, pass_at
from codevision_ext.evaluate.suites.base import Suite
from codevision_ext.io.atomic_files import write_whole
from codevision_ext.io.json_codec import JsonCodec
from codevision_ext.io.records import Record
from codevision_ext.rewards.terms import faithful_crop

FORMAT: Literal["codevision-eval-1"] = "codevision-eval-1"


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnResult:
    """One column of a suite."""

    score: Score
    """Mean over items of the mean over their k rollouts (avg@k), with its Wilson interval."""
    pass_k: Score | None
    """Share of items that one of k rollouts at least solves (pass@k), over those of which all k are valid; None: k is
    1, or there is no such item."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """How the rollouts went; means over the valid ones, None where there is nothing to take it over."""

    rollouts: int
    invalid_share: float
    """Broken under us, of all; in [0, 1], as every share."""
    tool_rate: float | None
    """Share of rollouts that called the tool."""
    calls: float | None
    """Calls a rollout."""
    call_success: float | None
    """Share of calls that ran; calls that couldn't be read didn't."""
    recovery: float | None
    """Share of failed calls, with a turn left, that a successful one follows."""
    faithful_crop: float | None
    """Share of rollouts which crop, where the box is known, that show at least half of it."""
    truncated: float | None
    """Share of rollouts that ran into the length or turn limit."""
    format: float | None
    """Share of rollouts that kept the format."""
    turns: float | None
    sampled_tokens: float | None
    """A rollout, by the model."""
    prompt_tokens: float | None
    seconds: float | None
    """A rollout, median; those under way at the same time slow each other down."""
    seconds_p95: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModeResult:
    """A suite with the tool, or without."""

    overall: ColumnResult
    columns: Mapping[str, ColumnResult]
    success: Score | None
    """Where a suite asks for more than a right answer (`--holdout`); else None."""
    health: Health
    rows: str
    """File of the records, from the folder of results.json."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteResult:
    """A suite."""

    data: str
    """File that the items are from; empty where they were drawn."""
    sha256: str
    """Of the items that were played, images included, in their order."""
    items: int
    overall: Literal["items", "columns"]
    """What weighs the same in `overall`."""
    modes: Mapping[ToolMode, ModeResult]
    benefit: Mapping[str, Difference]
    """Of the tool, by column and `overall`: with it less without, on the same items; empty where one is missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeUsed:
    """Who marked what no rule decides."""

    model: str
    base_url: str
    prompts_sha256: str
    request: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelUsed:
    """What was evaluated."""

    name: str
    """Folder, or the id that the endpoint knows it by."""
    url: str
    """Of the endpoint; empty for a folder."""
    sha256: str
    """Of the folder's files; empty for an endpoint, which doesn't tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """Everything that decides what is measured; an evaluation goes on only under the very same."""

    model: ModelUsed
    engine: str
    settings: Mapping[str, Any]
    """The `codevision` section, whole."""
    tool: Mapping[str, Any]
    limits: Mapping[str, Any]
    k: int
    seed: int
    temperature: float
    request: Mapping[str, Any]
    """More fields of each request to an endpoint."""
    judge: JudgeUsed | None
    versions: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """The content of results.json."""

    format: Literal["codevision-eval-1"]
    setup: Setup
    suites: Mapping[str, SuiteResult]


EVALUATION: JsonCodec[Evaluation] = JsonCodec(Evaluation)
SETUP: JsonCodec[Setup] = JsonCodec(Setup)


def write_evaluation(path: Path, evaluation: Evaluation) -> None:
    """Writes results.json, whole or not at all."""
    write_whole(path, EVALUATION.dump(evaluation, indent=2) + b"\n")


def read_evaluation(folder: Path) -> Evaluation:
    """Reads results.json of an evaluation's folder.

    Raises:
        InputError: there is none, or a field is missing, unknown or out of range; names file and field.
    """
    path = folder / "results.json" if folder.is_dir() else folder
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: can't be read: {error.strerror}") from error
    return EVALUATION.load(raw, str(path))


def item_scores(suite: Suite, records: Iterable[Record], points: "Points | None" = None) -> dict[str, list[float]]:
    """Scores of the rollouts of each item, by the name of its group; an invalid one is left out, or wrong."""
    measured = points or (lambda record: record.numbers["score"])
    found: defaultdict[str, list[float]] = defaultdict(list)
    for record in records:
        if record.observed.valid:
            found[record.group].append(measured(record))
        elif suite.invalid_are_wrong:
            found[record.group].append(0.0)
    return dict(found)


Points = Callable[[Record], float]


def score_columns(suite: Suite, records: Iterable[Record]) -> dict[str, set[str]]:
    """Names of the items of each column, coarser ones behind the others."""
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
    """What a suite gave.

    Raises:
        InputError: a column has no valid rollout.
    """
    scores = item_scores(suite, records)
    columns: dict[str, ColumnResult] = {}
    for column, names in score_columns(suite, records).items():
        played = [scores[name] for name in sorted(names) if name in scores]
        if not played:
            raise InputError(f"suite {suite.name}: no valid rollout in column {column}; every column needs one")
        columns[column] = ColumnResult(score=Score.of(map(statistics.fmean, played)), pass_k=_pass(played, k))
    if suite.overall == "columns":
        own = [columns[column] for column in {record.column or "all" for record in records}]
        passed = [each.pass_k for each in own if each.pass_k is not None]
        whole = len(passed) == len(own)
        overall = ColumnResult(
            score=Score.mean(each.score for each in own), pass_k=Score.mean(passed) if whole else None
        )
    else:
        overall = ColumnResult(
            score=Score.of(map(statistics.fmean, scores.values())), pass_k=_pass(list(scores.values()), k)
        )
    success = None
    if (holds := suite.success) is not None:
        told = item_scores(suite, records, lambda record: float(holds(record)))
        success = Score.of(statistics.fmean(each) for each in told.values())
    return ModeResult(overall=overall, columns=columns, success=success, health=health_of(records), rows=rows)


def _pass(played: Sequence[Sequence[float]], k: int) -> Score | None:
    whole = [each for each in played if len(each) == k]
    return Score.of(pass_at(sum(p >= 0.5 for p in each), k, k) for each in whole) if k > 1 and whole else None


def health_of(records: Sequence[Record]) -> Health:
    """How the rollouts went."""
    valid = [record for record in records if record.observed.valid]
    logged = [record.numbers for record in valid]

    def total(*names: str) -> float:
        return math.fsum(numbers[name] for numbers in logged for name in names)

    def mean(*names: str) -> float | None:
        return _share(total(*names), len(logged))

    calls = total("calls", "malformed_calls")
    crops = [found for record in valid if (found := faithful_crop(record)) is not None]
    seconds = sorted(numbers["seconds"] for numbers in logged)
    return Health(
        rollouts=len(records),
        invalid_share=1 - len(valid) / len(records),
        tool_rate=mean("tool"),
        calls=mean("calls", "malformed_calls"),
        call_success=_share(total("calls") - total("failed_calls"), calls),
        recovery=_share(total("recovered_calls"), total("recoverable_calls")),
        faithful_crop=_share(sum(crops), len(crops)),
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
    """Second less first on the items that both have, by column and `overall`; a column without any isn't there.

    In `overall` every item weighs the same; items made from one image are resampled together.
    """
    means = [
        {name: statistics.fmean(scores) for name, scores in item_scores(suite, records).items()}
        for records in (first, second)
    ]
    clusters = {record.group: record.picture_id for record in (*first, *second) if record.picture_id}
    found: dict[str, Difference | None] = {}
    columns = score_columns(suite, (*first, *second))
    for column, names in columns.items():
        parts = [{name: value for name, value in each.items() if name in names} for each in means]
        found[column] = paired(parts[0], parts[1], clusters, seed)
    found["overall"] = paired(means[0], means[1], clusters, seed)
    return {column: difference for column, difference in found.items() if difference is not None}
