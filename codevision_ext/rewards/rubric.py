"""Weighs the terms of a preset and adds them up to the reward, for all rollouts of a prompt together.

To add a term, write it in terms.py, name it here with a weight, and set its weight in a recipe.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import fsum, isfinite, nan
from typing import Any, Final

from codevision_ext.errors import InputError
from codevision_ext.rewards import terms
from codevision_ext.rewards.settings import CuriositySettings, GroupSplit, RewardSettings
from codevision_ext.rewards.similarity import SIMILARITIES
from codevision_ext.types import Breakdown, Rollout, TermScore

Term = Callable[[Sequence[Rollout]], list[float]]
"""Function from the valid rollouts of one prompt to their raw values, in input order.

Raw values are at least 0; those of `benefit` are at least -1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighted:
    """A term and its weight."""

    term: Term
    weight: float
    penalty: bool = False
    """True: the weight must be at most 0."""
    strategy: bool = False
    """True: the term pays for how the tool was used; with `gate_strategy_on_correct` wrong answers don't get it."""


def _each(term: Callable[[Rollout], float], weight: float, *, strategy: bool = False) -> Weighted:
    """Returns a weighted term that is written for one rollout."""
    return _all(lambda group: [term(rollout) for rollout in group], weight, strategy=strategy)


def _all(term: Term, weight: float, *, strategy: bool = False) -> Weighted:
    """Returns a weighted term that is written for the rollouts of a group."""
    return Weighted(term=term, weight=weight, penalty=weight < 0, strategy=strategy)


def _optional(term: Weighted, *, penalty: bool = False) -> Weighted:
    """Returns the term with weight 0, so that it counts only where a recipe gives it a weight."""
    return replace(term, weight=0.0, penalty=penalty, strategy=not penalty)


def _upstream(_: RewardSettings) -> dict[str, Weighted]:
    return {
        "accuracy": _each(terms.upstream_accuracy, 1.0),
        "format": _each(terms.format_kept, 0.1),
        "must": _each(terms.upstream_must, 1.0),
        "necessity": _all(terms.upstream_necessity, 0.0),
        "exact": _each(terms.upstream_exact, 0.1),
        "emergent": _each(terms.upstream_emergent, 0.2),
        "usage": _each(terms.upstream_usage, -0.5),
        "spurious": _each(terms.upstream_spurious, -0.5),
    }


def _paper(settings: RewardSettings) -> dict[str, Weighted]:
    return {
        "accuracy": _each(terms.accuracy, 1.0),
        "format": _each(terms.format_kept, 0.1),
        "must": _each(terms.paper_must, 1.0, strategy=True),
        "full": _each(terms.paper_full, 0.1, strategy=True),
        "necessity": _all(_NECESSITY[settings.group_split], 0.2, strategy=True),
        "emergent": _each(terms.emergent, 0.2, strategy=True),
        "turns": _each(terms.turns, -0.5),
        "poor_crop": _each(terms.paper_poor_crop, -0.5),
        "inappropriate": _each(terms.paper_inappropriate, -0.5),
    }


def _verified(settings: RewardSettings) -> dict[str, Weighted]:
    sim = SIMILARITIES[settings.sim]
    return _paper(settings) | {
        "must": _each(lambda rollout: terms.verified_must(rollout, sim), 1.0, strategy=True),
        "full": _each(lambda rollout: terms.verified_full(rollout, sim), 0.1, strategy=True),
        "poor_crop": _each(lambda rollout: terms.verified_poor_crop(rollout, sim), -0.5),
        "inappropriate": _each(terms.verified_inappropriate, -0.5),
        "exec": _optional(_each(terms.executed, 0.0)),
        "benefit": _optional(_all(terms.benefit, 0.0)),
        "curiosity": _optional(_all(terms.curiosity(settings.curiosity), 0.0)),
        "faithful": _optional(_each(terms.faithful, 0.0)),
        "redundancy": _optional(_each(terms.redundancy, 0.0), penalty=True),
        "area": _optional(_each(lambda rollout: terms.area_shown(rollout, sim), 0.0), penalty=True),
    }


_NECESSITY: Final[Mapping[GroupSplit, Term]] = {
    "optional": terms.necessity(terms.used_optional),
    "any": terms.necessity(terms.used_any),
}
_TERMS: Final = {"upstream": _upstream, "paper": _paper, "verified": _verified}

PRESETS: Final[Mapping[str, Mapping[str, Weighted]]] = {
    name: terms_of(RewardSettings(preset=name)) for name, terms_of in _TERMS.items()
}
"""All terms by preset and name. `upstream` is the released code, `paper` follows the paper, `verified` is ours."""

_PENALTIES: Final = {"turns": -1.0, "poor_crop": -1.0, "inappropriate": -1.0}
_PUBLISHED: Final = {
    "alpha": {"must": 1.0},
    "beta": {"necessity": 1.0},
    "gamma": _PENALTIES,
    "w_fmt": {"format": 1.0},
    "w_emerge": {"emergent": 1.0},
    "b1": {"must": 1.0, "full": 0.1, "necessity": 0.2, "emergent": 0.2},
    "b2": _PENALTIES,
}
ALIASES: Final[Mapping[str, Mapping[str, Mapping[str, float]]]] = {
    "upstream": {
        **{name: _PUBLISHED[name] for name in ("alpha", "beta", "w_fmt", "w_emerge")},
        "gamma": {"usage": -1.0, "spurious": -1.0},
    },
    "paper": _PUBLISHED,
    "verified": _PUBLISHED,
}
"""Published names of weights by preset: the terms that each sets, and the factor for each term."""

