"""Runs the trainings of a study, several at the same time; finished trainings aren't repeated.

    OUT/NAME-SEED/launch.sh    script that starts the training
    OUT/NAME-SEED/checkpoint   link to the final checkpoint
    OUT/NAME-SEED/...          other output, as in a run of the demo: metrics.jsonl, rollouts/, log

A stopped training starts again from the beginning, because it takes only minutes.
"""

import shlex
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from codevision_ext.errors import InfraError, InputError
from codevision_ext.experiments.demo import MEMORY_GB, claimed, environment, private_tmp
from codevision_ext.experiments.stage_log import last_error
from codevision_ext.experiments.study.plan import StudyPlan, Training
from codevision_ext.io.processes import Command, available_bytes
from codevision_ext.io.progress import Stages

SETTINGS = ("++codevision.deterministic=true",)
"""Settings of every training by GRPO: its seed determines its prompts and its sampling."""
_POLL_S = 0.2
_ONE = 'bash "$0" >"${0%/*}/log" 2>&1 || exit 255'
"""Command line that xargs runs for each script; exit code 255 stops xargs.

Several instances of `Command` in one process would end each other's processes.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingJob:
    """One training with one seed."""

    name: str
    seed: int
    folder: Path
    script: str

    @property
    def checkpoint(self) -> Path:
        """Path of the final checkpoint, once the training is done."""
        return self.folder / "checkpoint"

    @property
    def done(self) -> bool:
        """Whether the training was finished with this script."""
        launched = self.folder / "launch.sh"
        return self.checkpoint.exists() and launched.read_text(encoding="utf-8") == self.script


def jobs_of(plan: StudyPlan, run: Path, recipe: Path, out: Path, *, settings: Sequence[str] = ()) -> list[TrainingJob]:
    """Returns every training with every seed; `settings` of verl override those of the plan.

    `run` is a run of the demo, or a folder with its data/, and sft/ or read/ with verl's checkpoints.

    Raises:
        InputError: the run has no such checkpoint.
    """
    starts = {start: _checkpoint(run / start) for start in {training.start for training in plan.trainings.values()}}
    jobs = []
    for seed, (name, training) in product(plan.seeds, plan.trainings.items()):
        folder = out / f"{name.replace(' ', '_')}-{seed}"
        script = _script(plan, training, seed, run, recipe, folder, starts[training.start], settings)
        jobs.append(TrainingJob(name=name, seed=seed, folder=folder, script=script))
    return jobs


def train(jobs: Sequence[TrainingJob], out: Path, *, at_once: int | None = None) -> None:
    """Runs unfinished jobs, `at_once` at the same time; None: two if there is memory for two, else one.

    Only one study at a time can work in the folder `out`.

    Raises:
        InfraError: a job failed; quotes its last error. Finished jobs are kept.
        KeyboardInterrupt: the study was stopped; no process is left, and the same call continues the study.
    """
    at_once = at_once or min(2, max(1, int(available_bytes() / 1e9 // MEMORY_GB)))
    with claimed(out), Stages(["train"]) as shown, private_tmp(out) as tmp:
        left = [job for job in jobs if not job.done]  # once claimed: a killed study's trainings may finish until then
        if not left:
            shown.skip("train", "done before")
            return
        shown.start("train")
        scripts = []
        for job in left:
            if job.folder.exists():
                shutil.rmtree(job.folder)
            job.folder.mkdir(parents=True)
            (job.folder / "launch.sh").write_text(job.script, encoding="utf-8")
            scripts.append(str(job.folder / "launch.sh"))
        (out / "left").write_text("".join(f"{script}\0" for script in scripts), encoding="utf-8")
        words = ["xargs", "-0", "-a", str(out / "left"), "-P", str(at_once), "-n", "1", "bash", "-c", _ONE]
        with Command(words, env=environment(out, left[0].seed, tmp), log=out / "log") as command:
            while command.poll() is None:
                shown.advance(sum(job.done for job in jobs), len(jobs))
                time.sleep(_POLL_S)
        logs = [job.folder / "log" for job in left if not job.done]
        if logs:
            log = next((log for log in logs if log.exists()), out / "log")
            message = last_error(log.read_text(errors="replace"))
            raise InfraError(f"{log.parent.name} failed: {message or 'it says no error'}; the log is {log}")


def _script(
    plan: StudyPlan,
    training: Training,
    seed: int,
    run: Path,
    recipe: Path,
    folder: Path,
    start: Path,
    settings: Sequence[str],
) -> str:
    """Returns the script of a training, which runs again if the script changes."""
    values = {"RUN": run, "FROM": start, "OUT": folder, "BY": training.by, "STEPS": plan.steps, "SEED": seed}
    words = [*SETTINGS, *plan.settings, *training.settings, *settings]
    return "\n".join(
        [
            "#!/usr/bin/env bash",
            "set -euo pipefail",
            *[f"export {name}={shlex.quote(str(value))}" for name, value in values.items()],
            'export TMPDIR=${TMPDIR:-/tmp}/$$ && mkdir -p "$TMPDIR" && export RAY_TMPDIR=$TMPDIR',
            shlex.join(["bash", str(recipe / "run.sh"), "vary", *words]),
            "",
        ]
    )


def _checkpoint(folder: Path) -> Path:
    """Returns the last checkpoint that verl's SFT saved in the folder."""
    note = folder / "latest_checkpointed_iteration.txt"
    if not note.is_file():
        raise InputError(f"{folder}: holds no checkpoint; `codevision demo --out {folder.parent} --until sft` makes it")
    return (folder / f"global_step_{note.read_text().strip()}" / "huggingface").absolute()
