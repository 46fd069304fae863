"""Measures how often provenance is right, for every snippet of every gallery on every image; the test takes a sample.

`python tests/sandbox/measure_galleries.py [GALLERY ...]`. Right: of the calls that have an answer, the
orientation is right and the region overlaps by more than 0.95 (IoU). Wrong: of all calls, a claim that isn't true.
"""

import sys
import time

from galleries import GALLERIES, verdicts

from codevision_ext.sandbox import Limits, Sandbox


def main() -> None:
    """Measure and print."""
    with Sandbox(Limits(wall_s=10.0)) as sandbox:
        for name in sys.argv[1:] or GALLERIES:
            start = time.perf_counter()
            snippets, images = GALLERIES[name]
            tried = list(verdicts(sandbox, ((s, i) for s in snippets for i in images), snippets, images))
            answers = [verdict for verdict in tried if verdict.truth is not None]
            right, wrong = sum(verdict.right for verdict in tried), sum(verdict.wrong for verdict in tried)
            unknown = sum(verdict.claim.net is None for verdict in answers)
            for verdict in tried:
                if verdict.wrong or (verdict.truth is not None and not verdict.right):
                    sys.stdout.write(f"{verdict}\n")
            sys.stdout.write(
                f"{name}: {right}/{len(answers)} right ({right / len(answers):.1%}), {wrong}/{len(tried)} wrong"
                f" ({wrong / len(tried):.1%}), {unknown} unknown, {time.perf_counter() - start:.0f} s\n"
            )
            sys.stdout.flush()


if __name__ == "__main__":
    main()