_READ_BY: Final = {
    "group_split": ("paper", "verified"),
    "sim": ("verified",),
    "gate_strategy_on_correct": ("paper", "verified"),
    "cap_total": ("paper", "verified"),
}
"""Presets that read a setting; the other presets refuse it."""


class Rubric:
    """Scores groups by settings that are checked once."""

    def __init__(self, settings: RewardSettings) -> None:
        """Checks the settings.

        Raises:
            InputError: a preset or term is unknown, a weight is out of range, or a setting has no effect.
        """
        self.settings = settings
        preset = settings.preset
        if preset not in PRESETS:
            raise InputError(f"unknown reward preset {preset!r}; known are: {', '.join(PRESETS)}.")
        defaults = RewardSettings()
        for name, readers in _READ_BY.items():
            if getattr(settings, name) != getattr(defaults, name) and preset not in readers:
                raise InputError(f"preset {preset!r} doesn't read {name}; leave it out.")
        table = dict(_TERMS[preset](settings))
        weighed: dict[frozenset[str], str] = {}
        aliases = ALIASES[preset]
        for key, value in settings.weights.items():
            if key not in table and key not in aliases:
                known = f"{', '.join(table)}, and as published {', '.join(aliases)}"
                raise InputError(f"unknown reward term {key!r}; preset {preset!r} has: {known}.")
            if not isfinite(value):
                raise InputError(f"the weight of reward term {key!r} is {value}; it must be a finite number.")
            factors = aliases.get(key, {key: 1.0})
            other = weighed.setdefault(frozenset(factors), key)
            if other != key:
                raise InputError(f"reward terms {other!r} and {key!r} are the same; leave one out.")
            for name, factor in factors.items():
                if value * factor > 0 and table[name].penalty:
                    sign = "at most 0" if factor > 0 else "taken off, so at least 0"
                    raise InputError(f"the weight of reward term {key!r} is {value}; a penalty's weight is {sign}.")
                table[name] = replace(table[name], weight=value * factor)
        if settings.curiosity != CuriositySettings() and not ("curiosity" in table and table["curiosity"].weight):
            raise InputError("the settings of curiosity are read only where the term 'curiosity' has a weight.")
        self._table = table
        self.weights: dict[str, float] = {name: weighted.weight for name, weighted in table.items()}
        """Weights by name of the term, in the order of the breakdown."""
        if settings.cap_total is not None:
            self.weights["cap"] = -1.0

    def is_penalty(self, name: str) -> bool:
        """Returns whether the term is a penalty."""
        return name == "cap" or self._table[name].penalty

    def score(self, group: Sequence[Rollout]) -> list[Breakdown]:
        """Returns the reward of every rollout of one prompt, in input order.

        `group` has all rollouts of the prompt, before anything filters them. Invalid rollouts are left out of its
        statistics; their breakdown has `valid=False` and NaN.

        Raises:
            InputError: the task lacks a field that a term needs.
            ValueError: the rollouts belong to more than one group.
        """
        raws = self.measure(group)
        scored = (self._breakdown(values) for values in zip(*raws.values(), strict=True))
        invalid = self._breakdown([nan] * len(self.weights), valid=False)
        return [next(scored) if rollout.observed.valid else invalid for rollout in group]

    def measure(self, group: Sequence[Rollout]) -> dict[str, list[float]]:
        """Returns the raw values of every term, for the valid rollouts of one prompt, in input order.

        Raises:
            InputError: the task lacks a field that a term needs.
            ValueError: the rollouts belong to more than one group.
        """
        groups = {rollout.group for rollout in group}
        if len(groups) > 1:
            raise ValueError(
                f"rollouts of {len(groups)} groups can't be scored as one: {', '.join(sorted(groups)[:4])}"
            )
        valid = [rollout for rollout in group if rollout.observed.valid]
        raws = {name: self._measure(weighted, valid) for name, weighted in self._table.items()}
        if self.settings.cap_total is not None:
            totals = [fsum(raws[name][i] * w.weight for name, w in self._table.items()) for i in range(len(valid))]
            raws["cap"] = [max(0.0, total - self.settings.cap_total) for total in totals]
        return raws

    def _measure(self, weighted: Weighted, valid: Sequence[Rollout]) -> list[float]:
        try:
            raws = weighted.term(valid)
        except InputError:
            if weighted.weight:
                raise
            return [0.0] * len(valid)  # a term without weight doesn't need its fields
        if self.settings.gate_strategy_on_correct and weighted.strategy:
            return [raw * r.observed.correct for raw, r in zip(raws, valid, strict=True)]
        return raws

    def _breakdown(self, raws: Sequence[float], *, valid: bool = True) -> Breakdown:
        scores = {
            name: TermScore(raw=raw, weight=weight, contribution=raw * weight)
            for raw, (name, weight) in zip(raws, self.weights.items(), strict=True)
        }
        return Breakdown(reward=fsum(score.contribution for score in scores.values()), terms=scores, valid=valid)


def score_group(rollouts: Sequence[Rollout], preset: str = "verified", **settings: Any) -> list[Breakdown]:
    """Scores one group, with settings by name (`weights={"must": 0.5}`); see `Rubric.score`."""
    return Rubric(RewardSettings(preset=preset, **settings)).score(rollouts)
