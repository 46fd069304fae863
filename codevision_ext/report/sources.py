"""Reads the record files of runs, and chooses the rollouts that fit on a page."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from codevision_ext.evaluate.metrics import CHECKPOINTS, TOOL_MODES, Checkpoint, Score, ToolMode
from codevision_ext.io.records import Record, read_spread
from codevision_ext.report.trajectories import why_suspicious

_FOLDERS = ("eval", "rollouts", "records")
"""Folders of a run that may hold record files, with `pictures/` beside them."""
_READ_BYTES = 32_000_000
"""Maximum bytes to read of a record file; a larger file is read at evenly spread places."""

NAMES: dict[Checkpoint, str] = {"base": "Base", "sft": "SFT", "rl": "RL"}
MODES: dict[ToolMode, str] = {"tool_on": "tool on", "tool_off": "tool off"}
_LABELS = {f"{c}_{m}": f"{NAMES[c]}, {MODES[m]}" for c in CHECKPOINTS for m in TOOL_MODES}
_LABELS |= {"train": "training", "val": "validation"}
_ORDER = [f"{checkpoint}_{mode}" for mode in reversed(TOOL_MODES) for checkpoint in CHECKPOINTS]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSource:
    """One record file and the records that were read from it."""

    run: int
    """Index of its run."""
    path: Path
    label: str
    """Name on the page: `RL, tool on`, `training`."""
    records: tuple[Record, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Row of the table of record files; means are over valid rollouts, None if there is nothing to average."""

    accuracy: Score | None
    columns: dict[str, Score]
    tool_rate: float | None
    turns: float | None
    tokens: float | None
    reward: float | None
    suspicious: float | None
    invalid: int
    steps: tuple[int, int] | None
    """First and last training step; None outside training."""


def read_sources(run_dirs: Sequence[Path]) -> list[RunSource]:
    """Reads every record file of the runs that holds a record: those of evaluations, then those of trainings.

    Raises:
        InputError: a file can't be read or a line isn't a record; names file and line.
    """
    sources = []
    for run, folder in enumerate(run_dirs):
        for name in _FOLDERS:
            for path in sorted((folder / name).glob("*.jsonl"), key=_order):
                records = tuple(read_spread(path, _READ_BYTES))
                if records:
                    sources.append(RunSource(run=run, path=path, label=_label(path.stem), records=records))
    return sources


def _label(stem: str) -> str:
    """Returns `RL, tool on` for `rl_tool_on`, and `vstar, tool off` for `vstar_tool_off`."""
    known = next((mode for mode in MODES if stem.endswith(f"_{mode}")), None)
    return _LABELS.get(stem) or (f"{stem.removesuffix(f'_{known}')}, {MODES[known]}" if known else stem)


def _order(path: Path) -> tuple[int, list[tuple[int, str]]]:
    """Returns a sort key that puts `base_tool_on` before `rl_tool_on`, and `9` before `10`."""
    words = [(int(word) if word.isdigit() else -1, word) for word in re.split(r"(\d+)", path.stem)]
    return _ORDER.index(path.stem) if path.stem in _ORDER else len(_ORDER), words


def item_of(record: Record) -> str:
    """Returns a hash of the task, 16 hexadecimal digits: equal in evaluations of two checkpoints on the same rows."""
    task = "\n".join((record.group, record.question, *record.references))
    return hashlib.sha256(task.encode()).hexdigest()[:16]


def sample(sources: Sequence[RunSource], limit: int) -> list[list[Record]]:
    """Returns at most `limit` records: a list per source, in the order of its file.

    Every source gets an equal share. Items are chosen by a hash, so that sources of the same items keep the same ones,
    and the rollouts of an item stay together.
    """
    left, kept = limit, {}
    order = sorted(range(len(sources)), key=lambda i: len(sources[i].records))
    for done, i in enumerate(order):
        records = sources[i].records
        kept[i] = min(len(records), left // (len(order) - done))
        left -= kept[i]
    chosen = []
    for i, source in enumerate(sources):
        by_item = sorted(range(len(source.records)), key=lambda at: (item_of(source.records[at]), at))
        chosen.append([source.records[at] for at in sorted(by_item[: kept[i]])])
    return chosen


def pair(sources: Sequence[RunSource], chosen: Sequence[Sequence[Record]]) -> tuple[int, int] | None:
    """Returns the indices of the two sources to show side by side first; None if no two sources share an item.

    They are the two with the most items in common. Among equals, the same file of two runs is preferred, then the last
    sources, which are those of RL.
    """
    items = [{item_of(record) for record in records} for records in chosen]
    best: tuple[tuple[int, bool, int], tuple[int, int]] | None = None
    for a, b in combinations(range(len(sources)), 2):
        shared = len(items[a] & items[b])
        twins = sources[a].run != sources[b].run and sources[a].path.name == sources[b].path.name
        rank = ((shared, twins, a + b), (a, b))
        if shared and (best is None or rank > best):
            best = rank
    return best[1] if best else None


def _score(records: Sequence[Record]) -> Score:
    return Score.of([r.observed.correct for r in records], [r.observed.undecided for r in records])


def run_summary(source: RunSource) -> Summary:
    """Summarises the records of a source."""
    valid = [record for record in source.records if record.observed.valid]
    columns = sorted({record.column for record in valid if record.column})
    steps = [record.step for record in source.records if record.step is not None]

    def mean(values: Sequence[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return sum(known) / len(known) if known else None

    return Summary(
        accuracy=_score(valid) if valid else None,
        columns={c: _score([r for r in valid if r.column == c]) for c in columns},
        tool_rate=mean([float(bool(record.observed.steps)) for record in valid]),
        turns=mean([record.turn_count for record in valid]),
        tokens=mean([record.tokens for record in valid]),
        reward=mean([record.reward for record in valid]),
        suspicious=mean([float(why_suspicious(record) is not None) for record in valid]),
        invalid=len(source.records) - len(valid),
        steps=(min(steps), max(steps)) if steps else None,
    )
