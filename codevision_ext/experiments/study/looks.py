"""Adds seeds to a study until its comparisons are decided, or its time is up."""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from codevision_ext.errors import InputError
from codevision_ext.experiments.study.outcome import Findings, find_outcomes
from codevision_ext.experiments.study.plan import StudyPlan
from codevision_ext.experiments.study.seed_statistics import Decision, look_levels
from codevision_ext.experiments.study.train import TrainingJob
from codevision_ext.io.records import Record

JobsOf = Callable[[StudyPlan], list[TrainingJob]]
"""Function from a plan to its trainings with its seeds."""
Measure = Callable[[Sequence[TrainingJob]], list[list[Record]]]
"""Function that trains and evaluates jobs, unless that is done, and returns the rollouts of each checkpoint."""


def run_until_decided(
    plan: StudyPlan,
    jobs_of: JobsOf,
    measure: Measure,
    minutes: float,
    *,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[list[TrainingJob], Findings]:
    """Runs the plan's seeds, then one more seed at a time, and looks at the differences after each.

    A training that is decided gets no more seeds. The study ends when all trainings are decided, when `max_seeds` are
    used, or when the next seed wouldn't end in time, judged by the slowest one of this call. The levels of the looks
    (`seed_statistics.look_levels`) keep the probability of a false decision below 5 % for each comparison. The looks
    depend on the rollouts alone, so a study that continues finished work makes the same looks again.

    Args:
        plan: The study.
        jobs_of: Returns the jobs of a plan.
        measure: Trains and evaluates jobs.
        minutes: Time limit. The plan's own seeds run in any case.
        clock: Returns the time in seconds.

    Raises:
        InputError: the plan has fewer than two seeds.
    """
    if len(plan.seeds) < 2:
        raise InputError("--until-decided needs at least two seeds for its first look, such as --seeds 0,1,2")
    start = clock()
    first, *others = plan.trainings
    last = max(len(plan.seeds), plan.max_seeds)
    levels = look_levels(len(plan.seeds), last)
    seeds, jobs, slowest = list(plan.seeds), jobs_of(plan), 0.0
    while True:
        began = clock()
        findings = find_outcomes(plan, jobs, measure(jobs), levels)
        if len(seeds) > len(plan.seeds):
            slowest = max(slowest, clock() - began)
        undecided = [name for name in others if findings.outcomes[name].decision is Decision.UNDECIDED]
        sys.stderr.write(f"codevision: {len(seeds)} seeds; undecided: {', '.join(undecided) or 'none'}\n")
        if not undecided:
            return jobs, replace(findings, ended="every comparison is decided")
        if len(seeds) == last:
            return jobs, replace(findings, ended=f"all {last} seeds are used")
        if clock() - start + slowest > 60 * minutes:
            return jobs, replace(findings, ended=f"the {minutes:g} minutes are up")
        seeds.append(max(seeds) + 1)
        trainings = {name: plan.trainings[name] for name in (first, *undecided)}
        jobs = [*jobs, *jobs_of(plan.model_copy(update={"seeds": (seeds[-1],), "trainings": trainings}))]
