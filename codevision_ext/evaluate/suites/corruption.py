"""Suite of images corrupted as in ImageNet-C, at severities 1 to 5; `data_prep transform --corruptions` makes rows."""

import re
from typing import Final

from codevision_ext.evaluate.suites.base import Suite
from codevision_ext.evaluate.suites.transformed import own_rule

_COLUMN: Final = re.compile(r"[a-z_]+-([1-5])")


def severity(column: str) -> str | None:
    """Returns `severity 3` for `fog-3`; None for a column that isn't a corruption."""
    match = _COLUMN.fullmatch(column)
    return f"severity {match[1]}" if match else None


SUITE = Suite(
    name="corruption",
    about="every corruption at each severity, and all corruptions by severity",
    column=lambda row, _: row["extra_info"].get("column"),
    sums=severity,
    scorer_of=own_rule,
)
