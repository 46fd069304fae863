"""Any other rows, marked by the rules and the judge of training: by their source."""

from codevision_ext.evaluate.suites.base import Suite

SUITE = Suite(
    name="rows",
    about="any rows: by column or source, marked as in training",
    column=lambda row, _: row["extra_info"].get("column") or row.get("data_source") or "all",
)
