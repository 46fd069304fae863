"""A small back end for tests of the flywheel: triangles and bars, with real matplotlib code.

`python evolve_stand_in.py evolve OUT ..` runs the real command with this back end in the place of `program`.
"""

import math
import sys
import types
from dataclasses import replace
from pathlib import Path

import numpy as np

from codevision_ext.drawing import DrawingTarget
from codevision_ext.drawing.targets import Primitive, Segment
from codevision_ext.types import AnswerKind
from data_prep.evolve.item import Difficulty, Element, Item, Overlay, Relation

KNOWLEDGE = ("plane geometry/triangle/median", "charts/bars/level")
TOOLS = ("median segment", "level rule")
SIZE = (320, 240)
LEVELS: tuple[Difficulty, ...] = ("easy", "medium", "hard")
HEAD = """import matplotlib.pyplot as plt
w, h, dpi = 320, 240, 100
fig = plt.figure(figsize=(w / dpi, h / dpi), dpi=dpi)
ax = fig.add_axes([0, 0, 1, 1])
ax.set_xlim(0, w)
ax.set_ylim(h, 0)
ax.axis("off")
"""
OVER = """import matplotlib.pyplot as plt
image = plt.imread(image_path)
h, w = image.shape[:2]
fig = plt.figure(figsize=(w / 100, h / 100), dpi=100)
ax = fig.add_axes([0, 0, 1, 1])
ax.imshow(image, extent=(0, w, h, 0), interpolation="nearest")
ax.set_xlim(0, w)
ax.set_ylim(h, 0)
ax.axis("off")
"""
Place = tuple[int, int]


def segment(one: Place, other: Place, about: str, tool: str) -> Overlay:
    """Returns a drawing of one segment."""
    (x1, y1), (x2, y2) = one, other
    target: Primitive = Segment(x1=x1, y1=y1, x2=x2, y2=y2)
    code = f'{OVER}ax.plot([{x1}, {x2}], [{y1}, {y2}], color="red", linewidth=2, solid_capstyle="butt")\nplt.show()\n'
    return Overlay(code=code, target=DrawingTarget(primitives=(target,)), about=about, tool=tool)


def corners(number: int, level: int, seed: int) -> tuple[Place, Place, Place]:
    """Returns the corners of a triangle."""
    rng = np.random.default_rng([seed, number, level])
    a = (int(rng.integers(60, 260)), int(rng.integers(30, 70)))
    b = (int(rng.integers(30, 110)), int(rng.integers(170, 215)))
    c = (int(rng.integers(200, 290)), int(rng.integers(150, 215)))
    return a, b, c


