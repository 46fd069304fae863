"""How is work spread over cores, or over a Ray cluster? Results come in the order of the items, a few are in memory."""

import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from functools import partial
from itertools import chain
from multiprocessing import get_context, parent_process
from threading import Thread
from typing import Final, Protocol, TypeVar

from codevision_ext.errors import InfraError, InputError
from data_prep.parallel.shared_memory import Parcel, pack, shared_memory, unpack

T = TypeVar("T")
R = TypeVar("R")
Drawn_co = TypeVar("Drawn_co", covariant=True)
AHEAD: Final = 2
"""Items under way beyond one a worker, so that none waits for the writer."""

SPAN: Final = 500
"""Rows that `map_chunks` draws at a time."""


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def spare_cores() -> int:
    """Those beside this process, at least one: for work so light that reading and writing keep a core busy."""
    return max(1, cores() - 1)


def in_order(work: Callable[[T], R], items: Iterable[T], workers: int) -> Iterator[tuple[T, R]]:
    """Each item and what `work` makes of it, in this process where `workers` is 1.

    At most workers + AHEAD items are under way.

    Args:
        work: Picklable, as are items and results.
        items: Read no further ahead than that.
        workers: Processes.

    Raises:
        InfraError: A worker died.
    """
    if workers == 1:
        yield from ((item, work(item)) for item in items)
        return
    waiting: deque[tuple[T, Future[Parcel], ExitStack]] = deque()
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_live_with_the_parent)

    def taken() -> tuple[T, R]:
        item, future, memory = waiting[0]
        result: R = unpack(future.result())
        memory.close()
        waiting.popleft()
        return item, result

    try:
        for item in items:
            with ExitStack() as stack:
                parcel = pack(item, stack.enter_context(shared_memory()))
                waiting.append((item, pool.submit(_work_on, work, parcel), stack.pop_all()))
            if len(waiting) >= workers + AHEAD:
                yield taken()
        while waiting:
            yield taken()
    except BrokenProcessPool as error:
        raise InfraError("a worker process died, perhaps for lack of memory; --workers takes fewer") from error
    finally:
        pool.shutdown(cancel_futures=True)
        for *_, memory in waiting:
            memory.close()


class Draw(Protocol[Drawn_co]):
    """Draws `count` rows, the first of them number `start`; picklable, and no row depends on another."""

    def __call__(self, *, count: int, start: int) -> Iterable[Drawn_co]: ...


def map_chunks(draw: Draw[R], count: int, workers: int) -> Iterator[R]:
    """The rows 0 to `count` in order, drawn by `workers` processes where they are many.

    Raises:
        InfraError: A worker died.
    """
    spans = [range(start, min(start + SPAN, count)) for start in range(0, count, SPAN)]
    workers = workers if len(spans) > workers else 1  # a process takes a second to start
    return chain.from_iterable(rows for _, rows in in_order(partial(_draw_span, draw), spans, workers))


def on_ray(work: Callable[[T], Iterable[R]], items: Iterable[T], workers: int) -> Iterator[R]:
    """What `work` gives of each item, in order, computed by tasks on a Ray cluster, through Ray Data.

    Args:
        work: Picklable, as are items and results; its generator is read as the results are taken.
        items: Read at once.
        workers: Tasks at a time.

    Raises:
        InputError: Ray Data isn't installed.
    """
    try:
        from data_prep.parallel.ray_map import flat_map  # noqa: PLC0415  optional, and slow to import
    except ImportError as error:
        raise InputError(f"--ray wants Ray Data, which can't be imported: {error}; pip install 'ray[data]'") from error
    yield from flat_map(work, items, workers)


def _draw_span(draw: Draw[R], span: range) -> list[R]:
    return list(draw(count=len(span), start=span.start))


def _work_on(work: Callable[[T], R], parcel: Parcel) -> Parcel:
    return pack(work(unpack(parcel)), parcel.file)


def _live_with_the_parent() -> None:
    """Leave Ctrl-C to the parent, and end when it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    Thread(target=follow, daemon=True).start()
