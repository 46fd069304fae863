"""Which rollouts did the runs keep, and which of them fit on a page?"""

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
"""Of a run; each may hold record files, and `pictures/` beside them."""
_READ_BYTES = 32_000_000
"""Of a record file; a larger one is read at evenly spread places."""

NAMES: dict[Checkpoint, str] = {"base": "Base", "sft": "SFT", "rl": "RL"}
MODES: dict[ToolMode, str] = {"tool_on": "tool on", "tool_off": "tool off"}
_LABELS = {f"{c}_{m}": f"{NAMES[c]}, {MODES[m]}" for c in CHECKPOINTS for m in TOOL_MODES}
_LABELS |= {"train": "training", "val": "validation"}
_ORDER = [f"{checkpoint}_{mode}" for mode in reversed(TOOL_MODES) for checkpoint in CHECKPOINTS]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSource:
    """One record file, as far as it was read."""

    run: int
    """Index of its run."""
    path: Path
    label: str
    """For the reader: `RL, tool on`, `training`."""
    records: tuple[Record, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The table's line about a source; means are over valid rollouts, None where there is nothing to take one over."""

    accuracy: Score | None
    columns: dict[str, Score]
    tool_rate: float | None
    turns: float | None
    tokens: float | None
    reward: float | None
    suspicious: float | None
    invalid: int
    steps: tuple[int, int] | None
    """First and last training step."""


def read_sources(run_dirs: Sequence[Path]) -> list[RunSource]:
    """Every record file of the runs that holds a record: an evaluation's, then a training's.

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
    """`rl_tool_on`: `RL, tool on`; `vstar_tool_off`: `vstar, tool off`."""
    known = next((mode for mode in MODES if stem.endswith(f"_{mode}")), None)
    return _LABELS.get(stem) or (f"{stem.removesuffix(f'_{known}')}, {MODES[known]}" if known else stem)


def _order(path: Path) -> tuple[int, list[tuple[int, str]]]:
    """`base_tool_on` before `rl_tool_on`, and `9` before `10`."""
    words = [(int(word) if word.isdigit() else -1, word) for word in re.split(r"(\d+)", path.stem)]
    return _ORDER.index(path.stem) if path.stem in _ORDER else len(_ORDER), words


def item_of(record: Record) -> str:
    """What was asked, 16 hexadecimal digits: the same in the evaluations of two checkpoints on the same rows."""
    asked = "\n".join((record.group, record.question, *record.references))
    return hashlib.sha256(asked.encode()).hexdigest()[:16]


def sample(sources: Sequence[RunSource], limit: int) -> list[list[Record]]:
    """At most `limit` records, a list a source in the order of its file.

    Sources share the places evenly. Which items are taken is decided by a hash, so that sources of the same items keep
    the same ones, and the rollouts of an item stay together.
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
    """The two sources to show side by side first; None where no two share an item.

    Those with the most items in common; of these the same file of two runs, else the last ones, which are RL's.
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


def run_summary(source: RunSource) -> Summary:
    """What the records of a source say together."""
    valid = [record for record in source.records if record.observed.valid]
    columns = sorted({record.column for record in valid if record.column})
    steps = [record.step for record in source.records if record.step is not None]

    def mean(values: Sequence[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return sum(known) / len(known) if known else None

    return Summary(
        accuracy=Score.of(record.observed.correct for record in valid) if valid else None,
        columns={c: Score.of(r.observed.correct for r in valid if r.column == c) for c in columns},
        tool_rate=mean([float(bool(record.observed.steps)) for record in valid]),
        turns=mean([record.turn_count for record in valid]),
        tokens=mean([record.tokens for record in valid]),
        reward=mean([record.reward for record in valid]),
        suspicious=mean([float(why_suspicious(record) is not None) for record in valid]),
        invalid=len(source.records) - len(valid),
        steps=(min(steps), max(steps)) if steps else None,
    )
