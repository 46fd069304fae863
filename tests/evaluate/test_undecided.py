"""An answer that no rule decides and no judge was asked about is counted, and accuracy is given for both readings."""

import io
from pathlib import Path
from typing import Any

import pytest
from judge_server import Request, says, serve, verdict
from rich.console import Console
from sets import rl_row, write_parquet

from codevision_ext.cli.eval import run_eval
from codevision_ext.cli.eval_options import EvalOptions
from codevision_ext.config import Settings, read_settings
from codevision_ext.errors import InputError
from codevision_ext.evaluate.metrics import Score
from codevision_ext.evaluate.results import Evaluation, read_evaluation
from codevision_ext.evaluate.tables import show_results, undecided_notes
from codevision_ext.io.records import read_records
from codevision_ext.monitor.rollout_metrics import summarise_step

REFERENCES = ["A", "A (the letter)", "B", "the first letter"]
"""The answer A is right, undecided, wrong and undecided."""


def measure(tmp_path: Path, **options: Any) -> Evaluation:
    rules = [{"style": "rule", "ground_truth": reference} for reference in REFERENCES]
    rows = [rl_row(number, None, reward_model=rule, bbox=None) for number, rule in enumerate(rules)]
    path = write_parquet(tmp_path / "rows.parquet", rows)
    with serve(lambda _: says("<think>a</think><answer>A</answer>")) as server:
        given = {"suites": [f"rows={path}"], "out": tmp_path / "out", "engine": "openai", "tools": "off"} | options
        return run_eval(EvalOptions(model=server.url, **given))


def test_without_a_judge_undecided_answers_are_counted_and_accuracy_has_two_readings(tmp_path: Path) -> None:
    evaluation = measure(tmp_path)
    assert read_evaluation(tmp_path / "out") == evaluation
    mode = evaluation.models["model"].suites["rows"].modes["tool_off"]
    score = mode.overall.score
    assert (score.accuracy, score.undecided, score.upper, score.n) == (0.25, 0.5, 0.75, 4)
    assert (score.low, score.high) == (Score.of([1, 0, 0, 0]).low, Score.of([1, 1, 1, 0]).high)
    assert mode.health is not None
    assert mode.health.undecided == 2
    records = list(read_records(tmp_path / "out" / mode.rows))
    assert [record.observed.undecided for record in records] == [False, True, False, True]
    assert [record.observed.correct for record in records] == [True, False, False, False]

    (note,) = undecided_notes(evaluation)
    assert note.startswith("rows, tool off: 2 of 4 answers are undecided")
    assert "between 25.0 % (all of them wrong) and 75.0 % (all of them right)" in note
    assert "judge.base_url" in note
    show_results(evaluation, Console(file=(shown := io.StringIO()), width=200))
    assert note in shown.getvalue()
    assert "25.0 to 75.0" in shown.getvalue()
    assert str(score).startswith("25.0 to 75.0 (")


def test_a_judge_leaves_nothing_undecided(tmp_path: Path) -> None:
    def judge(request: Request) -> Any:
        return says(verdict(request, "CORRECT"))

    with serve(judge) as judging:
        evaluation = measure(tmp_path, settings=[f"judge.base_url={judging.url}", "judge.model=m"])
    score = evaluation.models["model"].suites["rows"].modes["tool_off"].overall.score
    assert (score.accuracy, score.undecided) == (0.75, 0)
    assert undecided_notes(evaluation) == []


def test_where_references_are_exact_every_other_answer_is_wrong(tmp_path: Path) -> None:
    score = measure(tmp_path, settings=["exact_answers=true"]).models["model"].suites["rows"].modes["tool_off"].overall
    assert (score.score.accuracy, score.score.undecided) == (0.25, 0)
    with pytest.raises(InputError, match="exact_answers"):
        read_settings({"exact_answers": True, "judge": {"base_url": "http://x", "model": "m"}})
    assert not Settings().exact_answers


def test_the_mean_of_columns_keeps_the_share_of_undecided_answers() -> None:
    mean = Score.mean([Score.of([0, 0], [1, 0]), Score.of([1, 0])])
    assert (mean.accuracy, mean.undecided, mean.upper) == (0.25, 0.25, 0.5)
    with pytest.raises(ValueError, match="undecided"):
        Score(accuracy=0.5, low=0.4, high=0.6, n=2, undecided=0.6)


def test_training_logs_the_share_of_undecided_answers() -> None:
    names = ("valid", "acc", "undecided", "format", "tool", "calls", "failed_calls", "noop_calls", "malformed_calls")
    names += ("repeated_calls", "recoverable_calls", "recovered_calls", "turns", "drawn")
    infos = [dict.fromkeys(names, 0.0) | {"valid": 1.0, "undecided": float(number < 2)} for number in range(8)]
    infos[7]["acc"] = 1.0
    metrics = summarise_step(infos, ["g"] * 8)
    assert (metrics["rollout/accuracy"], metrics["rollout/undecided"]) == (0.125, 0.25)
    assert metrics["rollout/accuracy_upper"] == 0.375
