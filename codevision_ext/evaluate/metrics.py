"""How good is a checkpoint, and how sure are we? Accuracy a column with its interval, and results.json."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from codevision_ext.errors import InputError
from codevision_ext.evaluate.statistics import wilson
from codevision_ext.io.atomic_files import write_whole
from codevision_ext.io.json_codec import JsonCodec
from codevision_ext.io.records import Record

Column = Literal["source", "rot90", "rot180", "rot270", "flip_h", "flip_v"]
Checkpoint = Literal["base", "sft", "rl"]
ToolMode = Literal["tool_on", "tool_off"]

COLUMNS: tuple[Column, ...] = get_args(Column)
TRANSFORMED: tuple[Column, ...] = COLUMNS[1:]
"""The columns whose images were rotated or flipped."""
CHECKPOINTS: tuple[Checkpoint, ...] = get_args(Checkpoint)
TOOL_MODES: tuple[ToolMode, ...] = get_args(ToolMode)


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """Accuracy over `n` items with the bounds of its 95 % interval, all in [0, 1]."""

    accuracy: float
    low: float
    high: float
    n: int

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.accuracy <= self.high <= 1:
            raise ValueError(f"low {self.low} <= accuracy {self.accuracy} <= high {self.high} doesn't hold in [0, 1]")
        if self.n < 1:
            raise ValueError(f"n is {self.n}, a score needs at least one item")

    @classmethod
    def of(cls, outcomes: Iterable[float]) -> "Score":
        """The score of these items, each right, wrong or something in [0, 1]; at least one."""
        right = list(outcomes)
        total = math.fsum(right)
        low, high = wilson(total, len(right))
        share = total / len(right)
        return cls(accuracy=share, low=min(low, share), high=max(high, share), n=len(right))

    @classmethod
    def mean(cls, scores: Iterable["Score"]) -> "Score":
        """The mean of several columns, each weighing the same, and the means of their bounds.

        The columns show the same items, so their errors go together and don't cancel: the mean of the bounds is wide
        enough even then, where an interval for independent items would be too narrow.
        """
        them = list(scores)
        return cls(
            accuracy=math.fsum(s.accuracy for s in them) / len(them),
            low=math.fsum(s.low for s in them) / len(them),
            high=math.fsum(s.high for s in them) / len(them),
            n=sum(s.n for s in them),
        )


def by_column(records: Iterable[Record]) -> dict[Column, Score]:
    """One score a column, in the order of `COLUMNS`; invalid rollouts are left out, also from `n`.

    Raises:
        InputError: a record has no known column, or a column has no valid record.
    """
    outcomes: dict[Column, list[bool]] = {column: [] for column in COLUMNS}
    for record in records:
        column = next((c for c in COLUMNS if c == record.column), None)
        if column is None:
            raise InputError(f"rollout {record.id!r}: column {record.column!r} is none of {', '.join(COLUMNS)}")
        if record.observed.valid:
            outcomes[column].append(record.observed.correct)
    empty = [column for column, them in outcomes.items() if not them]
    if empty:
        raise InputError(f"no valid rollout in column {', '.join(empty)}; every column needs at least one")
    return {column: Score.of(them) for column, them in outcomes.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """What a run gave and what it cost: the content of results.json."""

    checkpoints: Mapping[Checkpoint, Mapping[ToolMode, Mapping[Column, Score]]]
    """What was evaluated; each entry has all six columns."""
    seed: int
    versions: Mapping[str, str]
    minutes: float | None = None
    """Wall clock of the whole run; None, as below: not measured (an evaluation alone)."""
    peak_rss_gb: float | None = None
    """Peak memory of the whole process tree, 10^9 bytes."""
    step_s: float | None = None
    """Median seconds of a training step."""

    def __post_init__(self) -> None:
        if not any(self.checkpoints.values()):
            raise ValueError("checkpoints holds no evaluation")
        for checkpoint, modes in self.checkpoints.items():
            for mode, columns in modes.items():
                missing = [column for column in COLUMNS if column not in columns]
                if missing:
                    raise ValueError(f"checkpoints.{checkpoint}.{mode} lacks the column {', '.join(missing)}")
        for name in ("minutes", "peak_rss_gb", "step_s"):
            if not 0 <= (getattr(self, name) or 0.0) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}, not a positive number")


_CODEC: JsonCodec[Results] = JsonCodec(Results)


def write_results(path: Path, results: Results) -> None:
    """Writes results.json, whole or not at all."""
    write_whole(path, _CODEC.dump(results, indent=2) + b"\n")


def merge_results(
    path: Path,
    scores: Mapping[Checkpoint, Mapping[ToolMode, Mapping[Column, Score]]],
    seed: int,
    versions: Mapping[str, str],
) -> Results:
    """Puts scores beside those that results.json holds already, over those of the same name, and gives the whole.

    Raises:
        InputError: results.json is there but can't be read.
    """
    old = read_results(path) if path.exists() else None
    checkpoints = dict(old.checkpoints) if old else {}
    for checkpoint, modes in scores.items():
        checkpoints[checkpoint] = {**checkpoints.get(checkpoint, {}), **modes}
    new = Results(checkpoints=checkpoints, seed=seed, versions=versions)
    if old:
        new = replace(new, minutes=old.minutes, peak_rss_gb=old.peak_rss_gb, step_s=old.step_s)
    write_results(path, new)
    return new


def read_results(path: Path) -> Results:
    """Reads results.json.

    Raises:
        InputError: there is no such file, or a field is missing, unknown or out of range; names file and field.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: can't be read: {error.strerror}") from error
    return _CODEC.load(raw, str(path))
