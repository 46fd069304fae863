"""Runs and compares studies, which are trainings that differ in one setting; `command` runs all steps."""
