"""The plan of a study: a question, and trainings of one length that differ in a setting or two."""

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
    """The checkpoint that it begins with: reads but has never seen the tool, or has learned how it is used."""
    by: Literal["grpo", "sft", "nothing"] = "grpo"
    """`sft`: as many steps of as many rows on the demonstrations. `nothing`: only measured."""
    settings: tuple[str, ...] = ()
    """verl's, as on the command line of GRPO."""


class StudyPlan(BaseModel):
    """The content of recipe/studies/NAME.yaml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    question: str
    steps: Annotated[int, Field(ge=1)]
    """Steps of every training, so that all see the same number of rollouts."""
    seeds: Annotated[tuple[int, ...], Field(min_length=1)] = (0, 1, 2)
    """Seeds for the order of rows and the sampling; every seed starts from the same checkpoint."""
    items: Annotated[int, Field(ge=1)] = 50
    """Items of the transformed benchmark that every training is measured on at its end, in all six columns."""
    settings: tuple[str, ...] = ()
    """verl's, of all trainings."""
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
