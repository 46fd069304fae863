"""Lets models check, repair and solve items that passed all checks without a model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, TypeVar

from codevision_ext.errors import InfraError
from codevision_ext.io.json_codec import JsonCodec
from codevision_ext.task.answers import check_answer
from data_prep.evolve.backend import ReplyError
from data_prep.evolve.checks import Rejection, RejectReason, choices_of
from data_prep.evolve.endpoint.models import Models
from data_prep.evolve.endpoint.prompts import PromptFiles, PromptText
from data_prep.evolve.endpoint.replies import REPAIRED, SCORED, SOLVED, ScoreReply, item_text, read_reply
from data_prep.evolve.item import Difficulty, Item
from data_prep.evolve.stages import Examined

ATTEMPTS: Final = 2
"""Number of calls for a score; a reply that can't be read is asked for once more."""
HARD, EASY = 0.45, 0.55
"""Shares of right blind solves, with and without the drawing together: hard below the first, easy above the second."""
SCORES: Final = (
    ("original", RejectReason.ORIGINAL_SCORE),
    ("overlay", RejectReason.OVERLAY_SCORE),
    ("answer", RejectReason.ANSWER_SCORE),
)
"""Scores of the checker in order; the answer comes last, because only an item with right images is repaired."""

Examine = Callable[[Item, Item | None], Examined]
"""Checks of an item and its parent without a model."""
T = TypeVar("T")


@dataclass(slots=True, kw_only=True)
class _Review:
    """One item under review."""

    examined: Examined
    parent: Item | None
    faults: list[ReplyError] = field(default_factory=list)

    @property
    def images(self) -> list[bytes]:
        """Original image, and the image with all drawings if the item needs any."""
        return [self.examined.original, *(step.image for step in self.examined.steps[-1:])]

    def rejected(self, reason: RejectReason, detail: str) -> Examined:
        return replace(self.examined, rejection=Rejection(reason=reason, detail=detail))


