"""From finished trajectories of one prompt to scored records: what was seen, whether it was right, what it is worth."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    pass

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteScore:
    """What a benchmark's own rule gives an answer."""

    score: float | None
    """In [0, 1], right from 0.5 on; None: it couldn't be told, and the rollout is invalid."""
    verdict: Verdict | None = None
    """The judge's, where the rule asked one."""


def judge_answers(
    item: Item, trajectories: Iterable[Trajectory | None], settings: Settings
) -> dict[str, Verdict | None]:
    """Verdicts on the answers that no rule decides, each asked for once; None: the judge failed, which is logged.

    Blocks until the judge has read them. Without a judge there are none.
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
    for failed in [verdict for verdict in verdicts if isinstance(verdict, JudgeError)]:
        logger.error("rollouts of %s are invalid: %s", item.id, failed)
    given = zip(queries, verdicts, strict=True)
    return {query.answer: verdict if isinstance(verdict, Verdict) else None for query, verdict in given}


def answer_of(trajectory: Trajectory) -> str | None:
    """What the rollout ended with; None where it ended otherwise."""
    return parse_answer(trajectory.replies) if trajectory.end_reason is EndReason.ANSWER else None


def observe(
    trajectory: Trajectory | None,
    references: Sequence[str],
    think_prefix: str = "",
    verdicts: Mapping[str, Verdict | None] | None = None,
    mark: SuiteScore | None = None,
) -> Outcome:
    """What the reward sees of a trajectory.

    Args:
        trajectory: None: it broke under us.
        references: Any of them is right.
        think_prefix: What the chat template wrote before each turn.
        verdicts: The judge's, by answer, on what no rule decides. Where it abstained or failed the rollout is invalid.
        mark: A benchmark's own, which counts in place of rules and judge.
    """
    if trajectory is None:
        return Outcome(correct=False, format=0.0, valid=False, end_reason=EndReason.INFRA)
    if mark is not None:
        return Outcome(
            correct=(mark.score or 0.0) >= 0.5,
            format=format_score(trajectory.replies, think_prefix),
            valid=mark.score is not None,
            end_reason=trajectory.end_reason,
            steps=trajectory.steps,
        )
    answer = answer_of(trajectory)
    asked = answer in (verdicts := verdicts or {})
    verdict = verdicts.get(answer or "")
    return Outcome(
        correct=verdict.score == 1 if verdict else check_answer(answer, references) is True,
        format=format_score(trajectory.replies, think_prefix),
        valid=not asked or (verdict is not None and verdict.score is not None),
        end_reason=trajectory.end_reason,
        steps=trajectory.steps,
    )


def score_rollout(
    item: Item,
    group: str,
    trajectories: Sequence[Trajectory | None],
    settings: Settings,
    marks: Sequence[SuiteScore | None] | None = None,
    **fields: Any,
) -> list[Record]:
    """Records of all rollouts of one prompt with their rewards, in input order; images are still nameless.

    Waits for the judge, where one is set: not to be called in an event loop then.

    Args:
        item: The prompt's row.
        group: Id of the group.
        trajectories: All rollouts of the prompt; None for one that broke under us.
        settings: The plugin's settings.
        marks: A benchmark's own, one a trajectory, None where that is; without them rules and judge decide.
        fields: More fields of every record (`split`, `step`, ...).
    """
    verdicts = judge_answers(item, trajectories, settings) if marks is None else {}
    given = marks or [None] * len(trajectories)
    records = [
        Record(
            group=group,
            id=f"{group}-{index}",
            task=item.task,
            observed=observe(trajectory, item.references, settings.think_prefix, verdicts, mark),
            question=item.question,
            references=item.references,
            source=item.source,
            column=item.column,
            answer=parse_answer(trajectory.replies) if trajectory else None,
            verdict=mark.verdict if mark else verdicts.get(answer_of(trajectory) or "") if trajectory else None,
            tokens=len(trajectory.token_buffer.response_ids) if trajectory else None,
            turn_count=trajectory.token_buffer.turns if trajectory else None,
            **fields,
        )
        for index, (trajectory, mark) in enumerate(zip(trajectories, given, strict=True))
    ]
    breakdowns = Rubric(settings.reward).score(records)
    return [scored(record, breakdown) for record, breakdown in zip(records, breakdowns, strict=True)]


def with_images(record: Record, trajectory: Trajectory | None, store: Any) -> Record:
    """The record with its turns, and the images that they show, in an image store (`records.RecordWriter`)."""
    if trajectory is None:
        return record
    names = tuple(store.image(image) for image in trajectory.images)
    turns = [Turn(role="user", text=record.question, images=names[: len(names) - len(trajectory.new_images)])]
    turns += [
        Turn(role=message.role, text=message.text, images=tuple(names[index] for index in message.images))
        for message in trajectory.messages
    ]
    return replace(record, pictures=names, turns=tuple(turns))
