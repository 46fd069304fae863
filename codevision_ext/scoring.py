"""Scores finished rollouts."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

from PIL import Image

from codevision_ext.config import Settings
from codevision_ext.drawing import DrawingTarget, verify
from codevision_ext.errors import JudgeError
from codevision_ext.io.records import Record, Turn, scored
from codevision_ext.judge.prompts import Query
from codevision_ext.judge.shared import shared_judge
from codevision_ext.rewards.rubric import Rubric
from codevision_ext.rollout.image_history import size_in
from codevision_ext.rollout.loop import Trajectory
from codevision_ext.task.answers import check_answer
from codevision_ext.task.drawings import read_drawing
from codevision_ext.task.item import Item
from codevision_ext.types import AnswerKind, DrawingScore, EndReason, Outcome, Step, Verdict

logger = logging.getLogger(__name__)

CONSISTENCY: Final = "codevision-consistency"
"""Source of the queries about thought and answer; `prompts/judge/sources.json` gives it a prompt of its own."""
THOUGHT_CHARS: Final = 500
"""Characters from the end of a thought that the judge compares with the answer, as in the released V-Thinker script."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteScore:
    """The score of an answer by a benchmark's own rule."""

    score: float | None
    """Score in [0, 1]; 0.5 and more is a right answer. None: the rule can't decide, and the rollout is invalid."""
    verdict: Verdict | None = None
    """Verdict of the judge, where the rule asked one."""
    numbers: dict[str, float] = field(default_factory=dict)
    """Further numbers for the record."""


def judge_answers(
    item: Item, trajectories: Iterable[Trajectory | None], settings: Settings
) -> dict[str, Verdict | None]:
    """Asks the judge about the answers that no rule decides, and returns its verdicts by answer.

    Equal answers are judged once. Blocks until the judge has decided. Returns no verdicts if no judge is set, or if the
    answers are coordinates. A verdict is None if the judge failed; the failure is logged.
    """
    if settings.judge is None or not item.references or item.answer_kind is AnswerKind.COORDINATES:
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
    return trajectory.answer if trajectory.end_reason is EndReason.ANSWER else None


def answer_share(item: Item, trajectory: Trajectory | None, settings: Settings) -> float | None:
    """Returns `Outcome.answer_share` of a rollout; its answer has the coordinates that the settings name."""
    if trajectory is None:
        return None
    images, resized = trajectory.images, trajectory.resized
    space = size_in(settings.coordinates, images[0].size, resized[0].size) if images else None
    return item.answer_share(answer_of(trajectory), space)


def last_image(steps: Sequence[Step]) -> int | None:
    """Returns the index of the last image that the model handed back; None if no call succeeded.

    It is an image of the history where the last successful call returned one that was there before.
    """
    done = [step for step in steps if step.ok]
    if not done:
        return None
    return done[-1].images[-1].node if done[-1].images else done[-1].parent


def score_drawing(trajectory: Trajectory, target: DrawingTarget) -> DrawingScore:
    """Returns the verdict on the last image that the model handed back, drawn on the first image of the task.

    `target` is in pixels of that first image at full resolution, which the code gets. The model may see the image, and
    hand back its own, at another size: the verifier lays one onto the other. Takes tens of milliseconds per megapixel,
    so it must not be called in an event loop.
    """
    node = last_image(trajectory.steps)
    made = None if node is None else trajectory.images[node]
    return replace(score_made_image(trajectory.images[0], made, target), node=node)


def score_made_image(image: Image.Image, made: Image.Image | None, target: DrawingTarget) -> DrawingScore:
    """Returns the verdict on the image `made`, drawn on `image`; None: the model handed no image back."""
    if made is not None:
        return DrawingScore(**asdict(verify(image, made, target)))
    nothing, reason = (0.0,) * len(target.primitives), "the model handed no image back"
    return DrawingScore(correct=False, f1=0.0, recall=nothing, precision=0.0, preserved=0.0, reason=reason)


def _drawings(item: Item, trajectories: Sequence[Trajectory | None]) -> list[DrawingScore | None]:
    """Returns the verdict on the drawing of each rollout; None if the rollout or the verifier failed."""
    target = read_drawing(item.task.drawing, f"row {item.id}: extra_info.drawing")
    assert target is not None
    scores: list[DrawingScore | None] = []
    for trajectory in trajectories:
        try:
            scores.append(None if trajectory is None else score_drawing(trajectory, target))
        except Exception:  # a fault of the verifier, whatever it is, makes the rollout invalid, never wrong
            logger.exception("a rollout of %s is invalid: its drawing couldn't be checked", item.id)
            scores.append(None)
    return scores


def _thought(trajectory: Trajectory) -> str:
    """Returns the last thought of a rollout's last turn; empty without one."""
    parts = trajectory.dialect.parts(trajectory.replies[-1])
    return next((part.text for part in reversed(parts) if part.kind == "think"), "")


