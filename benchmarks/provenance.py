"""Measures the time of provenance at one megapixel, relative to the tool call.

`python benchmarks/provenance.py [ROUNDS]`. Every round runs each snippet and the two parts of its provenance, so that
other load of the machine affects all of them. Prints medians: wall milliseconds of the call, and as shares of them the
part that a rollout waits for and both parts together. Exits 1 if a rollout waits longer than the call takes.
"""

import statistics
import sys
import time
from collections import defaultdict

import numpy as np
from PIL import Image

from codevision_ext.sandbox import ExecRequest, Sandbox
from codevision_ext.sandbox.provenance import trace_by_probes, trace_exact
from codevision_ext.types import ExecStatus

SIDE = 1000
TARGET = 1.0
"""Maximum time that a rollout waits for provenance, as a share of the call's time."""
SNIPPETS = {
    "nothing": "pass",
    "rotate": "image = image.rotate(90, expand=True)",
    "crop": "image = image.crop((200, 300, 700, 800))",
    "crop zoom": "image = image.crop((200, 300, 600, 700)).resize((1000, 1000), Image.LANCZOS)",
    "contrast": "image = ImageEnhance.Contrast(image).enhance(1.5)",
    "rotate crop contrast": "c = image.rotate(90, expand=True).crop((100, 100, 900, 900))\n"
    "image = ImageEnhance.Contrast(c).enhance(1.5)",
    "rotate 30": "image = image.rotate(30)",
}


def photo(side: int) -> Image.Image:
    """Returns noise of two scales."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (side // 16, side // 16, 3), np.uint8))
    fine = Image.fromarray(rng.integers(0, 256, (side, side, 3), np.uint8))
    return Image.blend(coarse.resize((side, side), Image.Resampling.BICUBIC), fine, 0.1)


def milliseconds(since: float) -> float:
    return (time.perf_counter() - since) * 1000


def main() -> int:
    """Measure and print; return 1 if the target is missed."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    image = photo(SIDE)
    times: dict[tuple[str, str], list[float]] = defaultdict(list)
    with Sandbox() as sandbox:
        for number in range(rounds + 1):
            for name, code in SNIPPETS.items():
                request = ExecRequest(code=code, images=(image,))
                start = time.perf_counter()
                result = sandbox.run(request)
                call = milliseconds(start)
                if result.status is not ExecStatus.OK:
                    raise SystemExit(f"{name} ended with {result.status}: {result.detail}")
                start = time.perf_counter()
                exact = trace_exact(request, result)
                exact_ms = milliseconds(start)
                if exact is None:
                    trace_by_probes(sandbox, request, result)
                if number:  # the first round is a warm-up
                    for part, ms in (("call", call), ("exact_ms", exact_ms), ("whole", milliseconds(start))):
                        times[name, part].append(ms)
    sys.stdout.write("snippet               call ms  exact_ms for  whole provenance (share of the call)\n")
    met = True
    for name in SNIPPETS:
        call, exact_ms, whole = (statistics.median(times[name, part]) for part in ("call", "exact_ms", "whole"))
        sys.stdout.write(f"{name:20s} {call:8.1f} {exact_ms / call:11.2f} {whole / call:17.2f}\n")
        met &= exact_ms <= TARGET * call
    sys.stdout.write(f"target: exact_ms for at most {TARGET:g} of the call: {'met' if met else 'missed'}\n")
    return int(not met)


if __name__ == "__main__":
    sys.exit(main())
