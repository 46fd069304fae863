"""Reads the stages of a demo from the stages.yaml of its recipe."""

import math
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from codevision_ext.errors import InputError, first_problem
from codevision_ext.verl_config import read_yaml


class DemoStage(BaseModel):
    """One stage: a branch of the recipe's run.sh."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    makes: tuple[str, ...]
    """Files and folders in OUT that only this stage writes."""
    reads: tuple[str, ...] = ()
    """Files of the recipe with settings of this stage, in addition to its branch of run.sh."""
    resumes: bool = False
    """True if the command continues from its output in OUT; otherwise the output is removed first."""
    metrics: str = ""
    """JSON lines that the command writes step by step, in OUT."""
    note: tuple[str, str] = ("", "")
    """Name of a number in `metrics`, and the format that shows it: `[train/loss, "loss {:.2f}"]`."""
    most: float = math.inf
    """Maximum final value of that number; a larger value means that the model learned nothing, and ends the run."""


def read_stages(recipe: Path) -> tuple[DemoStage, ...]:
    """Return the stages of a recipe in the order in which they run; the last one writes the report.

    Raises:
        InputError: stages.yaml can't be read, lists no stage, or a field is missing, unknown or wrong.
    """
    path = recipe / "stages.yaml"
    stages = []
    for name, fields in read_yaml(path).items():
        try:
            stages.append(DemoStage.model_validate({"name": name} | dict(fields or {})))
        except (ValidationError, TypeError, ValueError) as error:
            reason = ": ".join(first_problem(error)) if isinstance(error, ValidationError) else "isn't a mapping"
            raise InputError(f"{path}: {name}: {reason}") from None
    if not stages:
        raise InputError(f"{path}: lists no stage")
    return tuple(stages)
