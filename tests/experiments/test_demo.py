"""A recipe's stages run once each and in order, resume after any kind of end, and run again when their settings change.

The recipes here are real run.sh files whose stages are a line of shell; the driver and its processes are the real ones.
"""

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from codevision_ext.errors import InfraError, InputError
from codevision_ext.experiments.demo import run_demo, stage_keys
from codevision_ext.experiments.demo_stages import read_stages
from codevision_ext.experiments.stage_log import last_error, last_metrics, median_step_s, steps_done

DEMO = Path(__file__).parents[2] / "recipe" / "demo"
STAGES = read_stages(DEMO)
NAMES = [stage.name for stage in STAGES]
SHARED = '#!/usr/bin/env bash\nset -euo pipefail\ncd "$OUT"\necho "$1" >> calls\n'


def make_recipe(folder: Path, **branches: str) -> Path:
    """A recipe whose stages do what is said, or just leave a file with the seed."""
    folder.mkdir(exist_ok=True)
    shutil.copy(DEMO / "stages.yaml", folder)
    (folder / "device").mkdir(exist_ok=True)
    for name in {name for stage in STAGES for name in stage.reads}:
        (folder / name).write_text(f"# {name}\n")
    bodies = "".join(f"  {n})\n    {branches.get(n, f'echo $SEED > {n}')}\n    ;;\n" for n in NAMES)
    (folder / "run.sh").write_text(f"{SHARED}\ncase $1 in\n{bodies}esac\n")
    return folder


def run(tmp_path: Path, until: str = "sft", seed: int = 0) -> list[str]:
    """Runs the recipe of this test and gives the stages that were called."""
    calls = tmp_path / "run" / "calls"
    calls.unlink(missing_ok=True)
    run_demo(tmp_path / "run", recipe=tmp_path / "recipe", seed=seed, until=until, check=lambda *_: None)
    return calls.read_text().split() if calls.exists() else []


def eventually(condition: Callable[[], bool], timeout_s: float = 20) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.05)


def tails(folder: Path) -> int:
    """How many `tail -f` processes are there that a stage started in this folder."""
    lines = (p.info["cmdline"] or [] for p in psutil.process_iter(["cmdline"]))
    return sum(words[:2] == ["tail", "-f"] and words[2].startswith(str(folder)) for words in lines)


def test_every_stage_runs_once_and_in_order(tmp_path: Path) -> None:
    make_recipe(tmp_path / "recipe")
    assert run(tmp_path, seed=3) == ["data", "model", "letters", "read", "sft"]
    assert (tmp_path / "run" / "sft").read_text() == "3\n"
    assert run(tmp_path, seed=3) == []
    assert run(tmp_path, seed=3, until="grpo") == ["grpo"]


def test_another_seed_makes_everything_anew(tmp_path: Path) -> None:
    make_recipe(tmp_path / "recipe")
    run(tmp_path)
    assert run(tmp_path, seed=1) == ["data", "model", "letters", "read", "sft"]


@pytest.mark.parametrize(
    ("change", "redone"),
    [
        ("grpo.yaml", ["grpo"]),
        ("device/cpu.yaml", ["grpo"]),
        ("sft.yaml", ["letters", "read", "sft", "grpo"]),
        ("branch", ["model", "letters", "read", "sft", "grpo"]),
        ("shared", ["data", "model", "letters", "read", "sft", "grpo"]),
    ],
)
def test_a_changed_setting_redoes_its_stage_and_what_comes_after(
    tmp_path: Path, change: str, redone: list[str]
) -> None:
    recipe = make_recipe(tmp_path / "recipe")
    run(tmp_path, until="grpo")
    if change == "branch":
        make_recipe(recipe, model="echo other > model")
    elif change == "shared":
        script = (recipe / "run.sh").read_text()
        (recipe / "run.sh").write_text(script.replace(SHARED, f"{SHARED}rows=9\n"))
    else:
        (recipe / change).write_text("rows: 9\n")
    assert run(tmp_path, until="grpo") == redone


def test_what_other_settings_left_is_gone_before_a_stage_that_resumes_begins(tmp_path: Path) -> None:
    keep = "mkdir -p sft && echo step >> sft/steps && cat sft/steps"
    recipe = make_recipe(tmp_path / "recipe", sft=f"{keep} && false")
    for _ in range(2):
        with pytest.raises(InfraError):
            run(tmp_path)
    assert (tmp_path / "run/sft/steps").read_text() == "step\n" * 2  # the same settings: it goes on
    make_recipe(recipe, sft=keep)
    run(tmp_path)
    assert (tmp_path / "run/sft/steps").read_text() == "step\n"  # others: from the beginning


