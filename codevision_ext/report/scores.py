"""Reads the scores of an evaluation for the tables of the page."""

from collections.abc import Mapping
from dataclasses import dataclass

from codevision_ext.evaluate.metrics import CHECKPOINTS, COLUMNS, TOOL_MODES, TRANSFORMED, Checkpoint, Score, ToolMode
from codevision_ext.evaluate.results import MODEL, Evaluation, ModeResult, Setup
from codevision_ext.evaluate.suites import transformed

SUITE = transformed.SUITE.name
"""Suite of the table of checkpoints."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointRow:
    """One row of the table of checkpoints: a checkpoint with the tool or without."""

    checkpoint: Checkpoint
    mode: ToolMode
    cells: tuple[Score, ...]
    """Score of each column, then their mean; empty if the checkpoint wasn't evaluated in this mode."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteRow:
    """One row of the table of suites: a suite with the tool or without."""

    suite: str
    """Name of the suite, behind that of the model if the model has one."""
    mode: ToolMode
    scores: Mapping[str, Score]
    """Score of each column, then of `overall`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Headline:
    """A difference that the run is about, in percentage points."""

    points: float
    what: str
    detail: str


def setup_of_checkpoints(evaluation: Evaluation) -> Setup | None:
    """Returns the setup of the last checkpoint in the table; None if no checkpoint was evaluated."""
    complete = [name for name in CHECKPOINTS if any(_six_columns(evaluation, name, mode) for mode in TOOL_MODES)]
    return evaluation.models[complete[-1]].setup if complete else None


def checkpoint_rows(evaluation: Evaluation) -> list[CheckpointRow]:
    """Returns a row for every checkpoint with and without the tool, including those that weren't evaluated."""
    rows = []
    for checkpoint in CHECKPOINTS:
        for mode in TOOL_MODES:
            cells = _six_columns(evaluation, checkpoint, mode)
            rows.append(
                CheckpointRow(checkpoint=checkpoint, mode=mode, cells=(*cells, Score.mean(cells)) if cells else ())
            )
    return rows


def suite_rows(evaluation: Evaluation) -> list[SuiteRow]:
    """Returns a row for every suite and mode, in the order of the file, without those in the table of checkpoints."""
    return [
        SuiteRow(
            suite=suite if name == MODEL else f"{name}, {suite}",
            mode=mode,
            scores={column: each.score for column, each in mode_result.columns.items()}
            | {"overall": mode_result.overall.score},
        )
        for name, model in evaluation.models.items()
        for suite, result in model.suites.items()
        for mode, mode_result in result.modes.items()
        if not (suite == SUITE and name in CHECKPOINTS and _is_complete(mode_result))
    ]


def headlines(evaluation: Evaluation) -> list[Headline]:
    """Returns the gains of RL over SFT, of SFT over base, and of the tool, on the transformed columns."""

    def accuracy(checkpoint: Checkpoint, mode: ToolMode) -> float | None:
        cells = dict(zip(COLUMNS, _six_columns(evaluation, checkpoint, mode), strict=False))
        return Score.mean(cells[column] for column in TRANSFORMED).accuracy * 100 if cells else None

    rl, rl_without = accuracy("rl", "tool_on"), accuracy("rl", "tool_off")
    sft, base = accuracy("sft", "tool_on"), accuracy("base", "tool_on")
    pairs = ((sft, rl, "RL over SFT"), (base, sft, "SFT over base"), (rl_without, rl, "RL: with the tool over without"))
    return [
        Headline(points=after - before, what=what, detail=f"{before:.1f} → {after:.1f} %")
        for before, after, what in pairs
        if before is not None and after is not None
    ]


def _six_columns(evaluation: Evaluation, checkpoint: Checkpoint, mode: ToolMode) -> list[Score]:
    """Returns the scores of a checkpoint in the order of COLUMNS; empty if it wasn't evaluated on all of them."""
    model = evaluation.models.get(checkpoint)
    suite = model.suites.get(SUITE) if model else None
    result = suite.modes.get(mode) if suite else None
    return [result.columns[column].score for column in COLUMNS] if result and _is_complete(result) else []


def _is_complete(result: ModeResult) -> bool:
    return set(COLUMNS) <= result.columns.keys()
