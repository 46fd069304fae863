"""Compares a sandboxed call with other methods to run the same code, and checks that calls leave nothing behind.

`python benchmarks/sandbox.py [--rounds N]` times every method in every round, so that other load of the machine affects
all of them, and prints medians and targets as Markdown. `--soak N` runs N calls, of which one in twenty is hostile.
"""

import argparse
import os
import random
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
import ray
from PIL import Image, ImageEnhance

from codevision_ext.sandbox import ExecRequest, Isolation, Limits, Sandbox, pool
from codevision_ext.types import ExecStatus

Method = Callable[[Image.Image], Image.Image]

THREAD, ACTOR = "exec in a thread (released)", "exec behind a Ray actor"
FRESH_ONE, FORK = "fresh interpreter", "bare fork + wait"
OURS, UNLOCKED = "sandbox", "sandbox without seccomp"
SIZES = {"8x8": (8, 8), "1 MP": (1000, 1000), "12 MP": (4000, 3000)}
CODE = """
turned = image.rotate(90, expand=True)
margin = turned.width // 10
box = (margin, margin, turned.width - margin, turned.height - margin)
image = ImageEnhance.Contrast(turned.crop(box)).enhance(1.5)
"""
FRESH = """
import sys
import cv2, numpy as np
from PIL import Image, ImageEnhance
size = int(sys.argv[1]), int(sys.argv[2])
image = Image.frombytes("RGB", size, sys.stdin.buffer.read())
exec(sys.argv[3])
sys.stdout.buffer.write(np.array(image.size, "<u4").tobytes() + image.tobytes())
"""
FORKER = """
import gc, os, sys, time
import codevision_ext.sandbox.lockdown as lockdown
from codevision_ext.sandbox.preload import preload
preload(plotting=False)
gc.collect()
gc.freeze()
os.write(1, b".")
while os.read(0, 1):
    pid = lockdown.LIBC.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    os.write(1, b".")
"""
"""Script of a process that has the memory of a zygote, and only forks and waits."""
CALLERS = 64


def run_code(image: Image.Image) -> Image.Image:
    """Runs the code like the released tool: exec in the process of the trainer."""
    names: dict[str, Any] = {"image": image, "Image": Image, "ImageEnhance": ImageEnhance, "np": np, "cv2": cv2}
    exec(CODE, names)
    result: Image.Image = names["image"]
    return result


def in_sandbox(sandbox: Sandbox) -> Method:
    """Returns a function that runs the code like the code tool."""

    def call(image: Image.Image) -> Image.Image:
        result = sandbox.run(ExecRequest(code=CODE, images=(image,)))
        if result.status is not ExecStatus.OK:
            raise RuntimeError(f"the call ended as {result.status}: {result.detail}")
        return result.images[0]

    return call


def in_fresh_interpreter(image: Image.Image) -> Image.Image:
    """Runs the code in a new process; pixels go through its pipes."""
    command = [sys.executable, "-c", FRESH, *map(str, image.size), CODE]
    output = subprocess.run(command, input=image.tobytes(), capture_output=True, check=True).stdout
    return Image.frombytes("RGB", struct.unpack_from("<II", output), output[8:])


@contextmanager
def methods() -> Iterator[dict[str, Method]]:
    """Yields started methods to run the code, by name."""
    with ExitStack() as stack:
        thread = stack.enter_context(ThreadPoolExecutor(1))
        zygote = stack.enter_context(Sandbox())
        with_filters, pool.compile_filters = pool.compile_filters, lambda: (b"", b"")
        unlocked = Sandbox(isolation=Isolation.UNSAFE)
        stack.callback(unlocked.close)
        unlocked.start()
        pool.compile_filters = with_filters
        ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="error")
        stack.callback(ray.shutdown)
        actor = ray.remote(Released).remote()
        forker = stack.enter_context(bare_forks())
        yield {
            THREAD: lambda image: thread.submit(run_code, image).result(),
            ACTOR: lambda image: ray.get(actor.run.remote(image)),
            FRESH_ONE: in_fresh_interpreter,
            OURS: in_sandbox(zygote),
            UNLOCKED: in_sandbox(unlocked),
            FORK: forker,
        }


class Released:
    """Actor of the released tool."""

    def run(self, image: Image.Image) -> Image.Image:
        """Runs the code."""
        return run_code(image)


@contextmanager
def bare_forks() -> Iterator[Method]:
    """Yields a method that only forks and waits, in a process with the modules of a zygote."""
    paths = os.pathsep.join(path for path in sys.path if path)
    environment = pool.ENVIRONMENT | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), paths])}
    with subprocess.Popen([sys.executable, "-c", FORKER], 0, None, -1, -1, env=environment) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        requests, done = process.stdin, process.stdout
        done.read(1)

        def fork(image: Image.Image) -> Image.Image:
            requests.write(b".")
            done.read(1)
            return image

        yield fork
        requests.close()


