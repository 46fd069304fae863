"""Writes one HTML page about runs that needs no server: `write_report(run_dirs)`."""

from codevision_ext.report.page import write_report

__all__ = ["write_report"]
