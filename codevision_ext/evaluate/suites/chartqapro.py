"""ChartQAPro (Masry et al., arXiv 2504.05506): relaxed accuracy for numbers, ANLS for words, equality for years.

A list is compared entry by entry; a list with more or fewer entries than the reference gets 0. Answers to multiple
choice and fact checking questions, and entries flagged as years, must be equal to the reference.

Before the comparison, characters are unified, and Markdown or LaTeX around an answer is removed. Units, choice marks
and sets of choices are compared as text, as in the published rule.
"""

import ast
from collections.abc import Sequence
from typing import Any, Final

from codevision_ext.evaluate.run import EvalItem
from codevision_ext.evaluate.suites.base import Row, Suite, rule
from codevision_ext.evaluate.suites.docvqa import anls
from codevision_ext.task.normal_form import unwrap

RELAXED: Final = 0.05
"""Maximum relative error of a right number."""
EXACT: Final = frozenset({"fact checking", "multi choice"})
"""Question types whose answers must equal the reference."""


def relaxed(answer: str, reference: str) -> float:
    """Returns 1 for a number within RELAXED of the reference, else 0; ANLS if one of them isn't a number.

    Percent signs are ignored.
    """
    value, target = _number(answer), _number(reference)
    if value is None or target is None:
        return anls(answer.strip().strip("%").strip(), [reference.strip().strip("%").strip()])
    return float(value == 0.0 if target == 0.0 else abs(value - target) <= RELAXED * abs(target))


def points(answer: str, reference: str, years: Sequence[bool] = (), *, exact: bool = False) -> float:
    """Returns the mean score of the entries of an answer, in [0, 1]; `years` flags the entries that are years."""
    values, targets = (_entries(unwrap(text).strip(".").strip("\n")) for text in (answer, reference))
    flags = list(years) or [False]
    if len(flags) < len(targets):
        flags = flags * len(targets)
    scores = [
        float(_same(value, target)) if exact or year else relaxed(value, target)
        for value, target, year in zip(values, targets, flags, strict=False)
    ]
    return sum(scores) / max(len(values), len(targets))


def _points(answer: str, item: EvalItem) -> float:
    kind = _kind(item.row, item.raw).lower()
    years = [str(flag).upper() == "YES" for flag in _list(item.raw.get("Year"))]
    if kind == "conversational":
        years = years[-1:]
    return max(points(answer, reference, years, exact=kind in EXACT) for reference in item.item.references)


def _kind(_: Row, raw: Row) -> str:
    return str(raw.get("Question Type") or "all")


def _same(answer: str, reference: str) -> bool:
    return answer.strip().lower() == reference.strip().lower()


def _number(text: str) -> float | None:
    try:
        return float(text.strip().strip("%"))
    except ValueError:
        return None


def _entries(text: str) -> list[str]:
    """Splits `["a", 2]` and `[a, 2]` into their entries; any other text is a single entry."""
    bare = text.strip()
    if not (bare.startswith("[") and bare.endswith("]")):
        return [text]
    try:
        entries = ast.literal_eval(bare)
    except (SyntaxError, ValueError):
        entries = bare[1:-1].split(",")
    return [str(entry).strip(" '\"") for entry in entries] or [text]


def _list(value: Any) -> list[Any]:
    if isinstance(value, str):
        return _entries(value)
    return list(value) if value is not None else []


SUITE = Suite(
    name="chartqapro",
    about="by question type; relaxed accuracy, ANLS, equality",
    schemas=("chartqapro",),
    column=_kind,
    scorer_of=rule(_points),
)
