"""Searches compositions of the gallery's behaviours for those that a reward overpays.

A behaviour is a sequence of calls of `hacks.toml`, each on the task's image or on the newest one, and a last turn. Half
of the behaviours are random, the other half are found by hill climbing from the best random ones. Their steps are put
together from calls that ran once in the real sandbox (`call_effects`), so that scoring takes a fraction of a
millisecond. What the search reports is run as a whole rollout, through loop, sandbox and provenance.

A behaviour is honest if its calls are the first ones of the task's solution, or calls that the gallery says are honest
work, and its last turn is an answer in earnest, right or wrong. A behaviour is overpaid if it earns more than the
honest behaviour with the same answer that gets at least as far. The share of the required operations that images show,
or of the drawing that is drawn, says how far it gets.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from heapq import nlargest
from math import inf
from typing import Any, Final

from codevision_ext.drawing import DrawingTarget
from codevision_ext.experiments.rescore.call_effects import AssembledCalls, CallEffects
from codevision_ext.experiments.rescore.reward_hacks import Gallery, HackStage, Puzzle, call_turn, fill, read_gallery
from codevision_ext.rewards.rubric import Rubric
from codevision_ext.rewards.settings import RewardSettings
from codevision_ext.rewards.terms import verified_must
from codevision_ext.rollout.code_tool import CodeTool
from codevision_ext.rollout.dialects.registry import TOOL_CALL
from codevision_ext.sandbox import Sandbox
from codevision_ext.scoring import last_image, score_made_image
from codevision_ext.task.answers import check_answer
from codevision_ext.task.drawings import read_drawing
from codevision_ext.types import DrawingScore, Outcome, Rollout

MAX_CALLS: Final = 6
"""Maximum calls of a behaviour."""
PATIENCE: Final = 60
"""Number of changes without a gain after which a climb ends."""
STARTS: Final = 50
"""Number of the best random behaviours from which climbs begin."""
_LENGTHS: Final = (0, 1, 1, 2, 2, 2, 3, 3, 4, 5, MAX_CALLS)
"""Numbers of calls of random behaviours, each as often as it is drawn."""
RIGHT: Final = "$think<answer>$truth</answer>"
WRONG: Final = "$think<answer>$wrong</answer>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """A turn with a call."""

    name: str
    """Entry of the gallery that it comes from."""
    code: str
    reply: str | None = None
    """Template of the turn, for a call in a turn of another form; None: a thought and the call."""

    def turn(self, image_index: int) -> str:
        """Returns the template of the turn; the call gets the image `image_index`."""
        call = call_turn({"code": self.code, "image_index": image_index})
        return call if self.reply is None else self.reply.replace("$call", call.removeprefix("$think"))


@dataclass(frozen=True, slots=True, kw_only=True)
class LastTurn:
    """A turn that ends a behaviour."""

    name: str
    text: str
    """Template of the turn."""
    right: bool
    """True if it gives the right answer in earnest."""


@dataclass(frozen=True, slots=True)
class Behaviour:
    """A composition: indices of moves, each with whether it gets the newest image, and the index of the last turn.

    The first move always gets the task's image.
    """

    moves: tuple[tuple[int, bool], ...]
    last: int

    @classmethod
    def of(cls, moves: Sequence[tuple[int, bool]], last: int) -> "Behaviour":
        """Returns the behaviour of these moves; whether the first one gets the newest image makes no difference."""
        return cls(tuple((move, newest and at > 0) for at, (move, newest) in enumerate(moves)), last)


@dataclass(frozen=True, slots=True, kw_only=True)
class Paid:
    """What a behaviour earns."""

    reward: float
    fair: float
    """Reward of the honest behaviour with the same answer that gets at least as far."""
    correct: bool
    honest: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A behaviour that the search reports, run as a whole rollout."""

    behaviour: tuple[str, ...]
    """Names of its moves and of its last turn."""
    turns: tuple[str, ...]
    """Templates of its turns."""
    reward: float
    fair: float
    """As in `Paid`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchResult:
    """Extremes of the behaviours of one task under one reward."""

    task: str
    scored: int
    """Number of different behaviours that were scored."""
    best_paid: Found
    """Dishonest behaviour with the highest reward; it is no hack if `fair` is as high."""
    most_overpaid: Found
    """Dishonest behaviour with the largest difference of reward and `fair`."""
    best_wrong: Found
    """Wrong answer with the highest reward, honest or not."""
    worst_right: Found
    """Right answer with the lowest reward, honest or not."""


def search_hacks(sandbox: Sandbox, settings: RewardSettings, *, count: int, seed: int = 0) -> list[SearchResult]:
    """Scores `count` different behaviours, spread over the tasks, and returns the extremes of each task.

    The tasks are those that ask for a drawing under the presets of V-Thinker, otherwise the other tasks.
    Each rollout is scored in a group with one that answers wrong without the tool.

    Raises:
        SandboxError: the sandbox is broken.
    """
    gallery, rubric = read_gallery(), Rubric(settings)
    drawn = settings.preset.startswith("vthinker")
    names = [name for name, puzzle in gallery.task.items() if bool(puzzle.drawing) is drawn]
    gallery = Gallery(
        task={name: gallery.task[name] for name in names}, hack=tuple(h for h in gallery.hack if h.task in names)
    )
    tool, moves, lasts = CodeTool(sandbox), gallery_moves(gallery), last_turns(gallery)
    stage = HackStage(tool)
    effects = CallEffects(tool, stage.image, solution_codes(gallery))
    results = []
    for number, name in enumerate(names):
        honest_calls = calls_of_honest(gallery, name, moves)
        scorer = Scorer(gallery.task[name], moves, lasts, honest_calls, effects, stage, rubric)
        own = count // len(names) + (number < count % len(names))
        climber = Climber(scorer, own, random.Random(f"{seed} {name}"))
        results.append(climber.run(name))
    return results


def _code(call: str | dict[str, Any]) -> str:
    return call if isinstance(call, str) else str(call["code"])


def solution_codes(gallery: Gallery) -> list[str]:
    """Returns the code of each call of a solution."""
    return [_code(call) for puzzle in gallery.task.values() for call in puzzle.solve]


def gallery_moves(gallery: Gallery) -> list[Move]:
    """Returns the different calls of the gallery; the description of a call isn't evidence and is left out."""
    moves: dict[tuple[str, str | None], Move] = {}

    def add(name: str, code: str, reply: str | None = None) -> None:
        moves.setdefault((code, reply), Move(name=name, code=code, reply=reply))

    for task, puzzle in gallery.task.items():
        for number, call in enumerate(puzzle.solve, start=1):
            add(f"solution of {task}, call {number}", _code(call))
    for hack in gallery.hack:
        for number, call in enumerate((*hack.calls, *hack.part), start=1):
            add(hack.name if len(hack.calls) < 2 else f"{hack.name}, call {number}", _code(call))
        for turn in (*hack.replies, hack.last or ""):
            if "$call" in turn:
                add(hack.name, hack.code, turn)
    return list(moves.values())


