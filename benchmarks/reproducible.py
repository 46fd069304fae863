"""Checks that a deterministic training can be repeated bit by bit, and measures the cost of the setting.

`python benchmarks/reproducible.py [--run runs/demo] [--out runs/reproducible] [--steps 20] [--seed 0]` runs the same
GRPO training three times from the SFT checkpoint of a demo run. In the third training, the driver is killed with
`kill -9` at a random step and the command is repeated. The second and the third training run at the same time, so that
they load the machine for each other. Prints comparisons of rollouts, records, metrics and final weights, and exits 1 if
anything differs. `--cost` trains with and without the setting instead, at the same time, and prints step times.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from codevision_ext.errors import CodeVisionError, InfraError, InputError
from codevision_ext.experiments.demo import environment, private_tmp
from codevision_ext.io.processes import Command
from codevision_ext.io.records import encode_record, read_records, rollout_order

ROOT = Path(__file__).resolve().parents[1]
SAVE_EVERY = 4
"""Number of steps between two checkpoints."""
FIELDS = ("tokens", "log_probs", "reward", "images")
"""Fields in the log of `rollout_log`, each with its own comparison."""


def measured(name: str) -> bool:
    """Returns whether a metric is a time, a speed or a memory size, which differ in every run."""
    return name.startswith(("timing", "perf/")) or "/perf/" in name


def rollouts(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Returns the logged rollouts of a run by id; a killed run has some rollouts twice."""
    logged: dict[str, list[dict[str, Any]]] = {}
    for path in (folder / "log").glob("*.jsonl"):
        for line in path.read_text().splitlines():
            rollout = json.loads(line)
            logged.setdefault(rollout["rollout"], []).append(rollout)
    return logged


def metrics(folder: Path) -> dict[int, dict[str, Any]]:
    """Returns the metrics of each step without times and memory sizes."""
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return {line["step"]: {name: v for name, v in line["data"].items() if not measured(name)} for line in lines}


def records(folder: Path) -> list[bytes]:
    """Returns the encoded records in the order of the data."""
    return [encode_record(each) for each in sorted(read_records(folder / "rollouts/train.jsonl"), key=rollout_order)]


