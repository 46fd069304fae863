"""The costs of a run are those that were logged, and a run without any is refused."""

import json
from pathlib import Path

import pytest
from step_costs import report, step_costs

from codevision_ext.errors import InputError

pytestmark = pytest.mark.filterwarnings("ignore")  # torch warns at import


def step(number: int, seconds: float) -> str:
    logged = {"timing_s/step": seconds, "timing_s/gen": seconds / 2, "actor/perf/max_memory_allocated_gb": number}
    return json.dumps({"step": number, "data": logged}) + "\n"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "qwen3_vl"
    folder.mkdir()
    validated = json.dumps({"step": 0, "data": {"val/x": 1.0}}) + "\n"
    (folder / "metrics.jsonl").write_text(validated + step(1, 30.0) + step(2, 4.567))
    (folder / "gpu_mib").write_text("100\n20480\n512\n")
    return folder


def test_the_costs_are_seconds_by_step_and_peaks_of_trainer_and_whole_gpu(run: Path) -> None:
    assert step_costs(run) == {
        "step_s": [30.0, 4.57],
        "generation_s": [15.0, 2.28],
        "trainer_peak_gib": 2,
        "gpu_peak_gib": 20.0,
    }


def test_the_report_says_when_with_what_and_for_which_run(run: Path) -> None:
    costs = json.loads(json.dumps(report("sglang", [run])))
    assert costs["runs"]["qwen3_vl"]["gpu_peak_gib"] == 20.0
    assert set(costs["versions"]) == {"codevision_ext", "verl", "torch", "transformers", "ray", "sglang"}
    assert costs["device"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("metrics.jsonl", None, r"metrics\.jsonl: can't be read: No such file"),
        ("metrics.jsonl", "", r"metrics\.jsonl: nothing was logged"),
        ("metrics.jsonl", "{", "has an invalid line"),
        ("gpu_mib", "", r"gpu_mib: nothing was logged"),
        ("gpu_mib", "[Not Supported]\n", "has an invalid line"),
    ],
)
def test_a_run_that_logged_nothing_is_refused_by_the_name_of_the_file(
    run: Path, name: str, text: str | None, message: str
) -> None:
    if text is None:
        (run / name).unlink()
    else:
        (run / name).write_text(text)
    with pytest.raises(InputError, match=message):
        step_costs(run)
