"""How is a function mapped over a Ray cluster, in order? Through Ray Data; for whoever may not import Ray."""

import os
import pickle
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import pyarrow as pa
import ray
import ray.data

T = TypeVar("T")
R = TypeVar("R")


def flat_map(work: Callable[[T], Iterable[R]], items: Iterable[T], workers: int) -> Iterator[R]:
    """What `work` gives of each item, in the order of the items.

    A task takes one item and streams what comes of it; Ray Data holds tasks back while nobody takes their results.
    Uses the cluster that `RAY_ADDRESS` names, else starts one on this machine with `workers` cores.

    Args:
        work: Picklable, as are items and results.
        items: Read at once.
        workers: Tasks at a time.
    """

    def results(batch: pa.Table) -> Iterator[pa.Table]:
        for item in batch["item"]:
            for result in work(pickle.loads(item.as_py())):
                yield pa.table({"result": pa.array([pickle.dumps(result)], pa.large_binary())})

    started = not ray.is_initialized()
    if started and "RAY_ADDRESS" in os.environ:
        ray.init(log_to_driver=False)
    elif started:
        ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False)
    context = ray.data.DataContext.get_current()
    before = context.execution_options.preserve_order, context.enable_progress_bars
    context.execution_options.preserve_order, context.enable_progress_bars = True, False
    try:
        given = [{"item": pickle.dumps(item)} for item in items]
        tasks = ray.data.from_items(given, override_num_blocks=len(given))
        mapped = tasks.map_batches(results, batch_size=1, batch_format="pyarrow", concurrency=workers)
        for row in mapped.iter_rows():
            yield pickle.loads(row["result"])
    finally:
        context.execution_options.preserve_order, context.enable_progress_bars = before
        if started:
            ray.shutdown()
