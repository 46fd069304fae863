"""Studies: trainings that differ in one setting, run and compared side by side; `command` does it all in turn."""
