"""Defines the plan of a study: a question, and trainings of equal length that differ in one or two settings."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from codevision_ext.errors import InputError, first_problem
from codevision_ext.verl_config import read_yaml

Name = Annotated[str, Field(pattern=r"^[\w ,.=+-]+$", max_length=40)]


def _distinct(seeds: tuple[int, ...]) -> tuple[int, ...]:
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"{','.join(map(str, seeds))} has a seed twice")
    return seeds


Seeds = Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1), AfterValidator(_distinct)]


class Training(BaseModel):
    """One training of a study."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    start: Literal["read", "sft"] = "sft"
    """Checkpoint at the start of the training: `read` reads text without the tool, `sft` uses the tool."""
    by: Literal["grpo", "sft", "nothing"] = "grpo"
    """Kind of training. `sft`: SFT with the same number of steps and rows. `nothing`: no training, only evaluation."""
    settings: tuple[str, ...] = ()
    """Settings of verl, as on the command line of GRPO."""
    published: Literal["better", "worse", "same"] | None = None
    """Published effect: accuracy of this training compared with that of the first one. None: nothing is published."""


class StudyPlan(BaseModel):
    """Content of recipe/studies/NAME.yaml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    question: str
    steps: Annotated[int, Field(ge=1)]
    """Number of steps of every training; so all trainings see the same number of rollouts."""
    seeds: Seeds = (0, 1, 2)
    """Seeds for the order of rows and the sampling; every seed starts from the same checkpoint.

    With equal seeds, two trainings have the same prompts and the same sampling noise until their rollouts differ.
    """
    max_seeds: Annotated[int, Field(ge=1)] = 12
    """Maximum number of seeds with `--until-decided`; the more seeds, the stricter are the first looks."""
    threshold: Annotated[float, Field(gt=-100, lt=100)] = 0.0
    """Difference from the first training, in points of accuracy, against which the study decides.

    -3: does it cost more than 3 points?
    """
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
