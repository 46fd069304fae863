"""Makes one problem from its id: the id names figure, chain, difficulty, seed, number and every expansion."""

import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from typing import Final

import numpy as np

from data_prep.evolve.item import Difficulty, Item, Relation
from data_prep.evolve.program import canvas
from data_prep.evolve.program.families import FAMILIES, figure
from data_prep.evolve.program.model import LEVELS, Ask, Figure, Number, Pen, show

DEPTH: Final = 3
"""Maximum drawings of a problem."""
_SINGLE: Final = (
    "What is {}?",
    "Find {}.",
    "Determine {}.",
    "Calculate {}.",
    "Give {}.",
    "State {}.",
    "Work out {}.",
    "We look for {}. What is it?",
)
_JOINED: Final = (
    ("Let {}. What is {}?", "{name} be {text}"),
    ("{} Find {}.", "{name} is {text}."),
    ("Write {}. Determine {}.", "{name} for {text}"),
    ("If {}, what is {}?", "{name} is {text}"),
    ("Suppose that {}. Calculate {}.", "{name} is {text}"),
)
"""Sentence for the sum, and the definition of each of its letters."""
_SHARES: Final = 0.25
"""Share of questions with four choices."""
_WEIGHTS: Final = ((1, 1, 1), (1, 1, 1), (2, 1, 1), (1, 2, 1), (1, 3, 1), (3, 1, 2), (2, 3, 1))
_LETTERS: Final = "pqr"
_ID: Final = re.compile(
    r"program-(?P<seed>\d+)-(?P<number>\d+)-(?P<family>[a-z_]+\.[a-z_]+)-(?P<level>easy|medium|hard)"
    r"(?P<plan>(?:-(?:s|p\.[a-z_]+)\.\d+)*)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """All that decides a problem."""

    seed: int
    number: int
    family: str
    difficulty: Difficulty
    """Difficulty of the problem with one drawing; every further drawing makes it one level harder."""
    plan: tuple[tuple[str, int], ...] = ()
    """Expansions in order: `s` (sequential) or `p.CHAIN` (parallel), and the seed of the wording."""

    @property
    def id(self) -> str:
        """Id of the item."""
        steps = "".join(f"-{step}.{seed}" for step, seed in self.plan)
        return f"program-{self.seed}-{self.number}-{self.family}-{self.difficulty}{steps}"

    @property
    def parent(self) -> "Recipe | None":
        """Recipe of the problem without the last expansion."""
        return replace(self, plan=self.plan[:-1]) if self.plan else None


def read_id(text: str) -> Recipe | None:
    """Return the recipe in an id; None if the id isn't one of a problem of this back end."""
    match = _ID.fullmatch(text)
    if match is None or match["family"] not in FAMILIES:
        return None
    level = next(level for level in LEVELS if level == match["level"])
    steps = [step.rpartition(".") for step in match["plan"].split("-")[1:]]
    return Recipe(
        seed=int(match["seed"]),
        number=int(match["number"]),
        family=match["family"],
        difficulty=level,
        plan=tuple((name, int(seed)) for name, _, seed in steps),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A problem with its answer in two ways."""

    item: Item
    value: Number
    """Answer by the closed form."""
    check: Callable[[], float]
    """Measures the answer on the pixels of figure and drawings."""


@lru_cache(maxsize=32)
def _figure(name: str, difficulty: Difficulty, number: int, seed: int, family: str) -> Figure:
    return figure(name, difficulty, number, seed, family)


def asks_of(plan: tuple[str, ...], chain: str, base: Figure) -> tuple[list[Ask], list[Ask]] | None:
    """Return the quantities in the order of their drawings, and those whose values join in the answer.

    None if a chain is unknown, used twice or too short for the plan.
    """
    reached = {chain: 0}
    drawn = [base.chains[chain][0]]
    for step in plan:
        relation, _, other = step.partition(".")
        name = other if relation == "p" else chain
        reached[name] = reached.get(name, -1) + 1
        if (relation == "p" and reached[name]) or reached[name] >= len(base.chains.get(name, ())):
            return None
        drawn.append(base.chains[name][reached[name]])
    return drawn, [base.chains[name][at] for name, at in reached.items()]


def draft(recipe: Recipe) -> Draft | None:
    """Return the problem of a recipe; None if the figure doesn't have the drawings of its plan."""
    family = FAMILIES[recipe.family]
    base = _figure(family.figure, recipe.difficulty, recipe.number, recipe.seed, recipe.family)
    chosen = asks_of(tuple(step for step, _ in recipe.plan), family.chain, base)
    if chosen is None or len(chosen[0]) > DEPTH:
        return None
    drawn, joined = chosen
    level = LEVELS[min(2, LEVELS.index(recipe.difficulty) + len(recipe.plan))]
    pen = Pen(np.random.default_rng([recipe.seed, recipe.number, zlib.crc32(recipe.id.encode())]), level)
    asked = _question(pen, base.facts, joined)
    root = replace(recipe, plan=()).id
    style = Pen(np.random.default_rng([recipe.seed, zlib.crc32(root.encode())]), level)
    colours, width = style.some(canvas.DRAWN, DEPTH), style.pick((2.5, 3.0, 3.5))
    overlays = tuple(
        canvas.overlay(ask.shapes, tool=ask.tool, about=ask.about, colour=colour, width=width)
        for ask, colour in zip(drawn, colours, strict=False)
    )
    relation: Relation = ""
    if recipe.plan:
        relation = "sequential" if recipe.plan[-1][0] == "s" else "parallel"
    item = Item(
        id=recipe.id,
        knowledge=tuple(dict.fromkeys(ask.knowledge for ask in drawn)),
        difficulty=level,
        question=asked.question,
        answer=asked.answer,
        solution=_solution(drawn, asked),
        original_code=base.canvas.code(),
        size=base.canvas.size,
        overlays=overlays,
        elements=tuple(base.canvas.elements),
        parent=recipe.parent.id if recipe.parent else "",
        relation=relation,
    )
    return Draft(item=item, value=asked.value, check=lambda: asked.combine([ask.check() for ask in joined]))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """A question with its answer."""

    question: str
    answer: str
    value: Number
    combine: Callable[[Sequence[float]], float]
    """Joins measured quantities as the question does."""
    rule: str
    """Sum that joins the quantities, such as `p + 2q`; empty for one quantity."""


def _question(pen: Pen, facts: str, asks: Sequence[Ask]) -> _Asked:
    """Return the question for one quantity, or for a sum of several."""
    weights = pen.pick(_WEIGHTS) if len(asks) > 1 else (1,)
    value = sum((Fraction(ask.value) * weight for ask, weight in zip(asks, weights, strict=False)), Fraction(0))
    rule = ""
    if len(asks) == 1:
        last = pen.pick(_SINGLE).format(asks[0].text)
    else:
        letters = _LETTERS[: len(asks)]
        rule = " + ".join(f"{weight if weight > 1 else ''}{x}" for weight, x in zip(weights, letters, strict=False))
        sentence, definition = pen.pick(_JOINED)
        defined = [definition.format(name=x, text=ask.text) for x, ask in zip(letters, asks, strict=True)]
        last = sentence.format(" ".join(defined) if definition.endswith(".") else _listed(defined), rule)
    givens = list(dict.fromkeys(ask.given for ask in asks if ask.given))
    parts = [facts, *(given for given in givens if not any(given != o and o.startswith(given) for o in givens)), last]
    answer = show(value)
    if pen.chance(_SHARES):
        choices = _choices(pen, value)
        letter = "ABCD"[choices.index(value)]
        answer = letter
        parts.append("  ".join(f"{letter}. {show(choice)}" for letter, choice in zip("ABCD", choices, strict=True)))
        parts.append("Answer with a letter.")
    elif value.denominator > 1:
        parts.append("Answer with a fraction in lowest terms, such as 7/2.")
    return _Asked(
        question=" ".join(parts),
        answer=answer,
        value=value,
        combine=lambda values: sum(weight * value for value, weight in zip(values, weights, strict=False)),
        rule=rule,
    )


def _listed(words: list[str]) -> str:
    return ", and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _choices(pen: Pen, value: Fraction) -> list[Fraction]:
    """Return four different positive values in order, one of them the right one, at any position."""
    unit = Fraction(1, value.denominator) * max(1, int(abs(value) * value.denominator / 12))
    unit = max(unit, Fraction(1)) if value.denominator == 1 else unit
    below = pen.whole(0, 3)
    steps = [-pen.whole(1, 2) for _ in range(below)] + [pen.whole(1, 2) for _ in range(3 - below)]
    choices = [value]
    for step in steps:
        edge = min(choices) if step < 0 else max(choices)
        choices.append(edge + step * unit)
    if min(choices) < 0 <= value:
        choices = [value + unit * offset for offset in range(4)]
    return sorted(choices)


def _solution(drawn: Sequence[Ask], asked: _Asked) -> str:
    """Return the text that leads through the drawings to the answer."""
    words = ("", "First drawing: ", "Second drawing: ", "Third drawing: ")
    parts = [f"{words[at if len(drawn) > 1 else 0]}{ask.about} {ask.reason}" for at, ask in enumerate(drawn, start=1)]
    if asked.rule:
        parts.append(f"So {asked.rule} = {show(asked.value)}.")
    return " ".join([*parts, f"The answer is {asked.answer}."])
