"""OCRBench (Liu et al., arXiv 2305.07895): an answer is right if it contains a reference, whatever the letter case.

Before the comparison, characters such as full-width letters are unified. White space matters, as in the published rule:
"cent re" doesn't contain "centre".
"""

from codevision_ext.evaluate.run import EvalItem
from codevision_ext.evaluate.suites.base import Suite, rule
from codevision_ext.task.normal_form import unify_characters

FORMULAS = "HME100k"
"""Data set whose answers are formulas, compared without white space and with letter case."""


def _points(answer: str, item: EvalItem) -> float:
    form = _formula if item.raw.get("dataset") == FORMULAS else _folded
    text = form(answer)
    return float(any(form(reference) in text for reference in item.item.references))


def _formula(text: str) -> str:
    return "".join(unify_characters(text).split())


def _folded(text: str) -> str:
    return unify_characters(text).strip().replace("\n", " ").lower()


SUITE = Suite(
    name="ocrbench",
    about="by question type; an answer must contain a reference; the published score is the accuracy times 1,000",
    schemas=("ocrbench",),
    column=lambda _, raw: str(raw.get("question_type") or "all"),
    scorer_of=rule(_points),
)
