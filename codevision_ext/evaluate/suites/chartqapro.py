"""ChartQAPro (Masry et al., arXiv 2504.05506): relaxed accuracy for numbers, ANLS for words, equality for years.

A list is compared entry by entry, and an entry too many or too few gives 0. Multiple choice and fact checking, and
entries flagged as years, must be equal.
"""

import ast
from collections.abc import Sequence
from typing import Any, Final

from codevision_ext.evaluate.run import EvalItem
from codevision_ext.evaluate.suites.base import Row, Suite, rule
from codevision_ext.evaluate.suites.docvqa import anls

RELAXED: Final = 0.05
"""Two numbers this close, relative to the reference, are the same."""
EXACT: Final = frozenset({"fact checking", "multi choice"})
"""Question types whose answers must be equal."""


def relaxed(answer: str, reference: str) -> float:
    """1 for a number within RELAXED of the reference, percent signs aside; ANLS where one of them is no number."""
    given, wanted = _number(answer), _number(reference)
    if given is None or wanted is None:
        return anls(answer.strip().strip("%").strip(), [reference.strip().strip("%").strip()])
    return float(given == 0.0 if wanted == 0.0 else abs(given - wanted) <= RELAXED * abs(wanted))


def points(answer: str, reference: str, years: Sequence[bool] = (), *, exact: bool = False) -> float:
    """The mean over the entries of reference and answer, in [0, 1]; `years` says which entries are years."""
    given, wanted = (_entries(text.strip(".").strip("\n")) for text in (answer, reference))
    flags = list(years) or [False]
    if len(flags) < len(wanted):
        flags = flags * len(wanted)
    found = [
        float(_same(said, meant)) if exact or year else relaxed(said, meant)
        for said, meant, year in zip(given, wanted, flags, strict=False)
    ]
    return sum(found) / max(len(given), len(wanted))


def _points(answer: str, case: EvalItem) -> float:
    kind = _kind(case.row, case.raw).lower()
    years = [str(flag).upper() == "YES" for flag in _list(case.raw.get("Year"))]
    if kind == "conversational":
        years = years[-1:]
    return max(points(answer, reference, years, exact=kind in EXACT) for reference in case.item.references)


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
    """`["a", 2]` and `[a, 2]` as their entries; any other text as its only one."""
    bare = text.strip()
    if not (bare.startswith("[") and bare.endswith("]")):
        return [text]
    try:
        found = ast.literal_eval(bare)
    except (SyntaxError, ValueError):
        found = bare[1:-1].split(",")
    return [str(entry).strip(" '\"") for entry in found] or [text]


def _list(value: Any) -> list[Any]:
    if isinstance(value, str):
        return _entries(value)
    return list(value) if value is not None else []


SUITE = Suite(
    name="chartqapro",
    about="by question type; relaxed accuracy, ANLS, equality",
    schemas=("chartqapro",),
    column=_kind,
    mark_of=rule(_points),
)
