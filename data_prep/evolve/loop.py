"""Runs the flywheel: draws knowledge and tools, generates, examines, expands and dedupes items, in rounds.

The calls of a round are planned together, from the knowledge that the rounds before it left. They run on threads, and
their results are taken in order, so the items depend on the seed only and not on the number of threads.
"""

import json
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

import numpy as np

from codevision_ext.errors import InfraError, InputError
from data_prep.evolve import backend
from data_prep.evolve.dedupe import SeenItems
from data_prep.evolve.item import ITEMS, Item, Relation
from data_prep.evolve.knowledge import Concepts
from data_prep.evolve.stages import Examined, Examiner
from data_prep.evolve.store import ResultKey, ResultStore, content_hash
from data_prep.evolve.yields import Yields
from data_prep.parallel.pipeline import map_threads
from data_prep.tasks.common import Rng

ROUND: Final = 64
"""Number of calls of a round."""
MAX_DEPTH: Final = 3
"""Maximum number of drawings of an item."""
IDLE_ROUNDS: Final = 5
"""Number of rounds without a new item after which a run ends."""
PAIR_SHARE: Final = 0.2
"""Share of calls that need two nodes of knowledge, or two tools."""
RELATIONS: Final[tuple[Relation, ...]] = ("parallel", "sequential")


