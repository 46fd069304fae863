"""Computes the reward as the weighted sum of a preset's terms, for all rollouts of a prompt together.

To add a term, write it in terms.py, name it here with a weight, and set its weight in a recipe.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from math import fsum, inf, isfinite, nan
from typing import Any, Final

from codevision_ext.errors import InputError
from codevision_ext.rewards import drawing_terms, terms
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
    """True if the weight must be at most 0."""
    strategy: bool = False
    """True if the term rewards the use of the tool; `gate_strategy_on_correct` sets it to 0 for wrong answers."""
    right_only: bool = False
    """True if the raw value of a wrong answer is 0."""


def _each(
    term: Callable[[Rollout], float], weight: float, *, strategy: bool = False, right_only: bool = False
) -> Weighted:
    """Returns a weighted term from a function of one rollout."""
    return _all(lambda group: [term(rollout) for rollout in group], weight, strategy=strategy, right_only=right_only)


def _all(term: Term, weight: float, *, strategy: bool = False, right_only: bool = False) -> Weighted:
    """Returns a weighted term from a function of a group."""
    return Weighted(term=term, weight=weight, penalty=weight < 0, strategy=strategy, right_only=right_only)


def _optional(term: Weighted, *, penalty: bool = False) -> Weighted:
    """Returns the term with weight 0, so that it counts only if a recipe gives it a weight."""
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
        "necessity": _all(_NECESSITY[settings.group_split], 0.2, strategy=True, right_only=True),
        "emergent": _each(terms.emergent, 0.2, strategy=True, right_only=True),
        "turns": _each(terms.turns, -0.5),
        "poor_crop": _each(terms.paper_poor_crop, -0.5, right_only=True),
        "inappropriate": _each(terms.paper_inappropriate, -0.5),
    }


def _verified(settings: RewardSettings) -> dict[str, Weighted]:
    sim = SIMILARITIES[settings.sim]
    return _paper(settings) | {
        "must": _each(lambda rollout: terms.verified_must(rollout, sim), 1.0, strategy=True),
        "full": _each(lambda rollout: terms.verified_full(rollout, sim), 0.1, strategy=True),
        "poor_crop": _each(lambda rollout: terms.verified_poor_crop(rollout, sim), -0.5, right_only=True),
        "inappropriate": _each(terms.verified_inappropriate, -0.5),
        "exec": _optional(_each(terms.executed, 0.0)),
        "benefit": _optional(_all(terms.benefit, 0.0)),
        "curiosity": _optional(_all(terms.curiosity(settings.curiosity), 0.0)),
        "faithful": _optional(_each(terms.faithful, 0.0)),
        "redundancy": _optional(_each(terms.redundancy, 0.0), penalty=True),
        "area": _optional(_each(lambda rollout: terms.area_shown(rollout, sim), 0.0), penalty=True),
        "drawn": _optional(_each(drawing_terms.drawn, 0.0)),
    }


def _ordered(settings: RewardSettings) -> dict[str, Weighted]:
    weights = {"must": 0.25, "full": 0.025, "necessity": 0.05, "emergent": 0.05}  # b1: 0.25
    weights |= {"turns": -0.15, "poor_crop": -0.15, "inappropriate": -0.15}  # b2: 0.15
    return {
        name: replace(weighted, weight=weights.get(name, weighted.weight))
        for name, weighted in _verified(settings).items()
    }


def _vthinker(_: RewardSettings) -> dict[str, Weighted]:
    return {
        "accuracy": _each(drawing_terms.graded_accuracy, 1.0),
        "format": _each(terms.format_kept, 0.5),
        "tool": _each(drawing_terms.useful_drawing, 0.3, strategy=True),
        "drawn": _each(drawing_terms.drawn, 0.5, strategy=True),
        "consistency": _optional(_each(drawing_terms.consistent, 0.0)),
    }


def _vthinker_paper(_: RewardSettings) -> dict[str, Weighted]:
    return {
        "accuracy": _each(terms.accuracy, 1.0),
        "format": _each(terms.format_kept, 0.5),
        "tool": _each(drawing_terms.correct_with_call, 0.3),
        "drawn": _optional(_each(drawing_terms.drawn, 0.0)),
    }


def _vthinker_as_run(_: RewardSettings) -> dict[str, Weighted]:
    return {
        "accuracy": _each(terms.accuracy, 1.0),  # the script gives -1 for a wrong answer, and 0 for none
        "format": _each(terms.format_kept, 0.5),
        "code": _each(drawing_terms.correct_executed, 0.3),
        "consistency": _each(drawing_terms.consistent, 0.5),
        "drawn": _optional(_each(drawing_terms.drawn, 0.0)),
    }


_NECESSITY: Final[Mapping[GroupSplit, Term]] = {
    "optional": terms.necessity(terms.used_optional),
    "any": terms.necessity(terms.used_any),
}
_TERMS: Final = {
    "upstream": _upstream,
    "paper": _paper,
    "verified": _verified,
    "ordered": _ordered,
    "vthinker": _vthinker,
    "vthinker_paper": _vthinker_paper,
    "vthinker_as_run": _vthinker_as_run,
}

PRESETS: Final[Mapping[str, Mapping[str, Weighted]]] = {
    name: terms_of(RewardSettings(preset=name)) for name, terms_of in _TERMS.items()
}
"""All terms by preset and name.

