"""Counts calls, tokens and money of a run, and stops it before a limit is exceeded."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from codevision_ext.errors import CodeVisionError
from data_prep.evolve.endpoint.settings import EndpointSettings, RoleName, RoleSettings


class LimitError(CodeVisionError):
    """The next call could exceed a limit of the run; everything so far is in the store."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Most:
    """The most that a call can cost."""

    tokens: int
    cost: float


@dataclass(slots=True, kw_only=True)
class Paid:
    """Tokens of a reply, which the caller writes."""

    prompt_tokens: int = 0
    tokens: int = 0


class Spending:
    """Calls, tokens and money of a run; its methods may be called from any thread.

    The caller adds all replies that the store has, so the limits are those of the store and not of one run.
    A call reserves the most that it can cost before it is sent. Near a limit a call waits until others are settled.
    """

    def __init__(self, settings: EndpointSettings) -> None:
        self._settings, self._changed = settings, threading.Condition()
        self._reserved: list[_Most] = []
        self._stopped: CodeVisionError | None = None
        self.calls: Counter[RoleName] = Counter()
        """Number of replies by role."""
        self.sent = 0
        """Number of replies that came from endpoints; the store had the others."""
        self.tokens = 0
        self.cost = 0.0

    @contextmanager
    def reserved(self, name: RoleName, role: RoleSettings, prompt_tokens: int) -> Iterator[Paid]:
        """Wait until a call fits into the limits, and count what the block writes into the value that it gets.

        A call that ends with an exception isn't counted.

        Raises:
            LimitError: The call doesn't fit, though no other call is under way.
            CodeVisionError: The reason of `stop`.
        """
        most = _Most(tokens=prompt_tokens + role.max_tokens, cost=role.cost(prompt_tokens, role.max_tokens))
        self._reserve(most)
        paid = Paid()
        try:
            yield paid
        except BaseException:
            self._release(most)
            raise
        with self._changed:
            self.sent += 1
            self.add(name, role, paid.prompt_tokens, paid.tokens)
            self._release(most)

    def _reserve(self, most: _Most) -> None:
        with self._changed:
            while True:
                if self._stopped:
                    raise self._stopped
                limit = self._exceeded(most)
                if limit is None:
                    self._reserved.append(most)
                    return
                if not self._reserved:
                    self._stopped = LimitError(f"{limit} is reached: {self.text()}")
                    self._changed.notify_all()
                    continue
                self._changed.wait()

    def _exceeded(self, most: _Most) -> str | None:
        limits = self._settings
        waiting = self._reserved
        calls = self.calls.total() + len(waiting) + 1
        tokens = self.tokens + most.tokens + sum(each.tokens for each in waiting)
        cost = self.cost + most.cost + sum(each.cost for each in waiting)
        for name, value, limit in (
            ("max_calls", calls, limits.max_calls),
            ("max_tokens", tokens, limits.max_tokens),
            ("max_cost", cost, limits.max_cost),
        ):
            if limit is not None and value > limit:
                return f"--{name.replace('_', '-')} {limit:g}"
        return None

    def _release(self, most: _Most) -> None:
        with self._changed:
            self._reserved.remove(most)
            self._changed.notify_all()

    def add(self, name: RoleName, role: RoleSettings, prompt_tokens: int, tokens: int) -> None:
        """Count a reply."""
        with self._changed:
            self.calls[name] += 1
            self.tokens += prompt_tokens + tokens
            self.cost += role.cost(prompt_tokens, tokens)

    def stop(self, reason: CodeVisionError) -> None:
        """Let no further call be sent; the first reason counts."""
        with self._changed:
            self._stopped = self._stopped or reason
            self._changed.notify_all()

    def text(self) -> str:
        """Return calls, tokens and cost up to now, in words."""
        return f"{self.calls.total()} calls, {self.tokens} tokens, cost {self.cost:.2f}"

    def plain(self) -> dict[str, Any]:
        """Return the counts as JSON."""
        return {
            "calls": dict(sorted(self.calls.items())),
            "sent": self.sent,
            "tokens": self.tokens,
            "cost": round(self.cost, 6),
        }
