"""What a rollout is worth: the terms of a preset, weighed and added up, with all rollouts of its prompt in sight.

To add a term: write it in terms.py, name it here with a weight, weigh it in a recipe.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import fsum, isfinite, nan
from typing import Final, Literal

from codevision_ext.errors import InputError
from codevision_ext.rewards import terms
from codevision_ext.types import Breakdown, Rollout, TermScore

Term = Callable[[Sequence[Rollout]], list[float]]
"""Scores every valid rollout of one prompt, in input order; raw values, at least 0."""
GroupSplit = Literal["optional", "any"]
"""Which rollouts are compared with the rest to tell whether the tool helped: an optional op, or any call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighted:
    """A term and what it counts for: a negative weight makes it a penalty."""

    term: Term
    weight: float


def _each(term: Callable[[Rollout], float], weight: float) -> Weighted:
    """A term that looks at one rollout at a time."""
    return Weighted(term=lambda group: [term(rollout) for rollout in group], weight=weight)


_NECESSITY: Final[Mapping[GroupSplit, Term]] = {
    "optional": terms.necessity(terms.used_optional),
    "any": terms.necessity(terms.used_any),
}

PRESETS: Final[Mapping[str, Mapping[str, Weighted]]] = {
    "upstream": {
        "accuracy": _each(terms.upstream_accuracy, 1.0),
        "format": _each(terms.format_kept, 0.1),
        "must": _each(terms.upstream_must, 1.0),
        "necessity": Weighted(term=terms.upstream_necessity, weight=0.0),
        "exact": _each(terms.upstream_exact, 0.1),
        "emergent": _each(terms.upstream_emergent, 0.2),
        "usage": _each(terms.upstream_usage, -0.5),
        "spurious": _each(terms.upstream_spurious, -0.5),
    },
    "paper": {
        "accuracy": _each(terms.accuracy, 1.0),
        "format": _each(terms.format_kept, 0.1),
        "must": _each(terms.paper_must, 1.0),
        "full": _each(terms.paper_full, 0.1),
        "necessity": Weighted(term=_NECESSITY["optional"], weight=0.2),
        "emergent": _each(terms.emergent, 0.2),
        "turns": _each(terms.turns, -0.5),
        "poor_crop": _each(terms.paper_poor_crop, -0.5),
        "inappropriate": _each(terms.paper_inappropriate, -0.5),
    },
    "verified": {
        "accuracy": _each(terms.accuracy, 1.0),
        "format": _each(terms.format_kept, 0.1),
        "must": _each(terms.verified_must, 1.0),
        "full": _each(terms.verified_full, 0.1),
        "necessity": Weighted(term=_NECESSITY["optional"], weight=0.2),
        "emergent": _each(terms.emergent, 0.2),
        "turns": _each(terms.turns, -0.5),
        "poor_crop": _each(terms.verified_poor_crop, -0.5),
        "inappropriate": _each(terms.verified_inappropriate, -0.5),
        "exec": _each(terms.executed, 0.0),
    },
}
"""Every term there is, by preset; `upstream` is the released code, `paper` the paper, `verified` ours."""


def weighted_terms(
    preset: str = "verified", weights: Mapping[str, float] | None = None, group_split: GroupSplit = "optional"
) -> dict[str, Weighted]:
    """The terms of a preset, in order, with `weights` in place of its own.

    Raises:
        InputError: an unknown preset, term or tool group, or a weight that can't be one.
    """
    if preset not in PRESETS:
        raise InputError(f"unknown reward preset {preset!r}; known are: {', '.join(PRESETS)}.")
    if group_split not in _NECESSITY:
        raise InputError(f"unknown group_split {group_split!r}; known are: {', '.join(_NECESSITY)}.")
    table = dict(PRESETS[preset])
    if group_split != "optional":
        if table["necessity"].term is not _NECESSITY["optional"]:
            raise InputError(f"preset {preset!r} doesn't read group_split; leave it out.")
        table["necessity"] = Weighted(term=_NECESSITY[group_split], weight=table["necessity"].weight)
    for name, weight in (weights or {}).items():
        if name not in table:
            raise InputError(f"unknown reward term {name!r}; preset {preset!r} has: {', '.join(table)}.")
        if not isfinite(weight):
            raise InputError(f"the weight of reward term {name!r} is {weight}; it must be a finite number.")
        if weight > 0 > PRESETS[preset][name].weight:
            raise InputError(f"the weight of reward term {name!r} is {weight}; a penalty's weight is at most 0.")
        table[name] = Weighted(term=table[name].term, weight=weight)
    return table


def score_group(
    rollouts: Sequence[Rollout],
    preset: str = "verified",
    weights: Mapping[str, float] | None = None,
    group_split: GroupSplit = "optional",
) -> list[Breakdown]:
    """The reward of every rollout of one prompt, in input order.

    Rollouts that we spoiled are left out of the group's statistics; their breakdown has `valid=False` and NaN values.

    Args:
        rollouts: All rollouts of the prompt, before anything filters them.
        preset: A name in PRESETS.
        weights: Weights that replace the preset's, by term name.
        group_split: Whom the necessity term compares with the rest (presets `paper` and `verified`).

    Raises:
        InputError: see `weighted_terms`; or the task can't be scored.
        ValueError: the rollouts belong to more than one group.
    """
    table = weighted_terms(preset, weights, group_split)
    groups = {rollout.group for rollout in rollouts}
    if len(groups) > 1:
        raise ValueError(f"rollouts of {len(groups)} groups can't be scored as one: {', '.join(sorted(groups)[:4])}")
    valid = [rollout for rollout in rollouts if rollout.observed.valid]
    raws = {name: weighted.term(valid) for name, weighted in table.items()}
    scored = iter([_breakdown({name: raw[i] for name, raw in raws.items()}, table) for i in range(len(valid))])
    spoiled = _breakdown(dict.fromkeys(table, nan), table, valid=False)
    return [next(scored) if rollout.observed.valid else spoiled for rollout in rollouts]


def _breakdown(raws: Mapping[str, float], table: Mapping[str, Weighted], *, valid: bool = True) -> Breakdown:
    scores = {
        name: TermScore(raw=raw, weight=table[name].weight, contribution=raw * table[name].weight)
        for name, raw in raws.items()
    }
    return Breakdown(reward=fsum(score.contribution for score in scores.values()), terms=scores, valid=valid)
