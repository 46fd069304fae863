"""A model that was tuned on one conversation of `code_tags` plays it on real engines, which stop at its code's end.

Tuning, loop, renderer, sandbox and engines are the real ones.
"""

import asyncio
import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from engines import image

from codevision_ext.engines.base import EngineConfig
from codevision_ext.engines.device import use_cpu_if_no_cuda
from codevision_ext.engines.registry import ENGINES
from codevision_ext.rollout.code_tool import CodeTool
from codevision_ext.rollout.dialects.registry import CODE_TAGS
from codevision_ext.rollout.loop import Completion, Policy, Trajectory, run_rollout, with_question_end
from codevision_ext.rollout.token_buffer import RolloutLimits
from codevision_ext.sandbox import Sandbox
from codevision_ext.types import EndReason, ToolCall

pytestmark = pytest.mark.filterwarnings("ignore")  # SGLang and transformers warn at import, by the dozen

INPUT = image(1, (84, 56))
PROMPT = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Turn it."}]}]
CODE = "print('</code>')\nimage = image.rotate(90, expand=True)"
REPLIES = [
    CODE_TAGS.call_text("I turn it.", ToolCall(code=CODE), first=True),
    CODE_TAGS.answer_text("Now it stands.", "7", first=False),
]
STEPS = 400
"""Maximum optimizer steps; tuning ends as soon as the loss is low."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuned:
    checkpoint: Path
    ids: list[int]
    """Tokens of the conversation, up to its last `<|im_end|>`."""
    mask: list[int]


@pytest.fixture(scope="module", params=["qwen2_5_vl", "qwen3_vl"])
def tuned(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tuned:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        use_cpu_if_no_cuda()
        import torch  # noqa: PLC0415  # after the device is settled
        from transformers import AutoModelForImageTextToText  # noqa: PLC0415

        from codevision_ext.models import checkpoint, tiny_model  # noqa: PLC0415
    folder = tmp_path_factory.mktemp(request.param)
    sizes = {"hidden": 64, "layers": 2, "vision_hidden": 32, "vision_layers": 1, "vocab_size": 640}
    tiny_model.build(request.param, folder / "base", texts=tiny_model.tokenizer_texts(), **sizes)
    renderer = checkpoint.renderer_of(folder / "base")
    [asked] = with_question_end(PROMPT, CODE_TAGS)
    question = "".join(part.get("text", "<image>") for part in asked["content"])
    turns = [("user", question), ("assistant", REPLIES[0]), ("tool", "<image>"), ("assistant", REPLIES[1])]
    images = [INPUT, INPUT.rotate(90, expand=True)]
    encoded = renderer.conversation([{"role": role, "content": text} for role, text in turns], [], images)
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_pretrained(folder / "base", dtype=torch.float32)
    ids = torch.tensor([encoded.ids])
    labels = torch.where(torch.tensor([encoded.mask]) == 1, ids, -100)
    features = {**renderer.features(encoded.images), "mm_token_type_ids": (ids == renderer.image_id).long()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(STEPS):
        loss = model(input_ids=ids, attention_mask=torch.ones_like(ids), labels=labels, **features).loss
        if loss.item() < 0.01:
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.01
    shutil.copytree(folder / "base", folder / "tuned")
    model.save_pretrained(folder / "tuned")
    count = len(encoded.ids) - encoded.ids[::-1].index(renderer.end_id)
    return Tuned(checkpoint=folder / "tuned", ids=encoded.ids[:count], mask=encoded.mask[:count])


@pytest.fixture(scope="module")
def tool() -> Iterator[CodeTool]:
    with Sandbox(live=1) as sandbox:
        yield CodeTool(sandbox)


@dataclass
class Spy:
    """Keeps what an engine sampled."""

    policy: Policy
    sampled: list[Completion]

    async def __call__(self, *args: Any) -> Completion:
        self.sampled.append(await self.policy(*args))
        return self.sampled[-1]


def play(opened: Any, tool: CodeTool, checkpoint: Path) -> tuple[Trajectory, list[Completion]]:
    async def once() -> tuple[Trajectory, list[Completion]]:
        await opened.load(checkpoint)
        spy = Spy(opened.policy(0, temperature=0.0), [])
        limits = RolloutLimits(response_tokens=400, assistant_turns=3)
        rollout = run_rollout(
            PROMPT, [INPUT], policy=spy, renderer=opened.renderer, tool=tool, limits=limits, dialect=CODE_TAGS
        )
        return await rollout, spy.sampled

    return asyncio.run(once())


def check_conversation(trajectory: Trajectory, tuned: Tuned) -> None:
    assert trajectory.replies == REPLIES
    assert (trajectory.end_reason, trajectory.answer, trajectory.malformed) == (EndReason.ANSWER, "7", 0)
    assert [step.ops for step in trajectory.steps] == [("rotate_90",)]
    token_buffer = trajectory.token_buffer
    assert token_buffer.ids == tuned.ids
    assert [0] * len(token_buffer.prompt_ids) + token_buffer.response_mask == tuned.mask


@pytest.mark.parametrize("name", ["transformers", "sglang"])
def test_the_engine_stops_at_the_end_of_the_code_and_the_rollout_has_the_tokens_of_tuning(
    tuned: Tuned, tool: CodeTool, name: str
) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    config = EngineConfig(checkpoint=tuned.checkpoint, context=1024, stop=CODE_TAGS.stop)
    opening: AbstractContextManager[Any] = ENGINES[name](config)
    with opening as opened:
        trajectory, sampled = play(opened, tool, tuned.checkpoint)
        check_conversation(trajectory, tuned)
        assert [part.stopped for part in sampled] == [True, True, False], "the first time in a string of the code"
        assert sum(len(part.ids) for part in sampled) == sum(tuned.mask), "nothing was sampled in vain"


def test_an_engine_that_does_not_stop_gives_the_same_rollout(tuned: Tuned, tool: CodeTool) -> None:
    config = EngineConfig(checkpoint=tuned.checkpoint, context=1024)
    with ENGINES["transformers"](replace(config, stop=())) as opened:
        trajectory, sampled = play(opened, tool, tuned.checkpoint)
        check_conversation(trajectory, tuned)
        assert not any(part.stopped for part in sampled)
        assert sum(len(part.ids) for part in sampled) > sum(tuned.mask)
