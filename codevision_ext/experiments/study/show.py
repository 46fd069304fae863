"""Writes the table of a study, and the curves of its trainings."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from codevision_ext.evaluate.metrics import COLUMNS
from codevision_ext.evaluate.tables import markdown_table
from codevision_ext.experiments.study.outcome import Findings, VariantOutcome
from codevision_ext.experiments.study.plan import StudyPlan
from codevision_ext.experiments.study.seed_statistics import Decision
from codevision_ext.experiments.study.train import TrainingJob
from codevision_ext.io.atomic_files import write_whole
from codevision_ext.report.curves import Points, read_metrics

CURVES = ("rollout/accuracy", "reward/must/mean", "rollout/tool_rate", "rollout/invalid_call_rate")
_CAPTION = (
    "% right; `transformed`: mean of the five transformed columns, and its least and most over the seeds; "
    "`difference`: from the first line, over the same seeds and items, with its interval over seeds and items; "
    "`decided`: the interval is above or below the threshold; `must`: required operations done; "
    "`rollouts`: sampled in the training"
)


def study_markdown(findings: Findings) -> str:
    """Returns the table in Markdown, between the study's question and the meaning of the numbers."""
    names = (
        *("training", *COLUMNS, "transformed", "seeds", "difference", "decided", "published"),
        *("must", "tool", "calls that fail", "optional ops", "rollouts"),
    )
    rows = [(name, *_cells(outcome, findings.threshold)) for name, outcome in findings.outcomes.items()]
    title = f"**{findings.question}** ({findings.steps} steps)"
    return "\n\n".join([title, markdown_table(names, rows), *_notes(findings), _CAPTION]) + "\n"


def _notes(findings: Findings) -> list[str]:
    """Returns sentences about the end of the study, and about the differences that it can tell."""
    differences = [outcome.difference for outcome in findings.outcomes.values() if outcome.difference]
    notes = [f"The study ended because {findings.ended}."] if findings.ended else []
    if any(each.seeds == 1 for each in differences):
        notes.append("With one seed, the intervals are over items only, and decide nothing.")
    if findings.power:
        items = max(each.items for each in differences)
        told = "; ".join(
            f"with {seeds} seeds and {items} items a difference of {points:.0f} points can be told"
            for seeds, points in findings.power.items()
        )
        notes.append(f"Power of 80 %: {told}.")
    return notes


def _cells(outcome: VariantOutcome, threshold: float) -> list[str]:
    shares = (outcome.must, outcome.tool_rate, outcome.failed_calls, outcome.optional_ops)
    seeds = outcome.by_seed.values()
    spread = f" ({100 * min(seeds):.1f} to {100 * max(seeds):.1f})" if len(seeds) > 1 else ""
    effect = outcome.difference
    difference = decided = ""
    if effect:
        bounds = f"{100 * effect.low:+.1f} to {100 * effect.high:+.1f}"
        difference = f"{100 * effect.value:+.1f} ({bounds}, {100 * effect.confidence:.1f} %)"
        undecided = outcome.decision is Decision.UNDECIDED
        decided = "no" if undecided else f"{outcome.decision} {threshold:+g}" if threshold else f"{outcome.decision} 0"
    return [
        *[f"{100 * outcome.columns[column].accuracy:.1f}" for column in COLUMNS],
        f"{100 * outcome.transformed:.1f}{spread}",
        str(len(seeds)),
        difference,
        decided,
        outcome.published or "",
        *[f"{100 * share:.0f}" for share in shares],
        f"{outcome.sampled:,.0f}",
    ]


def write_study(plan: StudyPlan, findings: Findings, jobs: Sequence[TrainingJob], out: Path) -> str:
    """Writes OUT/table.md and OUT/curves.png, and returns the table."""
    from matplotlib.figure import Figure  # noqa: PLC0415  slow to import

    table = study_markdown(findings)
    write_whole(out / "table.md", table.encode())
    logged: dict[str, list[dict[str, Points]]] = defaultdict(list)
    for job in jobs:
        path = job.folder / "metrics.jsonl"
        logged[job.name] += [read_metrics(path)] if path.exists() else []  # what is only measured logs nothing
    figure = Figure(figsize=(10, 6), layout="constrained")
    for axes, name in zip(figure.subplots(2, 2).flat, CURVES, strict=True):
        for training in plan.trainings:
            if points := _mean([series[name] for series in logged[training] if name in series]):
                axes.plot(points.keys(), points.values(), label=training, linewidth=1)
        axes.set(title=name, xlabel="step")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize="small")
    figure.savefig(out / "curves.png", dpi=120)
    return table


def _mean(seeds: Sequence[Points]) -> Points:
    """Returns the mean of each step over the seeds that logged it."""
    steps = sorted({step for points in seeds for step in points})
    return {step: fmean(points[step] for points in seeds if step in points) for step in steps}