def measure(rounds: int) -> dict[tuple[str, str], float]:
    """Returns median wall milliseconds by method and size."""
    taken: dict[tuple[str, str], list[float]] = defaultdict(list)
    with methods() as known:
        for size, sides in SIZES.items():
            image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (*sides[::-1], 3), np.uint8))
            right = run_code(image).tobytes()
            for name, method in known.items():
                if name != FORK and method(image).tobytes() != right:
                    raise RuntimeError(f"{name}: another image came back")
            order = list(known.items())
            for _ in range(rounds if size != "12 MP" else max(3, rounds // 4)):
                random.shuffle(order)
                for name, method in order:
                    start = time.perf_counter()
                    method(image)
                    taken[name, size].append((time.perf_counter() - start) * 1000)
    return {key: statistics.median(times) for key, times in taken.items()}


def timeout_delay_s(times: int = 5) -> float:
    """Returns the longest delay in seconds between the time limit of an endless loop and its result."""
    with Sandbox(Limits(wall_s=0.5)) as sandbox:
        request, worst = ExecRequest(code="while True: pass", images=()), 0.0
        for _ in range(times):
            start = time.perf_counter()
            assert sandbox.run(request).status is ExecStatus.TIMEOUT
            worst = max(worst, time.perf_counter() - start - 0.5)
    return worst


def throughput(calls: int) -> tuple[float, float]:
    """Returns calls per second of CALLERS callers at 1 MP, and the maximum: cores / CPU seconds of one call."""
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (1000, 1000, 3), np.uint8))
    before = set(psutil.Process().children())
    with Sandbox() as sandbox:
        call = in_sandbox(sandbox)
        (zygote,) = set(psutil.Process().children()) - before
        call(image)
        used = cpu_s(zygote)
        for _ in range(20):
            call(image)
        one = (cpu_s(zygote) - used) / 20
        start = time.perf_counter()
        with ThreadPoolExecutor(CALLERS) as callers:
            list(callers.map(call, [image] * calls))
        rate = calls / (time.perf_counter() - start)
    return rate, len(os.sched_getaffinity(0)) / one


def cpu_s(zygote: psutil.Process) -> float:
    """Returns CPU seconds of this process, the zygote and the zygote's finished children."""
    return time.process_time() + sum(zygote.cpu_times()[:4])


def benchmark(rounds: int) -> bool:
    """Prints all measurements; returns whether every target is met."""
    late = timeout_delay_s()
    rate, capacity = throughput(6 * rounds + CALLERS)
    ms = measure(rounds)
    names = [name for name, size in sorted(ms, key=lambda key: ms[key]) if size == "1 MP"]
    say(
        f"Median wall milliseconds of {rounds} interleaved rounds ({max(3, rounds // 4)} at 12 MP), "
        f"{len(os.sched_getaffinity(0))} cores:\n"
    )
    say(f"| method | {' | '.join(SIZES)} |", "|---|" + "---|" * len(SIZES))
    for name in names:
        say(f"| {name} | {' | '.join(f'{ms[name, size]:.1f}' for size in SIZES)} |")
    say("", "| target | at most | measured | met |", "|---|---|---|---|")

    def ratio(size: str, other: str) -> float:
        return ms[OURS, size] / ms[other, size]

    bounds = (
        ("1 MP, over exec in a thread", 4.0, ratio("1 MP", THREAD)),
        ("1 MP, over exec behind a Ray actor", 1.0, ratio("1 MP", ACTOR)),
        ("1 MP, over a fresh interpreter", 0.1, ratio("1 MP", FRESH_ONE)),
        ("12 MP, over exec in a thread", 1.3, ratio("12 MP", THREAD)),
        ("12 MP, over a fresh interpreter", 0.5, ratio("12 MP", FRESH_ONE)),
        ("lockdown, 1 MP", 1.1, ratio("1 MP", UNLOCKED)),
        ("8x8, over a bare fork + wait of the same zygote", 1.5, ratio("8x8", FORK)),
        ("a time-out is late by (s), worst of 5", 0.3, late),
    )
    share = rate / capacity
    rows = [(text, f"{most:g}", found, found <= most) for text, most, found in bounds]
    rows.append((f"{CALLERS} callers, share of cores / CPU seconds of one call", "at least 0.8", share, share >= 0.8))
    for text, bound, found, met in rows:
        say(f"| {text} | {bound} | {found:.2f} | {'yes' if met else '**no**'} |")
    return all(met for *_, met in rows)


# ------------------------------------------------------------------------------------------------------- soak

