"""Stores the tokens of one rollout and enforces its limits, without I/O.

A `TokenBuffer` grows in two ways only. `add_sampled` appends tokens that the policy sampled (mask 1, with their
log-probs). `add_context` appends tokens that the policy only reads (mask 0); if they don't fit, none of them is added.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from codevision_ext.errors import EngineError, InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutLimits:
    """Limits of one rollout."""

    response_tokens: int
    """Maximum tokens after the prompt, sampled tokens and context together."""
    assistant_turns: int
    """Maximum assistant turns, the final answer included."""
    turn_tokens: int | None = None
    """Maximum tokens of one assistant turn; None: only `response_tokens` limits a turn."""
    malformed_calls: int = 2
    """Number of unreadable tool calls that ends the rollout as `malformed`; a turn without call and answer counts."""
    calls_per_turn: int = 1
    """Maximum tool calls that are run in one turn, in order; the policy is told that the others were not run."""
    force_answer: bool = False
    """True: before its last turn the policy is told that it must answer now."""

    def __post_init__(self) -> None:
        for name in ("response_tokens", "assistant_turns", "malformed_calls", "calls_per_turn"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must be at least 1")


PUBLISHED_LIMITS: Final = RolloutLimits(response_tokens=16_384, assistant_turns=12)
"""Limits of the published runs, as in recipe/base/published.yaml."""


@dataclass(slots=True, kw_only=True)
class TokenBuffer:
    """The tokens of one rollout so far."""

    prompt_ids: list[int]
    limits: RolloutLimits
    response_ids: list[int] = field(default_factory=list)
    response_mask: list[int] = field(default_factory=list)
    """Mask of `response_ids`: 1 for a sampled token, 0 for context."""
    log_probs: list[float] = field(default_factory=list)
    """Log-prob of each token of `response_ids` as the engine returned it (natural logarithm); 0.0 for context."""
    spans: list[tuple[int, int]] = field(default_factory=list)
    """First token of each assistant turn in `response_ids`, and the token behind its last one."""

    @property
    def turns(self) -> int:
        """Number of assistant turns so far."""
        return len(self.spans)

    @property
    def ids(self) -> list[int]:
        """Prompt and response together: the tokens that the engine continues."""
        return self.prompt_ids + self.response_ids

    @property
    def room(self) -> int:
        """Maximum tokens of the next assistant turn."""
        left = self.limits.response_tokens - len(self.response_ids)
        return left if self.limits.turn_tokens is None else min(left, self.limits.turn_tokens)

    def add_sampled(self, ids: Sequence[int], log_probs: Sequence[float]) -> None:
        """Appends one assistant turn, exactly as it was sampled.

        Raises:
            EngineError: there are more tokens than `room`, or the numbers of tokens and log-probs differ.
        """
        if len(ids) != len(log_probs):
            raise EngineError(f"the engine returned {len(ids)} tokens but {len(log_probs)} log-probs")
        if len(ids) > self.room:
            raise EngineError(f"the engine returned {len(ids)} tokens where {self.room} were asked for")
        self.spans.append((len(self.response_ids), len(self.response_ids) + len(ids)))
        self._extend(ids, 1, log_probs)

    def add_context(self, ids: Sequence[int]) -> bool:
        """Appends context if at least one sampled token fits after it; otherwise adds nothing and returns False."""
        if len(self.response_ids) + len(ids) >= self.limits.response_tokens:
            return False
        self._extend(ids, 0, [0.0] * len(ids))
        return True

    def _extend(self, ids: Sequence[int], mask: int, log_probs: Sequence[float]) -> None:
        self.response_ids.extend(ids)
        self.response_mask.extend([mask] * len(ids))
        self.log_probs.extend(log_probs)
