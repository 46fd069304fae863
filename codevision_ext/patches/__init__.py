"""Patches of the libraries below this package: one file for each library, and what installs them.

Each patch names the source that it works around and refuses another (`guard.expect`), so that a new version of a
library fails at the start of a run and not in its results. Its docstring says when the patch can be deleted ("Drop
when").
"""
