"""Suite of all other rows, scored by the rules and the judge of training; one column per source."""

from codevision_ext.evaluate.suites.base import Suite

SUITE = Suite(
    name="rows",
    about="any rows: by column or source, scored as in training",
    column=lambda row, _: row["extra_info"].get("column") or row.get("data_source") or "all",
)
