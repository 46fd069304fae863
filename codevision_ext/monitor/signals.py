"""Finds stretches of steps in which a logged number suggests that the policy collapses.

docs/health.md describes each number.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from codevision_ext.config import WatchSettings

Series = Mapping[str, Mapping[int, float]]
"""Values of each logged number by step, in rising order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """A logged number with a bound."""

    setting: str
    """Setting of `codevision.watch` that holds the bound: `min_...` from below, `max_...` from above."""
    names: tuple[str, ...]
    """Logged numbers whose sum is watched."""
    meaning: str
    remedy: str


SIGNALS: Final = (
    Signal(
        setting="min_tool_rate",
        names=("rollout/tool_rate",),
        meaning="the tool is hardly called",
        remedy="pay for trying it with codevision.reward.weights.curiosity or a higher weight of necessity",
    ),
    Signal(
        setting="max_invalid_call_rate",
        names=("rollout/invalid_call_rate",),
        meaning="too many calls fail or can't be read",
        remedy="weigh codevision.reward.weights.exec, lower codevision.malformed_calls, or show more calls in SFT",
    ),
    Signal(
        setting="min_recovery_rate",
        names=("rollout/recovery_rate",),
        meaning="a call that succeeds hardly ever follows one that failed",
        remedy="raise actor_rollout_ref.rollout.multi_turn.max_assistant_turns, or show corrected mistakes in SFT",
    ),
    Signal(
        setting="max_repeated_call_rate",
        names=("rollout/repeated_call_rate",),
        meaning="the same code is run on the same image again and again",
        remedy="lower codevision.reward.weights.turns, a penalty, or "
        "actor_rollout_ref.rollout.multi_turn.max_assistant_turns",
    ),
    Signal(
        setting="max_truncation_rate",
        names=("rollout/end_length", "rollout/end_turn_cap"),
        meaning="too many rollouts run into the length or turn limit",
        remedy="set codevision.reward.overturn: mask_loss, or raise data.max_response_length or "
        "actor_rollout_ref.rollout.multi_turn.max_assistant_turns",
    ),
    Signal(
        setting="max_undecided_rate",
        names=("rollout/undecided",),
        meaning="too many answers are wrong only because no rule decides them and no judge is set",
        remedy="set codevision.judge.base_url and codevision.judge.model, or codevision.exact_answers: true where the "
        "references are the only right spelling",
    ),
    Signal(
        setting="min_entropy",
        names=("actor/entropy",),
        meaning="the policy says nearly the same every time",
        remedy="raise actor_rollout_ref.actor.clip_ratio_high or .entropy_coeff, or set .use_kl_loss",
    ),
    Signal(
        setting="min_group_std",
        names=("rollout/group_std",),
        meaning="rollouts of a prompt earn nearly the same, so there is little to learn from",
        remedy="set codevision.reward.filter_groups: accuracy, or raise actor_rollout_ref.rollout.n",
    ),
    Signal(
        setting="max_all_wrong_rate",
        names=("rollout/all_wrong_rate",),
        meaning="most prompts are too hard",
        remedy="set codevision.reward.filter_groups: accuracy, raise actor_rollout_ref.rollout.n, or take easier data",
    ),
    Signal(
        setting="max_all_right_rate",
        names=("rollout/all_right_rate",),
        meaning="most prompts are too easy",
        remedy="set codevision.reward.filter_groups: accuracy, or take harder data",
    ),
)
"""All signals; a signal whose numbers weren't logged yields no finding."""

WATCHED: Final = frozenset(name for signal in SIGNALS for name in signal.names)


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalFinding:
    """A signal that was past its bound at `codevision.watch.steps` or more steps in a row."""

    signal: Signal
    bound: float
    first: int
    """First step past the bound."""
    last: int
    """Last step past the bound."""
    value: float
    """Value at the last step."""
    steps: int
    """Number of steps past the bound."""
    over: bool
    """True for a stretch that ended before the newest step."""

    def __str__(self) -> str:
        """Writes one sentence: the number and its bound, the steps, the meaning, and settings that help."""
        side = "below" if self.signal.setting.startswith("min_") else "above"
        when = f"from step {self.first} to {self.last}" if self.over else f"since step {self.first}"
        return (
            f"{' + '.join(self.signal.names)} {'was' if self.over else 'is'} {side} codevision.watch."
            f"{self.signal.setting} ({self.bound:g}) {when} ({self.value:.3g} at step {self.last}): "
            f"{self.signal.meaning}; {self.signal.remedy}"
        )


def check_signals(series: Series, settings: WatchSettings) -> list[SignalFinding]:
    """Returns every stretch of at least `settings.steps` steps past a bound, in the order of SIGNALS.

    Steps at which a signal wasn't logged, or isn't finite, neither end a stretch nor count in it.
    """
    findings = []
    for signal in SIGNALS:
        bound = getattr(settings, signal.setting)
        points = _points(signal, series)
        if bound is None or not points:
            continue
        sign = 1 if signal.setting.startswith("min_") else -1
        newest = points[-1][0]
        for past, group in groupby(points, key=lambda point: sign * point[1] < sign * bound):
            stretch = list(group)
            if past and len(stretch) >= settings.steps:
                last, value = stretch[-1]
                findings.append(
                    SignalFinding(
                        signal=signal,
                        bound=bound,
                        first=stretch[0][0],
                        last=last,
                        value=value,
                        steps=len(stretch),
                        over=last != newest,
                    )
                )
    return findings


def new_findings(series: Series, settings: WatchSettings, step: int) -> list[SignalFinding]:
    """Returns the stretches that became long enough at `step`, the newest step, so that each is reported once."""
    return [each for each in check_signals(series, settings) if each.last == step and each.steps == settings.steps]


def _points(signal: Signal, series: Series) -> list[tuple[int, float]]:
    parts = [series.get(name, {}) for name in signal.names]
    sums = [(step, sum(part[step] for part in parts)) for step in parts[0] if all(step in part for part in parts)]
    return [(step, value) for step, value in sums if math.isfinite(value)]
