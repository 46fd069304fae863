"""Turns the rewards of a group into advantages, and says which rollouts take part; arrays have a row per rollout."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from codevision_ext.rewards.settings import TruncationPolicy
from codevision_ext.types import EndReason

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

EPSILON = 1e-6
"""Added to a standard deviation before a division, so that a group of equal rewards doesn't divide by 0; as in verl."""
OVER = (EndReason.TURN_CAP, EndReason.LENGTH)
"""End reasons of rollouts that ran into a limit; the answer that they would have given is unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Participation:
    """Which rollouts take part in the statistics, and which in the loss; both have shape (rollouts,)."""

    counted: Flags
    """True: the rollout counts in the mean and the standard deviation of its group."""
    learns: Flags
    """True: the rollout has a loss."""


def participation(infos: Sequence[Mapping[str, float] | None], overturn: TruncationPolicy) -> Participation:
    """Returns which rollouts take part. An invalid rollout takes part in nothing.

    Args:
        infos: Logged numbers of each rollout (`monitor.rollout_metrics`); None for a row of padding.
        overturn: Treatment of a rollout that ran into a limit. Leaving it out of the loss is the over-turn masking of
            Mini-o3 (arXiv 2509.07969).
    """
    valid = np.array([bool(info and info["valid"]) for info in infos], dtype=bool)
    over = np.array([bool(info and any(info[f"end_{reason}"] for reason in OVER)) for info in infos], dtype=bool)
    return Participation(
        counted=valid & ~(over & (overturn == "mask_loss_and_baseline")), learns=valid & ~(over & (overturn != "none"))
    )


def neutral_rewards(rewards: Sequence[float | None]) -> list[float]:
    """Returns a reward for every rollout of a group; an invalid one (None) gets the mean of the others.

    verl needs a number. An invalid rollout has no loss. With the mean of the others it doesn't move the baseline of an
    estimator that counts every rollout. Where no rollout is valid, all get 0, so that none has an advantage.
    """
    valid = [reward for reward in rewards if reward is not None]
    mean = sum(valid) / len(valid) if valid else 0.0
    return [mean if reward is None else reward for reward in rewards]


def group_advantages(
    rewards: Floats, groups: Sequence[str], counted: Flags | None = None, *, by_std: bool = True
) -> Floats:
    """Normalises rewards within their group (GRPO, arXiv 2402.03300).

    The advantage is (reward - mean) / (standard deviation + EPSILON), over the counted rollouts of the group.

    Args:
        rewards: Shape (rollouts,) or (rollouts, terms); columns are normalised one by one.
        groups: Group of each rollout.
        counted: Rollouts that count in the mean and the standard deviation (n - 1 in the denominator); None: all.
        by_std: False: the mean is subtracted, and nothing is divided (Dr. GRPO, arXiv 2503.20783).

    Returns:
        Advantages in the shape of `rewards`; 0 for a rollout that isn't counted, or whose group has fewer than two
        counted rollouts.
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
    """Normalises each term by itself and adds up, so that no term drowns another (GDPO, arXiv 2601.05242).

    The advantage is the sum over terms of |weight| * group_advantages(contribution). With `by_std` this sum is then
    normalised over the whole batch.

    Args:
        contributions: Raw value times weight of each term, shape (rollouts, terms).
        weights: Weights of the terms, shape (terms,).
        groups: Group of each rollout.
        counted: Rollouts that count, as in `group_advantages`.
        by_std: Whether to divide by standard deviations, as in `group_advantages`.

    Returns:
        Advantages, shape (rollouts,); 0 for rollouts that aren't counted.
    """
    used = np.ones(len(groups), dtype=bool) if counted is None else counted
    normalised = group_advantages(contributions, groups, used, by_std=by_std)
    summed: Floats = normalised @ np.abs(np.asarray(weights, dtype=np.float64))
    if by_std and used.sum() > 1:
        summed = (summed - summed[used].mean()) / (summed[used].std(ddof=1) + EPSILON)
    return np.where(used, summed, 0.0)
