"""Every image upright, rotated and flipped: six columns and their mean (`data_prep transform` makes the rows)."""

from codevision_ext.evaluate.metrics import COLUMNS
from codevision_ext.evaluate.suites.base import Suite

SUITE = Suite(
    name="transformed",
    about="six columns: source, three rotations, two flips; their mean, each weighing the same",
    column=lambda row, _: row["extra_info"].get("column"),
    columns=COLUMNS,
    overall="columns",
)
