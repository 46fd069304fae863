"""Scores finished rollouts."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from codevision_ext.config import Settings
from codevision_ext.errors import JudgeError
from codevision_ext.io.records import Record, Turn, scored
from codevision_ext.judge.prompts import Query
from codevision_ext.judge.shared import shared_judge
from codevision_ext.rewards.rubric import Rubric
from codevision_ext.rollout.loop import Trajectory
from codevision_ext.rollout.parsing import format_score, parse_answer
from codevision_ext.task.answers import check_answer
from codevision_ext.task.item import Item
from codevision_ext.types import EndReason, Outcome, Verdict

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteScore:
    """The score of an answer by a benchmark's own rule."""

    score: float | None
    """Score in [0, 1]; 0.5 and more is a right answer. None: the rule can't decide, and the rollout is invalid."""
    verdict: Verdict | None = None
    """Verdict of the judge, where the rule asked one."""


def judge_answers(
    item: Item, trajectories: Iterable[Trajectory | None], settings: Settings
) -> dict[str, Verdict | None]:
    """Asks the judge about the answers that no rule decides, and returns its verdicts by answer.

    Equal answers are judged once. Blocks until the judge has decided. Returns no verdicts if no judge is set. A verdict
    is None if the judge failed; the failure is logged.
    """
    if settings.judge is None:
        return {}
    answers = {
        answer for t in trajectories if t and (answer := answer_of(t)) and check_answer(answer, item.references) is None
    }
    queries = [
        Query(question=item.question, references=item.references, answer=answer, source=item.source)
        for answer in sorted(answers)
    ]
    verdicts = shared_judge(settings.judge)(queries) if queries else []
    for error in [verdict for verdict in verdicts if isinstance(verdict, JudgeError)]:
        logger.error("rollouts of %s are invalid: %s", item.id, error)
    return {
        query.answer: verdict if isinstance(verdict, Verdict) else None
        for query, verdict in zip(queries, verdicts, strict=True)
    }


def answer_of(trajectory: Trajectory) -> str | None:
    """Returns the answer of a rollout; None if it has no answer, or if something else ended the rollout."""
    return parse_answer(trajectory.replies) if trajectory.end_reason is EndReason.ANSWER else None


def observe(
    trajectory: Trajectory | None,
    references: Sequence[str],
    think_prefix: str = "",
    verdicts: Mapping[str, Verdict | None] | None = None,
    suite_score: SuiteScore | None = None,
    *,
    exact: bool = False,
) -> Outcome:
    """Returns the part of a finished rollout that the reward reads.

    Args:
        trajectory: The finished rollout; None: engine or sandbox failed, and the rollout is invalid.
        references: The right answers.
        think_prefix: Text that the chat template wrote before each turn.
        verdicts: Verdicts of the judge by answer. A rollout is invalid where the judge abstained or failed.
        suite_score: Score by a benchmark's own rule. It replaces the rules and the judge.
        exact: True where an answer that no rule accepts is certainly wrong, so that none is undecided.
    """
    if trajectory is None:
        return Outcome(correct=False, format=0.0, valid=False, end_reason=EndReason.INFRA)
    answer, undecided = answer_of(trajectory), False
    if suite_score is not None:
        correct, valid = (suite_score.score or 0.0) >= 0.5, suite_score.score is not None
    elif verdicts and answer is not None and answer in verdicts:
        verdict = verdicts[answer]
        score = verdict.score if verdict else None
        correct, valid = score == 1, score is not None
    else:
        ruling = check_answer(answer, references)
        correct, valid, undecided = ruling is True, True, ruling is None and not exact
    return Outcome(
        correct=correct,
        format=format_score(trajectory.replies, think_prefix),
        valid=valid,
        end_reason=trajectory.end_reason,
        steps=trajectory.steps,
        undecided=undecided,
    )


def score_rollouts(
    item: Item,
    group: str,
    trajectories: Sequence[Trajectory | None],
    settings: Settings,
    suite_scores: Sequence[SuiteScore | None] | None = None,
    **fields: Any,
) -> list[Record]:
    """Scores all rollouts of one prompt, and returns their records in input order, without turns and images.

    If a judge is set, the function waits for the judge and must not be called in an event loop.

    Args:
        item: The prompt's row.
        group: Id of the group.
        trajectories: All rollouts of the prompt; None for an invalid one.
        settings: The plugin's settings.
        suite_scores: Scores by a benchmark's own rule, one for each trajectory; None for an invalid trajectory.
            Without them the rules and the judge decide.
        fields: Further fields of every record (`split`, `step`, ...).
    """
    verdicts = judge_answers(item, trajectories, settings) if suite_scores is None else {}
    records = [
        Record(
            group=group,
            id=f"{group}-{index}",
            task=item.task,
            observed=observe(
                trajectory, item.references, settings.think_prefix, verdicts, score, exact=settings.exact_answers
            ),
            question=item.question,
            references=item.references,
            source=item.source,
            column=item.column,
            answer=parse_answer(trajectory.replies) if trajectory else None,
            verdict=score.verdict if score else verdicts.get(answer_of(trajectory) or "") if trajectory else None,
            tokens=len(trajectory.token_buffer.response_ids) if trajectory else None,
            turn_count=trajectory.token_buffer.turns if trajectory else None,
            **fields,
        )
        for index, (trajectory, score) in enumerate(
            zip(trajectories, suite_scores or [None] * len(trajectories), strict=True)
        )
    ]
    breakdowns = Rubric(settings.reward).score(records)
    return [scored(record, breakdown) for record, breakdown in zip(records, breakdowns, strict=True)]


def with_images(record: Record, trajectory: Trajectory | None, store: Any) -> Record:
    """Returns the record with its turns; saves their images in an image store (`records.RecordWriter`)."""
    if trajectory is None:
        return record
    names = tuple(store.image(image) for image in trajectory.images)
    turns = [Turn(role="user", text=record.question, images=names[: len(names) - len(trajectory.new_images)])]
    turns += [
        Turn(role=message.role, text=message.text, images=tuple(names[index] for index in message.images))
        for message in trajectory.messages
    ]
    return replace(record, pictures=names, turns=tuple(turns))
