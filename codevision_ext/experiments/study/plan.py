"""Defines the plan of a study: a question, and trainings of equal length that differ in one or two settings."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from codevision_ext.errors import InputError, first_problem
from codevision_ext.verl_config import read_yaml

Name = Annotated[str, Field(pattern=r"^[\w ,.=+-]+$", max_length=40)]


class Training(BaseModel):
    """One training of a study."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    start: Literal["read", "sft"] = "sft"
    """Checkpoint that the training starts from: `read` reads but has never seen the tool, `sft` uses the tool."""
    by: Literal["grpo", "sft", "nothing"] = "grpo"
    """Kind of training. `sft`: as many steps and rows of demonstrations. `nothing`: the start is only evaluated."""
    settings: tuple[str, ...] = ()
    """Settings of verl, as on the command line of GRPO."""


class StudyPlan(BaseModel):
    """The content of recipe/studies/NAME.yaml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    question: str
    steps: Annotated[int, Field(ge=1)]
    """Number of steps of every training; so all trainings see the same number of rollouts."""
    seeds: Annotated[tuple[int, ...], Field(min_length=1)] = (0, 1, 2)
    """Seeds for the order of rows and the sampling; every seed starts from the same checkpoint."""
    items: Annotated[int, Field(ge=1)] = 50
    """Number of items of the transformed benchmark on which every training is evaluated, in all six columns."""
    settings: tuple[str, ...] = ()
    """Settings of verl for all trainings."""
    trainings: Annotated[Mapping[Name, Training], Field(min_length=1)]
    """Trainings by name; each is compared with the first."""


def read_plan(path: Path) -> StudyPlan:
    """Reads the plan in a YAML file.

    Raises:
        InputError: the file can't be read, or a field is missing, unknown or wrong; names file and field.
    """
    if not path.is_file():
        known = ", ".join(sorted(each.stem for each in path.parent.glob("*.yaml")))
        raise InputError(f"{path}: no such study; studies there: {known or 'none'}")
    try:
        return StudyPlan.model_validate(read_yaml(path))
    except ValidationError as error:
        raise InputError(f"{path}: {': '.join(first_problem(error))}") from None