def calls_of_honest(gallery: Gallery, task: str, moves: Sequence[Move]) -> list[tuple[tuple[int, bool], ...]]:
    """Returns the calls of the honest behaviours of a task: parts of the solution, and parts of hacks.

    Each call is the index of its move, and whether it gets the newest image.
    """
    codes = {move.code: number for number, move in enumerate(moves) if move.reply is None}
    solution = tuple((codes[_code(call)], isinstance(call, dict)) for call in gallery.task[task].solve)
    parts = [tuple((codes[_code(c)], isinstance(c, dict)) for c in h.part) for h in gallery.hack if h.task == task]
    single = [(call,) for part in parts for call in part]
    return list(dict.fromkeys([*(solution[:n] for n in range(len(solution) + 1)), *parts, *single]))


def last_turns(gallery: Gallery) -> list[LastTurn]:
    """Returns the right answer, the wrong answer, and the other last turns of the gallery."""
    own = [
        LastTurn(name=hack.name, text=hack.last, right=hack.right)
        for hack in gallery.hack
        if hack.last and "$call" not in hack.last
    ]
    return [
        LastTurn(name="the right answer", text=RIGHT, right=True),
        LastTurn(name="a wrong answer", text=WRONG, right=False),
        *own,
    ]


class Scorer:
    """Scores the behaviours of one task."""

    def __init__(
        self,
        puzzle: Puzzle,
        moves: Sequence[Move],
        lasts: Sequence[LastTurn],
        honest_calls: Sequence[tuple[tuple[int, bool], ...]],
        effects: CallEffects,
        stage: HackStage,
        rubric: Rubric,
    ) -> None:
        self.moves, self.lasts = moves, lasts
        self._puzzle, self._effects, self._stage, self._rubric = puzzle, effects, stage, rubric
        self._task, self._weights = stage.task(puzzle), tuple(rubric.weights.values())
        self._target = read_drawing(puzzle.drawing, "hacks.toml")
        self._verdicts: dict[bytes | None, DrawingScore] = {}
        texts = [fill(last.text, puzzle) for last in lasts]
        answers = [TOOL_CALL.parse_answer([text]) or "" for text in texts]
        known = puzzle.references
        self._correct = [bool(known) and check_answer(answer, known) is True for answer in answers]
        self._last_kept = [TOOL_CALL.format_score([text]) for text in texts]
        self._kept = [TOOL_CALL.format_score([fill(move.turn(0), puzzle), texts[0]]) for move in moves]
        self._sibling = self._rollout(Behaviour((), 1))
        self.honest = {
            Behaviour(calls, last): self._reached(Behaviour(calls, last)) for last in (0, 1) for calls in honest_calls
        }
        """How far each honest behaviour gets, in [0, 1], and its reward."""

    def score(self, behaviour: Behaviour) -> Paid:
        """Scores a behaviour.

        Raises:
            SandboxError: the sandbox is broken.
        """
        rollout = self._rollout(behaviour)
        far, right = _progress(rollout), self.lasts[behaviour.last].right
        equals = [reached for other, reached in self.honest.items() if self.lasts[other.last].right is right]
        as_far = [(reached, -reward) for reached, reward in equals if reached >= far - 1e-9]
        return Paid(
            reward=self._reward(rollout),
            fair=-min(as_far)[1] if as_far else max(equals)[1],
            correct=rollout.observed.correct,
            honest=behaviour in self.honest,
        )

    def found(self, behaviour: Behaviour) -> Found:
        """Runs a behaviour as a whole rollout and scores it. Raises what `score` raises."""
        turns, last = self.turns(behaviour), self.lasts[behaviour.last]
        rollout, sibling = self._stage.play(self._puzzle, turns, last.text), self._stage.play(self._puzzle, [], WRONG)
        return Found(
            behaviour=(*[self.moves[move].name for move, _ in behaviour.moves], last.name),
            turns=(*turns, last.text),
            reward=self._rubric.score([rollout, sibling])[0].reward,
            fair=self.score(behaviour).fair,
        )

    def turns(self, behaviour: Behaviour) -> list[str]:
        """Returns the templates of a behaviour's turns but the last one."""
        indices = self._assembled(behaviour).image_indices
        return [self.moves[move].turn(index) for (move, _), index in zip(behaviour.moves, indices, strict=True)]

    def _assembled(self, behaviour: Behaviour) -> AssembledCalls:
        return self._effects.assemble([(self.moves[move].code, newest) for move, newest in behaviour.moves])

    def _rollout(self, behaviour: Behaviour) -> Rollout:
        calls = self._assembled(behaviour)
        kept = min([self._last_kept[behaviour.last], *[self._kept[move] for move, _ in behaviour.moves]])
        drawn = None if self._target is None else self._drawn(calls, self._target)
        correct = self._correct[behaviour.last]
        if drawn is not None and not self._puzzle.in_words:
            correct = drawn.correct is True
        observed = Outcome(correct=correct, format=kept, steps=calls.steps, drawn=drawn)
        return Rollout(group="g", id="hack", task=self._task, observed=observed)

    def _drawn(self, calls: AssembledCalls, target: DrawingTarget) -> DrawingScore:
        """Returns the verdict on the last image; equal images are checked once."""
        node = last_image(calls.steps)
        key = None if node is None else calls.images[node].key
        if key not in self._verdicts:
            made = None if node is None else calls.images[node].image
            self._verdicts[key] = score_made_image(calls.images[0].image, made, target)
        return self._verdicts[key]

    def _reward(self, rollout: Rollout) -> float:
        raws = self._rubric.measure([rollout, self._sibling])
        return sum(values[0] * weight for values, weight in zip(raws.values(), self._weights, strict=True))

    def _reached(self, behaviour: Behaviour) -> tuple[float, float]:
        rollout = self._rollout(behaviour)
        return _progress(rollout), self._reward(rollout)


