"""Computes advantages from the rewards of groups, and selects rollouts that count; arrays have a row per rollout."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from codevision_ext.rewards.settings import TruncationPolicy
from codevision_ext.types import EndReason

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

EPSILON = 1e-6
"""Constant that is added to standard deviations before a division, as in verl."""
OVER = (EndReason.TURN_CAP, EndReason.LENGTH)
"""End reasons of rollouts that reached a limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Participation:
    """Masks of the rollouts that count in statistics and in the loss, shape (rollouts,)."""

    counted: Flags
    """True if the rollout counts in the mean and the standard deviation of its group."""
    learns: Flags
    """True if the rollout has a loss."""


def participation(infos: Sequence[Mapping[str, float] | None], overturn: TruncationPolicy) -> Participation:
    """Selects the rollouts that count; an invalid rollout counts nowhere.

    Args:
        infos: Logged numbers of each rollout (`monitor.rollout_metrics`); None for a row of padding.
        overturn: Treatment of rollouts that reached a limit. `mask_loss` is the over-turn masking of Mini-o3 (arXiv
            2509.07969).
    """
    valid = np.array([bool(info and info["valid"]) for info in infos], dtype=bool)
    over = np.array([bool(info and any(info[f"end_{reason}"] for reason in OVER)) for info in infos], dtype=bool)
    return Participation(
        counted=valid & ~(over & (overturn == "mask_loss_and_baseline")), learns=valid & ~(over & (overturn != "none"))
    )


def neutral_rewards(rewards: Sequence[float | None]) -> list[float]:
    """Returns a reward for every rollout of a group; an invalid rollout (None) gets the mean of the valid rewards.

    verl needs a number for every rollout. The mean doesn't change the baseline of an estimator that counts all
    rollouts. If no rollout is valid, all get 0, so that none has an advantage.
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
        by_std: Whether to divide by the standard deviation; without it: Dr. GRPO (arXiv 2503.20783).

    Returns:
        Advantages in the shape of `rewards`; 0 for a rollout that isn't counted, or whose group has fewer than two
        counted rollouts.
    """
    table = np.asarray(rewards, dtype=np.float64).reshape(len(groups), -1)
    advantages = np.zeros_like(table)
    for own in _compared(groups, counted):
        deviation = table[own] - table[own].mean(axis=0)
        advantages[own] = deviation / _scale(table[own], by_std=by_std)
    return advantages.reshape(np.shape(rewards))


def _scale(rewards: Floats, *, by_std: bool) -> Floats | float:
    """Returns the divisor of a group's deviations, shape (terms,) for rewards of shape (rollouts, terms)."""
    return rewards.std(axis=0, ddof=1) + EPSILON if by_std else 1.0


def _compared(groups: Sequence[str], counted: Flags | None) -> Iterator[NDArray[np.intp]]:
    """Yields the counted rollouts of each group that has at least two."""
    used = np.ones(len(groups), dtype=bool) if counted is None else counted
    _, member_of = np.unique(np.asarray(groups, dtype=object).astype(str), return_inverse=True)
    order = np.argsort(member_of, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(member_of[order])) + 1):
        own = rows[used[rows]]
        if len(own) > 1:
            yield own


def turn_advantages(
    rewards: Floats,
    gains: Sequence[Sequence[float]],
    groups: Sequence[str],
    counted: Flags | None = None,
    *,
    by_std: bool = True,
) -> list[Floats]:
    """Returns an advantage for each turn, in which a turn gets no credit for what earlier turns earned.

    The first turn has the advantage of `group_advantages`. That of a later turn is lower by max(0, gains of the turns
    before it - mean gain of the group) / standard deviation. This is the reward that is still to come at the turn,
    compared with the group's mean reward less the gains before the turn, of which the mean gain is the maximum. The
    baseline depends on earlier turns and the group's means only, so it doesn't bias the gradient more than GRPO's.

    Args:
        rewards: Reward of each rollout, gains included, shape (rollouts,).
        gains: What each turn of each rollout adds to the reward, at least 0.
        groups: Group of each rollout.
        counted: Rollouts that count, as in `group_advantages`.
        by_std: Whether to divide by the standard deviation of the rewards, as in `group_advantages`.

    Returns:
        Advantages of the turns of each rollout, in the shape of `gains`; 0 for rollouts that aren't counted.
    """
    whole = group_advantages(rewards, groups, counted, by_std=by_std)
    advantages = [np.full(len(own), value) for own, value in zip(gains, whole, strict=True)]
    for rows in _compared(groups, counted):
        mean = float(np.mean([sum(gains[row]) for row in rows]))
        scale = _scale(rewards[rows], by_std=by_std)
        for row in rows:
            before = np.concatenate([[0.0], np.cumsum(gains[row])[:-1]]) if len(gains[row]) else np.zeros(0)
            advantages[row] -= np.maximum(before - mean, 0.0) / scale
    return advantages


def component_advantages(
    contributions: Floats,
    weights: Sequence[float],
    groups: Sequence[str],
    counted: Flags | None = None,
    *,
    by_std: bool = True,
) -> Floats:
    """Normalises each term separately before the sum, so that no term dominates (GDPO, arXiv 2601.05242).

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
