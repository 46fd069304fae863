"""Prints time and memory of training steps as JSON: `python benchmarks/step_costs.py ENGINE FOLDER...`.

Each FOLDER has `metrics.jsonl` of verl's file logger, and `gpu_mib` with one sample per line of the used memory of the
whole GPU, in MiB.
"""

import json
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from codevision_ext.errors import CodeVisionError, InputError

PACKAGES = ("codevision_ext", "verl", "torch", "transformers", "ray")


def step_costs(folder: Path) -> dict[str, Any]:
    """Returns the costs of one run.

    `step_s` and `generation_s` are seconds by step; `trainer_peak_gib` and `gpu_peak_gib` (trainer and engine together)
    are GiB.

    Raises:
        InputError: a file is missing or has no step.
    """
    metrics, memory = folder / "metrics.jsonl", folder / "gpu_mib"
    try:
        steps = [json.loads(line)["data"] for line in metrics.read_text().splitlines()]
        samples = [int(line) for line in memory.read_text().splitlines()]
    except OSError as error:
        raise InputError(f"{error.filename}: can't be read: {error.strerror}") from error
    except ValueError as error:
        raise InputError(f"{folder}: metrics.jsonl or gpu_mib has an invalid line: {error}") from error
    steps = [step for step in steps if "timing_s/step" in step]
    if not steps or not samples:
        raise InputError(f"{metrics if not steps else memory}: nothing was logged")
    return {
        "step_s": [round(step["timing_s/step"], 2) for step in steps],
        "generation_s": [round(step["timing_s/gen"], 2) for step in steps],
        "trainer_peak_gib": round(max(step["actor/perf/max_memory_allocated_gb"] for step in steps), 2),
        "gpu_peak_gib": round(max(samples) / 1024, 2),
    }


def report(engine: str, folders: list[Path]) -> dict[str, Any]:
    """Returns the costs of all runs by folder name, with date, device and versions of the measurement.

    Raises:
        InputError: a file is missing or has no step.
    """
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "device": torch.cuda.get_device_name(0) if torch.cuda.is_available() else "cpu",
        "engine": engine,
        "versions": {package: version(package) for package in (*PACKAGES, engine)},
        "runs": {folder.name: step_costs(folder) for folder in folders},
    }


def main() -> None:
    """Runs the command; an error is one sentence on stderr and exit code 2."""
    try:
        if len(sys.argv) < 3:
            raise InputError("usage: step_costs ENGINE FOLDER...")
        costs = report(sys.argv[1], [Path(folder) for folder in sys.argv[2:]])
    except CodeVisionError as error:
        sys.stderr.write(f"codevision: {error}\n")
        sys.exit(2)
    sys.stdout.write(json.dumps(costs, indent=2) + "\n")


if __name__ == "__main__":
    main()
