"""Runs the `codevision` command: `python -m codevision_ext.cli`."""

from codevision_ext.cli import main

main()
