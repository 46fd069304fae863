"""The `codevision` command."""

from codevision_ext.cli.app import main

__all__ = ["main"]