def test_a_stage_that_cannot_resume_begins_from_nothing(tmp_path: Path) -> None:
    make_recipe(tmp_path / "recipe", data="mkdir data || exit 9; false")
    for _ in range(2):
        with pytest.raises(InfraError, match=r"data failed: exit status 1; the log is .*data\.log$"):
            run(tmp_path)


def test_a_failed_stage_is_one_sentence_with_the_last_error_of_this_attempt_and_the_log(tmp_path: Path) -> None:
    recipe = make_recipe(tmp_path / "recipe", data="echo 'codevision: old'; false")
    with pytest.raises(InfraError, match="old"):
        run(tmp_path)
    make_recipe(recipe, data="echo 'codevision: rows.parquet, row 3: problem is empty' >&2; exit 2")
    with pytest.raises(InfraError) as caught:
        run(tmp_path)
    log = tmp_path / "run" / "logs" / "data.log"
    assert str(caught.value) == f"data failed: rows.parquet, row 3: problem is empty; the log is {log}"
    make_recipe(
        recipe, data="[ -e again ] || { touch again; echo 'codevision: old'; false; }; echo 'KeyError: 1'; false"
    )
    with pytest.raises(InfraError, match="old"):
        run(tmp_path)
    with pytest.raises(InfraError, match="KeyError: 1"):
        run(tmp_path)


def test_a_dead_ray_is_told_in_ray_s_words(tmp_path: Path) -> None:
    said = "[2026-11-22 02:40:58,173 E 27225 28118] rpc_client.h:204: Failed to connect to GCS within 60 seconds."
    make_recipe(tmp_path / "recipe", data=f"echo '{said}'; echo 'INFO: bye'; false")
    with pytest.raises(
        InfraError, match=r"data failed: Failed to connect to GCS within 60 seconds \(Ray died; .+\); the log is"
    ):
        run(tmp_path)


def test_a_child_that_was_killed_is_told_as_such(tmp_path: Path) -> None:
    make_recipe(tmp_path / "recipe", data="bash -c 'kill -9 $$'; exit $?")
    with pytest.raises(InfraError, match=r"data failed: it was ended by signal 9, perhaps for want of memory; the log"):
        run(tmp_path)


@pytest.mark.parametrize(("loss", "reads"), [(0.02, True), (1.5, False)])
def test_a_model_that_did_not_learn_to_read_ends_the_run_there(tmp_path: Path, loss: float, reads: bool) -> None:
    line = json.dumps({"step": 9, "data": {"train/loss": loss}})
    make_recipe(tmp_path / "recipe", read=f"touch read; echo '{line}' > logs/read.jsonl")
    if reads:
        assert "sft" in run(tmp_path)
        return
    for _ in range(2):
        with pytest.raises(InfraError, match="read failed: it learned nothing: train/loss is"):
            run(tmp_path)
        assert not (tmp_path / "run" / "read").exists()


def test_a_log_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    make_recipe(tmp_path / "recipe")
    (tmp_path / "run/logs/data.log").mkdir(parents=True)
    (tmp_path / "run/stages").mkdir()
    with pytest.raises(InfraError, match=r"bash, with its log in .*data\.log, can't be started: Is a directory"):
        run(tmp_path)


def test_a_line_of_the_metrics_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    lines = [json.dumps({"step": step, "data": {"timing_s/step": seconds}}) for step, seconds in enumerate((9, 1, 3))]
    (tmp_path / "metrics.jsonl").write_text("\n".join([*lines, '{"step": 3, "da']))
    assert median_step_s(tmp_path / "metrics.jsonl") == 2.0


def test_what_a_stage_leaves_running_ends_with_it(tmp_path: Path) -> None:
    make_recipe(tmp_path / "recipe", data='setsid tail -f "$OUT/calls" & true')
    run(tmp_path, until="data")
    assert tails(tmp_path) == 0


