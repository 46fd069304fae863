"""Implements the back end `program`: three problems a call, perception items and expansions, without a model."""

from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise, permutations
from typing import Final

import numpy as np

from data_prep.evolve.item import Item, Relation
from data_prep.evolve.program import perception
from data_prep.evolve.program.drafts import DEPTH, Recipe, draft, read_id
from data_prep.evolve.program.families import FAMILIES, Family
from data_prep.evolve.program.model import LEVELS

KNOWLEDGE: Final = tuple(sorted({path for family in FAMILIES.values() for path in family.knowledge}))
"""All paths of knowledge that this back end has problems for."""
TOOLS: Final = tuple(sorted({tool for family in FAMILIES.values() for tool in family.tools}))
"""Names of all drawing tools that this back end uses."""


def seeds() -> dict[str, list[dict[str, object]]]:
    """Return the content of a seed file: all paths with the paths that they build on, and all tools with primitives."""
    parents = {path: before for family in FAMILIES.values() for before, path in pairwise(("", *family.knowledge))}
    kinds: dict[str, list[str]] = {tool: [] for tool in TOOLS}
    for family in FAMILIES.values():
        for tool, drawn in zip(family.tools, family.kinds, strict=True):
            kinds[tool] += [kind for kind in drawn if kind not in kinds[tool]]
    return {
        "knowledge": [{"path": path, "parents": [parents[path]] if parents[path] else []} for path in KNOWLEDGE],
        "tools": [{"name": tool, "primitives": kinds[tool]} for tool in TOOLS],
    }


def _plans(family: Family) -> Iterator[tuple[str, ...]]:
    """Yield all plans of a family, the shortest first: a part of its chain, then first parts of other chains."""
    for depth in range(DEPTH):
        for along in range(min(depth, len(family.knowledge) - 1), -1, -1):
            for others in permutations(family.others, depth - along):
                yield ("s",) * along + tuple(f"p.{name}" for name in others)


def _needs(family: Family, plan: tuple[str, ...]) -> tuple[set[str], set[str]]:
    """Return the knowledge and the tools of a plan."""
    length = 1 + plan.count("s")
    paths, tools = {*family.knowledge[:length]}, {*family.tools[:length]}
    for step in plan:
        if step != "s":
            other = FAMILIES[f"{family.figure}.{step.removeprefix('p.')}"]
            paths.add(other.knowledge[0])
            tools.add(other.tools[0])
    return paths, tools


def _covered(needed: tuple[str, ...], paths: set[str]) -> bool:
    """Return whether every needed path is one of the paths, or lies above one in the tree of knowledge."""
    return all(any(f"{path}/".startswith(f"{need}/") for path in paths) for need in needed)


@lru_cache(maxsize=4096)
def _candidates(knowledge: tuple[str, ...], tools: tuple[str, ...]) -> list[tuple[str, tuple[str, ...]]]:
    """Return families with the shortest plan that needs all of these paths and tools."""
    fitting = []
    for family in FAMILIES.values():
        for plan in _plans(family):
            paths, used = _needs(family, plan)
            if _covered(knowledge, paths) and used.issuperset(tools):
                fitting.append((family.name, plan))
                break
    least = min((len(plan) for _, plan in fitting), default=0)
    return [(name, plan) for name, plan in fitting if len(plan) == least]


class ProgramGenerator:
    """Makes items from figures with exactly computed answers; implements `Generator`."""

    name: str = "program"

    def generate(self, knowledge: tuple[str, ...], tools: tuple[str, ...], number: int, seed: int) -> tuple[Item, ...]:
        """Return three items, easy, medium and hard; no item if no figure has all of the knowledge and the tools.

        Without knowledge and tools, families follow one another by `number`. A combination that one drawing doesn't
        need gives problems with two or three drawings. A path above others, such as `plane geometry/triangle`, is
        needed where one of these is needed.
        """
        candidates = _candidates(knowledge, tools)
        if not candidates:
            return ()
        if knowledge or tools:
            at = int(np.random.default_rng([seed, number, 7]).integers(len(candidates)))
        else:
            at = (number + seed) % len(candidates)
        family, plan = candidates[at]
        items = []
        for level in LEVELS:
            recipe = Recipe(
                seed=seed, number=number, family=family, difficulty=level, plan=tuple((step, seed) for step in plan)
            )
            problem = draft(recipe)
            if problem is not None:
                items.append(problem.item)
        return tuple(items)

    def perceive(self, knowledge: tuple[str, ...], number: int, seed: int) -> tuple[Item, ...]:
        """Return three perception items of one image: surface, semantic and integrated."""
        return perception.items(knowledge, number, seed)

    def expand(self, item: Item, relation: Relation, seed: int) -> Item | None:
        """Return a problem on the same image with one drawing more; None if the item can't be expanded so.

        None is returned also for an item of another back end, and for one whose code or drawings were changed.
        """
        recipe = read_id(item.id)
        own = draft(recipe) if recipe and not item.level else None
        if recipe is None or own is None or not relation or item.depth >= DEPTH:
            return None
        if (own.item.original_code, own.item.overlays) != (item.original_code, item.overlays):
            return None
        family = FAMILIES[recipe.family]
        used = {step for step, _ in recipe.plan}
        steps = ["s"] if relation == "sequential" else [f"p.{name}" for name in family.others]
        steps = [step for step in steps if step == "s" or step not in used]
        order = np.random.default_rng([seed, recipe.seed, recipe.number, 11]).permutation(len(steps))
        for at in order:
            plan = (*recipe.plan, (steps[int(at)], seed))
            problem = draft(
                Recipe(
                    seed=recipe.seed,
                    number=recipe.number,
                    family=recipe.family,
                    difficulty=recipe.difficulty,
                    plan=plan,
                )
            )
            if problem is not None:
                return problem.item
        return None
