"""A stage launched by hand keeps the log of an interrupted launch and obeys its arguments."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

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


@pytest.mark.parametrize("name", ["plain", "with a space", "ünï", "a,b=c", "it's [one] {two}", "#1 & (more)!"])
@pytest.mark.parametrize("stage", ["letters", "grpo"])
def test_a_folder_of_any_name_reaches_hydra_as_it_is(tmp_path: Path, stage: str, name: str) -> None:
    out, programs = tmp_path / name, tmp_path / "bin"
    programs.mkdir()
    for program in ("python", "torchrun"):
        (programs / program).write_text('#!/usr/bin/env bash\nprintf \'%s\\n\' "$@" >"$OUT/words"\n')
        (programs / program).chmod(0o755)
    env = {"PATH": f"{programs}:{os.environ['PATH']}", "OUT": str(out), "MODEL": str(out / "m")}
    subprocess.run(["bash", RUN, stage], env=env, check=True, capture_output=True)
    words = [word for word in (out / "words").read_text().splitlines() if "=" in word and not word.startswith("-")]
    values = {each.key_or_group: each.value() for each in OverridesParser.create().parse_overrides(words)}
    paths = {key: value for key, value in values.items() if str(tmp_path) in str(value)}
    assert len(paths) >= 3
    assert all(str(value).startswith(str(out)) for value in paths.values()), paths


@pytest.mark.parametrize(("steps", "noted"), [((5, 10, 20), "20"), ((), None)])
def test_an_empty_note_of_the_last_step_which_verl_cannot_read_is_written_again(
    tmp_path: Path, steps: tuple[int, ...], noted: str | None
) -> None:
    (tmp_path / "grpo").mkdir()
    for step in steps:
        (tmp_path / "grpo" / f"global_step_{step}").mkdir()
    note = tmp_path / "grpo" / "latest_checkpointed_iteration.txt"
    note.touch()
    train(tmp_path, 1)
    assert (note.read_text().strip() if note.exists() else None) == noted
