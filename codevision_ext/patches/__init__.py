"""Patches of verl and the libraries below it, in one file per library, and their installation.

`guard.expect` checks the source code that a patch changes, so that another version of a library fails at the start of a
run. The docstring of each patch says when it can be deleted ("Drop when").
"""
