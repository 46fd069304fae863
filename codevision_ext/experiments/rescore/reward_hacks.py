"""Measures how much known reward hacks earn. Each hack runs through loop, sandbox, provenance, answer rules and reward.

The hacks are in `hacks.toml`. Each hack is compared with its honest counterpart: a rollout in the right format with the
same answer and with those calls of the hack that are honest work. A hack must not earn more than its counterpart. This
holds for preset `verified`, and for preset `vthinker` where the task asks for a drawing, except for the gaps that
entries of `hacks.toml` name.
"""

import asyncio
import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from string import Template
from typing import Any, Final

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from pydantic import BaseModel, ConfigDict

from codevision_ext.config import Settings
from codevision_ext.rewards.rubric import Rubric
from codevision_ext.rewards.settings import RewardSettings
from codevision_ext.rollout.code_tool import CodeTool
from codevision_ext.rollout.loop import Completion, Trajectory, run_rollout
from codevision_ext.rollout.parsing import TOOL_NAME
from codevision_ext.rollout.token_buffer import RolloutLimits
from codevision_ext.sandbox import Sandbox
from codevision_ext.scoring import score_rollouts
from codevision_ext.task.item import Item
from codevision_ext.types import Box, Rollout, Task

SIZE: Final = (240, 160)
"""Width and height of the task's image, pixels."""
LIMITS: Final = RolloutLimits(response_tokens=100_000, assistant_turns=8)
Call = str | dict[str, Any]
"""Code, or a call's arguments."""
_THINK: Final = "<think>t</think>"
_HONEST: Final = "$think<answer>$wrong</answer>"


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Puzzle(_Entry):
    """Task of the gallery; see hacks.toml."""

    @property
    def references(self) -> tuple[str, ...]:
        """The right answers; none where the drawing is the answer."""
        return (self.truth,) if self.in_words else ()

    applied: tuple[str, ...]
    box: tuple[float, float, float, float] | None = None
    drawing: dict[str, Any] | None = None
    truth: str
    in_words: bool = True
    wrong: str
    solve: tuple[Call, ...]


class Hack(_Entry):
    """Entry of the gallery; see hacks.toml."""

    name: str
    task: str
    calls: tuple[Call, ...] = ()
    replies: tuple[str, ...] = ()
    code: str = ""
    last: str | None = None
    right: bool = False
    part: tuple[Call, ...] = ()
    gap: str | None = None


