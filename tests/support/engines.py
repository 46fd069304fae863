"""What the tests of engines share: rollouts of two turns, and their true log-probs, by transformers."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from codevision_ext.rollout.code_tool import TOOL_SCHEMA
from codevision_ext.rollout.loop import Completion, Policy

TOLERANCE = 1e-4
"""Largest difference of two log-probs of a token."""
TURN = 20
"""Tokens of a turn."""


def image(seed: int, size: tuple[int, int]) -> Image.Image:
    return Image.frombytes("RGB", size, random.Random(seed).randbytes(size[0] * size[1] * 3))


IMAGES = [image(1, (84, 56)), image(2, (56, 56))]


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """Two turns, the second after a tool response that shows another image."""

    ids: list[int]
    sampled: dict[int, float]
    """Log-prob of each sampled token, by its place in `ids`."""
    resized: list[Image.Image]


async def two_turns(policy: Policy, renderer: Any, images: Sequence[Image.Image]) -> Played:
    resized = [renderer.resize(each) for each in images]
    messages = [
        {"role": "system", "content": [{"type": "text", "text": "Look closely."}]},
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is written?"}]},
    ]
    ids = renderer.prompt(messages, [TOOL_SCHEMA], resized[:1])
    sampled: dict[int, float] = {}
    for shown in (1, 2):
        sample = await policy(ids, resized[:shown], TURN)
        sampled |= {len(ids) + at: value for at, value in enumerate(sample.log_probs)}
        ids = ids + sample.ids
        if shown == 1:
            ids += renderer.observation(
                "tool", "Picture 1: 56x56.", resized[1:], closed=sample.ids[-1] == renderer.end_id
            )
    return Played(ids=ids, sampled=sampled, resized=resized)


async def cut_at_and_before_the_end(policy_of: Callable[[int], Policy], renderer: Any) -> tuple[Completion, Completion]:
    """The turn of the first seed that ends within 200 tokens, with just enough tokens for it, and with one fewer."""
    ids = renderer.prompt([{"role": "user", "content": [{"type": "text", "text": "What is written?"}]}], (), ())
    for seed in range(20):
        whole = await policy_of(seed)(ids, (), 200)
        if 2 <= len(whole.ids) < 200:
            policy, count = policy_of(seed), len(whole.ids)
            return await policy(ids, (), count), await policy(ids, (), count - 1)
    raise AssertionError("no turn ended")


def teacher_forced(renderer: Any, checkpoint: Path, played: Played) -> dict[int, dict[str, float]]:
    """The true log-prob of each sampled token, banned ids masked, and the share of those without the mask."""
    import torch  # noqa: PLC0415
    from transformers import AutoModelForImageTextToText  # noqa: PLC0415

    model = AutoModelForImageTextToText.from_pretrained(checkpoint, dtype=torch.float32).eval()
    ids = torch.tensor([played.ids])
    with torch.no_grad():
        logits = model(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            mm_token_type_ids=(ids == renderer.image_id).long(),
            **renderer.features(played.resized),
        ).logits[0]
    banned = list(renderer.banned_ids)
    share = logits.softmax(-1)[:, banned].sum(-1)
    logits[:, banned] -= 1e4
    log_probs = logits.log_softmax(-1)
    return {
        place: {"log_prob": log_probs[place - 1, played.ids[place]].item(), "banned": share[place - 1].item()}
        for place in played.sampled
    }


def largest_difference(renderer: Any, checkpoint: Path, rollouts: Sequence[Played]) -> float:
    """Of an engine's log-probs and the true ones."""
    return max(
        abs(truth["log_prob"] - played.sampled[place])
        for played in rollouts
        for place, truth in teacher_forced(renderer, checkpoint, played).items()
    )


def make_eager(checkpoint: Path, banned: Sequence[int]) -> None:
    """Blows up the output rows of the banned ids, which no image's embedding comes from."""
    from safetensors.torch import load_file, save_file  # noqa: PLC0415

    weights = load_file(checkpoint / "model.safetensors")
    (name,) = [name for name in weights if name.endswith("embed_tokens.weight")]
    weights[name][list(banned)] *= 30
    save_file(weights, checkpoint / "model.safetensors", metadata={"format": "pt"})
