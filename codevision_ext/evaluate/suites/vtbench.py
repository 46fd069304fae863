"""VTBench (V-Thinker, arXiv 2511.04460): drawings that a judge compares with a reference, and questions in words.

The judge sees three images: the original, the last image that the model made, and the reference. A rollout without a
new image is wrong without being judged. Invalid rollouts count as wrong.
"""

import io
import logging
from typing import Final

from PIL import Image

from codevision_ext.config import Settings
from codevision_ext.engines.endpoint import data_url
from codevision_ext.errors import JudgeError
from codevision_ext.evaluate.run import EvalItem
from codevision_ext.evaluate.suites.base import Row, Suite
from codevision_ext.judge.prompts import Query
from codevision_ext.judge.shared import shared_judge
from codevision_ext.rollout.loop import Trajectory
from codevision_ext.scoring import SuiteScore

logger = logging.getLogger(__name__)

DRAWN: Final = ("perception", "instruction")
REASONING_TURNS: Final = 5
JUDGED_SIDE: Final = 1024
"""Maximum side of an image that the judge sees, in pixels; larger images are shrunk."""


def _drawing(item: EvalItem, trajectory: Trajectory, settings: Settings) -> SuiteScore:
    if not trajectory.new_images:
        return SuiteScore(score=0.0)
    assert settings.judge is not None
    assert item.reference is not None
    with Image.open(io.BytesIO(item.reference)) as reference:
        images = [trajectory.images[0], trajectory.images[-1], reference.convert("RGB")]
    query = Query(
        question=item.item.question,
        references=("the third picture",),
        answer="the second picture",
        source=f"VTBench-{item.item.column}",
        images=tuple(map(_file, images)),
    )
    verdict = shared_judge(settings.judge)([query])[0]
    if isinstance(verdict, JudgeError):
        logger.error("a rollout of %s is invalid: %s", item.name, verdict)
        return SuiteScore(score=None)
    return SuiteScore(score=verdict.score, verdict=verdict)


def _file(image: Image.Image) -> str:
    small = image.convert("RGB")
    small.thumbnail((JUDGED_SIDE, JUDGED_SIDE))
    buffer = io.BytesIO()
    small.save(buffer, "PNG")
    return data_url(buffer.getvalue(), "PNG")


def _column(row: Row, _: Row) -> str:
    return row["ability"] if row["ability"] in DRAWN else "reasoning"


SUITE = Suite(
    name="vtbench",
    about="perception, instruction-guided, interactive reasoning; divides by all items",
    schemas=("vtbench",),
    column=_column,
    scorer_of=lambda item: _drawing if item.item.column in DRAWN else None,
    judged=True,
    turns=lambda column: REASONING_TURNS if column == "reasoning" else None,
    invalid_are_wrong=True,
)
