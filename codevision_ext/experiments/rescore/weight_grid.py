"""Compares the advantages of many combinations of weights with those of the base setting, in one pass."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

from codevision_ext.experiments.rescore.read_groups import WINDOW, read_groups
from codevision_ext.experiments.rescore.rescore import score_group
from codevision_ext.rewards.advantages import Floats, group_advantages
from codevision_ext.rewards.rubric import PRESETS, Rubric
from codevision_ext.rewards.settings import RewardSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """Effect of one combination of weights."""

    weights: dict[str, float]
    """Weights of the grid; empty for the base setting."""
    spearman: float | None
    """Rank correlation of the advantages with those of the base, over all rollouts, in [-1, 1]; None: all equal."""
    sign_flips: int
    """Number of rollouts whose advantage has another sign than under the base setting."""
    wrong_above_right: int
    """Number of groups in which a wrong answer earns more than a right one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Effects of a grid of weights on a file of records."""

    preset: str
    weights: dict[str, float]
    """Weights of the base setting, by term."""
    groups: int
    """Number of groups with at least two valid rollouts; other groups have no advantages."""
    rollouts: int
    """Number of valid rollouts in these groups."""
    effects: list[Effect]
    """Effects of all combinations; the first is the base setting's."""


def compare_weights(
    source: Path, settings: RewardSettings, axes: Mapping[str, Sequence[float]], window: int = WINDOW
) -> Grid:
    """Returns the effects of all combinations of the weights in `axes`.

    Memory grows with the file, by 8 bytes for each rollout and setting.

    Raises:
        InputError: as `rescore.rescore`; or a name or a value in `axes` can't be a weight.
    """
    points = [dict(zip(axes, values, strict=True)) for values in product(*axes.values())]
    base = Rubric(settings)
    rubrics = [base, *(Rubric(settings.model_copy(update={"weights": {**settings.weights, **p}})) for p in points)]
    # a term that the preset or any combination weighs must be measurable, otherwise it is an error
    needed = {name for rubric in rubrics for name, weight in rubric.weights.items() if weight}
    needed |= {name for name, weighted in PRESETS[settings.preset].items() if weighted.weight}
    uncapped = Rubric(settings.model_copy(update={"cap_total": None}))
    terms = list(uncapped.weights)
    weighed = np.array([[rubric.weights[name] for name in terms] for rubric in rubrics])
    cap = np.inf if settings.cap_total is None else settings.cap_total
    rows: list[Floats] = []
    above = np.zeros(len(rubrics), dtype=int)
    groups = 0
    for group in read_groups(source, settings.preset, window):
        raws = score_group(group, uncapped, source, needed)
        right = np.array([line.rollout.observed.correct for line in group if line.rollout.observed.valid])
        if len(right) < 2:
            continue
        groups += 1
        rewards = np.minimum(np.array(list(raws.values())).T @ weighed.T, cap)
        if right.any() and not right.all():
            above += rewards[~right].max(axis=0) > rewards[right].min(axis=0) + 1e-9
        rows.append(group_advantages(rewards, [""] * len(right)))
    advantages = np.concatenate(rows) if rows else np.zeros((0, len(rubrics)))
    advantages[np.abs(advantages) < 1e-6] = 0.0  # equal rewards that were added up in another order
    effects = [
        Effect(
            weights=point,
            spearman=_spearman(advantages[:, 0], advantages[:, at]),
            sign_flips=int(np.sum(advantages[:, 0] * advantages[:, at] < 0)),
            wrong_above_right=int(above[at]),
        )
        for at, point in enumerate([{}, *points])
    ]
    return Grid(preset=settings.preset, weights=base.weights, groups=groups, rollouts=len(advantages), effects=effects)


def _spearman(a: Floats, b: Floats) -> float | None:
    """Returns Spearman's rank correlation; None if all values of one side are equal."""
    from scipy.stats import spearmanr  # noqa: PLC0415  slow to import

    a, b = np.round(a, 9), np.round(b, 9)
    if len(a) < 2 or not np.ptp(a) or not np.ptp(b):
        return None
    return float(spearmanr(a, b).statistic)
