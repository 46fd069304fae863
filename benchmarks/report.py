"""What does a page about 2,000 rollouts cost: to write, to paint for the first time, and to walk through?

`python benchmarks/report.py [--rollouts N] [--pages N]`. The run is made up: a third of the rollouts each from two
evaluations and from training, 200 input images of 1 MP. Written is the page with its images linked beside it, from
nothing; then Chromium opens it in fresh tabs. Prints Markdown; exits 1 when a target is missed.
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
"""The targets."""
IMAGES = 200


def photo(number: int) -> Image.Image:
    """One of the input images, 1 MP: soft noise with a number's own colours."""
    noise = np.random.default_rng(number % IMAGES).integers(0, 256, (32, 32, 3), np.uint8)
    return Image.fromarray(noise).resize((1024, 1024), Image.Resampling.BICUBIC)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rollouts", type=int, default=2000)
    parser.add_argument("--pages", type=int, default=7)
    given = parser.parse_args()
    if CHROMIUM is None:
        raise SystemExit("chromium isn't installed")
    known: dict[int, Image.Image] = {}
    say = sys.stdout.write
    with tempfile.TemporaryDirectory() as folder:
        run = make_crowd(Path(folder) / "run", given.rollouts, lambda i: known.setdefault(i % IMAGES, photo(i)))
        start = time.perf_counter()
        page = write_report([run], limit=given.rollouts)
        written = time.perf_counter() - start
        say(f"{given.rollouts} rollouts, {page.stat().st_size / 1e6:.1f} MB of HTML\n\n")
        say("| | median | worst |\n|---|---|---|\n")
        say(f"| written | {written:.1f} s | |\n")
        paints = []
        with Browser() as browser:
            for view in ("results", "trajectories", "compare"):
                times: dict[str, list[float]] = {"first paint": [], "loaded": [], "next rollout": []}
                for _ in range(given.pages):
                    tab = browser.open(page, f"view={view}")
                    tab.wait("performance.getEntriesByType('paint').length > 0")
                    times["first paint"].append(tab.run("performance.getEntriesByName('first-paint')[0].startTime"))
                    tab.settle()
                    times["loaded"].append(tab.run("performance.getEntriesByType('navigation')[0].loadEventEnd"))
                    if view != "results":
                        times["next rollout"].append(tab.run(STEP))
                    tab.close()
                paints += times["first paint"]
                for what, them in times.items():
                    if them:
                        say(f"| {view}: {what} | {statistics.median(them):.0f} ms | {max(them):.0f} ms |\n")
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
"""Milliseconds from a key to the frame with the next rollout, mean of 20."""


if __name__ == "__main__":
    main()
