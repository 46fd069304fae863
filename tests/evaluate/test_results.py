"""results.json: exactly the documented fields, damage named by its field, and files of version 1 upgraded."""

import json
import math
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up_run import make_run, results

from codevision_ext.errors import InputError
from codevision_ext.evaluate import compare as comparing
from codevision_ext.evaluate.metrics import COLUMNS, TOOL_MODES, Score
from codevision_ext.evaluate.results import read_evaluation, write_evaluation
from codevision_ext.evaluate.statistics import wilson
from codevision_ext.report import write_report

VERSION_1 = Path(__file__).with_name("version_1")
"""Two folders that `codevision eval` wrote before results.json had a version: of checkpoints, and of suites."""


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_holds_the_share_and_stays_in_range(case: tuple[int, int]) -> None:
    correct, n = case
    low, high = wilson(correct, n)
    assert 0 <= low <= correct / n <= high <= 1
    assert wilson(n - correct, n) == pytest.approx((1 - high, 1 - low))


@pytest.mark.parametrize(
    ("correct", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_the_interval_is_the_published_one(correct: int, n: int, low: float, high: float) -> None:
    """Newcombe, Statistics in Medicine 17 (1998), table I, method 3."""
    assert wilson(correct, n) == pytest.approx((low, high), abs=5e-5)


def test_the_interval_covers_the_truth_about_95_times_in_100() -> None:
    n, truth = 120, 0.85
    chances = [math.comb(n, k) * truth**k * (1 - truth) ** (n - k) for k in range(n + 1)]
    covered = sum(chance for k, chance in enumerate(chances) if wilson(k, n)[0] <= truth <= wilson(k, n)[1])
    assert 0.93 < covered < 0.97


@pytest.mark.parametrize(("correct", "n"), [(0, 0), (3, 2), (-1, 2)])
def test_a_share_of_nothing_is_refused(correct: int, n: int) -> None:
    with pytest.raises(ValueError, match="not a share"):
        wilson(correct, n)


def test_the_mean_of_columns_weighs_them_the_same_however_many_items_they_have() -> None:
    mean = Score.mean([Score.of([True] * 10), Score.of([False] * 1000)])
    assert (mean.accuracy, mean.n) == (0.5, 1010)
    assert mean.low < 0.5 < mean.high


def test_results_have_exactly_the_published_fields_and_come_back_the_same(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    written = results(random.Random(0), 120)
    write_evaluation(path, written)
    content = json.loads(path.read_text())
    assert (set(content), content["version"]) == ({"version", "models", "costs"}, 2)
    assert set(content["models"]) == {"base", "sft", "rl"}
    suites = [model["suites"]["transformed"] for model in content["models"].values()]
    assert all(set(suite["modes"]) == set(TOOL_MODES) for suite in suites)
    assert tuple(suites[0]["modes"]["tool_on"]["columns"]) == COLUMNS
    assert set(suites[0]["modes"]["tool_on"]["columns"]["rot90"]["score"]) == {
        "accuracy",
        "low",
        "high",
        "n",
        "undecided",
    }
    assert read_evaluation(path) == read_evaluation(tmp_path) == written
    assert [p.name for p in tmp_path.iterdir()] == ["results.json"]


def percent(content: dict[str, Any]) -> None:
    rot90(content).update(accuracy=88.0, high=91.0)


def bare_interval(content: dict[str, Any]) -> None:
    rot90(content)["low"] = 0.999


def no_items(content: dict[str, Any]) -> None:
    rot90(content)["n"] = 0


def no_seed(content: dict[str, Any]) -> None:
    del content["models"]["rl"]["setup"]["seed"]


def new_field(content: dict[str, Any]) -> None:
    content["models"]["rl"]["suites"]["transformed"]["colour"] = "red"


def nothing(content: dict[str, Any]) -> None:
    content["models"] = {}


def before_it_began(content: dict[str, Any]) -> None:
    content["costs"]["minutes"] = -1.0


def later_version(content: dict[str, Any]) -> None:
    content["version"] = 3


def rot90(content: dict[str, Any]) -> dict[str, Any]:
    score: dict[str, Any] = content["models"]["rl"]["suites"]["transformed"]["modes"]["tool_on"]["columns"]["rot90"][
        "score"
    ]
    return score


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (percent, "field models.rl.suites.transformed.modes.tool_on.columns.rot90.score: low"),
        (bare_interval, "field models.rl.suites.transformed.modes.tool_on.columns.rot90.score: low"),
        (no_items, "at least one item"),
        (no_seed, "field models.rl.setup.seed: is missing"),
        (new_field, "field models.rl.suites.transformed.colour: isn't known"),
        (nothing, "models holds no evaluation"),
        (before_it_began, "minutes is -1.0"),
        (later_version, "field version: must be 2"),
    ],
)
def test_results_that_cannot_be_are_refused_by_name(tmp_path: Path, damage: Any, message: str) -> None:
    path = make_run(tmp_path / "run") / "results.json"
    content = json.loads(path.read_text())
    damage(content)
    path.write_text(json.dumps(content))
    with pytest.raises(InputError) as caught:
        read_evaluation(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "can't be read: No such file"),
        ("no JSON", "isn't JSON"),
        ("[]", "isn't a JSON object"),
        ("{}", "field models: is missing"),
        (
            '{"checkpoints": {"rl": {"tool_on": {"source": {}}}}, "seed": 0, "versions": {}}',
            "results.json of version 1",
        ),
        ('{"format": "codevision-eval-1", "suites": {}}', "field models.model.setup: is missing"),
    ],
)
def test_a_file_that_is_no_results_is_refused_in_one_sentence(
    tmp_path: Path, content: str | None, message: str
) -> None:
    path = tmp_path / "results.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError) as caught:
        read_evaluation(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)


