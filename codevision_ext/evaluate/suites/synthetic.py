"""Suites that need no download: their items are generated from the seed, or installed packages ship them.

No model was trained on generated items.
"""

from dataclasses import replace

from codevision_ext.evaluate.run import EvalItem
from codevision_ext.evaluate.suites import transformed
from codevision_ext.evaluate.suites.base import rule
from codevision_ext.task.answers import is_correct


def _points(answer: str, item: EvalItem) -> float:
    """Scores by the rules of training, without a judge: generated items have no right answer but the references."""
    return float(is_correct(answer, item.item.references))


_GENERATED = replace(transformed.SUITE, generated=True, scorer_of=rule(_points))
GLYPHS = replace(_GENERATED, name="glyphs", about="characters to read, generated here; six columns")
SYNTH = replace(_GENERATED, name="synth", about="charts, tables, pages and figures, generated here; six columns")
HANDWRITING = replace(_GENERATED, name="handwriting", about="digits that people wrote; six columns")
REAL = replace(
    transformed.SUITE,
    name="real",
    about="photographs and scans that packages ship; six columns and four corruptions",
    generated=True,
    columns=(*transformed.SUITE.columns, "gaussian_noise-3", "motion_blur-3", "contrast-3", "jpeg_compression-3"),
)
