"""Suites that are drawn from the seed: nothing to download, and nothing that a model may have seen."""

from dataclasses import replace

from codevision_ext.evaluate.suites import transformed

GLYPHS = replace(transformed.SUITE, name="glyphs", about="characters to read, drawn here; six columns", drawn=True)
SYNTH = replace(
    transformed.SUITE, name="synth", about="charts, tables, pages and figures, drawn here; six columns", drawn=True
)
