"""OCRBench (Liu et al., arXiv 2305.07895): an answer is right when it contains a reference, letter case aside."""

from codevision_ext.evaluate.run import EvalItem
from codevision_ext.evaluate.suites.base import Suite, rule

FORMULAS = "HME100k"
"""Data set whose answers are formulas, compared without white space and with letter case."""


def _points(answer: str, item: EvalItem) -> float:
    if item.raw.get("dataset") == FORMULAS:
        return float(any("".join(reference.split()) in "".join(answer.split()) for reference in item.item.references))
    text = _folded(answer)
    return float(any(_folded(reference) in text for reference in item.item.references))


def _folded(text: str) -> str:
    return text.strip().replace("\n", " ").lower()


SUITE = Suite(
    name="ocrbench",
    about="by question type; an answer must contain a reference; the published score is the accuracy times 1,000",
    schemas=("ocrbench",),
    column=lambda _, raw: str(raw.get("question_type") or "all"),
    scorer_of=rule(_points),
)
