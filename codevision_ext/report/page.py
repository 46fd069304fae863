"""How does the folder of a run become one HTML page? Read what is there, say what isn't, fill the template.

results.json                                what the checkpoints can do
metrics.jsonl                               the numbers of every training step
eval/<checkpoint>_<tool_on|tool_off>.jsonl  records of the evaluation, with eval/pictures/
rollouts/*.jsonl                            records of the training, with rollouts/pictures/
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import jinja2

from codevision_ext.config import WatchSettings
from codevision_ext.errors import InputError
from codevision_ext.evaluate.metrics import (
    CHECKPOINTS,
    COLUMNS,
    TOOL_MODES,
    TRANSFORMED,
    Checkpoint,
    Results,
    Score,
    ToolMode,
    read_results,
)
from codevision_ext.files import write_whole
from codevision_ext.health import findings
from codevision_ext.records import read_last
from codevision_ext.report import curves, trajectories

_READ_BYTES = 4_000_000
"""Of a record file: the end is enough to choose a few trajectories from."""
_ROLLOUT_FILES = 3
"""The newest ones are looked at."""

NAMES: dict[Checkpoint, str] = {"base": "Base", "sft": "SFT", "rl": "RL"}
MODES: dict[ToolMode, str] = {"tool_on": "tool on", "tool_off": "tool off"}


def write_report(run_dir: Path, out: Path | None = None) -> Path:
    """Writes the page about a run, to RUN_DIR/report.html by default, and gives its path.

    What the folder lacks is said on the page.

    Raises:
        InputError: the folder isn't there or holds nothing of a run, something in it can't be read, or the page
            can't be written.
    """
    if not run_dir.is_dir():
        raise InputError(f"{run_dir}: no such folder")
    target = run_dir / "report.html" if out is None else out
    try:
        write_whole(target, render(run_dir).encode())
    except OSError as error:
        raise InputError(f"{target}: can't be written: {error.strerror}") from error
    return target


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table: a checkpoint with or without the tool."""

    checkpoint: Checkpoint
    mode: ToolMode
    cells: tuple[Score, ...]
    """One a column, and their mean; empty when it wasn't evaluated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Headline:
    """A difference that the run is about, in points of per cent."""

    points: float
    what: str
    detail: str


def render(run_dir: Path) -> str:
    """The page as text.

    Raises:
        InputError: the folder holds nothing of a run, or something in it can't be read.
    """
    missing = []
    results, metrics = None, {}
    if (run_dir / "results.json").exists():
        results = read_results(run_dir / "results.json")
    else:
        missing.append("results.json isn't there, so there is no table of results: the evaluation hasn't finished.")
    if (run_dir / "metrics.jsonl").exists():
        metrics = curves.read_metrics(run_dir / "metrics.jsonl")
    if not metrics:
        missing.append("metrics.jsonl holds no step, so there are no curves: the training hasn't begun.")
    tested, rolled_out = list(evaluated(run_dir)), list(trained(run_dir))
    pool = tested + rolled_out
    if not tested:
        missing.append("eval/ holds no record with the tool on, so no trajectory below is from the evaluation.")
    if not rolled_out:
        missing.append("rollouts/ holds no record, so no trajectory below is from the training.")
    if results is None and not metrics and not pool:
        raise InputError(f"{run_dir}: holds no results.json, metrics.jsonl or records of a run")
    rows = table(results) if results else []
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["percent"] = lambda share: f"{share * 100:.1f}"
    template = environment.from_string((files("codevision_ext.report") / "report.html.j2").read_text(encoding="utf-8"))
    return template.render(
        name=run_dir.resolve().name,
        missing=missing,
        results=results,
        columns=(*COLUMNS, "avg"),
        rows=rows,
        counts=sorted({score.n for row in rows for score in row.cells[: len(COLUMNS)]}),
        headlines=headlines(results) if results else [],
        names=NAMES,
        modes=MODES,
        steps=max((max(points) for points in metrics.values()), default=0),
        sections=curves.sections(metrics),
        findings=findings(metrics, WatchSettings()),
        picks=trajectories.pick(pool),
        looked_at=len(pool),
        messages=trajectories.messages,
    )


def table(results: Results) -> list[Row]:
    """A row for every checkpoint with and without the tool, those that weren't evaluated included."""
    rows = []
    for checkpoint in CHECKPOINTS:
        for mode in TOOL_MODES:
            columns = results.checkpoints.get(checkpoint, {}).get(mode)
            cells = [columns[column] for column in COLUMNS] if columns else []
            rows.append(Row(checkpoint=checkpoint, mode=mode, cells=(*cells, Score.mean(cells)) if cells else ()))
    return rows


def headlines(results: Results) -> list[Headline]:
    """What RL gave over SFT, and what the tool gives, on the transformed columns; only what was evaluated."""

    def accuracy(checkpoint: Checkpoint, mode: ToolMode) -> float | None:
        columns = results.checkpoints.get(checkpoint, {}).get(mode)
        return Score.mean(columns[column] for column in TRANSFORMED).accuracy * 100 if columns else None

    rl, bare = accuracy("rl", "tool_on"), accuracy("rl", "tool_off")
    sft, base = accuracy("sft", "tool_on"), accuracy("base", "tool_on")
    pairs = (
        (sft, rl, "RL over SFT"),
        (base, sft, "SFT over base"),
        (bare, rl, "RL: with the tool over without"),
    )
    return [
        Headline(points=after - before, what=what, detail=f"{before:.1f} → {after:.1f} %")
        for before, after, what in pairs
        if before is not None and after is not None
    ]


def evaluated(run_dir: Path) -> Iterator[trajectories.Found]:
    """Records of the last checkpoint that was evaluated with the tool."""
    paths = ((checkpoint, run_dir / "eval" / f"{checkpoint}_tool_on.jsonl") for checkpoint in reversed(CHECKPOINTS))
    checkpoint, path = next(((c, p) for c, p in paths if p.exists()), (None, None))
    if checkpoint is None or path is None:
        return
    for record in reversed(read_last(path, _READ_BYTES)):
        where = f"evaluation of {NAMES[checkpoint]}, {MODES['tool_on']}"
        yield trajectories.Found(record=record, directory=path.parent, where=where)


def trained(run_dir: Path) -> Iterator[trajectories.Found]:
    """Records of the end of the training, the newest first."""
    for path in sorted((run_dir / "rollouts").glob("*.jsonl"), key=_by_number)[: -_ROLLOUT_FILES - 1 : -1]:
        for record in reversed(read_last(path, _READ_BYTES)):
            step = "" if record.step is None else f", step {record.step}"
            yield trajectories.Found(record=record, directory=path.parent, where=f"{record.split or 'training'}{step}")


def _by_number(path: Path) -> list[tuple[int, str]]:
    """Orders `9.jsonl` before `10.jsonl`."""
    return [(int(word) if word.isdigit() else -1, word) for word in re.split(r"(\d+)", path.name)]
