"""Measures a report of 2,000 rollouts: the time to write the page, its first paint, and the step to the next rollout.

Usage: `python benchmarks/report.py [--rollouts N] [--pages N]`. The rollouts are synthetic: a third each from two
evaluations and from training, with 200 input images of 1 MP. The page links its images. Chromium opens the page in new
tabs. Prints Markdown; exits 1 if a target is missed.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from codevision_ext.report import write_report

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

from browser import CHROMIUM, Browser
from made_up_run import make_crowd

WRITE_S, PAINT_MS = 30, 1000
"""Maximum seconds to write the page, and maximum milliseconds to its first paint."""
IMAGES = 200


def photo(number: int) -> Image.Image:
    """Returns one of IMAGES input images: 1 MP of smooth noise."""
    noise = np.random.default_rng(number % IMAGES).integers(0, 256, (32, 32, 3), np.uint8)
    return Image.fromarray(noise).resize((1024, 1024), Image.Resampling.BICUBIC)


def main() -> None:
    """Runs the benchmark; exits 1 if a target is missed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rollouts", type=int, default=2000)
    parser.add_argument("--pages", type=int, default=7)
    options = parser.parse_args()
    if CHROMIUM is None:
        raise SystemExit("chromium isn't installed")
    known: dict[int, Image.Image] = {}
    say = sys.stdout.write
    with tempfile.TemporaryDirectory() as folder:
        run = make_crowd(Path(folder) / "run", options.rollouts, lambda i: known.setdefault(i % IMAGES, photo(i)))
        start = time.perf_counter()
        page = write_report([run], limit=options.rollouts)
        written = time.perf_counter() - start
        say(f"{options.rollouts} rollouts, {page.stat().st_size / 1e6:.1f} MB of HTML\n\n")
        say("| | median | worst |\n|---|---|---|\n")
        say(f"| written | {written:.1f} s | |\n")
        paints = []
        with Browser() as browser:
            for view in ("results", "trajectories", "compare"):
                times: dict[str, list[float]] = {"first paint": [], "loaded": [], "next rollout": []}
                for _ in range(options.pages):
                    tab = browser.open(page, f"view={view}")
                    tab.wait("performance.getEntriesByType('paint').length > 0")
                    times["first paint"].append(tab.run("performance.getEntriesByName('first-paint')[0].startTime"))
                    tab.settle()
                    times["loaded"].append(tab.run("performance.getEntriesByType('navigation')[0].loadEventEnd"))
                    if view != "results":
                        times["next rollout"].append(tab.run(STEP))
                    tab.close()
                paints += times["first paint"]
                for part, values in times.items():
                    if values:
                        say(f"| {view}: {part} | {statistics.median(values):.0f} ms | {max(values):.0f} ms |\n")
    missed = written > WRITE_S or max(paints) > PAINT_MS
    sys.exit(missed)


STEP = """(async () => {
  const start = performance.now();
  for (let i = 0; i < 20; i++) {
    document.body.dispatchEvent(new KeyboardEvent("keydown", { key: "j", bubbles: true }));
    await new Promise((done) => addEventListener("hashchange", done, { once: true }));
    await new Promise(requestAnimationFrame);
  }
  return (performance.now() - start) / 20;
})()"""
"""Script that returns the milliseconds from a key press to the frame with the next rollout, mean of 20."""


if __name__ == "__main__":
    main()
