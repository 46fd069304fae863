"""Bounds the requests that a server holds: some run, some wait in a queue, and further ones are refused."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from codevision_ext.serve.protocol import ApiError


class Admission:
    """Counts requests; `running` and `waiting` are the present numbers."""

    def __init__(self, concurrency: int, queue: int) -> None:
        self.concurrency, self.queue = concurrency, queue
        self.admitted = self.running = 0
        self._slots = asyncio.Semaphore(concurrency)

    @property
    def waiting(self) -> int:
        """Number of admitted requests that don't run yet; their bodies may still be arriving."""
        return self.admitted - self.running

    @contextmanager
    def admit(self) -> Iterator[None]:
        """Admits a request for the length of the block, before its body is read.

        Raises:
            ApiError: the queue is full (429).
        """
        if self.admitted >= self.concurrency + self.queue:
            raise ApiError(
                429,
                f"the server is busy: {self.admitted} requests run or wait; try again later",
                kind="rate_limit_error",
                code="queue_full",
                headers={"Retry-After": "1"},
            )
        self.admitted += 1
        try:
            yield
        finally:
            self.admitted -= 1

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Waits for a slot, in the order of arrival, and holds it for the length of the block."""
        async with self._slots:
            self.running += 1
            try:
                yield
            finally:
                self.running -= 1
