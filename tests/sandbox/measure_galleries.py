"""Measures how often provenance is right, for every snippet of every gallery on every image; the test takes a sample.

`python tests/sandbox/measure_galleries.py [GALLERY ...]`. Right: of the calls that have an answer, the
orientation is right and the region overlaps by more than 0.95 (IoU). Wrong: of all calls, a claim that isn't true. The
exit code is 1 if the galleries together miss a target.
"""

import sys
import time
from collections import Counter

from galleries import GALLERIES, MISSED, WRONG, verdicts

from codevision_ext.sandbox import Limits, Sandbox


def main() -> int:
    """Measure and print; return 1 if a target is missed."""
    total = Counter[str]()
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
            total.update(tried=len(tried), answers=len(answers), right=right, wrong=wrong)
    few_missed = total["answers"] - total["right"] <= MISSED * total["answers"]
    return int(not few_missed or total["wrong"] > WRONG * total["tried"])


if __name__ == "__main__":
    sys.exit(main())
