"""Counts what enters and passes each stage, and what is rejected for which reason."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

from data_prep.evolve.backend import ReplyError, ReplyFault
from data_prep.evolve.checks import Rejection, RejectReason

STAGES: Final = (
    "generate",
    "parse",
    "original",
    "canvas",
    "overlay",
    "pixels",
    "judge",
    "repair",
    "solve",
    "expand",
    "dedupe",
    "difficulty",
    "write",
)
"""Stages of an item, in order. `expand` takes items that passed the stages before, and its items begin at `parse`."""
MODEL_STAGES: Final = ("judge", "repair", "solve")
"""Stages that ask a language model: scores of a checker, repairs, blind solves. The program back end skips them."""
EXAMPLES: Final = 3
"""Maximum number of listed ids for each reason."""


@dataclass(slots=True, kw_only=True)
class Yields:
    """Counts of a run; the items are counted in order, so the counts depend on the seed only."""

    entered: Counter[str] = field(default_factory=Counter)
    """Number of items that entered a stage; calls for `generate`, tried expansions for `expand`."""
    passed: Counter[str] = field(default_factory=Counter)
    """Number of items that left a stage; it may exceed `entered` for `generate`, whose calls make three items."""
    reasons: Counter[RejectReason] = field(default_factory=Counter)
    examples: dict[RejectReason, list[tuple[str, str]]] = field(default_factory=dict)
    """First ids and details by reason, at most EXAMPLES."""
    replies: Counter[ReplyFault] = field(default_factory=Counter)
    """Number of replies of models that couldn't be used, by reason."""
    reply_examples: dict[ReplyFault, list[str]] = field(default_factory=dict)
    """First details by reason, at most EXAMPLES."""
    models: bool = False
    """Whether the run has the stages that ask a language model."""

    @property
    def stages(self) -> list[str]:
        """Stages of the run, in order."""
        return [stage for stage in STAGES if self.models or stage not in MODEL_STAGES]

    def add_path(self, start: str, end: str, *, passed: bool) -> None:
        """Count an item that passed all stages from `start` to the one before `end`, and entered `end`.

        `repair` and `expand` aren't on the path: not every item enters them.
        """
        stages = [stage for stage in self.stages if stage not in ("repair", "expand")]
        path = stages[stages.index(start) : stages.index(end) + 1]
        self.entered.update(path)
        self.passed.update(path if passed else path[:-1])

    def add_rejection(self, rejection: Rejection, item_id: str) -> bool:
        """Count a rejected item, and return whether it is among the first ones, whose ids are kept."""
        self.reasons[rejection.reason] += 1
        examples = self.examples.setdefault(rejection.reason, [])
        if len(examples) == EXAMPLES:
            return False
        examples.append((item_id, rejection.detail))
        return True

    def add_fault(self, error: ReplyError) -> None:
        """Count a reply that couldn't be used."""
        self.replies[error.fault] += 1
        examples = self.reply_examples.setdefault(error.fault, [])
        if len(examples) < EXAMPLES:
            examples.append(str(error))

    def line(self) -> str:
        """Return how many items entered each stage up to now, in one line: `parse 90, original 88`."""
        shown = [stage for stage in self.stages if stage not in ("generate", "repair", "expand", "difficulty")]
        return ", ".join(f"{stage} {self.entered[stage]}" for stage in shown)

    def plain(self) -> dict[str, Any]:
        """Return the counts as JSON: stages, rejected items by reason, and unusable replies if models ran."""
        replies = {fault.value: count for fault, count in sorted(self.replies.items())}
        return {
            "stages": {stage: {"entered": self.entered[stage], "passed": self.passed[stage]} for stage in self.stages},
            "rejected": {reason.value: count for reason, count in sorted(self.reasons.items())},
            **({"replies": replies} if self.models else {}),
        }
