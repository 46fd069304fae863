"""Runs `codevision study`: prints what stored records show, then trains the variants, then compares them."""

from collections.abc import Callable, Sequence
from pathlib import Path

from codevision_ext.engines.device import use_cpu_if_no_cuda
from codevision_ext.errors import InputError
from codevision_ext.evaluate.command import open_checkpoints, run_evaluation
from codevision_ext.evaluate.options import DataReader, read_suites
from codevision_ext.evaluate.recipe_config import read_recipe_config
from codevision_ext.evaluate.setup import ModelRun, model_used, setup_of, with_checkpoint
from codevision_ext.evaluate.tables import markdown_table
from codevision_ext.experiments.rescore.weight_grid import compare_weights
from codevision_ext.experiments.study import offline
from codevision_ext.experiments.study.outcome import find_outcomes
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
    reader: DataReader,
) -> str:
    """Runs or continues a study; returns its tables in Markdown, and also writes them to OUT/.

    `reader` reads the rows that the trainings are evaluated on.

    Raises:
        InputError: there is no such study, the study or an option is wrong, or a file that the study needs is missing.
        InfraError: a training failed; the trainings that finished before it stay.
    """
    plan = _changed(read_plan(studies / f"{name}.yaml"), steps, seeds)
    run, out, recipe = run.resolve(), out.resolve(), recipe.resolve()
    offline_tables = _OFFLINE[name](run) + "\n" if name in _OFFLINE else ""
    if offline and not offline_tables:
        raise InputError(f"--offline: {name} has no part without training; {', '.join(_OFFLINE)} have one")
    if offline:
        return offline_tables
    jobs = jobs_of(plan, run, recipe, out, settings=settings)
    train(jobs, out, at_once=at_once)
    table = write_study(
        plan, find_outcomes(plan, jobs, _evaluate(plan, jobs, run, recipe, out, reader), out), jobs, out
    )
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
    return plan.model_copy(update=changes)


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
    "benefit": lambda run: markdown_table(*offline.tool_benefit(read_records(run / ROLLOUTS))),
}
"""Functions that write the part of a study that needs no training, by the name of the study."""
