"""Defines a suite: the columns of its items, its scoring rule, and its overall accuracy."""

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
"""Column of every item in a suite without columns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """One benchmark; `suites.SUITES` lists them all."""

    name: str
    about: str
    """Line for the table of docs/evaluation.md."""
    schemas: tuple[str, ...] = ()
    """Schemas of `data_prep`'s readers whose files belong to this suite by default."""
    generated: bool = False
    """True if the suite takes no file: its items are generated from the seed, or are part of a package."""
    column: Callable[[Row, Row], str | None] = lambda _, __: ALL
    """Function that returns the column of an item from its row and the record in its file, None to skip the item."""
    columns: tuple[str, ...] = ()
    """Columns in display order, each of which must have an item; (): the columns that the items have."""
    sums: Callable[[str], str | None] = lambda _: None
    """Function that returns the combined column that a column is also counted in, or None."""
    overall: Literal["items", "columns"] = "items"
    """Unit of equal weight in the overall accuracy."""
    scorer_of: Callable[[EvalItem], Scorer | None] = lambda _: None
    """Function that returns the scoring rule of an item; None: the rules and the judge of training."""
    judged: bool = False
    """True if the suite needs a judge."""
    turns: Callable[[str], int | None] = lambda _: None
    """Function that returns the maximum of assistant turns in a column, or None."""
    invalid_are_wrong: bool = False
    """True if invalid rollouts count as wrong, for a benchmark that divides by all items."""
    first_code: Callable[[str], bool] = lambda _: False
    """Function that returns whether a column is answered by the first code block of a single generation."""
    greedy: bool = False
    """True if the suite has one greedy generation per item, with the tool only."""
    published_prompts: bool = False
    """True if the suite's judge needs the prompts that the benchmark published."""
    success: Callable[[Record], bool] | None = None
    """Success condition of a rollout beyond a correct answer; None for suites without one."""
    keep: Callable[[Item], bool] = lambda _: True
    """Condition for an item to be part of the suite."""


def rule(score: Callable[[str, EvalItem], float]) -> Callable[[EvalItem], Scorer]:
    """Converts a rule that scores the answer's text into a `Suite.scorer_of`; a rollout without an answer gets 0."""

    def scorer(item: EvalItem, trajectory: Trajectory, _: object) -> SuiteScore:
        answer = answer_of(trajectory)
        return SuiteScore(score=0.0 if answer is None else score(answer, item))

    return lambda _: scorer


def read_suite(suite: Suite, entries: Iterable[Mapping[str, Any]], limit: int | None = None) -> list[EvalItem]:
    """Reads the items of a suite, at most `limit` per column.

    `entries` come from `data_prep.eval_items`, with `row`, `raw`, `where` and optionally `reference` of each item.

    Raises:
        InputError: a row can't be evaluated, no row is part of the suite, or a required column has no item.
    """
    items: list[EvalItem] = []
    counts: dict[str, int] = {}
    for number, entry in enumerate(entries):
        row, raw = entry["row"], entry["raw"]
        column = suite.column(row, raw)
        if suite.columns and column not in suite.columns:
            raise InputError(f"{entry['where']}: column {column!r} isn't one of {', '.join(suite.columns)}")
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
                first_code=suite.first_code(column),
            )
        )
    missing = [column for column in suite.columns if column not in counts]
    if not items:
        raise InputError(f"suite {suite.name}: the data has no item of this suite")
    if missing:
        raise InputError(f"suite {suite.name}: no item of column {missing[0]}; every column needs one")
    return items


def held_out(suite: Suite, op: str) -> Suite:
    """Returns the part of a suite that requires `op`, for a model that was trained without `op`.

    A rollout succeeds if its answer is correct and one of its calls ran and changed the pixels.
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
