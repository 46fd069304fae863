"""What a group makes of its rewards: who takes part, and advantages relative to the group; NumPy, a row a rollout."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from codevision_ext.rewards.settings import TruncationPolicy
from codevision_ext.types import EndReason

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

EPSILON = 1e-6
"""Keeps a group without spread from dividing by 0; verl's value."""
OVER = (EndReason.TURN_CAP, EndReason.LENGTH)
"""A rollout that ended so ran into a limit; what it would have answered isn't known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Participation:
    """Which rollouts take part in what; shape (rollouts,)."""

    counted: Flags
    """In mean and spread of the group."""
    learns: Flags
    """In the loss."""


def participation(infos: Sequence[Mapping[str, float] | None], overturn: TruncationPolicy) -> Participation:
    """Who takes part, by what is logged of each rollout (`scoring.numbers`); None is a row of padding.

    An invalid rollout takes part in nothing. One that ran into a limit is treated as `overturn` says; leaving it
    out of the loss is Mini-o3's over-turn masking (arXiv 2509.07969).
    """
    valid = np.array([bool(info and info["valid"]) for info in infos], dtype=bool)
    over = np.array([bool(info and any(info[f"end_{reason}"] for reason in OVER)) for info in infos], dtype=bool)
    return Participation(
        counted=valid & ~(over & (overturn == "mask_loss_and_baseline")), learns=valid & ~(over & (overturn != "none"))
    )


def neutral_rewards(rewards: Sequence[float | None]) -> list[float]:
    """Return a number for every rollout of a group: its reward, or for an invalid one (None) the mean of the others.

    verl wants a number. An invalid rollout has no loss, and with the mean of the others it doesn't move the baseline of
    an estimator that counts every rollout. Where no rollout is valid all get 0, so that none has an advantage.
    """
    valid = [reward for reward in rewards if reward is not None]
    mean = sum(valid) / len(valid) if valid else 0.0
    return [mean if reward is None else reward for reward in rewards]


def group_advantages(
    rewards: Floats, groups: Sequence[str], counted: Flags | None = None, *, by_std: bool = True
) -> Floats:
    """(reward - mean) / (standard deviation + EPSILON) of the counted rollouts of its group (GRPO, arXiv 2402.03300).

    Args:
        rewards: Shape (rollouts,) or (rollouts, terms); columns are normalised one by one.
        groups: Which group each rollout belongs to.
        counted: Whose rewards make mean and deviation (n - 1 in its denominator); None: all.
        by_std: False: only the mean is taken off (Dr. GRPO, arXiv 2503.20783).

    Returns:
        The shape of `rewards`; 0 for rollouts that aren't counted, and in a group where fewer than two are.
    """
    table = np.asarray(rewards, dtype=np.float64).reshape(len(groups), -1)
    used = np.ones(len(groups), dtype=bool) if counted is None else counted
    advantages = np.zeros_like(table)
    _, member_of = np.unique(np.asarray(groups, dtype=object).astype(str), return_inverse=True)
    order = np.argsort(member_of, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(member_of[order])) + 1):
        own = rows[used[rows]]
        if len(own) < 2:
            continue
        deviation = table[own] - table[own].mean(axis=0)
        scale = table[own].std(axis=0, ddof=1) + EPSILON if by_std else 1.0
        advantages[own] = deviation / scale
    return advantages.reshape(np.shape(rewards))


def component_advantages(
    contributions: Floats,
    weights: Sequence[float],
    groups: Sequence[str],
    counted: Flags | None = None,
    *,
    by_std: bool = True,
) -> Floats:
    """Advantages in which no term drowns another: each normalised by itself, summed by weight (GDPO, arXiv 2601.05242).

    sum over terms of |weight| * group_advantages(contribution), then less its mean and by its deviation over the batch.

    Args:
        contributions: Raw value times weight, shape (rollouts, terms).
        weights: Shape (terms,).
        groups: As in `group_advantages`, as are `counted` and `by_std`.
        counted: See there.
        by_std: See there.

    Returns:
        Shape (rollouts,); 0 for rollouts that aren't counted.
    """
    used = np.ones(len(groups), dtype=bool) if counted is None else counted
    normalised = group_advantages(contributions, groups, used, by_std=by_std)
    summed: Floats = normalised @ np.abs(np.asarray(weights, dtype=np.float64))
    if by_std and used.sum() > 1:
        summed = (summed - summed[used].mean()) / (summed[used].std(ddof=1) + EPSILON)
    return np.where(used, summed, 0.0)
