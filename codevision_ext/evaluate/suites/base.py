"""What is a suite? Which column an item belongs to, who marks it, and how the columns become one number."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from codevision_ext.errors import InputError
from codevision_ext.evaluate.run import EvalItem, Scorer
from codevision_ext.io.records import Record
from codevision_ext.rollout.loop import Trajectory
from codevision_ext.scoring import SuiteScore, answer_of
from codevision_ext.task.image_ops import required_ops
from codevision_ext.task.item import Item, read_item
from codevision_ext.task.rows import read_prompt

Row = Mapping[str, Any]
"""A row of the CodeVision-RL schema."""
ALL = "all"
"""The column of everything, where a suite has no columns of its own."""


def _ordinary(_: EvalItem) -> Scorer | None:
    return None


def _everything(_: Row, __: Row) -> str:
    return ALL


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """One benchmark; `suites.SUITES` has them all."""

    name: str
    about: str
    """One line for the table of docs/evaluation.md."""
    schemas: tuple[str, ...] = ()
    """Schemas (`data_prep`'s readers) whose files are of this suite, where it isn't named."""
    drawn: bool = False
    """It is drawn on the spot, from the seed: it needs no file."""
    column: Callable[[Row, Row], str | None] = _everything
    """Column of an item, from its row and the record in its file; None: the item doesn't belong here."""
    columns: tuple[str, ...] = ()
    """Every one must have an item, and they are shown in this order; (): whatever columns the items have."""
    sums: Callable[[str], str | None] = lambda _: None
    """A coarser column that a column's items count in, too."""
    overall: Literal["items", "columns"] = "items"
    """What weighs the same in the overall accuracy."""
    mark_of: Callable[[EvalItem], Scorer | None] = _ordinary
    """The rule that marks a case; None: the rules and the judge of training."""
    judged: bool = False
    """It can't do without a judge."""
    turns: Callable[[str], int | None] = lambda _: None
    """Assistant turns that the benchmark allows in a column."""
    invalid_are_wrong: bool = False
    """Rollouts that broke under us count as wrong: the benchmark divides by all items."""
    success: Callable[[Record], bool] | None = None
    """What has to hold beside a right answer."""
    keep: Callable[[Item], bool] = lambda _: True


def rule(points: Callable[[str, EvalItem], float]) -> Callable[[EvalItem], Scorer]:
    """A rule on the answer's text alone, as `Suite.mark_of`; without an answer it gives 0."""

    def mark(case: EvalItem, trajectory: Trajectory, _: object) -> SuiteScore:
        answer = answer_of(trajectory)
        return SuiteScore(score=0.0 if answer is None else points(answer, case))

    return lambda _: mark


def read_suite(suite: Suite, found: Iterable[Mapping[str, Any]], limit: int | None = None) -> list[EvalItem]:
    """The cases of a suite, at most `limit` a column.

    Args:
        suite: Whose columns and rules hold.
        found: What `data_prep.eval_items` reads: `row`, `raw`, `where` and perhaps `reference` of each item.
        limit: None: all of them.

    Raises:
        InputError: a row can't be evaluated, none is of this suite, or a column of it has none.
    """
    cases: list[EvalItem] = []
    taken: dict[str, int] = {}
    for number, each in enumerate(found):
        row, raw = each["row"], each["raw"]
        column = suite.column(row, raw)
        if column is None or (limit is not None and taken.get(column, 0) >= limit):
            continue
        extra = row["extra_info"]
        try:
            item = replace(read_item(row, tuple(extra["size"])), column=column)
            if not cases:
                read_prompt(row, each["where"])
        except InputError as error:
            raise InputError(f"{each['where']}: {error}") from None
        if not suite.keep(item):
            continue
        taken[column] = taken.get(column, 0) + 1
        cases.append(
            EvalItem(
                name=f"{item.id}-{column}-{number}",
                item=item,
                row=row,
                raw=raw,
                reference=each.get("reference"),
                picture_id=extra.get("picture_id") or "",
                turns=suite.turns(column),
            )
        )
    missing = [column for column in suite.columns if column not in taken]
    if not cases:
        raise InputError(f"suite {suite.name}: no item is of this suite")
    if missing:
        raise InputError(f"suite {suite.name}: no item of column {missing[0]}; every column needs one")
    return cases


def held_out(suite: Suite, op: str) -> Suite:
    """The items of a suite that only a tool which was left out of training solves.

    Success is a right answer behind a call that ran and changed the pixels.
    """

    def success(record: Record) -> bool:
        changed = any(step.ok and step.node is not None and not step.noop for step in record.observed.steps)
        return changed and record.observed.correct

    return replace(
        suite,
        name=f"{suite.name}-holdout-{op}",
        columns=(),
        keep=lambda item: op in required_ops(item.task.applied),
        success=success,
    )
