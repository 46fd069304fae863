"""What does a run look like? One page that needs nothing else: `write_report(run_dir)`."""

from codevision_ext.report.page import write_report

__all__ = ["write_report"]
