"""A comparison separates chance from gain in each column, and refuses runs that can't be compared."""

import json
import random
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from codevision_ext.errors import InputError
from codevision_ext.evaluate import compare as comparing
from codevision_ext.evaluate.metrics import COLUMNS
from codevision_ext.evaluate.results import (
    Evaluation,
    ModelResult,
    ModelUsed,
    Setup,
    SuiteResult,
    read_evaluation,
    write_evaluation,
)
from codevision_ext.evaluate.suites import SUITES
from codevision_ext.evaluate.summary import summarise_suite
from codevision_ext.io.records import Record, RecordWriter
from codevision_ext.types import Outcome, Task

ITEMS = 60
NUMBERS = {
    **dict.fromkeys(("format", "tool", "calls", "failed_calls", "malformed_calls", "turns", "seconds"), 1.0),
    **dict.fromkeys(("recoverable_calls", "recovered_calls", "end_length", "end_turn_cap"), 0.0),
    **dict.fromkeys(("prompt_tokens", "sampled_tokens"), 9.0),
}


def run_of(folder: Path, shares: Mapping[str, float], sha256: str = "0" * 64, fresh: str = "") -> Path:
    """An evaluation in which so many of each column are right, by luck that all runs share except in column `fresh`."""
    records = []
    for item in range(ITEMS):
        for column in COLUMNS:
            luck = random.Random(item + 1000 * (column == fresh)).random()
            right = luck < shares.get(column, 0.5)
            seen = Outcome(correct=right, format=1.0)
            record = Record(group=f"g-{item}-{column}", id=f"g-{item}-{column}-0", task=Task(), observed=seen)
            numbers = NUMBERS | {"score": float(right)}
            records.append(replace(record, column=column, picture_id=f"p{item}", numbers=numbers))
    writer = RecordWriter(folder / "eval", "transformed_tool_on")
    writer.write(*records)
    mode = summarise_suite(SUITES["transformed"], records, 1, "eval/transformed_tool_on.jsonl")
    model = ModelUsed(name=folder.name, url="", sha256="")
    setup = Setup(
        model=model,
        engine="openai",
        settings={},
        tool={},
        limits={},
        k=1,
        seed=0,
        temperature=1.0,
        request={},
        judge=None,
        versions={},
    )
    suite = SuiteResult(
        data="t", sha256=sha256, items=len(records), overall="columns", modes={"tool_on": mode}, benefit={}
    )
    model_result = ModelResult(setup=setup, suites={"transformed": suite})
    write_evaluation(folder / "results.json", Evaluation(models={"model": model_result}))
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("runs")
    return [run_of(folder / "sft", {}), run_of(folder / "rl_1", {"flip_v": 0.9}, fresh="rot90")]


def test_a_gain_is_told_from_chance_column_by_column(runs: list[Path]) -> None:
    [found] = comparing.compare_evaluations(runs)
    assert (found.runs, found.columns) == (("sft", "rl_1"), (*COLUMNS, "overall"))
    cells = dict(zip(found.columns, found.cells[1], strict=True))
    assert {column for column, cell in cells.items() if cell.significant} == {"flip_v", "overall"}
    assert cells["source"].difference is not None
    assert (cells["source"].difference.value, cells["source"].p) == (0, 1)
    assert cells["rot90"].difference is not None
    assert cells["rot90"].difference.value != 0, "and yet chance"
    assert cells["flip_v"].difference is not None
    gain = cells["flip_v"].score.accuracy - found.cells[0][-2].score.accuracy
    assert cells["flip_v"].difference.value == pytest.approx(gain)
    assert all(cell.difference is None for cell in found.cells[0])


def test_a_comparison_is_printed_in_markdown_in_latex_and_as_a_drawing(runs: list[Path], tmp_path: Path) -> None:
    [found] = comparing.compare_evaluations(runs)
    lines = comparing.comparison_markdown(found).splitlines()
    assert lines[2] == "| run | source | rot90 | rot180 | rot270 | flip_h | flip_v | overall |"
    assert lines[4].startswith("| sft | ")
    assert lines[5].split("|")[-3].strip().endswith("*")
    told = comparing.comparison_latex(found)
    assert "rl\\_1 & " in told
    assert "flip\\_v" in told
    assert told.count("\\\\\n") == 3
    assert "%" not in told.split("\n", 1)[1].replace("\\%", "")
    comparing.draw_comparison([found], tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as drawn:
        assert min(drawn.size) > 300
    with pytest.raises(InputError, match=r"--plot .*a\.nope"):
        comparing.draw_comparison([found], tmp_path / "a.nope")


def test_the_command_prints_a_table_and_draws(runs: list[Path], tmp_path: Path) -> None:
    words = ["compare", *map(str, runs), "--plot", str(tmp_path / "a.svg")]
    command = [sys.executable, "-m", "codevision_ext.cli", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "transformed, with the tool" in done.stdout
    assert (tmp_path / "a.svg").read_text().startswith("<?xml")


def test_runs_that_can_not_be_compared_are_refused(runs: list[Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"results\.json: can't be read: No such file"):
        comparing.compare_evaluations([runs[0], tmp_path])
    other = run_of(tmp_path / "other", {}, sha256="1" * 64)
    with pytest.raises(InputError, match="suite transformed was measured on other items than in"):
        comparing.compare_evaluations([runs[0], other])
    plain = json.loads((other / "results.json").read_text())
    suites = plain["models"]["model"]["suites"]
    suites["synth"] = suites.pop("transformed")
    (other / "results.json").write_text(json.dumps(plain))
    with pytest.raises(InputError, match="no suite was measured in all of them"):
        comparing.compare_evaluations([runs[0], other])
    suites["synth"]["modes"]["tool_on"]["overall"]["score"]["low"] = 2
    (other / "results.json").write_text(json.dumps(plain))
    with pytest.raises(
        InputError, match=r"results\.json: field models\.model\.suites\.synth\.modes\.tool_on\.overall\.score"
    ):
        read_evaluation(other)


def test_runs_of_the_same_name_are_told_apart_by_their_folders(runs: list[Path], tmp_path: Path) -> None:
    same = run_of(tmp_path / "b" / "sft", {})
    [found] = comparing.compare_evaluations([runs[0], same])
    assert found.runs == (f"{runs[0].parent.name}/sft", "b/sft")
