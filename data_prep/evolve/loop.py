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
MODEL_ROUND: Final = 256
"""Number of calls of a round of a back end that asks models."""
ITEMS_A_CALL: Final = 3
"""Number of items that a call returns."""
MAX_DEPTH: Final = 3
"""Maximum number of drawings of an item."""
IDLE_CALLS: Final = 5 * ROUND
"""Number of calls without a new item after which a run ends."""
MODEL_IDLE_CALLS: Final = 64
"""Number of such calls of a back end that asks models, which cost money."""
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
    """Number of programs that run at once in the sandbox."""
    threads: int = 0
    """Number of calls of the generator that are worked on at once; 0: as many as `workers`."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class CallResult:
    """All that came of one call of a generator."""

    generated: int
    """Number of items that the call returned."""
    tried: int
    """Number of tried expansions."""
    examined: tuple[Examined, ...]
    faults: tuple[backend.ReplyError, ...]
    """Replies of models that couldn't be used."""


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
    reviewer: backend.Reviewer | None = None
    """Models that check the items; None for a back end that doesn't ask models.

    With models, the back end keeps its own replies, and items get the names that theirs were merged with.
    """
    yields: Yields = field(default_factory=Yields)
    idle: int = 0
    """Number of calls since the last new item."""
    rejected: list[Examined] = field(default_factory=list)
    """First rejected items of each reason, those that `yields` has as examples."""

    def accepted(self) -> Iterator[Examined]:
        """Yield new items that passed every stage, in order.

        Raises:
            InfraError: The sandbox is broken, the store can't be written, or rounds bring no new item.
        """
        count = calls = 0
        self.yields.models = self.reviewer is not None
        while count < self.settings.items:
            plans = [self._plan(calls + number) for number in range(ROUND if self.reviewer is None else MODEL_ROUND)]
            calls += len(plans)
            with closing(self._round(plans, count)) as results:
                for examined in results:
                    yield examined
                    count += 1
                    if count == self.settings.items:
                        return

    def _round(self, plans: list[PlannedCall], count: int) -> Generator[Examined, None, None]:
        """Yield the new items of a round, before which there were `count`; its threads end when it is closed."""
        threads = self.settings.threads or self.settings.workers

        def ahead() -> int:
            if self.reviewer is None:
                return 2 * threads
            needed = -(-(self.settings.items - count) // ITEMS_A_CALL)  # more calls would cost money for nothing
            return max(1, min(2 * threads, needed))

        try:
            for plan, result in zip(plans, map_threads(self._run, plans, threads, ahead), strict=True):
                self._count(result)
                before = count
                for each in result.examined:
                    accepted = self._accepted(each, plan.number)
                    if accepted is not None:
                        count += 1
                        yield accepted
                self._check_idle(count, new=count > before)
        except BaseException:
            if self.reviewer is not None:
                self.reviewer.stop()
            raise

    def _check_idle(self, count: int, *, new: bool) -> None:
        """End the run if many calls, one after the other, brought no new item. Raises InfraError."""
        self.idle = 0 if new else self.idle + 1
        if self.idle < (IDLE_CALLS if self.reviewer is None else MODEL_IDLE_CALLS):
            return
        rejected = [*self.yields.reasons.most_common(3), *self.yields.replies.most_common(3)]
        reasons = ", ".join(f"{reason} {many}" for reason, many in rejected)
        raise InfraError(
            f"{count} of {self.settings.items} items: {self.idle} calls brought no new item (rejected:"
            f" {reasons or 'none'}); the results are kept: give fewer --items or more --seeds"
        )

    def _count(self, result: CallResult) -> None:
        self.yields.entered["generate"] += 1
        self.yields.passed["generate"] += result.generated
        self.yields.entered["expand"] += result.tried
        self.yields.passed["expand"] += len(result.examined) - result.generated
        for fault in result.faults:
            self.yields.add_fault(fault)
        for each in result.examined:
            repaired = each.repairs > 0 and (each.rejection is None or each.rejection.stage != "judge")
            self.yields.entered["repair"] += each.repairs > 0
            self.yields.passed["repair"] += repaired

    def _accepted(self, examined: Examined, family: int) -> Examined | None:
        """Count an examined item, and return it if it is accepted; the concepts grow by it."""
        item, rejection = examined.item, examined.rejection
        rejection = rejection or self.seen.check(item, examined.original, family)
        if rejection:
            self.yields.add_path("parse", rejection.stage, passed=False)
            if self.yields.add_rejection(rejection, item.id):
                self.rejected.append(replace(examined, rejection=rejection))
            return None
        self.yields.add_path("parse", "write", passed=True)
        paths = [self.concepts.use_node(path, item.id) for path in item.knowledge]
        tools = []
        for overlay in item.overlays:
            kinds = [primitive.kind for primitive in overlay.target.primitives]
            tools.append(self.concepts.use_tool(overlay.tool, kinds, item.id))
        if self.reviewer is None:
            return examined
        overlays = tuple(replace(overlay, tool=tool) for overlay, tool in zip(item.overlays, tools, strict=True))
        return replace(examined, item=replace(item, knowledge=tuple(dict.fromkeys(paths)), overlays=overlays))

    def _plan(self, number: int) -> PlannedCall:
        """Draw what call `number` needs: nodes of knowledge, or tools, in turns."""
        rng = np.random.default_rng([self.settings.seed, number])
        perceive = rng.random() < self.settings.perception
        count = 2 if rng.random() < PAIR_SHARE else 1
        by_tools = not perceive and number % 2 == 1 and self.concepts.tools
        knowledge = () if by_tools else self.concepts.draw_nodes(rng, count)
        tools = self.concepts.draw_tools(rng, count) if by_tools else ()
        return PlannedCall(number=number, knowledge=knowledge, tools=tools, perceive=perceive)

    def _run(self, plan: PlannedCall) -> CallResult:
        """Return all that comes of a call."""
        generator, seed = self.generator, self.settings.seed
        if plan.perceive:
            make = partial(generator.perceive, plan.knowledge, plan.number, seed)
        else:
            make = partial(generator.generate, plan.knowledge, plan.tools, plan.number, seed)
        content = content_hash(repr((plan.perceive, plan.knowledge, plan.tools, plan.number)))
        faults: list[backend.ReplyError] = []
        items = self._kept("perceive" if plan.perceive else "generate", content, make, faults)
        tried, examined = 0, []
        for item in items:
            each = self._examined(item, None, faults)
            examined.append(each)
            rng = self._rng_of(item)
            while each.rejection is None and 0 < each.item.depth < MAX_DEPTH and rng.random() < self.settings.expand:
                tried += 1
                child = self._expanded(each.item, rng, faults)
                if child is None:
                    break
                each = self._examined(child, each.item, faults)
                examined.append(each)
        return CallResult(generated=len(items), tried=tried, examined=tuple(examined), faults=tuple(faults))

    def _examined(self, item: Item, parent: Item | None, faults: list[backend.ReplyError]) -> Examined:
        """Return an item after all checks but that for duplicates; replies that can't be used are appended."""
        examined = self.examiner.examine(item, parent)
        if self.reviewer is None or examined.rejection is not None:
            return examined
        reviewed, unusable = self.reviewer.review(examined, parent)
        faults.extend(unusable)
        return reviewed

    def _expanded(self, item: Item, rng: Rng, faults: list[backend.ReplyError]) -> Item | None:
        """Return an extension of an item, with the other relation if it has none with the first one drawn."""
        first = int(rng.integers(len(RELATIONS)))
        for relation in (RELATIONS[first], RELATIONS[1 - first]):
            content = content_hash(ITEMS.dump(item), relation)
            children = self._kept("expand", content, partial(self._children, item, relation), faults)
            if children:
                return children[0]
        return None

    def _children(self, item: Item, relation: Relation) -> tuple[Item, ...]:
        child = self.generator.expand(item, relation, self.settings.seed)
        return () if child is None else (child,)

    def _kept(
        self, stage: str, content: str, make: Callable[[], tuple[Item, ...]], faults: list[backend.ReplyError]
    ) -> tuple[Item, ...]:
        """Return the items of a stage from the store, which keeps them; a reply that can't be used has no item."""
        if self.reviewer is not None:
            try:
                return make()
            except backend.ReplyError as error:
                faults.append(error)
                return ()
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