`upstream` is the released code of CodeVision, `paper` follows its paper, `verified` is ours. `ordered` has the terms of
`verified` and weights with which each right answer earns more than each wrong one. `vthinker_as_run` is the released
script of V-Thinker, `vthinker_paper` follows its paper, `vthinker` is ours and checks drawings by pixels."""

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
    "ordered": _PUBLISHED,
    "vthinker": {},
    "vthinker_paper": {},
    "vthinker_as_run": {},
}
"""Terms and factors that each published name of a weight sets, by preset."""

_OURS: Final = ("verified", "ordered")
_READ_BY: Final = {
    "group_split": ("paper", *_OURS),
    "sim": _OURS,
    "gate_strategy_on_correct": ("paper", *_OURS, "vthinker"),
    "cap_total": ("paper", *_OURS, "vthinker"),
    "credit": ("paper", *_OURS),
}
"""Presets that read a setting; the other presets refuse it."""


class Rubric:
    """Scores groups with settings that are checked once."""

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
                known = ", ".join(table) + (f", and as published {', '.join(aliases)}" if aliases else "")
                raise InputError(f"unknown reward term {key!r}; preset {preset!r} has: {known}.")
            if not isfinite(value):
                raise InputError(f"the weight of reward term {key!r} is {value}; it must be a finite number.")
            factors = aliases.get(key, {key: 1.0})
            other = weighed.setdefault(frozenset(factors), key)
            if other != key:
                raise InputError(f"reward terms {other!r} and {key!r} set the same weights; leave one out.")
            for name, factor in factors.items():
                if value * factor > 0 and table[name].penalty:
                    sign = "at most 0" if factor > 0 else "taken off, so at least 0"
                    raise InputError(f"the weight of reward term {key!r} is {value}; a penalty's weight is {sign}.")
                table[name] = replace(table[name], weight=value * factor)
        if settings.curiosity != CuriositySettings() and not ("curiosity" in table and table["curiosity"].weight):
            raise InputError("the settings of curiosity are read only if the term 'curiosity' has a weight.")
        if settings.gate_steps is not None and not settings.gate_strategy_on_correct:
            raise InputError("gate_steps is read only with gate_strategy_on_correct: true.")
        if settings.credit == "call" and table["must"].weight <= 0:
            raise InputError(f"credit: call needs a weight of 'must' above 0, not {table['must'].weight:g}.")
        self._table = table
        self.weights: dict[str, float] = {name: weighted.weight for name, weighted in table.items()}
        """Weights by name of the term, in the order of the breakdown."""
        if settings.cap_total is not None:
            self.weights["cap"] = -1.0
        if preset == "ordered" and self.margin <= 0:
            raise InputError(
                f"with these weights a wrong answer can earn {-self.margin:.3g} more than a right one, which preset "
                "'ordered' excludes; take smaller weights, or preset 'verified'."
            )

    @property
    def margin(self) -> float:
        """Lower bound of what a right answer earns more than a wrong one of the same prompt; negative without one.

        The bound holds for any two rollouts, if `accuracy` is 1 for right answers and 0 for wrong ones.
        """
        right, wrong = self._table["accuracy"].weight, 0.0
        gated = self.settings.gate_strategy_on_correct and self.settings.gate_steps is None
        for name, term in self._table.items():
            if name == "accuracy":
                continue
            ends = (term.weight * (-1.0 if name == "benefit" else 0.0), term.weight)  # raw values are in [0, 1]
            right += min(0.0, *ends)
            wrong += 0.0 if term.right_only or (gated and term.strategy) else max(0.0, *ends)
        cap = inf if self.settings.cap_total is None else self.settings.cap_total
        return min(right, cap) - min(wrong, cap)

    def call_gains(self, rollout: Rollout, contribution: float) -> list[float]:
        """Returns what each call of a valid rollout adds to the contribution of the term `must`, at least 0.

        Args:
            rollout: The rollout.
            contribution: Contribution of `must` to its reward; the gains sum to it.
        """
        sim = SIMILARITIES[self.settings.sim]
        paper = self.settings.preset == "paper"
        shares = terms.paper_must_by_step(rollout) if paper else terms.verified_must_by_step(rollout, sim)
        whole = fsum(shares)
        return [share / whole * contribution if whole else 0.0 for share in shares]

    def is_penalty(self, name: str) -> bool:
        """Returns whether the term is a penalty."""
        return name == "cap" or self._table[name].penalty

    def score(self, group: Sequence[Rollout]) -> list[Breakdown]:
        """Returns the reward of every rollout of one prompt, in input order.

        `group` has all rollouts of the prompt, before any filter. Invalid rollouts don't count in its statistics; their
        breakdown has `valid=False` and NaN.

        Raises:
            InputError: the task lacks a field that a term needs.
            ValueError: the rollouts belong to more than one group.
        """
        raws = self.measure(group)
        scored = (self._breakdown(values) for values in zip(*raws.values(), strict=True))
        invalid = self._breakdown([nan] * len(self.weights), valid=False)
        return [next(scored) if rollout.observed.valid else invalid for rollout in group]

    def measure(self, group: Sequence[Rollout], needed: Collection[str] = ()) -> dict[str, list[float]]:
        """Returns the raw values of every term, for the valid rollouts of one prompt, in input order.

        A term without weight is 0 if the task lacks a field that it needs, unless its name is in `needed`.

        Raises:
            InputError: the task lacks a field that a term with a weight, or a term in `needed`, needs.
            ValueError: the rollouts belong to more than one group.
        """
        groups = {rollout.group for rollout in group}
        if len(groups) > 1:
            raise ValueError(
                f"rollouts of {len(groups)} groups can't be scored as one: {', '.join(sorted(groups)[:4])}"
            )
        valid = [rollout for rollout in group if rollout.observed.valid]
        raws = {
            name: self._measure(weighted, valid, needed=bool(weighted.weight) or name in needed)
            for name, weighted in self._table.items()
        }
        if self.settings.cap_total is not None:
            totals = [fsum(raws[name][i] * w.weight for name, w in self._table.items()) for i in range(len(valid))]
            raws["cap"] = [max(0.0, total - self.settings.cap_total) for total in totals]
        return raws

    def _measure(self, weighted: Weighted, valid: Sequence[Rollout], *, needed: bool) -> list[float]:
        try:
            raws = weighted.term(valid)
        except InputError:
            if needed:
                raise
            return [0.0] * len(valid)
        if self.settings.gate_strategy_on_correct and weighted.strategy:
            shares = [1.0 if r.observed.correct else self.settings.open_share(r.step) for r in valid]
            return [raw * share for raw, share in zip(raws, shares, strict=True)]
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
