"""Runs a study whose trainings are stub commands that write their results: `python stub_study.py FOLDER MINUTES`.

FOLDER/recipe/run.sh trains: it writes the share of right answers to results.txt, and adds a line to FOLDER/calls.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from codevision_ext.evaluate.metrics import COLUMNS
from codevision_ext.experiments.study.command import run_study
from codevision_ext.experiments.study.train import TrainingJob
from codevision_ext.io.records import Record
from codevision_ext.rollout.seeds import seed_of
from codevision_ext.types import EndReason, Outcome, Task, TermScore

RUN_SH = """set -eu
echo "$(basename "$OUT") begins" >>"$OUT/../../calls"
sleep {seconds}
share=50
case $OUT in */worse-*) share=10 ;; */equal-*) share=$((50 + (SEED % 2) * 4 - 2)) ;; esac
echo $share >"$OUT/results.txt"
mkdir "$OUT/checkpoint"
echo "$(basename "$OUT") ends" >>"$OUT/../../calls"
"""
"""`worse` loses 40 points with every seed, `equal` gains or loses 2 points."""
STUDY = """question: "?"
steps: 1
items: 40
max_seeds: {max_seeds}
trainings: {{full: {{}}, worse: {{published: worse}}, equal: {{}}}}
"""


def write_study(folder: Path, *, seconds: float = 0.0, max_seeds: int = 5) -> Path:
    """Writes the study, the recipe and the run that it begins with into a folder."""
    for name in ("recipe", "studies", "run/sft"):
        (folder / name).mkdir(parents=True)
    (folder / "recipe" / "run.sh").write_text(RUN_SH.format(seconds=seconds))
    (folder / "studies" / "stub.yaml").write_text(STUDY.format(max_seeds=max_seeds))
    (folder / "run" / "sft" / "latest_checkpointed_iteration.txt").write_text("1")
    return folder


def evaluate(jobs: Sequence[TrainingJob]) -> list[list[Record]]:
    """Returns rollouts with the share of right answers that each stub training wrote."""
    return [_rollouts(job, int((job.folder / "results.txt").read_text()) / 100) for job in jobs]


def _rollouts(job: TrainingJob, share: float) -> list[Record]:
    rng = np.random.default_rng(seed_of(job.seed))  # the same items and noise for all trainings of a seed
    records = []
    for column in COLUMNS:
        for item, draw in enumerate(rng.random(40)):
            observed = Outcome(correct=bool(draw < share), format=1.0, end_reason=EndReason.ANSWER)
            terms = {"must": TermScore(raw=0.0, weight=1.0, contribution=0.0)}
            names = {"group": f"{column}-{item}", "id": f"{column}-{item}-0", "column": column}
            places = {"references": (f"text {item}",), "pictures": (f"{column}-{item}",)}
            records.append(Record(task=Task(), observed=observed, terms=terms, **names, **places))
    return records


def main(folder: Path, minutes: float) -> str:
    """Runs or continues the study."""
    return run_study(
        "stub",
        run=folder / "run",
        out=folder / "out",
        recipe=folder / "recipe",
        studies=folder / "studies",
        at_once=2,
        until_decided=minutes,
        reader=None,  # type: ignore[arg-type]  # nothing is read: the rollouts are made up
        evaluate=evaluate,
    )


if __name__ == "__main__":
    sys.stdout.write(main(Path(sys.argv[1]), float(sys.argv[2])))
