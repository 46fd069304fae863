"""Measures the store of the flywheel: time of a write and of a read, and of a restart with many results.

`evolve_store.py [--results 100000] [--bytes 8000]` writes results of random bytes to a temporary folder, opens the
store again, and reads every result, as a run does that goes on. Prints one JSON object. The exit code is 1 if a write
or a read takes more than 1 ms on average, or a restart more than 30 s. docs/evolve.md has the figures.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from data_prep.evolve.store import ResultKey, ResultStore, content_hash

MOST_CALL_MS, MOST_RESTART_S = 1.0, 30.0
"""Targets: milliseconds of a write and of a read, and seconds until all results of a store were read."""


def key(number: int) -> ResultKey:
    """Returns the key of a result."""
    return ResultKey(stage="overlay", content=content_hash(str(number)), backend="sandbox", prompt="1")


def main() -> int:
    """Measures, prints, and returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=int, default=100_000)
    parser.add_argument("--bytes", type=int, default=8_000, help="size of a result; a PNG of 480 x 360 has about 8,000")
    parser.add_argument("--folder", type=Path, help="folder on the disk to measure; default: that of temporary files")
    args = parser.parse_args()
    values = [np.random.default_rng(number).bytes(args.bytes) for number in range(64)]
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        with ResultStore(Path(folder)) as store:
            times = []
            for number in range(args.results):
                start = time.perf_counter()
                store.put(key(number), values[number % len(values)])
                times.append(time.perf_counter() - start)
        start = time.perf_counter()
        with ResultStore(Path(folder)) as store:
            opened = time.perf_counter() - start
            for number in range(args.results):
                if store.get(key(number)) != values[number % len(values)]:
                    raise SystemExit(f"result {number} differs")
            restart = time.perf_counter() - start
        size = sum(path.stat().st_size for path in Path(folder).iterdir())
    figures = {
        "results": args.results,
        "bytes": args.bytes,
        "write_ms": round(float(np.mean(times)) * 1e3, 3),
        "write_p99_ms": round(float(np.percentile(times, 99)) * 1e3, 3),
        "read_ms": round((restart - opened) / args.results * 1e3, 3),
        "open_s": round(opened, 3),
        "restart_s": round(restart, 2),
        "disk_gb": round(size / 1e9, 2),
    }
    sys.stdout.write(json.dumps(figures) + "\n")
    missed = max(figures["write_ms"], figures["read_ms"]) > MOST_CALL_MS or restart > MOST_RESTART_S
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
