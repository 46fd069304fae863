"""Maps a generator function over items, in order, on a Ray cluster."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from codevision_ext.errors import InputError

T = TypeVar("T")
R = TypeVar("R")


def ray_flat_map(work: Callable[[T], Iterable[R]], items: Iterable[T], workers: int) -> Iterator[R]:
    """Yield the results of `work` for each item, in the order of the items.

    A task takes one item and streams its results; it waits while two of its results aren't taken. Uses the cluster
    that `RAY_ADDRESS` names, else starts one on this machine with `workers` cores. At most `workers` tasks run at
    a time. `work`, items and results can be pickled.

    Raises:
        InputError: Ray isn't installed.
    """
    try:
        import ray  # noqa: PLC0415  optional, and slow to import
    except ImportError as error:
        raise InputError(f"--ray needs Ray, which can't be imported: {error}; pip install ray") from error
    started = not ray.is_initialized()
    if started:
        cores = None if "RAY_ADDRESS" in os.environ else workers
        ray.init(num_cpus=cores, include_dashboard=False, log_to_driver=False)
    task = ray.remote(work).options(num_returns="streaming", _generator_backpressure_num_objects=2)
    running: deque[Any] = deque()
    try:
        for item in items:
            running.append(task.remote(item))
            if len(running) >= workers:
                yield from map(ray.get, running.popleft())
        while running:
            yield from map(ray.get, running.popleft())
    finally:
        if started:
            ray.shutdown()
