"""Plants faults of ten kinds in good items of the back end `program`, and counts how many the checks find.

`evolve_faults.py [--each 20] [--good 1000]` takes good items, changes each in one way, and examines it as a run does.
Prints a JSON object: for each kind the number planted and found, with the reasons, and the number of unchanged items
that were rejected. The exit code is 1 if fewer than nine of ten faults are found, or a good item is rejected.
docs/evolve.md has the figures.
"""

import argparse
import json
import random
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count, islice
from pathlib import Path

from codevision_ext.rollout.code_tool import CodeTool
from codevision_ext.sandbox import Sandbox
from data_prep.cli.evolve_command import BACKENDS
from data_prep.evolve.backend import Generator
from data_prep.evolve.checks import Rejection, choices_of
from data_prep.evolve.dedupe import SeenItems
from data_prep.evolve.item import Item
from data_prep.evolve.stages import LIMITS, Examined, Examiner
from data_prep.evolve.store import ResultStore

LEAST_FOUND = 0.9
"""Minimum share of the planted faults that must be found."""
SHOW = "plt.show()"
MOVE = (
    "import matplotlib.transforms as moves\n"
    "for each in [{what}]:\n"
    "    each.set_transform(ax.transData + moves.Affine2D().translate({x}, {y}))\n"
)
HINTS = (
    "Draw the segment first.",
    "Connect the two points.",
    "Use an auxiliary line.",
    "Construct the point that you need.",
    "Extend the side.",
)
Planted = Callable[[Item, random.Random], Item | None]


def with_overlay(item: Item, code: str) -> Item:
    """Returns the item with other code for its last drawing."""
    return replace(item, overlays=(*item.overlays[:-1], replace(item.overlays[-1], code=code)))


def wrong_answer(item: Item, rng: random.Random) -> Item | None:
    """Returns the item with another choice, or with another number."""
    choices = choices_of(item.question)
    if item.answer in choices:
        return replace(item, answer=rng.choice(sorted(set(choices) - {item.answer})))
    if re.fullmatch(r"-?\d+", item.answer):
        return replace(item, answer=str(int(item.answer) + rng.choice((-2, -1, 1, 2, 10))))
    return None


def elsewhere(item: Item, rng: random.Random) -> Item:
    """Returns the item with a drawing that is 20 to 40 pixels off in both directions."""
    x, y = (rng.choice((-1, 1)) * rng.randint(20, 40) for _ in range(2))
    move = MOVE.format(what="*ax.lines, *ax.patches", x=x, y=y)
    return with_overlay(item, item.overlays[-1].code.replace(SHOW, move + SHOW))


def drawn_lines(code: str) -> list[str]:
    """Returns the lines that draw strokes, points and shapes."""
    return [line for line in code.splitlines() if re.match(r"ax\.(?:plot|add_patch|bar|scatter)\(", line)]


def not_needed(item: Item, _: random.Random) -> Item | None:
    """Returns the item whose original shows the first drawing already."""
    lines = drawn_lines(item.overlays[0].code)
    if not lines:
        return None
    return replace(item, original_code=item.original_code.replace(SHOW, "\n".join([*lines, SHOW])))


def given_away(item: Item, rng: random.Random) -> Item:
    """Returns the item whose question names the construction."""
    return replace(item, question=f"{rng.choice(HINTS)} {item.question}")


def missing_element(item: Item, rng: random.Random) -> Item | None:
    """Returns the item whose code lacks the first stroke or a label."""
    lines = drawn_lines(item.original_code)
    if not lines or not item.elements:
        return None
    return replace(item, original_code=item.original_code.replace(rng.choice(lines), "", 1))


def swapped_label(item: Item, rng: random.Random) -> Item | None:
    """Returns the item whose code writes two labels the other way round."""
    labels = sorted(set(re.findall(r"ax\.text\([^,]+, [^,]+, ('[A-Z]')", item.original_code)))
    if len(labels) < 2:
        return None
    one, other = rng.sample(labels, 2)
    code = re.sub(
        r"(ax\.text\([^,]+, [^,]+, )('[A-Z]')",
        lambda match: match[1] + {one: other, other: one}.get(match[2], match[2]),
        item.original_code,
    )
    return replace(item, original_code=code)


