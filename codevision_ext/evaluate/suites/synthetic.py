"""Suites that are drawn from the seed: nothing to download, and nothing that a model may have seen."""

from dataclasses import replace

from codevision_ext.evaluate.run import EvalItem
from codevision_ext.evaluate.suites import transformed
from codevision_ext.evaluate.suites.base import rule
from codevision_ext.task.answers import is_correct


def _points(answer: str, item: EvalItem) -> float:
    """Scores by the rules of training alone: the references are the only right answers, because they were drawn."""
    return float(is_correct(answer, item.item.references))


_DRAWN = replace(transformed.SUITE, drawn=True, scorer_of=rule(_points))
GLYPHS = replace(_DRAWN, name="glyphs", about="characters to read, drawn here; six columns")
SYNTH = replace(_DRAWN, name="synth", about="charts, tables, pages and figures, drawn here; six columns")
