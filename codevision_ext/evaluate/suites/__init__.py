"""Lists the benchmarks; to add one, write a module with its `Suite`, and add the suite to `SUITES`."""

from typing import Final

from codevision_ext.errors import InputError
from codevision_ext.evaluate.suites import (
    chartqapro,
    choice,
    corruption,
    docvqa,
    mvtoolbench,
    ocrbench,
    rows,
    synthetic,
    transformed,
    vtbench,
)
from codevision_ext.evaluate.suites.base import Suite

SUITES: Final[dict[str, Suite]] = {
    suite.name: suite
    for suite in (
        transformed.SUITE,
        transformed.OCRBENCH,
        transformed.CHARTQAPRO,
        corruption.SUITE,
        mvtoolbench.SUITE,
        choice.VSTAR,
        choice.HRBENCH,
        ocrbench.SUITE,
        chartqapro.SUITE,
        docvqa.SUITE,
        vtbench.SUITE,
        vtbench.PUBLISHED,
        synthetic.GLYPHS,
        synthetic.HANDWRITING,
        synthetic.SYNTH,
        synthetic.REAL,
        rows.SUITE,
    )
}
"""Suites by name."""


def suite_named(name: str) -> Suite:
    """Returns the suite with this name.

    Raises:
        InputError: no suite has this name.
    """
    if name not in SUITES:
        raise InputError(f"--suite must be one of {', '.join(SUITES)}; not {name!r}")
    return SUITES[name]


def suite_of(schema: str, columns: frozenset[str], benchmark: str = "") -> Suite:
    """Returns the suite of a file from its schema, and from the columns and the benchmark of its `extra_info`."""
    if columns and columns <= set(transformed.SUITE.columns):
        turned = SUITES.get(f"{benchmark}_t", transformed.SUITE)
        return turned if len(columns) == len(turned.columns) else mvtoolbench.SUITE
    if columns and all(corruption.severity(column) or column == "source" for column in columns):
        return corruption.SUITE
    names = (schema, *([] if columns else [benchmark]))
    return next((suite for suite in SUITES.values() if set(names) & set(suite.schemas)), rows.SUITE)


__all__ = ["SUITES", "Suite", "suite_named", "suite_of"]