def changed_figure(item: Item, rng: random.Random) -> Item | None:
    """Returns the item whose code draws its strokes 20 to 40 pixels off, and its labels where they were."""
    if not item.elements:
        return None
    x, y = (rng.choice((-1, 1)) * rng.randint(20, 40) for _ in range(2))
    move = MOVE.format(what="*ax.lines, *ax.patches", x=x, y=y)
    return replace(item, original_code=item.original_code.replace(SHOW, move + SHOW))


def failing_code(item: Item, rng: random.Random) -> Item:
    """Returns the item with a program that fails."""
    line = rng.choice(("1 / 0", "ax.plot(nothing)", "open('/etc/passwd')", "import nowhere", "ax.plot([1, 2], [1])"))
    if rng.random() < 0.5:
        return replace(item, original_code=item.original_code.replace(SHOW, f"{line}\n{SHOW}"))
    return with_overlay(item, item.overlays[-1].code.replace(SHOW, f"{line}\n{SHOW}"))


KINDS: dict[str, Planted] = {
    "wrong answer": wrong_answer,
    "overlay elsewhere": elsewhere,
    "overlay not needed": not_needed,
    "question gives it away": given_away,
    "missing element": missing_element,
    "label swapped": swapped_label,
    "figure changed": changed_figure,
    "code that fails": failing_code,
}
"""Functions that plant a fault in an item; duplicates and leaks are planted without a change."""


def good_items(generator: Generator, seed: int) -> Iterator[Item]:
    """Yields generated items that need a drawing."""
    for number in count():
        yield from generator.generate((), (), number, seed)


def planted_results(examiner: Examiner, good: list[Examined], each: int) -> Iterator[tuple[str, Rejection | None]]:
    """Yields the kind of each planted fault, and the rejection of the item."""
    for kind, plant in KINDS.items():
        rng = random.Random(kind)
        changed = ((entry.item, plant(entry.item, rng)) for entry in good)
        items = [item for before, item in changed if item is not None and item != before]
        for item in items[:each]:
            yield kind, examiner.examine(item).rejection
    seen = SeenItems()
    for number, entry in enumerate(good):
        seen.check(entry.item, entry.original, number)
    for number, entry in enumerate(good[:each]):
        yield "duplicate", seen.check(replace(entry.item, id=f"copy-{number}"), entry.original, len(good) + number)
    with tempfile.TemporaryDirectory() as folder:
        lines = []
        for number, entry in enumerate(good[:each]):
            (Path(folder) / f"{number}.png").write_bytes(entry.original)
            line = {"image": f"{number}.png", "question": f"Question {number}: {entry.item.question}", "answer": "x"}
            lines.append(json.dumps(line))
        (Path(folder) / "suite.jsonl").write_text("\n".join(lines))
        suite = SeenItems()
        suite.add_suite(Path(folder) / "suite.jsonl")
        for number, entry in enumerate(good[:each]):
            yield "leak from a suite", suite.check(entry.item, entry.original, number)


def main() -> int:
    """Measures, prints, and returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--each", type=int, default=20, help="number of faults of a kind")
    parser.add_argument("--good", type=int, default=1000, help="number of good items")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    generator = BACKENDS["program"]().generator
    planted: Counter[str] = Counter()
    detected: dict[str, Counter[str]] = {}
    with (
        tempfile.TemporaryDirectory() as folder,
        ResultStore(Path(folder)) as store,
        Sandbox(LIMITS) as sandbox,
    ):
        examiner = Examiner(store, CodeTool(sandbox))
        examined = [examiner.examine(item) for item in islice(good_items(generator, args.seed), args.good)]
        rejected = [f"{each.item.id}: {each.rejection}" for each in examined if each.rejection]
        good = [each for each in examined if each.rejection is None]
        for kind, rejection in planted_results(examiner, good, args.each):
            planted[kind] += 1
            detected.setdefault(kind, Counter()).update([rejection.reason] if rejection else [])
    kinds = {
        kind: {"planted": many, "found": detected[kind].total(), "reasons": dict(detected[kind].most_common())}
        for kind, many in planted.items()
    }
    share = sum(reasons.total() for reasons in detected.values()) / max(1, planted.total())
    result = {"kinds": kinds, "found": round(share, 3), "good": len(examined), "rejected": rejected}
    sys.stdout.write(json.dumps(result, indent=1) + "\n")
    return int(share < LEAST_FOUND or bool(rejected))


if __name__ == "__main__":
    sys.exit(main())
