"""Defines a suite: the column of an item, the rule that scores it, and how the columns become one number."""

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
"""The only column of a suite that has no columns of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """One benchmark; `suites.SUITES` lists them all."""

    name: str
    about: str
    """Line for the table of docs/evaluation.md."""
    schemas: tuple[str, ...] = ()
    """Schemas (`data_prep`'s readers) whose files belong to this suite unless another suite is named."""
    drawn: bool = False
    """True for a suite whose items are drawn from the seed; it takes no file."""
    column: Callable[[Row, Row], str | None] = lambda _, __: ALL
    """Column of an item, from its row and the record in its file; None: the item isn't part of the suite."""
    columns: tuple[str, ...] = ()
    """Columns that must have an item, in the order to show them; (): whatever columns the items have."""
    sums: Callable[[str], str | None] = lambda _: None
    """Coarser column that the items of a column count in as well."""
    overall: Literal["items", "columns"] = "items"
    """Unit that weighs the same in the overall accuracy."""
    scorer_of: Callable[[EvalItem], Scorer | None] = lambda _: None
    """Scoring rule of an item; None: the rules and the judge of training."""
    judged: bool = False
    """True for a suite that needs a judge."""
    turns: Callable[[str], int | None] = lambda _: None
    """Maximum assistant turns that the benchmark allows in a column."""
    invalid_are_wrong: bool = False
    """True for a benchmark that divides by all items, so that invalid rollouts count as wrong."""
    success: Callable[[Record], bool] | None = None
    """Condition for solving an item in the way that the suite demands; None: a right answer is enough."""
    keep: Callable[[Item], bool] = lambda _: True
    """Condition for an item to be part of the suite."""


def rule(score: Callable[[str, EvalItem], float]) -> Callable[[EvalItem], Scorer]:
    """Makes a `Suite.scorer_of` from a rule that reads only the answer's text; a rollout without an answer gets 0."""

    def scorer(item: EvalItem, trajectory: Trajectory, _: object) -> SuiteScore:
        answer = answer_of(trajectory)
        return SuiteScore(score=0.0 if answer is None else score(answer, item))

    return lambda _: scorer


def read_suite(suite: Suite, entries: Iterable[Mapping[str, Any]], limit: int | None = None) -> list[EvalItem]:
    """Reads the items of a suite, at most `limit` per column; None: all of them.

    `entries` come from `data_prep.eval_items`, with `row`, `raw`, `where` and perhaps `reference` of each item.

    Raises:
        InputError: a row can't be evaluated, no row is part of the suite, or a required column has no item.
    """
    items: list[EvalItem] = []
    counts: dict[str, int] = {}
    for number, entry in enumerate(entries):
        row, raw = entry["row"], entry["raw"]
        column = suite.column(row, raw)
        if suite.columns and column not in suite.columns:
            raise InputError(f"{entry['where']}: column {column!r} is none of {', '.join(suite.columns)}")
        if column is None or (limit is not None and counts.get(column, 0) >= limit):
            continue
        extra = row["extra_info"]
        try:
            item = replace(read_item(row, tuple(extra["size"])), column=column)
            if not items:
                read_prompt(row, entry["where"])
        except InputError as error:
            raise InputError(f"{entry['where']}: {error}") from None
        if not suite.keep(item):
            continue
        counts[column] = counts.get(column, 0) + 1
        items.append(
            EvalItem(
                name=f"{item.id}-{column}-{number}",
                item=item,
                row=row,
                raw=raw,
                reference=entry.get("reference"),
                picture_id=extra.get("picture_id") or "",
                turns=suite.turns(column),
            )
        )
    missing = [column for column in suite.columns if column not in counts]
    if not items:
        raise InputError(f"suite {suite.name}: no item is of this suite")
    if missing:
        raise InputError(f"suite {suite.name}: no item of column {missing[0]}; every column needs one")
    return items


def held_out(suite: Suite, op: str) -> Suite:
    """Returns the part of a suite that requires `op`, for a model that was trained without `op`.

    An item is solved in the demanded way by a right answer and a call that ran and changed the pixels.
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
