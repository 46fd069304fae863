"""Maps a function over items, in order, in threads or in processes of this machine."""

import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from itertools import chain
from multiprocessing import get_context, parent_process
from threading import Thread
from typing import Final, Protocol, TypeVar

from codevision_ext.errors import InfraError
from data_prep.parallel.shared_memory import PackedObject, SharedMemory, pack, unpack

T = TypeVar("T")
R = TypeVar("R")
Drawn_co = TypeVar("Drawn_co", covariant=True)
AHEAD: Final = 2
"""Number of items in progress beyond one per process, so that no process waits for the writer."""


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0))


def spare_cores() -> int:
    """Return the number of cores minus one, at least 1, for light work: reading and writing keep one core busy."""
    return max(1, cores() - 1)


def map_threads(
    work: Callable[[T], R], items: Iterable[T], threads: int, ahead: Callable[[], int] | None = None
) -> Iterator[R]:
    """Yield the result of `work` for each item, in order.

    At most `ahead()` items, at least 1, are in progress or wait for their turn; by default twice as many as threads.
    """
    waiting: deque[Future[R]] = deque()
    pool = ThreadPoolExecutor(threads)
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            while waiting and len(waiting) >= (2 * threads if ahead is None else ahead()):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def in_order(work: Callable[[T], R], items: Iterable[T], workers: int) -> Iterator[tuple[T, R]]:
    """Yield each item and the result of `work` for it, in order; one worker means that this process does the work.

    At most workers + AHEAD items are read before their results are taken. `work`, items and results can be pickled.

    Raises:
        InfraError: A process died.
    """
    if workers == 1:
        yield from ((item, work(item)) for item in items)
        return
    waiting: deque[tuple[T, SharedMemory, Future[PackedObject]]] = deque()
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_follow_parent)
    try:
        for item in items:
            memory = SharedMemory()
            waiting.append((item, memory, pool.submit(_run_packed, work, pack(item, memory.path))))
            if len(waiting) >= workers + AHEAD:
                yield _receive(*waiting.popleft())
        while waiting:
            yield _receive(*waiting.popleft())
    except BrokenProcessPool as error:
        raise InfraError("a worker process died, perhaps for lack of memory; try fewer --workers") from error
    finally:
        pool.shutdown(cancel_futures=True)


class Draw(Protocol[Drawn_co]):
    """Draws rows `start` to `start + count`; can be pickled, and no row depends on another."""

    def __call__(self, *, count: int, start: int) -> Iterable[Drawn_co]: ...


def map_chunks(draw: Draw[R], count: int, workers: int, rows: int = 500) -> Iterator[R]:
    """Yield the rows 0 to `count` in order; with many rows, processes draw `rows` of them at a time.

    Raises:
        InfraError: A process died.
    """
    spans = [range(start, min(start + rows, count)) for start in range(0, count, rows)]
    workers = workers if len(spans) > workers else 1  # a process takes a second to start
    return chain.from_iterable(drawn for _, drawn in in_order(partial(_draw_span, draw), spans, workers))


def _draw_span(draw: Draw[R], span: range) -> list[R]:
    return list(draw(count=len(span), start=span.start))


def _run_packed(work: Callable[[T], R], packed: PackedObject) -> PackedObject:
    return pack(work(unpack(packed)), packed.file)


def _receive(item: T, _memory: SharedMemory, future: "Future[PackedObject]") -> tuple[T, R]:
    """Wait for a result; its shared memory is mapped before the owner releases it."""
    return item, unpack(future.result())


def _follow_parent() -> None:
    """Ignore Ctrl-C, which the parent process handles, and end when the parent is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    Thread(target=follow, daemon=True).start()
