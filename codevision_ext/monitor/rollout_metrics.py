"""Computes the numbers that training logs about its rollouts."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from codevision_ext.config import Settings
from codevision_ext.io.records import Record
from codevision_ext.rewards.rubric import Rubric
from codevision_ext.rollout.loop import Trajectory
from codevision_ext.types import DrawingScore, EndReason


def summarise_step(infos: Sequence[Mapping[str, float]], groups: Sequence[str]) -> dict[str, float]:
    """Returns the metrics of a step, those of docs/health.md; means are over valid rollouts.

    `infos` has the `rollout_numbers` of each rollout: at least one rollout, and the same names for all. `groups` has
    the group of each rollout. A rate whose denominator is 0 is left out.
    """
    valid = [info for info in infos if info["valid"]]

    def mean(name: str) -> float:
        return float(np.mean([info[name] for info in valid])) if valid else 0.0

    calls, malformed, recoverable = mean("calls"), mean("malformed_calls"), mean("recoverable_calls")
    metrics = {f"reward/{name.removeprefix('term_')}/mean": mean(name) for name in infos[0] if name.startswith("term_")}
    metrics |= {f"rollout/{name}": mean(name) for name in infos[0] if name.startswith("end_")}
    # over all rollouts, because an abstention makes a rollout invalid
    judge = [name for name in ("judged", "abstained") if name in infos[0]]
    metrics |= {f"rollout/{name}": float(np.mean([info[name] for info in infos])) for name in judge}
    if drawn := mean("drawn"):
        names = ("drawn_f1", "drawn_right", "drawn_unknown")
        metrics |= {f"rollout/{name}": mean(name) / drawn for name in names}
    if recoverable:
        metrics["rollout/recovery_rate"] = mean("recovered_calls") / recoverable
    return (
        metrics
        | _group_metrics(infos, groups)
        | {
            "reward/total/mean": sum(metrics[name] for name in metrics if name.startswith("reward/")),
            "rollout/accuracy": mean("acc"),
            "rollout/accuracy_upper": mean("acc") + mean("undecided"),
            "rollout/undecided": mean("undecided"),
            "rollout/format": mean("format"),
            "rollout/tool_rate": mean("tool"),
            "rollout/calls": calls,
            "rollout/invalid_call_rate": (mean("failed_calls") + malformed) / max(calls + malformed, 1e-9),
            "rollout/repeated_call_rate": mean("repeated_calls") / max(calls, 1e-9),
            "rollout/noop_calls": mean("noop_calls"),
            "rollout/turns/mean": mean("turns"),
            "rollout/turns/max": float(max((info["turns"] for info in valid), default=0.0)),
            "rollout/invalid_share": 1 - len(valid) / len(infos),
        }
    )


def _group_metrics(infos: Sequence[Mapping[str, float]], groups: Sequence[str]) -> dict[str, float]:
    """Returns the spread of rewards and answers within groups, over their valid rollouts."""
    right, rewards = defaultdict(list), defaultdict(list)
    for info, group in zip(infos, groups, strict=True):
        if info["valid"]:
            right[group].append(info["acc"])
            rewards[group].append(sum(value for name, value in info.items() if name.startswith("term_")))
    spreads = [np.std(values, ddof=1) for values in rewards.values() if len(values) > 1]
    metrics = {"rollout/group_std": float(np.mean(spreads))} if spreads else {}
    if right:
        metrics["rollout/all_right_rate"] = float(np.mean([all(values) for values in right.values()]))
        metrics["rollout/all_wrong_rate"] = float(np.mean([not any(values) for values in right.values()]))
    return metrics


def group_numbers(
    records: Sequence[Record], trajectories: Sequence[Trajectory | None], settings: Settings
) -> list[dict[str, float]]:
    """Returns `rollout_numbers` of all rollouts of a prompt, with `filter_acc` for DAPO's filter.

    The filter drops a group whose values of `filter_acc` are all equal. The value of a valid rollout is its accuracy,
    that of an invalid one is the accuracy of the first valid one. Without a valid rollout all values differ, so that
    the group is kept and counted.
    """
    valid = [float(record.observed.correct) for record in records if record.observed.valid]
    logged = [
        rollout_numbers(record, trajectory, settings) for record, trajectory in zip(records, trajectories, strict=True)
    ]
    for index, values in enumerate(logged):
        values["filter_acc"] = values["acc"] if values["valid"] else valid[0] if valid else float(index)
    return logged


def rollout_numbers(record: Record, trajectory: Trajectory | None, settings: Settings) -> dict[str, float]:
    """Returns the numbers that are logged about a rollout, with the same keys for every rollout of a run."""
    outcome, steps = record.observed, record.observed.steps
    calls = [(call.code, call.image_index) for call in (trajectory.calls if trajectory else ()) if call]
    values = {
        "acc": float(outcome.correct),
        "format": outcome.format,
        "valid": float(outcome.valid),
        "undecided": float(outcome.undecided),
        "tool": float(bool(steps)),
        "calls": float(len(steps)),
        "failed_calls": float(sum(not step.ok for step in steps)),
        "noop_calls": float(sum(step.noop for step in steps)),
        "malformed_calls": float(trajectory.malformed if trajectory else 0),
        "repeated_calls": float(len(calls) - len(set(calls))),  # the same code on the same image, so the same result
        **_recoveries(trajectory),
        **_drawing_numbers(outcome.drawn),
        "turns": float(record.turn_count or 0),
    }
    if settings.judge:
        abstained = record.verdict is not None and record.verdict.score is None
        values |= {"judged": float(record.verdict is not None), "abstained": float(abstained)}
    values |= {f"end_{reason}": float(outcome.end_reason is reason) for reason in EndReason}
    for name in Rubric(settings.reward).weights:
        values[f"term_{name}"] = record.terms[name].contribution if name in record.terms else 0.0
    return values


def _drawing_numbers(drawn: DrawingScore | None) -> dict[str, float]:
    """Returns the numbers about a drawing: whether the row asks for one, and the verdict on it."""
    return {
        "drawn": float(drawn is not None),
        "drawn_f1": drawn.f1 if drawn else 0.0,
        "drawn_right": float(drawn is not None and drawn.correct is True),
        "drawn_unknown": float(drawn is not None and drawn.correct is None),
    }


def _recoveries(trajectory: Trajectory | None) -> dict[str, float]:
    """Counts the failed and unreadable calls after which a turn was left, and those that a successful call follows."""
    if trajectory is None or trajectory.token_buffer.limits.assistant_turns < 3:  # the last turn's calls aren't run
        return {"recoverable_calls": 0.0, "recovered_calls": 0.0}
    steps = iter(trajectory.steps)
    went_well = [call is not None and next(steps).ok for call in trajectory.calls]
    before_last = went_well[: len(went_well) - went_well[::-1].index(True)] if any(went_well) else []
    return {"recoverable_calls": float(went_well.count(False)), "recovered_calls": float(before_last.count(False))}
