"""Counts what enters and passes each stage, and what is rejected for which reason."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

from data_prep.evolve.checks import Rejection, RejectReason

STAGES: Final = (
    "generate",
    "parse",
    "original",
    "canvas",
    "overlay",
    "pixels",
    "judge",
    "solve",
    "repair",
    "expand",
    "dedupe",
    "difficulty",
    "write",
)
"""Stages of an item, in order. `expand` takes items that passed the stages before, and its items begin at `parse`."""
MODEL_STAGES: Final = ("judge", "solve", "repair")
"""Stages that ask a language model: scores of a checker, blind solves, repairs. The program back end skips them."""
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

    def add_path(self, start: str, end: str, *, passed: bool) -> None:
        """Count an item that passed all stages from `start` to the one before `end`, and entered `end`."""
        stages = [stage for stage in STAGES if stage not in (*MODEL_STAGES, "expand")]
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

    def line(self) -> str:
        """Return how many items entered each stage up to now, in one line: `parse 90, original 88`."""
        shown = ("parse", "original", "canvas", "overlay", "pixels", "dedupe", "write")
        return ", ".join(f"{stage} {self.entered[stage]}" for stage in shown)

    def plain(self) -> dict[str, Any]:
        """Return the counts as JSON: stages with entered and passed, and rejected by reason."""
        return {
            "stages": {
                stage: {"entered": self.entered[stage], "passed": self.passed[stage]}
                for stage in STAGES
                if stage not in MODEL_STAGES
            },
            "rejected": {reason.value: count for reason, count in sorted(self.reasons.items())},
        }
