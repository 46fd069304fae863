"""Scores multiple choice on large images (V*, HRBench), by the letter or the text of the right choice."""

import re
from typing import Final

from codevision_ext.evaluate.run import EvalItem
from codevision_ext.evaluate.suites.base import Row, Suite, rule
from codevision_ext.task.answers import check_answer, same_text

_CHOICE: Final = re.compile(r"^\s*\(?([A-H])[.):]\s*(.+?)\s*$", re.MULTILINE)


def _points(answer: str, item: EvalItem) -> float:
    if check_answer(answer, item.item.references):
        return 1.0
    letters = [letter for letter, words in _CHOICE.findall(item.item.question) if same_text(answer, words)]
    return float(len(letters) == 1 and bool(check_answer(letters[0], item.item.references)))


def _column(_: Row, raw: Row) -> str:
    return str(raw.get("category") or "all")


VSTAR = Suite(name="vstar", about="by category", schemas=("vstar",), column=_column, scorer_of=rule(_points))
HRBENCH = Suite(
    name="hrbench", about="by category (single, cross)", schemas=("hrbench",), column=_column, scorer_of=rule(_points)
)
