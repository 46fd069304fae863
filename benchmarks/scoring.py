"""Measures the speed of `codevision score`, and the growth of its memory with the file.

`python benchmarks/scoring.py [--records N]` scores a file of N records in groups of eight, and a file of N/10 records.
Prints Markdown; exits 1 if a target is missed. docs/reward.md has the figures.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from itertools import cycle, islice
from pathlib import Path

from codevision_ext.io.records import Record, encode_record
from codevision_ext.types import Box, Orientation, Outcome, Step, Task

SECONDS, GROWTH = 10.0, 1.05
"""Maximum processor seconds for 100,000 records, and maximum memory as a multiple of the memory for a tenth of them."""
GROUP = 8
SIZE = (1000, 800)
PLACE = Box(100, 100, 200, 200)
TURN = Step(ok=True, ops=("rotate_270",), node=1, parent=0, net=Orientation.R270, region=Box(0, 0, *SIZE))
CROP = Step(ok=True, ops=("crop",), node=2, parent=1, net=Orientation.R270, region=PLACE)
FAILED = Step(ok=False, parent=0)
ROLLOUTS = [
    (True, (TURN, CROP)),
    (False, (TURN,)),
    (True, (FAILED, TURN, CROP)),
    (False, ()),
    (True, (CROP, TURN)),
    (False, (FAILED,)),
    (True, (TURN, CROP, CROP)),
    (True, ()),
]
"""Answer and calls of the rollouts of each group."""


def write_records(path: Path, count: int) -> Path:
    """Write `count` records."""
    task = Task(applied=("crop", "rotate_90"), box=PLACE, box_frame="input", size=SIZE)
    with path.open("wb") as file:
        for number, (correct, steps) in enumerate(islice(cycle(ROLLOUTS), count)):
            observed = Outcome(correct=correct, format=1.0, valid=True, steps=steps)
            group = f"group-{number // GROUP}"
            record = Record(
                group=group, id=f"{group}-{number % GROUP}", task=task, observed=observed, question="?", step=1
            )
            file.write(encode_record(record))
    return path


def score(path: Path) -> tuple[float, float]:
    """Score a file with the command; return processor seconds and peak memory, MiB."""
    command = [sys.executable, "-m", "codevision_ext.cli", "score", str(path), "-o", f"{path}.scored"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"codevision score ended with exit code {process.returncode}")
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def main() -> int:
    """Measure and print; return 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=100_000)
    count = parser.parse_args().records
    with tempfile.TemporaryDirectory() as folder:
        _, small = score(write_records(Path(folder, "tenth.jsonl"), max(1, count // 10)))
        seconds, large = score(write_records(Path(folder, "all.jsonl"), count))
    rows = (
        (f"processor seconds for {count:,} records", SECONDS * count / 100_000, seconds),
        (f"memory ({large:.0f} MiB), as a multiple of the memory for a tenth of the records", GROWTH, large / small),
    )
    sys.stdout.write("| target | at most | measured | met |\n|---|---|---|---|\n")
    for text, most, measured in rows:
        sys.stdout.write(f"| {text} | {most:g} | {measured:.2f} | {'yes' if measured <= most else '**no**'} |\n")
    return int(any(measured > most for _, most, measured in rows))


if __name__ == "__main__":
    sys.exit(main())