def _with_consistency(
    item: Item, trajectories: Sequence[Trajectory | None], outcomes: Sequence[Outcome], settings: Settings
) -> list[Outcome]:
    """Returns the outcomes with the judge's score of how the thought fits the answer; only correct ones are judged.

    A rollout for which the judge abstained or failed is invalid.
    """
    assert settings.judge is not None
    asked: dict[int, Query] = {}
    for index, (trajectory, outcome) in enumerate(zip(trajectories, outcomes, strict=True)):
        answer = answer_of(trajectory) if trajectory and outcome.correct else None
        if trajectory is not None and answer is not None and (thought := _thought(trajectory)):
            asked[index] = Query(
                question=item.question, references=(answer,), answer=thought[-THOUGHT_CHARS:], source=CONSISTENCY
            )
    judged = dict(zip(asked, shared_judge(settings.judge)(list(asked.values())), strict=True)) if asked else {}
    result = []
    for index, outcome in enumerate(outcomes):
        verdict = judged.get(index)
        if isinstance(verdict, JudgeError):
            logger.error("a rollout of %s is invalid: %s", item.id, verdict)
        score = verdict.score if isinstance(verdict, Verdict) else None
        if index in judged and score is None:
            result.append(replace(outcome, correct=False, valid=False))
        else:
            result.append(replace(outcome, consistent=(score or 0.0) if outcome.correct else None))
    return result


def observe(
    trajectory: Trajectory | None,
    references: Sequence[str],
    think_prefix: str = "",
    verdicts: Mapping[str, Verdict | None] | None = None,
    suite_score: SuiteScore | None = None,
    *,
    exact: bool = False,
    share: float | None = None,
    drawn: DrawingScore | None = None,
    broken: bool = False,
) -> Outcome:
    """Returns the part of a finished rollout that the reward reads.

    Args:
        trajectory: The finished rollout; None: engine or sandbox failed, and the rollout is invalid.
        references: The right answers; empty where the drawing is the answer.
        think_prefix: Text that the chat template wrote before each turn.
        verdicts: Verdicts of the judge by answer. A rollout is invalid where the judge abstained or failed.
        suite_score: Score by a benchmark's own rule. It replaces the rules and the judge.
        exact: True if an answer that no rule accepts is certainly wrong, so that none is undecided.
        share: Share of the places that the answer names rightly, in [0, 1]; None: the answer isn't coordinates.
        drawn: Verdict on the drawing, where the row asks for one.
        broken: True where a check failed by our own fault; the rollout is invalid.
    """
    if trajectory is None:
        return Outcome(correct=False, format=0.0, valid=False, end_reason=EndReason.INFRA)
    answer, undecided = answer_of(trajectory), False
    if broken:
        correct, valid = False, False
    elif suite_score is not None:
        correct, valid = (suite_score.score or 0.0) >= 0.5, suite_score.score is not None
    elif drawn is not None and not references:
        correct, valid = drawn.correct is True and trajectory.end_reason is EndReason.ANSWER, True
    elif share is not None:
        correct, valid = share == 1, True
    elif verdicts and answer is not None and answer in verdicts:
        verdict = verdicts[answer]
        score = verdict.score if verdict else None
        correct, valid = score == 1, score is not None
    else:
        ruling = check_answer(answer, references)
        correct, valid, undecided = ruling is True, True, ruling is None and not exact
    return Outcome(
        correct=correct,
        format=trajectory.dialect.format_score(trajectory.replies, think_prefix),
        valid=valid,
        end_reason=trajectory.end_reason,
        steps=trajectory.steps,
        undecided=undecided,
        answer_share=share,
        drawn=drawn,
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
    own = suite_scores or [None] * len(trajectories)
    drawings = _drawings(item, trajectories) if item.task.drawing else None
    outcomes = [
        observe(
            trajectory,
            item.references,
            settings.think_prefix,
            verdicts,
            score,
            exact=settings.exact_answers,
            share=answer_share(item, trajectory, settings),
            drawn=drawings[index] if drawings else None,
            broken=drawings is not None and drawings[index] is None,
        )
        for index, (trajectory, score) in enumerate(zip(trajectories, own, strict=True))
    ]
    rubric = Rubric(settings.reward)
    if rubric.weights.get("consistency"):
        outcomes = _with_consistency(item, trajectories, outcomes, settings)
    records = [
        Record(
            group=group,
            id=f"{group}-{index}",
            task=item.task,
            observed=outcome,
            question=item.question,
            references=item.references,
            source=item.source,
            column=item.column,
            answer=trajectory.answer if trajectory else None,
            verdict=score.verdict if score else verdicts.get(answer_of(trajectory) or "") if trajectory else None,
            tokens=len(trajectory.token_buffer.response_ids) if trajectory else None,
            turn_count=trajectory.token_buffer.turns if trajectory else None,
            **fields,
        )
        for index, (trajectory, outcome, score) in enumerate(zip(trajectories, outcomes, own, strict=True))
    ]
    return [scored(record, breakdown) for record, breakdown in zip(records, rubric.score(records), strict=True)]


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnGains:
    """What the turns of a rollout add to its reward, for `advantages.turn_advantages`."""

    spans: tuple[tuple[int, int], ...] = ()
    """First token of each turn in the response, and the token behind its last one."""
    gains: tuple[float, ...] = ()
    """What the calls of each turn add to the contribution of the term `must`."""


def turn_gains(record: Record, trajectory: Trajectory | None, rubric: Rubric) -> TurnGains:
    """Returns what the turns of a scored rollout add to its reward; no turns for an invalid rollout."""
    if trajectory is None or not record.observed.valid:
        return TurnGains()
    gains = [0.0] * trajectory.token_buffer.turns
    calls = rubric.call_gains(record, record.terms["must"].contribution)
    for turn, gain in zip(trajectory.step_turns, calls, strict=True):
        gains[turn] += gain
    return TurnGains(spans=tuple(trajectory.token_buffer.spans), gains=tuple(gains))


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
