"""From finished trajectories of one prompt to scored records: what was seen, whether it was right, what it is worth."""

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

from codevision_ext.answers import check
from codevision_ext.config import JudgeSettings, Settings
from codevision_ext.errors import InputError, JudgeError
from codevision_ext.judge.prompts import Query
from codevision_ext.ops import read_applied
from codevision_ext.parsing import format_score, parse_answer
from codevision_ext.records import Record, Turn, scored
from codevision_ext.rewards.composite import Rubric
from codevision_ext.rollout import Trajectory
from codevision_ext.sandbox.coordinates import RELATIVE_SIZE, scaled
from codevision_ext.types import BOX_FRAMES, Box, EndReason, Frame, Observed, Task, ToolCall, Verdict

if TYPE_CHECKING:
    from codevision_ext.judge.client import BlockingJudge, Judge

logger = logging.getLogger(__name__)

_JUDGES: Final[dict[str, "BlockingJudge"]] = {}
_JUDGES_LOCK: Final = Lock()


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
    box = None if box is None else Box(*map(float, box))
    frame = extra.get("box_frame") or "input"
    if frame not in BOX_FRAMES:
        raise InputError(f"row {ident}: extra_info.box_frame is {frame!r}, none of {', '.join(BOX_FRAMES)}")
    if frame == Frame.RELATIVE:
        box, frame = box and Box(*scaled(box, RELATIVE_SIZE, size)), "input"
    task = Task(applied=read_applied(extra.get("transform")), box=box, box_frame=frame, size=size)
    return Item(
        id=ident,
        question=extra.get("question") or "",
        references=references,
        task=task,
        source=row.get("data_source") or "",
        column=extra.get("column"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Marked:
    """What a benchmark's own rule gives an answer."""

    score: float | None
    """In [0, 1], right from 0.5 on; None: it couldn't be told, and the rollout is invalid."""
    verdict: Verdict | None = None
    """The judge's, where the rule asked one."""


def open_judge(settings: JudgeSettings) -> "Judge":
    """A judge with these settings.

    Raises:
        InputError: the prompts or the cache's folder can't be used.
    """
    from codevision_ext.judge.client import Judge  # noqa: PLC0415  its libraries are slow to import

    key = os.environ[settings.api_key_env] if settings.api_key_env else None
    return Judge(api_key=key, **settings.model_dump(exclude={"api_key_env"}))


def shared_judge(settings: JudgeSettings) -> "BlockingJudge":
    """The one judge of this process with these settings; its threads share connections and the bound on requests."""
    from codevision_ext.judge.client import BlockingJudge  # noqa: PLC0415  its libraries are slow to import

    key = settings.model_dump_json()
    with _JUDGES_LOCK:
        if key not in _JUDGES:
            _JUDGES[key] = BlockingJudge(open_judge(settings))
        return _JUDGES[key]


def close_judges() -> None:
    """Ends the shared judges of this process; nobody may be asking."""
    with _JUDGES_LOCK:
        while _JUDGES:
            _JUDGES.popitem()[1].close()


def judge_answers(
    item: Item, trajectories: Iterable[Trajectory | None], settings: Settings
) -> dict[str, Verdict | None]:
    """Verdicts on the answers that no rule decides, each asked for once; None: the judge failed, which is logged.

    Blocks until the judge has read them. Without a judge there are none.
    """
    if settings.judge is None:
        return {}
    answers = {
        answer for t in trajectories if t and (answer := answer_of(t)) and check(answer, item.references) is None
    }
    queries = [
        Query(question=item.question, references=item.references, answer=answer, source=item.source)
        for answer in sorted(answers)
    ]
    verdicts = shared_judge(settings.judge).ask_all(queries) if queries else []
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
    mark: Marked | None = None,
) -> Observed:
    """What the reward sees of a trajectory.

    Args:
        trajectory: None: it broke under us.
        references: Any of them is right.
        think_prefix: What the chat template wrote before each turn.
        verdicts: The judge's, by answer, on what no rule decides. Where it abstained or failed the rollout is invalid.
        mark: A benchmark's own, which counts in place of rules and judge.
    """
    if trajectory is None:
        return Observed(correct=False, format=0.0, valid=False, end_reason=EndReason.INFRA)
    if mark is not None:
        return Observed(
            correct=(mark.score or 0.0) >= 0.5,
            format=format_score(trajectory.replies, think_prefix),
            valid=mark.score is not None,
            end_reason=trajectory.end_reason,
            steps=trajectory.steps,
        )
    answer = answer_of(trajectory)
    asked = answer in (verdicts := verdicts or {})
    verdict = verdicts.get(answer or "")
    return Observed(
        correct=verdict.score == 1 if verdict else check(answer, references) is True,
        format=format_score(trajectory.replies, think_prefix),
        valid=not asked or (verdict is not None and verdict.score is not None),
        end_reason=trajectory.end_reason,
        steps=trajectory.steps,
    )


def score(
    item: Item,
    group: str,
    trajectories: Sequence[Trajectory | None],
    settings: Settings,
    marks: Sequence[Marked | None] | None = None,
    **fields: Any,
) -> list[Record]:
    """Records of all rollouts of one prompt with their rewards, in input order; pictures are still nameless.

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
            tokens=len(trajectory.episode.response_ids) if trajectory else None,
            turn_count=trajectory.episode.turns if trajectory else None,
            **fields,
        )
        for index, (trajectory, mark) in enumerate(zip(trajectories, given, strict=True))
    ]
    breakdowns = Rubric(settings.reward).score(records)
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


def group_numbers(
    records: Sequence[Record], trajectories: Sequence[Trajectory | None], settings: Settings
) -> list[dict[str, float]]:
    """`numbers` of all rollouts of a prompt, and `filter_acc`, which differs within the group where there is a signal.

    DAPO's filter drops a group whose values are all alike. A valid rollout has its accuracy there, an invalid one that
    of the first valid one; where none is valid all differ, so that such a group is seen and counted, not replaced.
    """
    valid = [float(record.observed.correct) for record in records if record.observed.valid]
    logged = [numbers(record, trajectory, settings) for record, trajectory in zip(records, trajectories, strict=True)]
    for index, values in enumerate(logged):
        values["filter_acc"] = values["acc"] if values["valid"] else valid[0] if valid else float(index)
    return logged


def numbers(record: Record, trajectory: Trajectory | None, settings: Settings) -> dict[str, float]:
    """What is logged of a rollout; the same keys for every rollout of a run."""
    seen, steps = record.observed, record.observed.steps
    calls = trajectory.calls if trajectory else ()
    values = {
        "acc": float(seen.correct),
        "format": seen.format,
        "valid": float(seen.valid),
        "tool": float(bool(steps)),
        "calls": float(len(steps)),
        "failed_calls": float(sum(not step.ok for step in steps)),
        "noop_calls": float(sum(step.noop for step in steps)),
        "malformed_calls": float(trajectory.malformed if trajectory else 0),
        "repeated_calls": float(_repeated(calls)),
        **_recoveries(trajectory),
        "turns": float(record.turn_count or 0),
    }
    if settings.judge:
        values |= {"judged": float(record.verdict is not None), "abstained": float(_abstained(record))}
    values |= {f"end_{reason}": float(seen.end_reason is reason) for reason in EndReason}
    for name in Rubric(settings.reward).weights:
        values[f"term_{name}"] = record.terms[name].contribution if name in record.terms else 0.0
    return values


def _repeated(calls: Sequence[ToolCall | None]) -> int:
    """Calls that run the code of an earlier one on the same picture, where the result can't be another."""
    asked = [(call.code, call.image_index) for call in calls if call]
    return len(asked) - len(set(asked))


def _recoveries(trajectory: Trajectory | None) -> dict[str, float]:
    """Errors (calls that failed or couldn't be read) where a turn is left to call again, and those made good later."""
    if trajectory is None or trajectory.episode.limits.assistant_turns < 3:  # the last turn's calls aren't run
        return {"recoverable_calls": 0.0, "recovered_calls": 0.0}
    steps = iter(trajectory.steps)
    went_well = [call is not None and next(steps).ok for call in trajectory.calls]
    before_last = went_well[: len(went_well) - went_well[::-1].index(True)] if any(went_well) else []
    return {"recoverable_calls": float(went_well.count(False)), "recovered_calls": float(before_last.count(False))}


def _abstained(record: Record) -> bool:
    return record.verdict is not None and record.verdict.score is None
