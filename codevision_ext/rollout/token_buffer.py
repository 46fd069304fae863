"""Which tokens a rollout consists of: turn-taking and token bookkeeping, no I/O.

An `TokenBuffer` grows by two moves only: `add_sampled` appends what the policy sampled (mask 1, with its log-probs) and
`add_context` appends what the environment says (mask 0). A context that doesn't fit is refused as a whole, so nothing
is ever half-appended.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from codevision_ext.errors import EngineError, InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutLimits:
    """What one rollout may use up."""

    response_tokens: int
    """Sampled and context tokens after the prompt, together."""
    assistant_turns: int
    """Turns the policy may take, the final answer included."""
    turn_tokens: int | None = None
    """Tokens of one assistant turn; None: whatever is left."""
    malformed_calls: int = 2
    """Calls that couldn't be read before the rollout ends as `malformed`."""
    calls_per_turn: int = 1
    """Calls of one turn that are run, in order; the policy is told of the others."""
    force_answer: bool = False
    """Whether the policy is told, before its last turn, that it must answer in it."""

    def __post_init__(self) -> None:
        for name in ("response_tokens", "assistant_turns", "malformed_calls", "calls_per_turn"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must be at least 1")


@dataclass(slots=True, kw_only=True)
class TokenBuffer:
    """The tokens of one rollout so far."""

    prompt_ids: list[int]
    limits: RolloutLimits
    response_ids: list[int] = field(default_factory=list)
    response_mask: list[int] = field(default_factory=list)
    """1 for a sampled token, 0 for context."""
    log_probs: list[float] = field(default_factory=list)
    """The engine's log-prob of each sampled token, 0.0 for context."""
    turns: int = 0
    """Assistant turns taken."""

    @property
    def ids(self) -> list[int]:
        """Prompt and response: what the engine continues from."""
        return self.prompt_ids + self.response_ids

    @property
    def room(self) -> int:
        """Tokens that the next assistant turn may have."""
        left = self.limits.response_tokens - len(self.response_ids)
        return left if self.limits.turn_tokens is None else min(left, self.limits.turn_tokens)

    def add_sampled(self, ids: Sequence[int], log_probs: Sequence[float]) -> None:
        """Appends one assistant turn, exactly as sampled.

        Raises:
            EngineError: the engine returned more tokens than it was given room for, or not one log-prob a token.
        """
        if len(ids) != len(log_probs):
            raise EngineError(f"the engine returned {len(ids)} tokens but {len(log_probs)} log-probs")
        if len(ids) > self.room:
            raise EngineError(f"the engine returned {len(ids)} tokens where {self.room} were asked for")
        self.response_ids.extend(ids)
        self.response_mask.extend([1] * len(ids))
        self.log_probs.extend(log_probs)
        self.turns += 1

    def add_context(self, ids: Sequence[int]) -> bool:
        """Appends context if they fit and leave room to sample at least one token more; else does nothing."""
        if len(self.response_ids) + len(ids) >= self.limits.response_tokens:
            return False
        self.response_ids.extend(ids)
        self.response_mask.extend([0] * len(ids))
        self.log_probs.extend([0.0] * len(ids))
        return True
