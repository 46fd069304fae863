"""Shows a study as a table, and as curves of its trainings."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from codevision_ext.evaluate.metrics import COLUMNS
from codevision_ext.evaluate.tables import markdown_table
from codevision_ext.experiments.study.outcome import Findings, VariantOutcome
from codevision_ext.experiments.study.plan import StudyPlan
from codevision_ext.experiments.study.train import TrainingJob
from codevision_ext.io.atomic_files import write_whole
from codevision_ext.report.curves import Points, read_metrics

CURVES = ("rollout/accuracy", "reward/must/mean", "rollout/tool_rate", "rollout/invalid_call_rate")
_CAPTION = (
    "% right; `transformed`: mean of the five transformed columns, and its least and most over the seeds; "
    "`difference`: from the first line, with its 95 % interval and p (paired bootstrap); "
    "`must`: required operations done"
)


def study_markdown(findings: Findings) -> str:
    """Returns the table in Markdown, between the study's question and the meaning of the numbers."""
    names = ("training", *COLUMNS, "transformed", "difference", "must", "tool", "calls that fail", "optional ops")
    rows = [(name, *_cells(outcome)) for name, outcome in findings.outcomes.items()]
    return f"**{findings.question}** ({findings.steps} steps)\n\n{markdown_table(names, rows)}\n\n{_CAPTION}\n"


def _cells(outcome: VariantOutcome) -> list[str]:
    shares = (outcome.must, outcome.tool_rate, outcome.failed_calls, outcome.optional_ops)
    seeds = outcome.by_seed.values()
    spread = f" ({100 * min(seeds):.1f} to {100 * max(seeds):.1f})" if len(seeds) > 1 else ""
    effect = outcome.difference
    low, high = (f"{100 * bound:+.1f}" for bound in (effect.low, effect.high)) if effect else ("", "")
    difference = f"{100 * effect.value:+.1f} ({low} to {high}), p {effect.p:.2g}" if effect else ""
    return [
        *[f"{100 * outcome.columns[column].accuracy:.1f}" for column in COLUMNS],
        f"{100 * outcome.transformed:.1f}{spread}",
        difference,
        *[f"{100 * share:.0f}" for share in shares],
    ]


def write_study(plan: StudyPlan, findings: Findings, jobs: Sequence[TrainingJob], out: Path) -> str:
    """Writes OUT/table.md and OUT/curves.png, and gives the table."""
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
