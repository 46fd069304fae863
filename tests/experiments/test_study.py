"""A study runs its planned trainings once each and reports what they measured."""

import json
import re
from pathlib import Path

import pytest

from codevision_ext.errors import InfraError, InputError
from codevision_ext.evaluate.metrics import COLUMNS
from codevision_ext.experiments.study import offline, show
from codevision_ext.experiments.study.outcome import find_outcomes, write_findings
from codevision_ext.experiments.study.plan import StudyPlan, Training, read_plan
from codevision_ext.experiments.study.train import TrainingJob, jobs_of, train
from codevision_ext.io.records import Record
from codevision_ext.types import EndReason, Outcome, Step, Task, TermScore

STUDIES = Path(__file__).parents[2] / "recipe" / "studies"


def rollout(
    column: str, item: int, *, right: bool, ops: tuple[str, ...] = (), group: str = "g", step: int = 1
) -> Record:
    steps = (Step(ok=True, ops=ops),) if ops else ()
    return Record(
        group=group,
        id=f"{group}-{column}-{item}-{right}-{step}",
        task=Task(applied=()),
        observed=Outcome(correct=right, format=1.0, valid=True, end_reason=EndReason.ANSWER, steps=steps),
        column=column,
        step=step,
        references=(f"text {item}",),
        pictures=(f"{column}-{item}",),
        terms={"must": TermScore(raw=0.5, weight=1.0, contribution=0.5)},
    )


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with the two checkpoints that trainings begin with."""
    for start in ("read", "sft"):
        (tmp_path / "run" / start).mkdir(parents=True)
        (tmp_path / "run" / start / "latest_checkpointed_iteration.txt").write_text("7")
    return tmp_path / "run"


def recipe_of(folder: Path, body: str) -> Path:
    """A recipe whose trainings do what `body` says, and leave a checkpoint."""
    folder.mkdir(exist_ok=True)
    (folder / "run.sh").write_text(f'set -eu\n{body}\nmkdir "$OUT/checkpoint"\n')
    return folder


def plan_of(**trainings: Training) -> StudyPlan:
    return StudyPlan(question="?", steps=3, seeds=(0, 1), items=2, trainings=trainings)


def test_a_training_is_launched_with_its_settings_and_never_twice(run: Path, tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path / "recipe", 'echo "$1 $FROM $BY $STEPS $SEED ${*:2}" >>"$OUT/../calls"')
    plan = plan_of(full=Training(), other=Training(start="read", by="sft", settings=("a={b: 1}",)))
    jobs = jobs_of(plan, run, recipe, tmp_path / "out", settings=("c=2",))
    train(jobs, tmp_path / "out", at_once=2)
    train(jobs, tmp_path / "out", at_once=2)
    called = (tmp_path / "out" / "calls").read_text().splitlines()
    assert sorted(called) == sorted(
        f"vary {run / start}/global_step_7/huggingface {by} 3 {seed} ++codevision.deterministic=true {own}c=2"
        for seed in (0, 1)
        for start, by, own in (("sft", "grpo", ""), ("read", "sft", "a={b: 1} "))
    )


def test_another_setting_trains_that_training_again_and_no_other(run: Path, tmp_path: Path) -> None:
    recipe, out = recipe_of(tmp_path / "recipe", 'basename "$OUT" >>"$OUT/../calls"'), tmp_path / "out"
    for setting in ("a=1", "a=2"):
        plan = plan_of(full=Training(), other=Training(settings=(setting,)))
        train(jobs_of(plan, run, recipe, out), out, at_once=1)
    assert (out / "calls").read_text().split() == ["full-0", "other-0", "full-1", "other-1", "other-0", "other-1"]


def test_a_training_that_fails_is_named_with_its_error_and_its_neighbour_stays(run: Path, tmp_path: Path) -> None:
    body = 'case $OUT in *other-0) echo "codevision_ext.errors.EngineError: no engine"; exit 3 ;; *) sleep 1 ;; esac'
    recipe, out = recipe_of(tmp_path / "recipe", body), tmp_path / "out"
    jobs = jobs_of(plan_of(full=Training(), other=Training()), run, recipe, out)
    with pytest.raises(InfraError, match=r"^other-0 failed: no engine; the log is .*other-0/log$"):
        train(jobs, out, at_once=2)
    assert [job.folder.name for job in jobs if job.done] == ["full-0"]


def test_a_run_without_the_checkpoint_says_what_makes_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"sft: holds no checkpoint; `codevision demo --out .* --until sft` makes it"):
        jobs_of(plan_of(full=Training()), tmp_path, tmp_path, tmp_path / "out")


@pytest.mark.parametrize("path", sorted(STUDIES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_study_of_the_recipe_can_be_read(path: Path) -> None:
    assert read_plan(path).trainings


def test_an_unknown_study_and_an_unknown_field_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nothing\.yaml: no such study; studies there: ablations, "):
        read_plan(STUDIES / "nothing.yaml")
    (tmp_path / "y.yaml").write_text("question: q\nsteps: 1\nseeds: [1, 1]\ntrainings: {a: {}}\n")
    with pytest.raises(InputError, match=r"y\.yaml: seeds: 1,1 has a seed twice"):
        read_plan(tmp_path / "y.yaml")
    (tmp_path / "x.yaml").write_text("question: q\nsteps: 1\ntrainings: {a: {begin: sft}}\n")
    with pytest.raises(InputError, match=r"x\.yaml: trainings\.a\.begin: "):
        read_plan(tmp_path / "x.yaml")


def test_outcomes_are_means_over_items_and_the_difference_is_told_from_the_first(tmp_path: Path) -> None:
    plan, jobs, measured = plan_of(full=Training(), other=Training(published="worse")), [], []
    for name, good in (("full", 4), ("other", 2)):
        for seed in (0, 1):
            jobs.append(TrainingJob(name=name, seed=seed, folder=tmp_path / f"{name}-{seed}", script=""))
            measured.append([rollout(column, item, right=item < good) for column in COLUMNS for item in range(8)])
    findings = find_outcomes(plan, jobs, measured)
    full, other = findings.outcomes["full"], findings.outcomes["other"]
    assert (full.transformed, other.transformed, full.must) == (0.5, 0.25, 0.5)
    assert full.by_seed == {0: 0.5, 1: 0.5}
    assert full.columns["rot90"].n == 8
    assert full.difference is None
    assert other.difference is not None
    assert other.difference.value == -0.25
    assert (other.difference.seeds, other.difference.items) == (2, 8)  # eight texts, each in five columns
    write_findings(findings, tmp_path)
    written = json.loads((tmp_path / "findings.json").read_text())["outcomes"]["other"]
    assert (written["difference"]["confidence"], written["decision"]) == (0.95, "undecided")
    table = show.write_study(plan, findings, jobs, tmp_path)
    assert "| other | 25.0 |" in table
    assert "95.0 %) | no | worse |" in table
    assert re.search(
        r"with 2 seeds and 8 items a difference of \d+ points can be told; with 12 seeds and 8 items", table
    )
    assert (tmp_path / "curves.png").stat().st_size > 1000


def test_one_seed_decides_nothing_and_the_table_says_so(tmp_path: Path) -> None:
    plan = plan_of(full=Training(), other=Training())
    jobs = [TrainingJob(name=name, seed=0, folder=tmp_path / name, script="") for name in plan.trainings]
    measured = [[rollout(c, i, right=right) for c in COLUMNS for i in range(8)] for right in (True, False)]
    findings = find_outcomes(plan, jobs, measured)
    assert findings.outcomes["other"].decision == "undecided"
    assert "With one seed, the intervals are over items only" in show.study_markdown(findings)


def test_operations_that_no_task_requires_are_counted_beside_their_group() -> None:
    rows = [
        rollout("source", 0, right=True, ops=("rotate_90", "sharpen"), step=1),
        rollout("source", 1, right=False, step=1),
        rollout("source", 2, right=False, ops=("sharpen",), step=8),
    ]
    header, found = offline.emergent_tools(rows)
    assert found == [("sharpen", "1", "50.0", "100.0", "50.0", "0.0", "2")]
    assert len(header) == len(found[0])


def test_prompts_where_the_tool_helps_are_counted_by_what_they_require() -> None:
    rows = [
        rollout("source", 0, right=True, ops=("rotate_90",), group="a"),
        rollout("source", 1, right=False, group="a"),
        rollout("source", 2, right=True, group="b"),
    ]
    header, found = offline.benefit_by_requirement(rows)
    assert found == [("nothing", "2", "100.0", "50.0", "1", "1", "0", "0")]
    assert len(header) == len(found[0])


def test_small_targets_lose_most_of_iou_to_a_coarse_frame_and_containment_hides_it() -> None:
    header, rows = offline.crop()
    by = {(row[0], row[1]): dict(zip(header[2:], map(float, row[2:]), strict=True)) for row in rows}
    assert by["1 %", "original"]["iou, exact"] > 0.9
    assert by["1 %", "relative"]["iou, exact"] < by["30 %", "relative"]["iou, exact"]
    assert by["5 %", "seen"]["iou, slips"] < by["30 %", "seen"]["iou, slips"]
