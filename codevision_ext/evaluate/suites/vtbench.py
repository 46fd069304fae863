"""VTBench (V-Thinker, arXiv 2511.04460): drawings that a judge compares with a reference, and questions in words.

`vtbench` is this package's protocol: the loop of training, the last image that the model made, a judge in our own
words, and the drawing verifier beside the judge. `vtbench_published` is the published protocol: one greedy generation
for a drawing, its first code block, the first image of that code, and the judge's prompts as published, which the user
brings.

In both, the judge sees three images at full size: the original, the made image, and the reference. A rollout without
an image, and one whose image equals the original, is wrong without being judged. Invalid rollouts count as wrong, so
that every score divides by all items.
"""

import io
import logging
from collections.abc import Callable
from typing import Final

from PIL import Image

from codevision_ext.config import JudgeSettings, Settings
from codevision_ext.engines.endpoint import data_url
from codevision_ext.errors import JudgeError
from codevision_ext.evaluate.run import EvalItem, Scorer
from codevision_ext.evaluate.suites.base import Row, Suite
from codevision_ext.evaluate.suites.vtbench_ink import compare_ink
from codevision_ext.judge.prompts import Query
from codevision_ext.judge.published import PublishedPrompts, ask, binary_verdict, published_prompts
from codevision_ext.judge.shared import shared_judge
from codevision_ext.rollout.loop import Trajectory
from codevision_ext.scoring import SuiteScore, last_image
from codevision_ext.types import Verdict

logger = logging.getLogger(__name__)

DRAWN: Final = ("perception", "instruction")
"""Columns whose items are answered by a drawing."""
REASONING_TURNS: Final = 5


def _drawing(item: EvalItem, trajectory: Trajectory, settings: Settings) -> SuiteScore:
    """Judges the last image in our own words; the verifier's verdict stands in the numbers."""
    node = last_image(trajectory.steps)
    if node is None or _equal(made := trajectory.images[node], trajectory.images[0]):
        return SuiteScore(score=0.0)
    assert settings.judge is not None
    reference = _reference(item)
    query = Query(
        question=item.item.question,
        references=("the third picture",),
        answer="the second picture",
        source=f"VTBench-{item.item.column}",
        images=tuple(map(_url, (trajectory.images[0], made, reference))),
    )
    verdict = shared_judge(settings.judge)([query])[0]
    return _judged(item, verdict, _verified(item, trajectory.images[0], made, reference))


def _verified(item: EvalItem, original: Image.Image, made: Image.Image, reference: Image.Image) -> dict[str, float]:
    """Returns the verifier's verdict as numbers; a fault of the verifier is logged and changes no score."""
    try:
        ink = compare_ink(original, made, reference)
    except Exception:  # whatever it is, the score is the judge's
        logger.exception("%s: the verifier couldn't check a drawing", item.name)
        return {}
    if ink is None:
        return {"verifier": 0.0, "verifier_f1": 0.0, "verifier_unknown": 1.0}
    return {"verifier": float(ink.correct), "verifier_f1": ink.f1, "verifier_unknown": 0.0}


def _published_drawing(item: EvalItem, trajectory: Trajectory, settings: Settings) -> SuiteScore:
    """Judges the first image in the published words."""
    if not trajectory.new_images or _equal(trajectory.new_images[0], trajectory.images[0]):
        return SuiteScore(score=0.0)
    images = [_url(image) for image in (trajectory.images[0], trajectory.new_images[0], _reference(item))]
    return _by_published_prompt(
        item,
        settings,
        lambda judge: binary_verdict(
            judge, _prompts(judge), str(item.item.column), images, instruction=item.item.question
        ),
    )


def _published_reasoning(item: EvalItem, trajectory: Trajectory, settings: Settings) -> SuiteScore:
    """Lets the judge extract the answer from the response, and judge it strictly."""

    def judge_response(judge: JudgeSettings) -> Verdict:
        prompts, question = _prompts(judge), item.item.question
        response = "\n".join(trajectory.replies)
        extraction = ask(judge, prompts.write("extract", question=question, response=response)).strip()
        answer = item.item.references[0]
        return binary_verdict(judge, prompts, "reasoning", question=question, answer=answer, extraction=extraction)

    return _by_published_prompt(item, settings, judge_response)


def _by_published_prompt(
    item: EvalItem, settings: Settings, judge_item: Callable[[JudgeSettings], Verdict]
) -> SuiteScore:
    assert settings.judge is not None
    try:
        return _judged(item, judge_item(settings.judge), {})
    except JudgeError as error:
        return _judged(item, error, {})


def _judged(item: EvalItem, verdict: Verdict | JudgeError, numbers: dict[str, float]) -> SuiteScore:
    if isinstance(verdict, JudgeError):
        logger.error("a rollout of %s is invalid: %s", item.name, verdict)
        return SuiteScore(score=None, numbers=numbers)
    return SuiteScore(score=verdict.score, verdict=verdict, numbers=numbers)


def _prompts(judge: JudgeSettings) -> PublishedPrompts:
    assert judge.published_prompts is not None
    return published_prompts(judge.published_prompts)


def _reference(item: EvalItem) -> Image.Image:
    assert item.reference is not None
    with Image.open(io.BytesIO(item.reference)) as reference:
        return reference.convert("RGB")


def _equal(made: Image.Image, original: Image.Image) -> bool:
    """Returns whether two images are equal, pixel for pixel."""
    one, other = made.convert("RGB"), original.convert("RGB")
    return one.size == other.size and one.tobytes() == other.tobytes()


def _url(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "PNG")
    return data_url(buffer.getvalue(), "PNG")


def _column(row: Row, _: Row) -> str:
    return row["ability"] if row["ability"] in DRAWN else "reasoning"


def _published_scorer(item: EvalItem) -> Scorer:
    return _published_drawing if item.item.column in DRAWN else _published_reasoning


SUITE = Suite(
    name="vtbench",
    about="perception, instruction-guided, interactive reasoning; our judge and the verifier; divides by all items",
    schemas=("vtbench",),
    column=_column,
    scorer_of=lambda item: _drawing if item.item.column in DRAWN else None,
    judged=True,
    turns=lambda column: REASONING_TURNS if column == "reasoning" else None,
    invalid_are_wrong=True,
)
PUBLISHED = Suite(
    name="vtbench_published",
    about="vtbench by its published protocol: one greedy generation, its first image, the published judge prompts",
    column=_column,
    scorer_of=_published_scorer,
    judged=True,
    turns=lambda column: REASONING_TURNS if column == "reasoning" else None,
    first_code=lambda column: column in DRAWN,
    greedy=True,
    published_prompts=True,
    invalid_are_wrong=True,
)
