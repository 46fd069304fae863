"""Studies: trainings that differ in one setting, run and compared side by side.

    plan.py      what is trained: recipe/studies/NAME.yaml
    train.py     trains it; a finished training isn't run again
    outcome.py   what came of each training, and how sure that is
    show.py      the table and the drawing
    records.py   questions that the rollouts of a run answer without training

`command.py` does all of it in turn, for `codevision study`.
"""