class EndpointReviewer:
    """Implements `Reviewer` by models behind endpoints."""

    def __init__(self, models: Models, prompts: PromptFiles, examine: Examine, seed: int) -> None:
        self._models, self._prompts, self._examine, self._seed = models, prompts, examine, seed

    def stop(self) -> None:
        """Let no further call be sent."""
        self._models.spending.stop(InfraError("the run has ended"))

    def review(self, examined: Examined, parent: Item | None) -> tuple[Examined, list[ReplyError]]:
        """Return an item after the scores of the checker, repairs of its answer, and blind solves.

        Raises:
            LimitError: A limit of the run is reached.
            InfraError: An endpoint gives no reply, the sandbox is broken, or the store can't be written.
        """
        review = _Review(examined=examined, parent=parent)
        review.examined = self._scored(review)
        while self._repairable(review.examined):
            review.examined = self._repaired(review)
        if review.examined.rejection is None and review.examined.item.overlays and self._models.settings.solves:
            review.examined = self._solved(review)
        return review.examined, review.faults

    def _ask(
        self,
        review: _Review,
        stage: str,
        prompt: PromptText,
        codec: JsonCodec[T],
        images: Sequence[bytes],
        attempt: int,
    ) -> T | None:
        """Return the reply of the model of a stage; None, and a fault more, if it can't be used."""
        where = f"{stage} of {review.examined.item.id}"
        try:
            text = self._models.ask(stage, prompt, content=str(attempt), seed=self._seed, images=images)
            return read_reply(text, codec, where)
        except ReplyError as error:
            review.faults.append(error)
            return None

    def _scored(self, review: _Review) -> Examined:
        """Return the item with the first score that is too low as its rejection."""
        examined = review.examined
        item = examined.item
        for name, reason in SCORES:
            if name == "overlay" and not item.overlays:
                continue
            images = review.images[:1] if name == "original" else review.images
            score = self._score(review, name, images)
            if score is None:
                return review.rejected(RejectReason.NO_SCORE, f"the checker gave no score of the {name}")
            if score.score < self._models.settings.pass_score:
                return review.rejected(reason, f"{score.score} of 10: {' '.join(score.reason.split())[:200]}")
        return examined

    def _score(self, review: _Review, name: str, images: Sequence[bytes]) -> ScoreReply | None:
        item = review.examined.item
        values = {"question": item.question}
        if name == "overlay":
            values |= {"about": " ".join(overlay.about for overlay in item.overlays), "solution": item.solution}
        if name == "answer":
            values |= {"answer": item.answer, "solution": item.solution, "code": item.original_code}
            values |= {"edited": "yes" if item.overlays else ""}
        prompt = self._prompts.write(f"check_{name}", **values)
        for attempt in range(ATTEMPTS):
            score = self._ask(review, f"check_{name}", prompt, SCORED, images, attempt)
            if score is not None:
                return score
        return None

    def _repairable(self, examined: Examined) -> bool:
        """Return whether only the answer failed, and a repair is left."""
        rejection = examined.rejection
        return (
            rejection is not None
            and rejection.reason is RejectReason.ANSWER_SCORE
            and examined.repairs < self._models.settings.repairs
        )

    def _repaired(self, review: _Review) -> Examined:
        """Return the item with question, answer and solution of the repairer, checked again."""
        examined = review.examined
        assert examined.rejection is not None
        prompt = self._prompts.write("repair", reason=examined.rejection.detail, item=item_text(examined.item))
        texts = self._ask(review, "repair", prompt, REPAIRED, review.images, examined.repairs)
        repairs = examined.repairs + 1
        if texts is None:
            return replace(examined, repairs=repairs)
        item = replace(examined.item, question=texts.question, answer=texts.answer, solution=texts.solution)
        again = self._examine(item, review.parent)
        if again.rejection is not None:
            detail = f"after repair {repairs}: {again.rejection.reason}: {again.rejection.detail}"
            rejection = Rejection(reason=RejectReason.ANSWER_SCORE, detail=detail)
            return replace(examined, item=item, rejection=rejection, repairs=repairs)
        review.examined = replace(again, repairs=repairs)
        return self._scored(review)

    def _solved(self, review: _Review) -> Examined:
        """Return the item with its difficulty, or rejected if the drawing isn't needed or doesn't suffice."""
        tries = self._models.settings.solves
        edited = self._right(review, review.images[1])
        if not beats(edited, 0, tries):
            detail = f"{edited} of {tries} blind solves with the drawing are right"
            return review.rejected(RejectReason.UNSOLVED, detail)
        original = self._right(review, review.images[0])
        if not beats(edited, original, tries):
            detail = f"{edited} of {tries} blind solves with the drawing are right, and {original} without"
            return review.rejected(RejectReason.NOT_NEEDED, detail)
        item = replace(review.examined.item, difficulty=difficulty_of((edited + original) / (2 * tries)))
        return replace(review.examined, item=item)

    def _right(self, review: _Review, image: bytes) -> int:
        """Return the number of blind solves of an image that are right; a reply without an answer is wrong."""
        item = review.examined.item
        prompt = self._prompts.write("solve", question=item.question)
        replies = (
            self._ask(review, "solve", prompt, SOLVED, [image], attempt)
            for attempt in range(self._models.settings.solves)
        )
        return sum(reply is not None and is_answer(reply.answer, item) for reply in replies)


def beats(edited: int, original: int, tries: int) -> bool:
    """Return whether the 95 % interval of the difference of two shares of `tries` (Newcombe) lies above 0."""
    from statsmodels.stats.proportion import confint_proportions_2indep  # noqa: PLC0415  slow to import

    if edited <= original:
        return False
    low, _ = confint_proportions_2indep(edited, tries, original, tries, compare="diff", method="newcomb")
    return float(low) > 0


def difficulty_of(share: float) -> Difficulty:
    """Return the difficulty of an item by the share of its blind solves that are right, in [0, 1]."""
    return "hard" if share < HARD else "easy" if share > EASY else "medium"


def is_answer(text: str, item: Item) -> bool:
    """Return whether the rules accept an answer; of a choice, letter and text are right."""
    choices = choices_of(item.question)
    letter = item.answer.strip().strip("().")
    letters = {each for each, own in choices.items() if own == item.answer.strip()} | ({letter} & choices.keys())
    references = [item.answer, *sorted(letters), *(choices[each] for each in sorted(letters))]
    return check_answer(text, references) is True
