"""`codevision judge-check` counts the judge's verdicts against people's."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from judge_server import Request, data_of, fails, honest, says, serve, verdict
from statsmodels.stats.inter_rater import cohens_kappa

from codevision_ext.errors import InputError
from codevision_ext.judge.agreement import Agreement, agreement, read_labelled

LINES: list[dict[str, Any]] = [
    {"question": "?", "answer": "dog", "prediction": "a dog", "label": 1, "source": "VQA"},
    {"question": "?", "answer": ["hound", "dog"], "prediction": "some dog", "label": True},
    {"question": "?", "answer": "cat", "prediction": "dog", "label": 0, "source": "VQA"},
    {"question": "?", "answer": "7", "prediction": "7 or 8", "label": False, "source": "ChartQA"},
    {"question": "?", "answer": "8", "prediction": "9", "label": 0, "source": "ChartQA"},
    {"question": "?", "answer": "bird", "prediction": "sparrow", "label": 1, "source": "VQA"},
    {"question": "?", "answer": "fog", "prediction": "mumble", "label": 1, "source": "VQA"},
]


def written(path: Path, *lines: Any) -> Path:
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


def mumbling(request: Request) -> Any:
    """An honest judge that has nothing to say on one answer."""
    return says("hm") if data_of(request)[2] == "mumble" else honest(request)


def check(labels: Path, url: str, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "codevision_ext.cli", "judge-check", str(labels), "--base-url", url, *words]
    return subprocess.run(
        [*command, "--model", "m", "--retries", "0"], capture_output=True, text=True, check=False, timeout=300
    )


def test_the_command_prints_a_table_for_people_and_json_for_programs(tmp_path: Path) -> None:
    labels = written(tmp_path / "labels.jsonl", *LINES, "")
    with serve(mumbling) as server:
        done = check(labels, server.url, "--cache", str(tmp_path / "cache"))
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["model"], result["failed"], sorted(result["prompts"])) == ("m", 0, ["chart", "general"])
    judge = result["judge"]
    assert judge["confusion"]["label_1"] == {"1": 2, "0": 1, "abstained": 1}
    assert judge["confusion"]["label_0"] == {"1": 1, "0": 2, "abstained": 0}
    assert (judge["lines"], judge["abstained"]) == (7, 1)
    assert judge["accuracy"] == pytest.approx(4 / 7)
    assert judge["kappa"] == pytest.approx(1 / 3)
    assert judge["kappa_interval"][0] < 1 / 3 < judge["kappa_interval"][1]
    assert result["rules_then_judge"]["confusion"]["label_0"] == {"1": 0, "0": 3, "abstained": 0}
    assert [result["by_prompt"][name]["lines"] for name in ("chart", "general")] == [2, 5]
    for word in ("accuracy", "kappa", "0.571", "0.333", "judge, chart", "rules_then_judge"):
        assert word in done.stderr
    assert server.requests[0]["temperature"] == 0
    with serve(fails(400)) as server:
        again = check(labels, server.url, "--cache", str(tmp_path / "cache"))
    assert json.loads(again.stdout)["failed"] == 1, "only the abstention wasn't kept"
    assert "1 of 7 lines not judged" in again.stderr


def test_lines_that_could_not_be_judged_are_counted_apart_and_all_of_them_are_an_error(tmp_path: Path) -> None:
    labels = written(tmp_path / "labels.jsonl", *LINES[:3])
    with serve(lambda r: fails(400) if data_of(r)[2] == "dog" else says(verdict(r))) as server:
        done = check(labels, server.url)
    assert done.returncode == 0
    assert (json.loads(done.stdout)["failed"], json.loads(done.stdout)["judge"]["lines"]) == (1, 2)
    with serve(fails(400)) as server:
        done = check(labels, server.url)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert f"the judge m at {server.url} gave no reply" in done.stderr


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("{", "line 2: isn't JSON"),
        ({"label": None}, "line 2: field label"),
        ({"label": 2}, "line 2: label is 2; it must be 0, 1, false or true"),
        ({"label": "1"}, "line 2: field label"),
        ({"label": 1.0}, "line 2: field label"),
        ({"answer": []}, "line 2: answer is empty"),
        ({"answer": ["", "x"]}, "line 2: answer is empty"),
        ({"answer": 7}, "line 2: field answer"),
        ({"prediction": None}, "line 2: field prediction"),
        ({"sauce": "x"}, "line 2: field sauce: isn't known"),
    ],
    ids=str,
)
def test_a_bad_line_is_named_and_nobody_is_asked(change: Any, said: str, tmp_path: Path) -> None:
    bad = change if isinstance(change, str) else LINES[1] | change
    with pytest.raises(InputError, match=rf"labels\.jsonl, {said}.*\(and 1 more such lines\)$"):
        read_labelled(written(tmp_path / "labels.jsonl", LINES[0], bad, LINES[2], "[]"))


def test_a_file_without_labels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no labelled line"):
        read_labelled(written(tmp_path / "labels.jsonl", ""))
    with pytest.raises(InputError, match="can't be read: No such file"):
        read_labelled(tmp_path / "nowhere.jsonl")


def test_a_setting_that_can_t_be_is_one_sentence_and_exit_code_2(tmp_path: Path) -> None:
    labels = written(tmp_path / "labels.jsonl", *LINES)
    done = check(labels, "localhost:8000")
    said = "codevision: codevision.judge.base_url: 'localhost:8000' doesn't begin with http:// or https://\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", said)
    done = check(labels, "http://127.0.0.1:1/v1", "--request", "{")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert done.stderr.startswith("codevision: codevision.judge.request: ")


def made(a: int, b: int, c: int, d: int) -> Agreement:
    """Right as right, right as wrong, wrong as right, wrong as wrong."""
    return Agreement(
        right_as_right=a, right_as_wrong=b, wrong_as_right=c, wrong_as_wrong=d, right_abstained=0, wrong_abstained=0
    )


@pytest.mark.parametrize(
    ("table", "kappa"),
    [
        ((20, 5, 10, 15), 0.4),
        ((45, 15, 25, 15), 0.1304),
        ((25, 35, 5, 35), 0.2593),
        ((5, 0, 0, 5), 1.0),
        ((0, 5, 5, 0), -1.0),
        ((5, 5, 5, 5), 0.0),
    ],
)
def test_kappa_is_cohen_s(table: tuple[int, int, int, int], kappa: float) -> None:
    assert made(*table).kappa == pytest.approx(kappa, abs=1e-4)


def test_kappa_is_unknown_where_chance_alone_agrees() -> None:
    for table in ((5, 0, 0, 0), (0, 0, 0, 5), (0, 0, 0, 0)):
        assert (made(*table).kappa, made(*table).kappa_interval) == (None, None)
    assert made(0, 0, 0, 0).accuracy is None
    assert made(5, 0, 5, 0).kappa == pytest.approx(0)


@settings(max_examples=25)
@given(st.tuples(*[st.integers(0, 40)] * 4))
def test_the_interval_holds_kappa_and_stays_in_range(table: tuple[int, int, int, int]) -> None:
    seen = made(*table)
    if seen.kappa is not None and seen.kappa_interval is not None:
        low, high = seen.kappa_interval
        assert -1 <= low <= seen.kappa <= high <= 1


def test_the_interval_is_that_of_large_samples_and_wide_for_small_ones() -> None:
    # Fleiss, Cohen, Everitt (1969): standard error 0.0402 for this table
    low, high = made(200, 50, 100, 150).kappa_interval or (0, 0)
    assert (low, high) == (pytest.approx(0.4 - 1.96 * 0.0402, abs=0.01), pytest.approx(0.4 + 1.96 * 0.0402, abs=0.01))
    low, high = made(3, 0, 0, 3).kappa_interval or (0, 0)
    assert low < 0.7
    assert high == 1


@pytest.mark.parametrize("table", [(20, 5, 10, 15), (3, 0, 0, 3), (5, 0, 5, 0)])
def test_the_interval_is_that_of_the_kappas_of_drawn_tables(table: tuple[int, int, int, int]) -> None:
    draws = np.random.default_rng(0).dirichlet(np.array(table) + 0.5, size=20_000)
    kappas = [cohens_kappa(draw.reshape(2, 2), return_results=False) for draw in draws]
    low, high = np.quantile(kappas, [0.025, 0.975])
    agreed = made(*table)
    assert agreed.kappa is not None
    assert agreed.kappa_interval == pytest.approx((min(low, agreed.kappa), max(high, agreed.kappa)))


def test_abstentions_count_against_accuracy_and_not_in_kappa() -> None:
    pairs = [(1, 1.0), (1, None), (0, 0.0), (0, None)]
    seen = agreement(pairs)
    assert (seen.total, seen.accuracy, seen.kappa) == (4, 0.5, 1.0)
    assert (seen.right_abstained, seen.wrong_abstained) == (1, 1)