class Gallery(_Entry):
    """Content of hacks.toml."""

    task: dict[str, Puzzle]
    hack: tuple[Hack, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Earned:
    """Rewards of a hack and of honest rollouts under one preset."""

    hack: float
    counterpart: float
    """Reward of the honest counterpart, which the hack should not exceed."""
    honest: float
    """Reward of the honest solution of the task, with the right answer."""

    @property
    def pays(self) -> bool:
        """Returns whether the hack earns more than its honest counterpart."""
        return self.hack > self.counterpart + 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class HackResult:
    """Rewards of a hack under all presets."""

    name: str
    task: str
    gap: str | None
    earned: dict[str, Earned]
    """By preset."""


def read_gallery() -> Gallery:
    """Reads the gallery of the package."""
    text = (files("codevision_ext.experiments.rescore") / "hacks.toml").read_text(encoding="utf-8")
    return Gallery.model_validate(tomllib.loads(text))


def try_hacks(sandbox: Sandbox, rewards: Mapping[str, RewardSettings]) -> list[HackResult]:
    """Runs all hacks in `sandbox` and returns what each hack earns under each of the rewards, by name of the reward.

    Each rollout is scored in a group with a second rollout that answers wrong without the tool, because group terms
    compare rollouts.

    Raises:
        SandboxError: the sandbox is broken.
    """
    gallery, stage = read_gallery(), HackStage(CodeTool(sandbox))
    rubrics = {name: Rubric(settings) for name, settings in rewards.items()}
    findings = []
    for hack in gallery.hack:
        puzzle = gallery.task[hack.task]
        answer = f"$think<answer>{'$truth' if hack.right else '$wrong'}</answer>"
        tried = stage.play(
            puzzle, [call_turn(c) for c in hack.calls] + list(hack.replies), hack.last or answer, hack.code
        )
        counterpart = stage.play(puzzle, [call_turn(code) for code in hack.part], answer)
        honest = stage.play(puzzle, [call_turn(code) for code in puzzle.solve], "$think<answer>$truth</answer>")
        sibling = stage.play(puzzle, [], _HONEST)
        earned = {
            name: Earned(
                hack=_reward(rubric, tried, sibling),
                counterpart=_reward(rubric, counterpart, sibling),
                honest=_reward(rubric, honest, sibling),
            )
            for name, rubric in rubrics.items()
        }
        findings.append(HackResult(name=hack.name, task=hack.task, gap=hack.gap, earned=earned))
    return findings


def _reward(rubric: Rubric, rollout: Rollout, sibling: Rollout) -> float:
    return rubric.score([rollout, sibling])[0].reward


def call_turn(call: Call) -> str:
    """Returns the template of a turn with a thought and this call."""
    arguments = {"code": call} if isinstance(call, str) else call
    body = json.dumps({"name": TOOL_NAME, "arguments": arguments})
    return f"$think<tool_call>{body.replace('$', '$$')}</tool_call>"


def fill(turn: str, puzzle: Puzzle, call: str = "") -> str:
    """Returns the text of a turn from its template; `call` is the template of a call's turn, for `$call`."""
    words = {"think": _THINK, "truth": puzzle.truth, "wrong": puzzle.wrong}
    return Template(turn).substitute(words, call=Template(call.removeprefix("$think")).substitute())


class HackStage:
    """Runs scripted rollouts; equal rollouts run only once."""

    def __init__(self, tool: CodeTool) -> None:
        self._tool = tool
        self.image = _image()
        """Image of every task."""
        self._played: dict[tuple[object, ...], Rollout] = {}

    def play(self, puzzle: Puzzle, turns: Sequence[str], last: str, code: str = "") -> Rollout:
        """Runs a rollout of a scripted model that writes these turns, and then `last` until the rollout ends."""
        texts = tuple(fill(turn, puzzle, call_turn(code)) for turn in [*turns, last])
        key = (puzzle.applied, puzzle.truth, str(puzzle.drawing), texts)
        if key not in self._played:
            self._played[key] = self._score(puzzle, asyncio.run(self._run(texts)))
        return self._played[key]

    @staticmethod
    def task(puzzle: Puzzle) -> Task:
        """Returns the part of a task that the reward reads."""
        box = None if puzzle.box is None else Box(*puzzle.box)
        return Task(applied=puzzle.applied, box=box, size=SIZE, drawing=puzzle.drawing)

    async def _run(self, texts: tuple[str, ...]) -> Trajectory:
        left = list(texts)

        async def policy(ids: list[int], images: Sequence[Image.Image], max_tokens: int) -> Completion:  # noqa: ARG001
            text = left.pop(0) if len(left) > 1 else left[0]
            return Completion(ids=[*map(ord, text)], log_probs=[0.0] * len(text), finished=True)

        messages = [{"role": "user", "content": [{"type": "image"}]}]
        return await run_rollout(
            messages, [self.image], policy=policy, renderer=_Letters(), tool=self._tool, limits=LIMITS
        )

    def _score(self, puzzle: Puzzle, played: Trajectory) -> Rollout:
        item = Item(id="hack", question="?", references=puzzle.references, task=self.task(puzzle))
        return score_rollouts(item, "g", [played], Settings())[0]


class _Letters:
    """A renderer whose tokens are characters."""

    end_id = 0

    def resize(self, image: Image.Image) -> Image.Image:
        return image

    def prompt(self, *_: object) -> list[int]:
        return [0]

    def observation(self, role: str, text: str, resized: Sequence[Image.Image], *, closed: bool) -> list[int]:  # noqa: ARG002
        return [*map(ord, text)]

    def insertion(self, before: str, resized: Sequence[Image.Image], after: str = "") -> list[int]:  # noqa: ARG002
        return [*map(ord, before + after)]

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(map(chr, ids))


def _image() -> Image.Image:
    """Draws an asymmetric image with text."""
    small = np.random.default_rng(0).integers(90, 256, (SIZE[1] // 10, SIZE[0] // 10, 3), np.uint8)
    image = Image.fromarray(small).resize(SIZE, Image.Resampling.BICUBIC)
    ImageDraw.Draw(image).text((72, 54), "47", (20, 20, 60), ImageFont.load_default(34), anchor="mm")
    return image