def test_checkpoints_of_version_1_are_upgraded_with_every_score(tmp_path: Path) -> None:
    old = json.loads((VERSION_1 / "checkpoints" / "results.json").read_text())
    evaluation = read_evaluation(VERSION_1 / "checkpoints")
    assert evaluation.version == 2
    assert (set(evaluation.models), evaluation.costs) == ({"base", "rl"}, None)
    for name, model in evaluation.models.items():
        suite = model.suites["transformed"]
        assert (model.setup.seed, model.setup.versions) == (old["seed"], old["versions"])
        for mode, result in suite.modes.items():
            scores = {column: each.score for column, each in result.columns.items()}
            assert scores == {column: Score(**score) for column, score in old["checkpoints"][name][mode].items()}
            assert (VERSION_1 / "checkpoints" / result.rows).is_file()
            assert result.overall.score == Score.mean(scores.values())
    costs = {"minutes": 17.4, "peak_rss_gb": 7.9, "step_s": 4.8}
    (tmp_path / "results.json").write_text(json.dumps(old | costs))
    measured = read_evaluation(tmp_path).costs
    assert measured is not None
    assert (measured.minutes, measured.peak_rss_gb, measured.step_s) == tuple(costs.values())


def test_suites_of_version_1_are_upgraded_with_every_field() -> None:
    old = json.loads((VERSION_1 / "suites" / "results.json").read_text())
    evaluation = read_evaluation(VERSION_1 / "suites")
    write = json.loads((VERSION_1 / "suites" / "setup.json").read_text())
    model = evaluation.models["model"]
    assert (set(evaluation.models), model.setup.engine) == ({"model"}, "sglang")
    assert model.setup.model.sha256 == write["setup"]["model"]["sha256"]
    assert model.suites["transformed"].sha256 == write["data"]["transformed"]
    health = model.suites["transformed"].modes["tool_on"].health
    assert health is not None
    assert health.turns == old["suites"]["transformed"]["modes"]["tool_on"]["health"]["turns"]


@pytest.mark.parametrize("kind", ["checkpoints", "suites"])
def test_a_folder_of_version_1_has_its_page(kind: str, tmp_path: Path) -> None:
    page = write_report([VERSION_1 / kind], tmp_path / "page.html").read_text()
    assert ("<h2>Accuracy</h2>" in page) == (kind == "checkpoints")
    assert ("<h2>Suites</h2>" in page) == (kind == "suites")


def test_folders_of_version_1_are_compared_by_their_records(tmp_path: Path) -> None:
    with_tool, without = comparing.compare_evaluations([VERSION_1 / "checkpoints"])
    assert (with_tool.runs, with_tool.mode) == (("checkpoints base", "checkpoints rl"), "tool_on")
    assert without.columns == (*COLUMNS, "overall")
    assert with_tool.cells[1][0].difference is not None
    mixed, _ = comparing.compare_evaluations([VERSION_1 / "checkpoints", VERSION_1 / "suites"])
    assert mixed.runs == ("checkpoints base", "checkpoints rl", "suites")
    other = tmp_path / "other"
    for path in (VERSION_1 / "checkpoints").rglob("*.json*"):
        target = other / path.relative_to(VERSION_1 / "checkpoints")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(path.read_text().replace('"references":["', '"references":["another '))
    with pytest.raises(InputError, match="suite transformed was measured on other items than in"):
        comparing.compare_evaluations([VERSION_1 / "suites", other])