def triangle(number: int, level: int, seed: int) -> Item:
    """Returns a question about a median."""
    a, b, c = corners(number, level, seed)
    middle = ((b[0] + c[0]) // 2, (b[1] + c[1]) // 2)
    answer = str(round(math.dist(a, middle)))
    closed = (a, b, c, a)
    code = f'{HEAD}ax.plot({[x for x, _ in closed]}, {[y for _, y in closed]}, "k-", linewidth=1.5)\n'
    for name, (x, y) in zip("ABC", (a, b, c), strict=True):
        code += f'ax.text({x}, {y + (-12 if name == "A" else 14)}, "{name}", ha="center", va="center", fontsize=10)\n'
    return Item(
        id=f"stand-{seed}-{number}-{level}",
        knowledge=(KNOWLEDGE[0],),
        difficulty=LEVELS[level],
        question=f"M is the midpoint of BC in triangle {number}.{level}. How long is AM in pixels?",
        answer=answer,
        solution=f"AM is a median, and its ends are {math.dist(a, middle):.1f} pixels apart: {answer}.",
        original_code=code + "plt.show()\n",
        size=SIZE,
        overlays=(segment(a, middle, "The segment from A to the midpoint of BC.", TOOLS[0]),),
        elements=(Element(kind="line", fields={"x1": a[0], "y1": a[1], "x2": b[0], "y2": b[1]}, semantic="side AB"),),
    )


def bars(number: int, level: int, seed: int) -> Item:
    """Returns a question about the heights of two bars."""
    rng = np.random.default_rng([seed, number, level, 1])
    tops = [int(y) for y in rng.permutation(np.arange(40, 170, 9))[:4]]
    code = HEAD + f"ax.bar([50, 120, 190, 260], {[y - 220 for y in tops]}, width=36, bottom=220, color='#4477aa')\n"
    higher = "yes" if tops[3] < tops[0] else "no"
    return Item(
        id=f"stand-{seed}-{number}-{level}",
        knowledge=(KNOWLEDGE[1],),
        difficulty=LEVELS[level],
        question=f"Chart {number}.{level}: is the last bar higher than the first one? A. yes B. no",
        answer="A" if higher == "yes" else "B",
        solution=f"The top of the last bar against the level of the first one says {higher}.",
        original_code=code + "plt.show()\n",
        size=SIZE,
        overlays=(segment((68, tops[0]), (310, tops[0]), "The level of the first bar.", TOOLS[1]),),
    )


def seeds() -> dict[str, list[str]]:
    """Returns the content of a seed file."""
    return {"knowledge": list(KNOWLEDGE), "tools": list(TOOLS)}


class ProgramGenerator:
    """Makes the items; the last ten of a hundred numbers have a fault each."""

    name = "program"

    def generate(self, knowledge: tuple[str, ...], tools: tuple[str, ...], number: int, seed: int) -> tuple[Item, ...]:
        if len(knowledge) > 1 or len(tools) > 1:
            return ()
        make = triangle if {KNOWLEDGE[0], TOOLS[0]} & {*knowledge, *tools} else bars
        easy, medium, hard = (make(number, level, seed) for level in range(3))
        if number % 5 == 3:
            easy = replace(easy, question="Draw the line. How long is it?")
        if number % 5 == 4:
            medium = replace(medium, original_code="import matplotlib.pyplot as plt\nx = nothing\n")
        return easy, medium, hard

    def perceive(self, knowledge: tuple[str, ...], number: int, seed: int) -> tuple[Item, ...]:
        places = dict(zip("ABC", corners(number, 9, seed), strict=True))
        code = HEAD + "".join(f'ax.plot([{x}], [{y}], "ko", markersize=6)\n' for x, y in places.values())
        elements = tuple(
            Element(kind="point", fields={"x": x, "y": y, "label": name}, semantic=f"point {name}")
            for name, (x, y) in places.items()
        )
        return tuple(
            Item(
                id=f"stand-p-{seed}-{number}-{name}",
                knowledge=knowledge[:1],
                difficulty="easy",
                question=f"Where is {name} of image {number}?",
                answer=str({name: places[name]}),
                answer_kind=AnswerKind.COORDINATES,
                solution=f"{name} is at {places[name]}.",
                original_code=code + "plt.show()\n",
                size=SIZE,
                elements=elements,
                level="surface",
            )
            for name in places
        )

    def expand(self, item: Item, relation: Relation, seed: int) -> Item | None:  # noqa: ARG002
        if KNOWLEDGE[0] not in item.knowledge:
            return None
        number, level = map(int, item.id.split(":")[0].split("-")[2:])
        a, b, c = corners(number, level, int(item.id.split("-")[1]))
        half = item.depth + 1
        ends = (b, ((a[0] * half + c[0]) // (half + 1), (a[1] * half + c[1]) // (half + 1)))
        answer = str(round(math.dist(*ends)))
        return replace(
            item,
            id=f"{item.id}:{relation[0]}",
            question=f"P divides AC as {half}:1 in triangle {number}.{level}. How long is BP in pixels?",
            answer=answer,
            solution=f"BP is {answer} pixels long.",
            overlays=(*item.overlays, segment(*ends, "The segment from B to P.", TOOLS[0])),
            parent=item.id,
            relation=relation,
        )


if __name__ == "__main__":
    package = types.ModuleType("data_prep.evolve.program")
    package.__path__ = [str(Path(__file__).parent / "none")]
    package.__dict__.update(ProgramGenerator=ProgramGenerator, seeds=seeds)
    sys.modules["data_prep.evolve.program"] = package
    from data_prep.__main__ import main

    main()