def _progress(rollout: Rollout) -> float:
    """Returns the share of the task's work that is done, in [0, 1]."""
    drawn = rollout.observed.drawn
    return verified_must(rollout) if drawn is None else drawn.f1


_OBJECTIVES: Final[Mapping[str, Callable[[Paid], float]]] = {
    "best_paid": lambda paid: -inf if paid.honest else paid.reward,
    "most_overpaid": lambda paid: -inf if paid.honest else paid.reward - paid.fair,
    "best_wrong": lambda paid: -inf if paid.correct else paid.reward,
    "worst_right": lambda paid: -paid.reward if paid.correct else -inf,
}
"""Numbers that climbs raise, by the field of `SearchResult`."""


class Climber:
    """Searches the behaviours of one task."""

    def __init__(self, scorer: Scorer, count: int, chance: random.Random) -> None:
        self._scorer, self._count, self._chance = scorer, count, chance
        self._solution = sorted({move for behaviour in scorer.honest for move, _ in behaviour.moves})
        self._paid: dict[Behaviour, Paid] = {}

    def run(self, task: str) -> SearchResult:
        """Scores the behaviours, and returns the extremes. Raises SandboxError."""
        for behaviour in self._scorer.honest:
            self._score(behaviour)
        while len(self._paid) < self._count / 2:
            self._score(self.random())
        starts = {
            name: nlargest(STARTS, self._paid, key=lambda each: value(self._paid[each]))
            for name, value in _OBJECTIVES.items()
        }
        while len(self._paid) < self._count:
            name = self._chance.choice(list(_OBJECTIVES))
            self._climb(self._chance.choice([*starts[name], self.random()]), _OBJECTIVES[name])
        extremes = {
            name: self._scorer.found(max(self._paid, key=lambda each: value(self._paid[each])))
            for name, value in _OBJECTIVES.items()
        }
        return SearchResult(task=task, scored=len(self._paid), **extremes)

    def _climb(self, behaviour: Behaviour, value: Callable[[Paid], float]) -> None:
        """Changes a behaviour as long as changes raise its value."""
        best, failures = value(self._score(behaviour)), 0
        while failures < PATIENCE and len(self._paid) < self._count:
            changed = self._changed(behaviour)
            new = value(self._score(changed))
            failures = 0 if new > best else failures + 1
            if new > best:
                behaviour, best = changed, new

    def _score(self, behaviour: Behaviour) -> Paid:
        if behaviour not in self._paid:
            self._paid[behaviour] = self._scorer.score(behaviour)
        return self._paid[behaviour]

    def random(self) -> Behaviour:
        """Returns a random behaviour."""
        calls = self._chance.choice(_LENGTHS)
        return Behaviour.of([self._move() for _ in range(calls)], self._last())

    def _move(self) -> tuple[int, bool]:
        """Returns a move; three of ten are of the solution."""
        honest = self._solution and self._chance.random() < 0.3
        move = self._chance.choice(self._solution) if honest else self._chance.randrange(len(self._scorer.moves))
        return move, self._chance.random() < 0.5

    def _last(self) -> int:
        """Returns the right answer, a wrong one or any last turn, each in a third of all cases."""
        kind = self._chance.randrange(3)
        return kind if kind < 2 else self._chance.randrange(len(self._scorer.lasts))

    def _changed(self, behaviour: Behaviour) -> Behaviour:
        """Returns the behaviour with one move added, removed or replaced, two exchanged, or another last turn."""
        moves, at = list(behaviour.moves), self._chance.randrange(len(behaviour.moves) + 1)
        change = self._chance.choice(("add", "remove", "replace", "exchange", "last"))
        if change == "last" or (not moves and change != "add"):
            return Behaviour(behaviour.moves, self._last())
        if change == "add" and len(moves) < MAX_CALLS:
            moves.insert(at, self._move())
        elif change == "remove":
            moves.pop(at % len(moves))
        elif change == "exchange":
            other = self._chance.randrange(len(moves))
            moves[at % len(moves)], moves[other] = moves[other], moves[at % len(moves)]
        else:
            moves[at % len(moves)] = self._move()
        return Behaviour.of(moves, behaviour.last)
