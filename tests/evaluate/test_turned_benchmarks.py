"""Tests that a turned benchmark has six columns, each item scored by the benchmark's own rule, by command alone."""

import json
from pathlib import Path
from typing import Any

import pytest
from sets import SETS, coded, data_prep, scene, write_parquet
from test_suites import answered

from codevision_ext.errors import InputError
from codevision_ext.evaluate.metrics import COLUMNS
from codevision_ext.evaluate.options import read_suites
from data_prep import eval_items

CHART = {"Paragraph": "", "image": coded(scene(1))}
CHARTQAPRO = [
    CHART | {"Question": ["How many?"], "Answer": ["100"], "Question Type": "Factoid", "Year": ["NO"]},
    CHART | {"Question": ["When?"], "Answer": ["2000"], "Question Type": "Factoid", "Year": ["YES"]},
    CHART | {"Question": ["True?"], "Answer": ["True"], "Question Type": "Fact Checking", "Year": ["NO"]},
    CHART | {"Question": ["Who?"], "Answer": ["Berlin"], "Question Type": "Factoid", "Year": ["NO"]},
]
OCR = {"question_type": "Regular Text Recognition", "image": coded(scene(2))}
OCRBENCH = [
    OCR | {"dataset": "IIIT5K", "question": "What is written?", "answer": ["Centre"]},
    OCR | {"dataset": "HME100k", "question": "Which formula?", "answer": ["x ^ 2 + Y"]},
]


def marks(suite: Any, number: int, answer: str) -> list[float]:
    """Returns the score of an answer in each column of an item."""
    items = [each for each in suite.items if each.item.question == suite.items[6 * number].item.question]
    scorers = [suite.suite.scorer_of(each) for each in items]
    assert [each.item.column for each in items] == list(COLUMNS)
    return [scorer(each, answered(answer), None).score for scorer, each in zip(scorers, items, strict=True)]


@pytest.mark.parametrize("converted", [False, True], ids=["its own file", "converted first"])
@pytest.mark.parametrize(
    ("name", "rows", "answers"),
    [
        ("chartqapro_t", CHARTQAPRO, [("104", 1.0), ("2001", 0.0), ("Tru", 0.0), ("Berlim", 5 / 6)]),
        ("ocrbench_t", OCRBENCH, [("the CENTRE of it", 1.0), ("= x^2 +Y", 1.0)]),
    ],
)
def test_turned_items_are_scored_by_the_rule_of_their_benchmark(
    tmp_path: Path, name: str, rows: list[dict[str, Any]], answers: list[tuple[str, float]], converted: bool
) -> None:
    path = write_parquet(tmp_path / "own.parquet", rows)
    if converted:
        data_prep("convert", path, "--out", tmp_path / "rl.parquet", "--workers", 1)
        path = tmp_path / "rl.parquet"
    data_prep("transform", path, "--out", tmp_path / "turned.parquet", "--workers", 1)
    [suite] = read_suites([str(tmp_path / "turned.parquet")], eval_items)
    assert (suite.suite.name, suite.suite.overall, len(suite.items)) == (name, "columns", 6 * len(rows))
    for number, (answer, score) in enumerate(answers):
        assert marks(suite, number, answer) == pytest.approx([score] * 6)
    [other] = read_suites([f"transformed={tmp_path / 'turned.parquet'}"], eval_items)
    assert marks(other, 0, answers[0][0]) == [1.0] * 6


def test_formulas_are_compared_with_letter_case(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "own.parquet", OCRBENCH)
    data_prep("transform", path, "--out", tmp_path / "turned.parquet", "--workers", 1)
    [suite] = read_suites([f"ocrbench_t={tmp_path / 'turned.parquet'}"], eval_items)
    assert marks(suite, 1, "x^2+y") == [0.0] * 6


def test_a_converted_benchmark_is_still_the_suite_of_its_own_file(tmp_path: Path) -> None:
    path = SETS["ChartQAPro"](tmp_path)
    data_prep("convert", path, "--out", tmp_path / "rl.parquet", "--workers", 1)
    [suite] = read_suites([str(tmp_path / "rl.parquet")], eval_items)
    assert suite.suite.name == "chartqapro"
    assert {each.item.column for each in suite.items} == {"Conversational", "Factoid"}
    extra = suite.items[0].row["extra_info"]
    assert json.loads(extra["rule_fields"])["Year"] == ["NO", "NO"]


def test_rows_of_another_benchmark_are_refused_by_name(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "own.parquet", OCRBENCH)
    data_prep("transform", path, "--out", tmp_path / "turned.parquet", "--workers", 1)
    with pytest.raises(InputError, match="chartqapro_t: a row belongs to ocrbench; `data_prep transform` makes the"):
        read_suites([f"chartqapro_t={tmp_path / 'turned.parquet'}"], eval_items)
