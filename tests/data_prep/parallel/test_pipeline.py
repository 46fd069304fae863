"""Tests that work in processes gives the same results, in order, and leaves nothing behind."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psutil
import pyarrow as pa
import pytest
from sets import wait_for

from codevision_ext.errors import InfraError
from data_prep.parallel.pipeline import in_order, map_chunks, map_threads
from data_prep.parallel.shared_memory import SharedMemory, pack, unpack

IMAGES = [os.urandom(70_001 * number) for number in range(4)]


def batch() -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([{"data": data, "number": len(data)} for data in IMAGES])


def work(item: object) -> object:
    """Stands at the top of a module: workers import it."""
    if item == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if item == "raise":
        raise ValueError("no")
    return item


def test_what_is_packed_comes_back_and_its_images_do_not_go_through_the_pipe() -> None:
    memory = SharedMemory()
    there = pack({"batch": batch().slice(1, 2), "text": "x"}, memory.path)
    back = pack(unpack(there)["batch"], memory.path)
    assert len(there.pickled) + len(back.pickled) < 5_000
    first, second = unpack(there), unpack(back)
    assert unpack(pack("small", memory.path)) == "small"
    del memory
    assert first["text"] == "x"
    assert first["batch"].to_pylist() == second.to_pylist() == batch().slice(1, 2).to_pylist()


def test_results_come_in_order_and_no_memory_stays_open() -> None:
    items = [batch(), *range(9)]
    assert list(in_order(work, items, workers=2)) == [(item, item) for item in items]
    assert not [file for file in Path("/proc/self/fd").iterdir() if "memfd:codevision" in str(file.resolve())]


@pytest.mark.parametrize(("item", "error"), [("raise", ValueError), ("die", InfraError)])
def test_what_ends_a_worker_ends_the_run(item: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        list(in_order(work, [1, item, 2, 3, 4, 5], workers=2))


ENDLESS = """
import itertools
from data_prep.parallel.pipeline import in_order

if __name__ == "__main__":
    for item, _ in in_order(abs, itertools.count(), workers=2):
        print(item, flush=True)
"""


def test_workers_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    (tmp_path / "endless.py").write_text(ENDLESS)
    words = [sys.executable, str(tmp_path / "endless.py")]
    paths = {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(words, stdout=subprocess.PIPE, env=os.environ | paths) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"0\n"
        family: list[psutil.Process] = psutil.Process(running.pid).children(recursive=True)
        assert len(family) >= 2
        running.kill()
        running.stdout.close()
    wait_for(lambda: not any(map(_lives, family)), seconds=10)


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def draw(kind: str, *, count: int, start: int) -> Iterator[tuple[str, int, int]]:
    yield from ((kind, row, os.getpid()) for row in range(start, start + count))


def test_rows_that_several_processes_draw_are_those_of_one_in_order() -> None:
    count = 3 * 500 + 7
    rows = list(map_chunks(partial(draw, "x"), count, workers=2))
    assert [row[:2] for row in rows] == [("x", row) for row in range(count)]
    assert os.getpid() not in {pid for *_, pid in rows}


def test_a_few_rows_are_drawn_here_where_no_process_has_to_start() -> None:
    assert {pid for *_, pid in map_chunks(partial(draw, "x"), 7, workers=2)} == {os.getpid()}


def test_threads_read_few_items_ahead_and_an_error_cancels_the_rest() -> None:
    read: list[int] = []

    def items() -> Iterator[int]:
        for item in range(100):
            read.append(item)
            yield item

    results = map_threads(lambda item: 10 // (5 - item), items(), threads=2)
    assert [next(results) for _ in range(3)] == [2, 2, 3]
    assert len(read) <= 3 + 4
    with pytest.raises(ZeroDivisionError):
        list(results)
    assert len(read) <= 6 + 4
