"""OCRBench (Liu et al., arXiv 2305.07895): an answer is right when it contains a reference, letter case aside."""

from codevision_ext.evaluate.run import EvalItem
from codevision_ext.evaluate.suites.base import Suite, rule

FORMULAS = "HME100k"
"""The data set whose answers are formulas: there white space doesn't count, and letter case does."""


def _points(answer: str, case: EvalItem) -> float:
    if case.raw.get("dataset") == FORMULAS:
        return float(any("".join(reference.split()) in "".join(answer.split()) for reference in case.item.references))
    said = _folded(answer)
    return float(any(_folded(reference) in said for reference in case.item.references))


def _folded(text: str) -> str:
    return text.strip().replace("\n", " ").lower()


SUITE = Suite(
    name="ocrbench",
    about="by question type; an answer must contain a reference; the published score is the accuracy times 1,000",
    schemas=("ocrbench",),
    column=lambda _, raw: str(raw.get("question_type") or "all"),
    mark_of=rule(_points),
)
