"""From finished trajectories of one prompt to scored records: what was seen, whether it was right, what it is worth."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from codevision_ext.answers import is_correct
from codevision_ext.config import Settings
from codevision_ext.errors import InputError
from codevision_ext.ops import read_applied
from codevision_ext.parsing import format_score, parse_answer
from codevision_ext.records import Record, Turn, scored
from codevision_ext.rewards.composite import score_group, weighted_terms
from codevision_ext.rollout import Trajectory
from codevision_ext.types import Box, EndReason, Observed, Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One data row, as far as anything after the rollout asks for it."""

    id: str
    question: str
    references: tuple[str, ...]
    task: Task
    source: str = ""
    column: str | None = None


def read_item(row: Mapping[str, Any], size: tuple[int, int]) -> Item:
    """Reads a row of the CodeVision-RL schema; `size` is the first picture's width and height.

    Raises:
        InputError: names the field that is missing or wrong.
    """
    extra = row.get("extra_info") or {}
    ident = f"{row.get('data_source', '')}-{extra.get('index', 0)}"
    truth = (row.get("reward_model") or {}).get("ground_truth", extra.get("answer"))
    references = (truth,) if isinstance(truth, str) else tuple(truth) if isinstance(truth, Iterable) else ()
    if not references or not all(isinstance(reference, str) and reference for reference in references):
        raise InputError(f"row {ident}: reward_model.ground_truth must be a non-empty answer or a list of them")
    box = next((extra[name] for name in ("bbox", "bbox_2d") if extra.get(name) is not None), None)
    if box is not None and len(box) != 4:
        raise InputError(f"row {ident}: extra_info.bbox must have four numbers, it has {len(box)}")
    task = Task(
        applied=read_applied(extra.get("transform")),
        box=None if box is None else Box(*map(float, box)),
        box_frame=extra.get("box_frame") or "input",
        size=size,
    )
    return Item(
        id=ident,
        question=extra.get("question") or "",
        references=references,
        task=task,
        source=row.get("data_source") or "",
        column=extra.get("column"),
    )


def observe(trajectory: Trajectory | None, references: Sequence[str], think_prefix: str = "") -> Observed:
    """What the reward sees of a trajectory; None is one that broke under us."""
    if trajectory is None:
        return Observed(correct=False, format=0.0, valid=False, end_reason=EndReason.INFRA)
    answered = trajectory.end_reason is EndReason.ANSWER
    return Observed(
        correct=answered and is_correct(parse_answer(trajectory.replies), references),
        format=format_score(trajectory.replies, think_prefix),
        end_reason=trajectory.end_reason,
        steps=trajectory.steps,
    )


def score(
    item: Item, group: str, trajectories: Sequence[Trajectory | None], settings: Settings, **fields: Any
) -> list[Record]:
    """Records of all rollouts of one prompt with their rewards, in input order; pictures are still nameless.

    Args:
        item: The prompt's row.
        group: Id of the group.
        trajectories: All rollouts of the prompt; None for one that broke under us.
        settings: The plugin's settings.
        fields: More fields of every record (`split`, `step`, ...).
    """
    records = [
        Record(
            group=group,
            id=f"{group}-{index}",
            task=item.task,
            observed=observe(trajectory, item.references, settings.think_prefix),
            question=item.question,
            references=item.references,
            source=item.source,
            column=item.column,
            answer=parse_answer(trajectory.replies) if trajectory else None,
            tokens=len(trajectory.episode.response_ids) if trajectory else None,
            turn_count=trajectory.episode.turns if trajectory else None,
            **fields,
        )
        for index, trajectory in enumerate(trajectories)
    ]
    reward = settings.reward
    breakdowns = score_group(records, reward.preset, reward.weights, reward.group_split)
    return [scored(record, breakdown) for record, breakdown in zip(records, breakdowns, strict=True)]


def with_pictures(record: Record, trajectory: Trajectory | None, store: Any) -> Record:
    """The record with its turns, and the pictures that they show, in a picture store (`records.RecordWriter`)."""
    if trajectory is None:
        return record
    names = tuple(store.picture(picture) for picture in trajectory.pictures)
    turns = [Turn(role="user", text=record.question, images=names[: len(names) - len(trajectory.new_pictures)])]
    turns += [
        Turn(role=message.role, text=message.text, images=tuple(names[index] for index in message.pictures))
        for message in trajectory.messages
    ]
    return replace(record, pictures=names, turns=tuple(turns))


def numbers(record: Record, trajectory: Trajectory | None, settings: Settings) -> dict[str, float]:
    """What is logged of a rollout; the same keys for every rollout of a run."""
    seen, steps = record.observed, record.observed.steps
    values = {
        "acc": float(seen.correct),
        "format": seen.format,
        "valid": float(seen.valid),
        "tool": float(bool(steps)),
        "calls": float(len(steps)),
        "failed_calls": float(sum(not step.ok for step in steps)),
        "noop_calls": float(sum(step.noop for step in steps)),
        "malformed_calls": float(trajectory.malformed if trajectory else 0),
        "turns": float(record.turn_count or 0),
    }
    values |= {f"end_{reason}": float(seen.end_reason is reason) for reason in EndReason}
    table = weighted_terms(settings.reward.preset, settings.reward.weights, settings.reward.group_split)
    for name in table:
        values[f"term_{name}"] = record.terms[name].contribution if name in record.terms else 0.0
    return values