FORGE = """
import os
for fd in range(3, 64):
    try: os.write(fd, b'CVRESULT' * 99)
    except OSError: pass
1 / 0
"""
HOSTILE = {
    "while True: pass": ExecStatus.TIMEOUT,
    "import time\ntime.sleep(60)": ExecStatus.TIMEOUT,
    "result = np.zeros(10**11)": ExecStatus.MEMORY,
    "open('/etc/passwd')": ExecStatus.DENIED,
    "import os\nos.fork()": ExecStatus.DENIED,
    "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)": ExecStatus.DENIED,
    "import socket\nsocket.create_connection(('127.0.0.1', 9))": ExecStatus.DENIED,
    "import threading\nthreading.Thread(target=print).start()": ExecStatus.DENIED,
    "import os\nos._exit(0)": ExecStatus.CRASHED,
    "import ctypes\nctypes.string_at(0)": ExecStatus.CRASHED,
    "import os\nwhile True: os.dup(0)": ExecStatus.ERROR,
    FORGE: ExecStatus.ERROR,
}
"""Hostile code and its required status."""


def soak(calls: int) -> list[str]:
    """Runs calls from many threads; returns wrong results and leftovers."""
    faults: list[str] = []
    lock, marks = threading.Lock(), []
    me = psutil.Process()
    shm = Path("/dev/shm")
    with tempfile.TemporaryDirectory() as own:
        tempfile.tempdir = own
        children, files, segments = set(me.children(recursive=True)), me.num_fds(), set(shm.iterdir())
        with Sandbox(Limits(wall_s=3.0)) as sandbox:
            zygotes = set(me.children()) - children

            def call(number: int) -> None:
                rng = random.Random(number)
                hostile = number % 20 == 7
                pixels = np.random.default_rng(number).integers(0, 256, (24, 32, 3), np.uint8)
                honest = f"print({number})\nimage = image.transpose(Image.Transpose.ROTATE_90)"
                code = rng.choice(list(HOSTILE)) if hostile else honest
                result = sandbox.run(ExecRequest(code=code, images=(Image.fromarray(pixels),)))
                fault = ""
                if hostile:
                    if result.status is not HOSTILE[code]:
                        fault = f"{code!r} ended as {result.status}, not {HOSTILE[code]}"
                elif result.status is not ExecStatus.OK:
                    fault = f"an honest call ended as {result.status} ({result.detail})"
                elif result.stdout != f"{number}\n" or not np.array_equal(result.images[0], np.rot90(pixels)):
                    fault = "another call's result came back"
                with lock:
                    if fault:
                        faults.append(f"call {number}: {fault}")
                    if number % max(1, calls // 20) == 0:
                        there = sum(zygote.memory_info().rss for zygote in zygotes if zygote.is_running())
                        marks.append((me.memory_info().rss, there))
                        say(f"{number:,} calls: {marks[-1][0] / 2**20:.0f} MiB here, {there / 2**20:.0f} MiB there")

            with ThreadPoolExecutor(4 * sandbox.live) as callers:
                list(callers.map(call, range(calls)))
            if not all(zygote.is_running() for zygote in zygotes):
                faults.append("the zygote was replaced")
        left = {child.name() for child in set(me.children(recursive=True)) - children}
        faults += [f"process {name} is left" for name in left]
        faults += [
            f"shared memory {path} is left" for path in set(shm.iterdir()) - segments if path.owner() == me.username()
        ]
        faults += [f"temporary file {path} is left" for path in Path(own).iterdir()]
        faults += [f"{me.num_fds() - files} descriptors are left"] if me.num_fds() != files else []
        tempfile.tempdir = None
    for place, where in enumerate(("here", "in the zygote")):
        early, late = (statistics.median(mark[place] for mark in part) for part in (marks[2:7], marks[-5:]))
        say(f"memory {where}: {early / 2**20:.1f} MiB early, {late / 2**20:.1f} MiB late")
        if late > 1.1 * early + 2**22:
            faults.append(f"memory {where} grew from {early / 2**20:.0f} to {late / 2**20:.0f} MiB")
    return faults


def say(*lines: str) -> None:
    """Prints lines without buffering."""
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()


def main() -> None:
    """Runs the benchmark or the soak test; exits 1 if a target is missed or a call has a fault."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=40, help="rounds per size; a quarter as many at 12 MP")
    parser.add_argument("--soak", type=int, metavar="N", help="make N calls instead, one in twenty hostile")
    options = parser.parse_args()
    if options.soak is None:
        sys.exit(not benchmark(options.rounds))
    start = time.perf_counter()
    faults = soak(options.soak)
    elapsed = time.perf_counter() - start
    say(
        f"{options.soak:,} calls in {elapsed:.0f} s, {options.soak / elapsed:.0f} a second; {len(faults)} faults",
        *faults[:50],
    )
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