def weights(folder: Path) -> dict[str, str]:
    """Returns the SHA-256 of each weight file of the last checkpoint."""
    last = max((folder / "grpo").glob("global_step_*"), key=lambda path: int(path.name.rpartition("_")[2]))
    files = sorted((last / "actor" / "huggingface").glob("*.safetensors"))
    return {f"{last.name}/{path.name}": hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def compare(first: Path, second: Path) -> Iterator[tuple[str, int, int]]:
    """Yields comparisons: description, number of equal items, number of all items."""
    ours, theirs = rollouts(first), rollouts(second)
    names = sorted(ours.keys() | theirs.keys())
    for field in FIELDS:
        values = [{json.dumps(each[field]) for each in (*ours.get(name, ()), *theirs.get(name, ()))} for name in names]
        both = [name in ours and name in theirs and len(kinds) == 1 for name, kinds in zip(names, values, strict=True)]
        yield f"rollouts with equal {field}", sum(both), len(names)
    for what, read in (("records", records), ("steps with equal metrics", metrics), ("files of weights", weights)):
        one, other = read(first), read(second)  # type: ignore[operator]
        one, other = (dict(enumerate(each)) if isinstance(each, list) else each for each in (one, other))
        keys = one.keys() | other.keys()
        yield what, sum(one.get(key) == other.get(key) for key in keys), len(keys)


@contextmanager
def training(folder: Path, arguments: argparse.Namespace, settings: Sequence[str]) -> Iterator[Command]:
    """Starts a training in `folder`; leaving the block ends its processes."""
    (folder / "log").mkdir(parents=True, exist_ok=True)
    run = arguments.run
    start = max((run / "sft").glob("global_step_*"), default=None)
    if start is None:
        raise InputError(f"{run}: holds no SFT checkpoint; `codevision demo --out {run} --until sft` makes it")
    data = [f"data.{name}_files={run / 'data' / name}.parquet" for name in ("train", "val")]
    manager = "actor_rollout_ref.rollout.agent.agent_loop_manager_class=rollout_log.LoggingManager"
    words = ["bash", str(ROOT / "recipe/demo/run.sh"), "grpo", *data, manager, *settings]
    paths = os.pathsep.join([str(ROOT), str(ROOT / "benchmarks"), *filter(None, [os.environ.get("PYTHONPATH")])])
    ours = {"MODEL": str(start / "huggingface"), "ROLLOUT_LOG": str(folder / "log"), "PYTHONPATH": paths}
    with (
        private_tmp(folder) as tmp,
        Command(words, env=environment(folder, arguments.seed, tmp) | ours, log=folder / "out.log") as command,
    ):
        yield command


def finish(command: Command, folder: Path) -> None:
    """Waits for the end of a training; raises `InfraError` if it failed."""
    while (status := command.poll()) is None:
        time.sleep(1)
    if status:
        raise InfraError(f"the training in {folder} failed with status {status}; its log is {folder / 'out.log'}")


def steps_done(folder: Path) -> int:
    """Returns the number of the last logged step."""
    path = folder / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return max((json.loads(line)["step"] for line in lines if line.endswith("}")), default=0)


def kill_at(step: int, command: Command, folder: Path) -> None:
    """Kills the driver of a training during the step after `step`."""
    while steps_done(folder) < step:
        if command.poll() is not None:
            raise InfraError(f"the training in {folder} ended before step {step}; its log is {folder / 'out.log'}")
        time.sleep(0.2)
    time.sleep(random.uniform(0, 2))
    for process in command.processes():
        if "verl.trainer.main_ppo" in process.cmdline():
            process.kill()


def train(folder: Path, arguments: argparse.Namespace) -> None:
    """Runs a training to its end; with `--kill`, first kills its driver once."""
    shutil.rmtree(folder, ignore_errors=True)
    settings = [
        f"trainer.total_training_steps={arguments.steps}",
        f"trainer.save_freq={SAVE_EVERY}",
        "codevision.log_trajectories=0",
        f"codevision.deterministic={str(folder.name != 'off').lower()}",
    ]
    if arguments.kill is not None:
        with training(folder, arguments, settings) as command:
            kill_at(arguments.kill, command, folder)
    with training(folder, arguments, settings) as command:
        finish(command, folder)


def train_all(arguments: argparse.Namespace, names: Mapping[str, Sequence[str]]) -> None:
    """Runs trainings at the same time, each in its own process, because a `Command` ends all children of a process."""
    own = [f"--{name}={getattr(arguments, name)}" for name in ("run", "out", "steps", "seed")]
    words = [sys.executable, __file__, *own]
    children = {name: subprocess.Popen([*words, f"--train={name}", *more]) for name, more in names.items()}
    failed = [name for name, child in children.items() if child.wait()]
    if failed:
        raise InfraError(f"{failed[0]}: the training failed")


def repeat(arguments: argparse.Namespace) -> bool:
    """Runs the three trainings, prints the comparisons, and returns whether everything is equal."""
    kill, out = random.randint(SAVE_EVERY + 1, arguments.steps - 1), arguments.out
    train_all(arguments, {"first": ()})
    train_all(arguments, {"again": (), "killed": (f"--kill={kill}",)})
    equal = True
    for name, folder in {"again": "again", f"killed after step {kill}": "killed"}.items():
        for what, same, count in compare(out / "first", out / folder):
            equal &= same == count > 0
            print(f"{'ok  ' if same == count > 0 else 'FAIL'} {name}: {same} of {count} {what}")  # noqa: T201
    return equal


def cost(arguments: argparse.Namespace) -> bool:
    """Trains with and without the setting at the same time, and prints median step times."""
    train_all(arguments, {"on": (), "off": ()})
    medians = {}
    for name in ("on", "off"):
        lines = [json.loads(line)["data"] for line in (arguments.out / name / "metrics.jsonl").read_text().splitlines()]
        times = {part: [line[f"timing_s/{part}"] for line in lines[1:]] for part in ("step", "gen", "update_actor")}
        medians[name] = {part: statistics.median(values) for part, values in times.items()}
        print(name, {part: f"{median:.2f} s" for part, median in medians[name].items()})  # noqa: T201
    print(f"{100 * (medians['on']['step'] / medians['off']['step'] - 1):+.1f} % of a step")  # noqa: T201
    return True


def main() -> None:
    """Runs the command; exits 1 if something differs, and 2 after an error, with one sentence on stderr."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--run", type=Path, default=ROOT / "runs/demo", help="demo run with data/ and sft/")
    parser.add_argument("--out", type=Path, default=ROOT / "runs/reproducible", help="folder of the trainings")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cost", action="store_true", help="measure the time of a step with and without the setting")
    parser.add_argument("--train", help=argparse.SUPPRESS)  # name of the training that this process runs
    parser.add_argument("--kill", type=int, help=argparse.SUPPRESS)  # step after which its driver is killed
    arguments = parser.parse_args()
    arguments.run, arguments.out = arguments.run.resolve(), arguments.out.resolve()
    try:
        if arguments.train:
            good = train(arguments.out / arguments.train, arguments) is None
        else:
            good = (cost if arguments.cost else repeat)(arguments)
    except CodeVisionError as error:
        sys.stderr.write(f"reproducible: {error}\n")
        sys.exit(2)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
