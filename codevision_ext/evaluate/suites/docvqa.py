"""DocVQA, scored by ANLS, the average normalised Levenshtein similarity (Biten et al., ICCV 2019).

Before the comparison, characters are unified, and Markdown or LaTeX around an answer is removed. Quotes, full stops and
white space count as edits, as in the published rule.
"""

from collections.abc import Sequence

from codevision_ext.errors import InputError
from codevision_ext.evaluate.run import EvalItem
from codevision_ext.evaluate.suites.base import Suite, rule
from codevision_ext.task.normal_form import unwrap


def anls(answer: str, references: Sequence[str]) -> float:
    """Returns the similarity with the closest reference, in [0, 1]: 1 - NL if that is at least 0.5, else 0.

    Letter case is ignored.

    Raises:
        InputError: the package anls_star isn't installed.
    """
    try:
        from anls_star import anls_score  # noqa: PLC0415  optional
    except ImportError as error:
        raise InputError(f"ANLS needs a package: pip install anls_star ({error})") from error
    return max(
        float(anls_score(reference.lower(), answer.lower(), return_gt=False, return_key_scores=False))
        for reference in references
    )


def _points(answer: str, item: EvalItem) -> float:
    return anls(_plain(answer), [_plain(reference) for reference in item.item.references])


def _plain(text: str) -> str:
    return " ".join(unwrap(text).split())


SUITE = Suite(name="docvqa", about="ANLS against the closest reference", schemas=("docvqa",), scorer_of=rule(_points))
