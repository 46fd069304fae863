"""Runs `codevision study`: prints what stored records show, then trains the variants, then compares them."""

from collections.abc import Callable, Sequence
from pathlib import Path

from pydantic import ValidationError

from codevision_ext.engines.device import use_cpu_if_no_cuda
from codevision_ext.errors import InputError, first_problem
from codevision_ext.evaluate.command import open_checkpoints, run_evaluation
from codevision_ext.evaluate.options import DataReader, read_suites
from codevision_ext.evaluate.recipe_config import read_recipe_config
from codevision_ext.evaluate.setup import ModelRun, model_used, setup_of, with_checkpoint
from codevision_ext.evaluate.tables import markdown_table
from codevision_ext.experiments.rescore.weight_grid import compare_weights
from codevision_ext.experiments.study import offline
from codevision_ext.experiments.study.looks import Measure, run_until_decided
from codevision_ext.experiments.study.outcome import find_outcomes, write_findings
from codevision_ext.experiments.study.plan import StudyPlan, read_plan
from codevision_ext.experiments.study.show import write_study
from codevision_ext.experiments.study.train import TrainingJob, jobs_of, train
from codevision_ext.io.atomic_files import write_whole
from codevision_ext.io.records import Record, read_records
from codevision_ext.models.checkpoint_settings import checkpoint_settings, print_notes
from codevision_ext.rewards.settings import RewardSettings

ENGINE = "sglang"
"""Engine that samples the rollouts of the checkpoints, as in training."""
BETAS = (0.0, 0.2, 0.5, 1.0, 2.0)
ROLLOUTS = Path("rollouts") / "train.jsonl"


def run_study(
    name: str,
    *,
    run: Path,
    out: Path,
    recipe: Path,
    studies: Path,
    steps: int | None = None,
    seeds: str | None = None,
    at_once: int | None = None,
    settings: Sequence[str] = (),
    offline: bool = False,
    until_decided: float | None = None,
    reader: DataReader,
    evaluate: Measure | None = None,
) -> str:
    """Runs or continues a study; returns its tables in Markdown, and also writes them to OUT/.

    Args:
        name: Name of the study's file in `studies`.
        run: Folder of the rows and of the checkpoints that the trainings begin with.
        out: Folder of the study.
        recipe: Folder with run.sh and the settings of a training.
        studies: Folder of the studies.
        steps: Number of steps of every training; None: the study's.
        seeds: Seeds with commas; None: the study's.
        at_once: Number of trainings at the same time; None: as many as the memory allows, at most two.
        settings: Settings of verl for all trainings.
        offline: Whether to return only the tables that need no training.
        until_decided: Minutes in which further seeds may start until the comparisons are decided; None: no more seeds.
        reader: Reads the rows of the evaluation.
        evaluate: Returns the rollouts of each trained job's checkpoint; None: evaluates them on the run's test rows.

    Raises:
        InputError: there is no such study, the study or an option is wrong, or a file that the study needs is missing.
        InfraError: a training failed; finished trainings are kept.
    """
    plan = _changed(read_plan(studies / f"{name}.yaml"), steps, seeds)
    run, out, recipe = run.resolve(), out.resolve(), recipe.resolve()
    offline_tables = _OFFLINE[name](run) + "\n" if name in _OFFLINE else ""
    if offline and not offline_tables:
        raise InputError(f"--offline: {name} has no part without training; {', '.join(_OFFLINE)} have one")
    if offline:
        return offline_tables

    def jobs_of_plan(plan: StudyPlan) -> list[TrainingJob]:
        return jobs_of(plan, run, recipe, out, settings=settings)

    def measure(jobs: Sequence[TrainingJob]) -> list[list[Record]]:
        train(jobs, out, at_once=at_once)
        return evaluate(jobs) if evaluate else _evaluate(plan, jobs, run, recipe, out, reader)

    if until_decided is None:
        jobs = jobs_of_plan(plan)
        findings = find_outcomes(plan, jobs, measure(jobs))
    else:
        jobs, findings = run_until_decided(plan, jobs_of_plan, measure, until_decided)
    write_findings(findings, out)
    table = write_study(plan, findings, jobs, out)
    if offline_tables:
        write_whole(out / "offline.md", offline_tables.encode())
    return f"{offline_tables}\n{table}" if offline_tables else table


def _evaluate(
    plan: StudyPlan, jobs: Sequence[TrainingJob], run: Path, recipe: Path, out: Path, reader: DataReader
) -> list[list[Record]]:
    """Evaluates every checkpoint on the same items, with the recipe's settings, and returns the rollouts of each."""
    use_cpu_if_no_cuda()
    config = read_recipe_config(recipe / "grpo.yaml")
    suites = read_suites([f"transformed={run / 'data' / 'test.parquet'}"], reader, limit=plan.items)
    folders = [job.checkpoint.resolve() for job in jobs]
    own = {folder: checkpoint_settings(config.settings, folder) for folder in folders}
    print_notes(own)
    configs = {folder: with_checkpoint(config, settings) for folder, settings in own.items()}
    models = [
        ModelRun(
            name=job.folder.name,
            setup=setup_of(model_used(str(folder)), ENGINE, configs[folder], own[folder], seed=job.seed),
            config=configs[folder],
            checkpoint=folder,
            records=f"{job.folder.name}/rollouts/val.jsonl",
        )
        for job, folder in zip(jobs, folders, strict=True)
    ]
    engine = open_checkpoints(folders, ENGINE, config, seed=jobs[0].seed)
    run_evaluation(models, suites, out, modes=["tool_on"], engine=engine, replace=True)
    return [list(read_records(out / model.records)) for model in models]


def _changed(plan: StudyPlan, steps: int | None, seeds: str | None) -> StudyPlan:
    changes: dict[str, object] = {}
    if steps is not None:
        changes["steps"] = steps
    if seeds is not None:
        try:
            changes["seeds"] = tuple(int(seed) for seed in seeds.split(","))
        except ValueError:
            raise InputError(f"--seeds {seeds}: must be whole numbers, separated by commas") from None
    try:
        return StudyPlan.model_validate(plan.model_dump() | changes)
    except ValidationError as error:
        raise InputError(f"--{': '.join(first_problem(error))}") from None


def _emergent(run: Path) -> str:
    header, rows = offline.emergent_tools(read_records(run / ROLLOUTS))
    return markdown_table(header, rows) if rows else f"{run / ROLLOUTS}: no rollout used an optional operation."


def _beta(run: Path) -> str:
    grid = compare_weights(run / ROLLOUTS, RewardSettings(preset="upstream"), {"beta": BETAS})
    rows = [
        (
            f"{effect.weights['beta']:g}" if effect.weights else "as released",
            "-" if effect.spearman is None else f"{effect.spearman:.4f}",
            str(effect.sign_flips),
            str(effect.wrong_above_right),
        )
        for effect in grid.effects
    ]
    names = ("beta", "rank correlation of advantages", "sign flips", "groups with a wrong answer above a right one")
    return f"{grid.rollouts:,} rollouts in {grid.groups:,} groups\n\n{markdown_table(names, rows)}"


_OFFLINE: dict[str, Callable[[Path], str]] = {
    "emergent": _emergent,
    "crop": lambda _: markdown_table(*offline.crop()),
    "beta": _beta,
    "benefit": lambda run: markdown_table(*offline.benefit_by_requirement(read_records(run / ROLLOUTS))),
}
"""Functions that compute tables of a study without training, by the name of the study."""
