"""Does a stage launched by hand keep the numbers that an earlier, interrupted launch had logged?"""

import json
import os
import subprocess
from pathlib import Path

RUN = Path(__file__).parents[2] / "recipe" / "demo" / "run.sh"
TRAINER = """#!/usr/bin/env bash
echo "{\\"step\\": $STEP}" >"$VERL_FILE_LOGGER_PATH"  # verl's file logger empties its file
exit "$STATUS"
"""


def train(out: Path, step: int, status: int = 0) -> list[int]:
    """Launches the stage with a trainer that logs one step; gives the steps in the log."""
    programs = out / "bin"
    programs.mkdir(parents=True, exist_ok=True)
    (programs / "python").write_text(TRAINER)
    (programs / "python").chmod(0o755)
    env = {"PATH": f"{programs}:{os.environ['PATH']}", "OUT": str(out), "MODEL": "m"}
    env |= {"STEP": str(step), "STATUS": str(status)}
    done = subprocess.run(["bash", RUN, "grpo"], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stderr
    return [json.loads(line)["step"] for line in (out / "metrics.jsonl").read_text().splitlines()]


def test_the_log_of_a_run_that_was_resumed_begins_with_its_first_step(tmp_path: Path) -> None:
    assert train(tmp_path, 1) == [1]
    assert train(tmp_path, 2, status=3)[-1] == 2
    assert train(tmp_path, 3, status=3)[-1] == 3
    assert train(tmp_path, 4) == [1, 2, 3, 4]
    assert train(tmp_path, 5) == [1, 2, 3, 4, 5]