Start = Callable[[str], subprocess.Popen[bytes]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts the driver as a process of its own, which gets signals like a command in a terminal."""
    started = []

    def start(until: str) -> subprocess.Popen[bytes]:
        code = (
            "from pathlib import Path; from codevision_ext.experiments.demo import run_demo\n"
            f"here = Path({str(tmp_path)!r})\n"
            f"run_demo(here / 'run', recipe=here / 'recipe', until={until!r}, check=lambda *_: None)"
        )
        driver = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        started.append(driver)
        eventually(lambda: "ready" in _text(tmp_path / "run" / "logs" / f"{until}.log"))
        return driver

    yield start
    for driver in started:
        driver.send_signal(signal.SIGINT)
        driver.wait(timeout=30)


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


SLOW = (
    'mkdir -p sft; echo step >> sft/steps; echo ready > "$OUT/word"; setsid tail -f "$OUT/word" & '
    '[ -f "$OUT/go" ] || wait'
)
"""Resumes; has a detached child, which writes `ready` into the log once it runs; ends only when OUT/go is there."""


def test_what_a_killed_run_left_is_ended_under_another_name_of_its_folder_too(tmp_path: Path, start: Start) -> None:
    make_recipe(tmp_path / "recipe", sft=SLOW)
    driver = start("sft")
    driver.kill()
    driver.wait(timeout=30)
    assert tails(tmp_path) == 1
    (tmp_path / "run" / "go").touch()
    (tmp_path / "link").symlink_to(tmp_path / "run")
    run_demo(tmp_path / "link", recipe=tmp_path / "recipe", until="sft", check=lambda *_: None)
    assert tails(tmp_path) == 0


def test_ctrl_c_leaves_no_process_and_the_same_command_goes_on(tmp_path: Path, start: Start) -> None:
    make_recipe(tmp_path / "recipe", sft=SLOW)
    driver = start("sft")
    assert tails(tmp_path) == 1
    driver.send_signal(signal.SIGINT)
    assert driver.wait(timeout=30) != 0
    assert tails(tmp_path) == 0
    (tmp_path / "run" / "go").touch()
    assert run(tmp_path) == ["sft"]
    assert (tmp_path / "run/sft/steps").read_text() == "step\n" * 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_command_that_is_stopped_says_so_in_one_sentence_and_exits_with_130(
    tmp_path: Path, number: signal.Signals
) -> None:
    make_recipe(tmp_path / "recipe", data=SLOW)
    imports = "from codevision_ext import cli; from codevision_ext.experiments import demo"
    code = f"{imports}; demo.preflight = lambda *_: None; cli.main()"
    words = ["demo", "--out", str(tmp_path / "run"), "--recipe", str(tmp_path / "recipe"), "--until", "data"]
    with subprocess.Popen([sys.executable, "-c", code, *words], stderr=subprocess.PIPE, text=True) as driver:
        eventually(lambda: "ready" in _text(tmp_path / "run" / "logs" / "data.log"))
        driver.send_signal(number)
        _, said = driver.communicate(timeout=30)
    assert driver.returncode == 130
    assert said == "codevision: stopped, nothing runs any more; the same command goes on from here\n"
    assert tails(tmp_path) == 0


def test_a_driver_that_was_killed_outright_leaves_nothing_that_disturbs_the_next(tmp_path: Path, start: Start) -> None:
    make_recipe(tmp_path / "recipe", sft=SLOW)
    driver = start("sft")
    driver.kill()
    driver.wait()
    eventually(lambda: tails(tmp_path) == 1)  # nobody could end it
    (tmp_path / "run" / "go").touch()
    assert run(tmp_path) == ["sft"]
    assert tails(tmp_path) == 0


def test_a_folder_in_use_is_refused(tmp_path: Path, start: Start) -> None:
    make_recipe(tmp_path / "recipe", sft=SLOW)
    driver = start("sft")
    with pytest.raises(InputError, match="another run is working in this folder"):
        run(tmp_path)
    assert driver.poll() is None


def test_a_folder_with_other_things_in_it_is_refused_and_left_alone(tmp_path: Path) -> None:
    make_recipe(tmp_path / "recipe")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="holds something that is no demo run"):
        run(tmp_path)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["thesis.txt"]


def test_a_recipe_without_a_script_or_a_stage_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=re.escape(f"{tmp_path / 'recipe' / 'stages.yaml'}: can't be read")):
        run(tmp_path)
    make_recipe(tmp_path / "recipe")
    (tmp_path / "recipe" / "run.sh").unlink()
    with pytest.raises(InputError, match=re.escape(f"{tmp_path / 'recipe' / 'run.sh'}: can't be read")):
        run(tmp_path)
    make_recipe(tmp_path / "recipe")
    script = tmp_path / "recipe" / "run.sh"
    script.write_text(script.read_text().replace("  eval)", "  reval)"))
    with pytest.raises(InputError, match="no branch for the stage eval"):
        run(tmp_path)
    with pytest.raises(InputError, match="--until nap: no such stage; there are data, model, "):
        run(tmp_path, until="nap")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "lists no stage"),
        ("data: {makes: [data], make: 1}", "data: make: "),
        ("data:", "data: makes: "),
        ("data: [a]", "data: isn't a mapping"),
        ("data: {makes: [data], most: much}", "data: most: "),
    ],
)
def test_a_wrong_list_of_stages_is_one_sentence_that_names_file_and_field(
    tmp_path: Path, text: str, sentence: str
) -> None:
    (tmp_path / "stages.yaml").write_text(text)
    with pytest.raises(InputError, match=re.escape(f"{tmp_path / 'stages.yaml'}: {sentence}")):
        read_stages(tmp_path)


def test_the_check_runs_before_the_first_stage_and_not_when_nothing_is_left_to_do(tmp_path: Path) -> None:
    make_recipe(tmp_path / "recipe")

    def refuse(*_: Path) -> None:
        raise InputError("no")

    with pytest.raises(InputError, match="no"):
        run_demo(tmp_path / "run", recipe=tmp_path / "recipe", until="data", check=refuse)
    assert not (tmp_path / "run" / "calls").exists()
    run(tmp_path, until="data")
    run_demo(tmp_path / "run", recipe=tmp_path / "recipe", until="data", check=refuse)


def test_the_commands_see_the_run_and_no_foreign_ray_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    make_recipe(
        tmp_path / "recipe", data='echo "$OUT ${RAY_ADDRESS-none} $RAY_TMPDIR $TMPDIR $(command -v python)" > data'
    )
    run(tmp_path, until="data")
    out, address, ray_tmp, tmp, python = (tmp_path / "run" / "data").read_text().split()
    assert (out, address) == (str(tmp_path / "run"), "none")
    assert ray_tmp == tmp
    assert len(f"{tmp}/ray/session_2026-01-01_00-00-00_000000_0000000/sockets/plasma_store") < 107
    assert not Path(tmp).exists()
    assert Path(python).parent == Path(sys.executable).parent


def test_a_key_covers_the_stages_before_it_and_none_after(tmp_path: Path) -> None:
    recipe = make_recipe(tmp_path / "recipe")
    before = stage_keys(recipe, STAGES, 0)
    (recipe / "grpo.yaml").write_text("lr: 1\n")
    after = stage_keys(recipe, STAGES, 0)
    assert [name for name in NAMES if before[name] != after[name]] == ["grpo", "eval", "report"]
    assert len(set(before.values())) == len(NAMES)


def test_the_last_error_is_ours_if_there_is_one_and_the_last_of_any_kind_if_not() -> None:
    ours = (
        "\x1b[36m(TaskRunnerV1 pid=12)\x1b[0m codevision_ext.errors.InputError: val.parquet: column images is missing"
    )
    after = "ray.exceptions.RayTaskError(InputError): ray::TaskRunnerV1.run()"
    assert last_error(f"{ours}\n{after}\n") == "val.parquet: column images is missing"
    assert (
        last_error("[rank0]: RuntimeError: [Errno 98] address in use\nbye") == "RuntimeError: [Errno 98] address in use"
    )
    assert last_error("KeyError: 'a'\nOSError: b\n  raise ValueError: no\n") == "OSError: b"
    assert last_error("all is well") == ""


def test_steps_are_read_from_progress_bars_and_from_lines() -> None:
    assert steps_done("nothing yet") is None
    assert steps_done("Training Progress:  50%|█████     | 1/2 [00:39<00:39, 39.1s/it]") == (1, 2)
    assert steps_done(
        "\x1b[36m(T pid=1)\x1b[0m Training Progress: 4%|▍| 1/24 [..]\rTraining Progress: 8%|▍| 2/24 ["
    ) == (2, 24)
    assert steps_done("Epoch 1/4: 100%|█████| 6/6 [00:01]\rEpoch 3/4:  50%|█████     | 3/6 [00:10<00:09]") == (15, 24)
    for name in ("base_tool_off", "base tool_off"):
        assert steps_done(f"[2/6] {name}: 10/720, 0:31 left") == (730, 4320)


def test_numbers_of_the_last_whole_line_count(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    assert last_metrics(path) == {}
    path.write_text('{"step":1,"data":{"a":1}}\n{"step":2,"data":{"a":2}}\n{"step":3,"da')
    assert last_metrics(path) == {"a": 2}


def test_the_step_time_is_the_median_without_the_first(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(f'{{"step":{i},"data":{{"timing_s/step":{t}}}}}\n' for i, t in enumerate([60, 5, 7, 6])))
    assert median_step_s(path) == 6
    path.write_text('{"step":1,"data":{"timing_s/step":60}}\n')
    with pytest.raises(InfraError, match="1 steps were timed"):
        median_step_s(path)


def test_a_run_folder_that_can_no_longer_be_written_is_told_in_one_sentence(tmp_path: Path) -> None:
    make_recipe(tmp_path / "recipe", model="mv stages gone")
    with pytest.raises(InfraError, match=r"stages/model\.json: can't be written: No such file"):
        run(tmp_path)


def test_a_script_that_is_no_text_is_told_in_one_sentence(tmp_path: Path) -> None:
    (make_recipe(tmp_path / "recipe") / "run.sh").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match=r"run\.sh: isn't UTF-8"):
        run(tmp_path)