@dataclass(frozen=True, slots=True, kw_only=True)
class EvolveSettings:
    """Settings of a run."""

    items: int
    """Number of items to write."""
    seed: int = 0
    expand: float = 0.3
    """Share of verified items that are expanded, in [0, 1]; an extension is expanded with the same share."""
    perception: float = 0.1
    """Share of the calls that make perception items, in [0, 1]."""
    workers: int = 1
    """Number of threads; each runs one program at a time in the sandbox."""

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            InputError: A number is outside of its range.
        """
        for name, value in (("--expand", self.expand), ("--perception", self.perception)):
            if not 0 <= value <= 1:
                raise InputError(f"{name} is a share in [0, 1], not {value}")
        for name, count in (("--items", self.items), ("--workers", self.workers)):
            if count < 1:
                raise InputError(f"{name} must be at least 1, it is {count}")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedCall:
    """One call of a generator."""

    number: int
    """Number in the run, from 0; the family of its items."""
    knowledge: tuple[str, ...]
    tools: tuple[str, ...]
    perceive: bool


@dataclass(slots=True, kw_only=True)
class Flywheel:
    """A run: `accepted` yields its items."""

    generator: backend.Generator
    prompt: str
    """Hash of the prompt of the back end, or of its program."""
    concepts: Concepts
    seen: SeenItems
    store: ResultStore
    examiner: Examiner
    settings: EvolveSettings
    yields: Yields = field(default_factory=Yields)
    rejected: list[Examined] = field(default_factory=list)
    """First rejected items of each reason, those that `yields` has as examples."""

    def accepted(self) -> Iterator[Examined]:
        """Yield new items that passed every stage, in order.

        Raises:
            InfraError: The sandbox is broken, the store can't be written, or rounds bring no new item.
        """
        count = idle = calls = 0
        while count < self.settings.items:
            before = count
            plans = [self._plan(calls + number) for number in range(ROUND)]
            calls += ROUND
            with closing(self._round(plans)) as results:
                for examined in results:
                    yield examined
                    count += 1
                    if count == self.settings.items:
                        return
            idle = idle + 1 if count == before else 0
            if idle == IDLE_ROUNDS:
                reasons = ", ".join(f"{reason} {many}" for reason, many in self.yields.reasons.most_common(3))
                raise InfraError(
                    f"{count} of {self.settings.items} items: {IDLE_ROUNDS} rounds of {ROUND} calls brought no new item"
                    f" (rejected: {reasons or 'none'}); the results are kept: give fewer --items or more --seeds"
                )

    def _round(self, plans: list[PlannedCall]) -> Generator[Examined, None, None]:
        """Yield the new items of a round; the threads end when the generator is closed."""
        results = map_threads(self._run, plans, self.settings.workers)
        for plan, (generated, tried, examined) in zip(plans, results, strict=True):
            self.yields.entered["generate"] += 1
            self.yields.passed["generate"] += generated
            self.yields.entered["expand"] += tried
            self.yields.passed["expand"] += len(examined) - generated
            for each in examined:
                if self._is_new(each, plan.number):
                    yield each

    def _is_new(self, examined: Examined, family: int) -> bool:
        """Count an examined item, and return whether it is accepted; the concepts grow by it."""
        item, rejection = examined.item, examined.rejection
        rejection = rejection or self.seen.check(item, examined.original, family)
        if rejection:
            self.yields.add_path("parse", rejection.stage, passed=False)
            if self.yields.add_rejection(rejection, item.id):
                self.rejected.append(replace(examined, rejection=rejection))
            return False
        self.yields.add_path("parse", "write", passed=True)
        for path in item.knowledge:
            self.concepts.use_node(path, item.id)
        for overlay in item.overlays:
            kinds = [primitive.kind for primitive in overlay.target.primitives]
            self.concepts.use_tool(overlay.tool, kinds, item.id)
        return True

    def _plan(self, number: int) -> PlannedCall:
        """Draw what call `number` needs: nodes of knowledge, or tools, in turns."""
        rng = np.random.default_rng([self.settings.seed, number])
        perceive = rng.random() < self.settings.perception
        count = 2 if rng.random() < PAIR_SHARE else 1
        by_tools = not perceive and number % 2 == 1 and self.concepts.tools
        knowledge = () if by_tools else self.concepts.draw_nodes(rng, count)
        tools = self.concepts.draw_tools(rng, count) if by_tools else ()
        return PlannedCall(number=number, knowledge=knowledge, tools=tools, perceive=perceive)

    def _run(self, plan: PlannedCall) -> tuple[int, int, list[Examined]]:
        """Return the number of generated items, of tried expansions, and all examined items of a call."""
        generator, seed = self.generator, self.settings.seed
        if plan.perceive:
            make = partial(generator.perceive, plan.knowledge, plan.number, seed)
        else:
            make = partial(generator.generate, plan.knowledge, plan.tools, plan.number, seed)
        content = content_hash(repr((plan.perceive, plan.knowledge, plan.tools, plan.number)))
        items = self._kept("perceive" if plan.perceive else "generate", content, make)
        tried, examined = 0, []
        for item in items:
            each = self.examiner.examine(item)
            examined.append(each)
            rng = self._rng_of(item)
            while each.rejection is None and 0 < each.item.depth < MAX_DEPTH and rng.random() < self.settings.expand:
                tried += 1
                child = self._expanded(each.item, rng)
                if child is None:
                    break
                each = self.examiner.examine(child, each.item)
                examined.append(each)
        return len(items), tried, examined

    def _expanded(self, item: Item, rng: Rng) -> Item | None:
        """Return an extension of an item, with the other relation if it has none with the first one drawn."""
        first = int(rng.integers(len(RELATIONS)))
        for relation in (RELATIONS[first], RELATIONS[1 - first]):
            content = content_hash(ITEMS.dump(item), relation)
            children = self._kept("expand", content, partial(self._children, item, relation))
            if children:
                return children[0]
        return None

    def _children(self, item: Item, relation: Relation) -> tuple[Item, ...]:
        child = self.generator.expand(item, relation, self.settings.seed)
        return () if child is None else (child,)

    def _kept(self, stage: str, content: str, make: Callable[[], tuple[Item, ...]]) -> tuple[Item, ...]:
        """Return the items of a stage from the store, which keeps them."""
        key = ResultKey(
            stage=stage,
            content=content,
            backend=self.generator.name,
            prompt=self.prompt,
            seed=self.settings.seed,
        )
        stored = self.store.get(key)
        if stored is None:
            stored = b"\n".join(ITEMS.dump(item) for item in make())
            self.store.put(key, stored)
        return tuple(ITEMS.load(line, f"stored result of {stage}") for line in stored.splitlines())

    def _rng_of(self, item: Item) -> Rng:
        return np.random.default_rng([self.settings.seed, int(content_hash(json.dumps(item.id))[:12], 16)])
