"""Measures the terms of the `vthinker` presets, with one pure function per term, as in `terms`.

The drawing was judged by its pixels when the rollout was scored; the terms read that verdict.
"""

from codevision_ext.errors import InputError
from codevision_ext.rewards import terms
from codevision_ext.types import Rollout


def graded_accuracy(rollout: Rollout) -> float:
    """Returns 1 for a correct answer, else 0; for an answer of coordinates the share of right places, in [0, 1]."""
    share = rollout.observed.answer_share
    return terms.accuracy(rollout) if share is None else share


def drawn(rollout: Rollout) -> float:
    """Returns the F1 of the drawing that the row asks for, in [0, 1]; 0 where it asks for none.

    Raises:
        InputError: the row asks for a drawing, and the drawing wasn't judged.
    """
    if rollout.task.drawing is None:
        return 0.0
    if rollout.observed.drawn is None:
        raise InputError("observed.drawn is missing; the drawing can't be scored without it.")
    return rollout.observed.drawn.f1


def useful_drawing(rollout: Rollout) -> float:
    """Returns for a correct answer how useful its calls were, in [0, 1]; 0 for a wrong answer.

    It is `drawn` where the row asks for a drawing. Otherwise it is 1 where a call handed a new image back.

    Raises:
        InputError: what `drawn` raises.
    """
    if not rollout.observed.correct:
        return 0.0
    if rollout.task.drawing is not None:
        return drawn(rollout)
    return float(any(step.ok and step.images for step in rollout.observed.steps))


def correct_with_call(rollout: Rollout) -> float:
    """Returns 1 for a correct answer with at least one call, whatever became of the call."""
    return float(rollout.observed.correct and terms.used_any(rollout))


def correct_executed(rollout: Rollout) -> float:
    """Returns for a correct answer the share of calls that succeeded, in [0, 1]; 0 without a call."""
    return terms.executed(rollout) if rollout.observed.correct else 0.0


def consistent(rollout: Rollout) -> float:
    """Returns for a correct answer the judge's score of thought and answer, in [0, 1]; 0 for a wrong answer.

    Raises:
        InputError: a correct answer has no such score.
    """
    if not rollout.observed.correct:
        return 0.0
    if rollout.observed.consistent is None:
        raise InputError("observed.consistent is missing; the term 'consistency' can't be measured without it.")
    return rollout.observed.consistent
