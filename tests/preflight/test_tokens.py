"""A rollout trains exactly the tokens that were sampled, and its images and positions are those of transformers.

The loop, the renderer and the sandbox are the real ones; the engine samples fixed turns.
tests/verl_adapter/test_grpo.py checks whole training steps on a real engine, with one template and at
most two images per rollout.
"""

import asyncio
import json
import warnings
from collections.abc import Iterator, Sequence
from itertools import chain, count, groupby
from pathlib import Path
from random import Random
from typing import Any

import pytest
from PIL import Image

from codevision_ext.engines.device import use_cpu_if_no_cuda
from codevision_ext.errors import InputError
from codevision_ext.rollout.code_tool import TOOL_SCHEMA, CodeTool
from codevision_ext.rollout.loop import Completion, Trajectory, run_rollout
from codevision_ext.rollout.token_buffer import RolloutLimits
from codevision_ext.sandbox import Limits, Sandbox
from codevision_ext.types import EndReason

pytestmark = pytest.mark.filterwarnings("ignore")  # verl and transformers warn at import, by the dozen

PLAIN = (Path(__file__).parents[2] / "codevision_ext" / "prompts" / "chat_template.jinja").read_text()
SYSTEM = "{%- if messages[0].role != 'system' -%}{{- '<|im_start|>system\\nHelp.<|im_end|>\\n' -}}{%- endif -%}" + PLAIN
"""Template that adds a system message where there is none, as the stock template of Qwen2.5-VL does."""
THINKING = """
{%- macro text_of(content) -%}
  {%- if content is string -%}{{ content }}{%- else -%}
    {%- for part in content -%}
      {%- if part.type == 'image' -%}<|vision_start|><|image_pad|><|vision_end|>{%- else -%}{{ part.text }}{%- endif -%}
    {%- endfor -%}
  {%- endif -%}
{%- endmacro -%}
{%- set last = namespace(query=-1) -%}
{%- for message in messages -%}
  {%- if message.role == 'user' -%}{%- set last.query = loop.index0 -%}{%- endif -%}
{%- endfor -%}
{%- if tools -%}{{- '<|im_start|>system\\n' + tools|tojson + '<|im_end|>\\n' -}}{%- endif -%}
{%- for message in messages -%}
  {%- set text = text_of(message.content) -%}
  {%- if message.role == 'assistant' -%}
    {%- set thought = text.split('</think>')[0].split('<think>')[-1].strip('\\n') -%}
    {%- set rest = text.split('</think>')[-1].lstrip('\\n') -%}
    {{- '<|im_start|>assistant\\n' -}}
    {%- if loop.index0 > last.query -%}{{- '<think>\\n' + thought + '\\n</think>\\n\\n' -}}{%- endif -%}
    {{- rest + '<|im_end|>\\n' -}}
  {%- elif message.role == 'tool' -%}
    {{- '<|im_start|>user\\n<tool_response>\\n' + text + '\\n</tool_response><|im_end|>\\n' -}}
  {%- else -%}
    {{- '<|im_start|>' + message.role + '\\n' + text + '<|im_end|>\\n' -}}
  {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n<think>\\n' -}}{%- endif -%}
"""
"""Template that drops thoughts before the last question and opens every turn, as those of thinking models do."""
TEMPLATES = {"plain": PLAIN, "system": SYSTEM, "thinking": THINKING}
IMAGES = {1: (1, 0), 2: (1, 1), 3: (2, 1), 4: (1, 3), 5: (2, 3), 6: (3, 3)}
"""Number of images in the question and number from calls, by the total."""
QUESTION = "Which number is it?"


def call(code: str, index: int = 0) -> str:
    arguments = {"code": code, "image_index": index}
    return f"<tool_call>\n{json.dumps({'name': 'code_image_tool', 'arguments': arguments})}\n</tool_call>"


def replies(calls: int) -> list[str]:
    """Returns assistant turns as a template with thoughts writes them; `calls` of their calls return an image."""
    turned, cut = call("image = image.rotate(90, expand=True)"), call("image = image.crop((3, 5, 40, 41))")
    flipped = call("image = ImageOps.flip(image)", 1)
    turns = {0: [], 1: [turned], 3: [f"{turned}\n{cut}", "<tool_call>{</tool_call>", flipped]}[calls]
    return [f"<think>\nIt lies, {at}.\n</think>\n\n{text}" for at, text in enumerate([*turns, "<answer>7</answer>"])]


def inputs(number: int) -> list[Image.Image]:
    """Returns images of noise in several sizes, none of which is a multiple of a patch."""
    sizes = [(45 + 23 * at, 61) for at in range(number)]
    return [Image.frombytes("RGB", size, Random(0).randbytes(3 * size[0] * size[1])) for size in sizes]


@pytest.fixture(scope="module")
def tool() -> Iterator[CodeTool]:
    with Sandbox(Limits(wall_s=30.0), live=1) as sandbox:
        yield CodeTool(sandbox)


@pytest.fixture(scope="module", params=["qwen2_5_vl", "qwen3_vl"])
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        use_cpu_if_no_cuda()
        from codevision_ext.models import tiny_model  # noqa: PLC0415  # after the device is settled
    out: Path = tmp_path_factory.mktemp(request.param) / "model"
    sizes = {"hidden": 32, "layers": 1, "vision_hidden": 32, "vision_layers": 1, "vocab_size": 600}
    tiny_model.build(request.param, out, texts=tiny_model.tokenizer_texts(), **sizes)
    return out


@pytest.fixture(scope="module")
def model(checkpoint: Path) -> Any:
    from transformers import AutoModelForImageTextToText  # noqa: PLC0415

    return AutoModelForImageTextToText.from_pretrained(checkpoint).model


@pytest.fixture(scope="module", params=list(TEMPLATES))
def renderer(checkpoint: Path, request: pytest.FixtureRequest) -> Any:
    from verl.utils import hf_processor  # noqa: PLC0415

    from codevision_ext.models.renderer import QwenRenderer  # noqa: PLC0415

    processor = hf_processor(str(checkpoint))
    processor.chat_template = TEMPLATES[request.param]
    return QwenRenderer(processor)


class Engine:
    """Samples fixed turns; log-probs count down, so that each differs from all others."""

    def __init__(self, turns: Sequence[Sequence[int]]) -> None:
        self.turns = [list(turn) for turn in turns]
        self.prompts: list[list[int]] = []
        self.images: list[int] = []
        self.log_probs: list[list[float]] = []
        self._numbers = count(1)

    async def __call__(self, ids: list[int], images: Sequence[Image.Image], max_tokens: int) -> Completion:  # noqa: ARG002
        turn = self.turns[len(self.prompts)]
        self.prompts.append(list(ids))
        self.images.append(len(images))
        self.log_probs.append([-next(self._numbers) / 1000 for _ in turn])
        return Completion(ids=turn, log_probs=self.log_probs[-1], finished=True)


def roll_out(renderer: Any, tool: CodeTool, engine: Engine, images: int) -> Trajectory:
    """Runs one rollout about this number of images."""
    content = [{"type": "image"}] * images + [{"type": "text", "text": QUESTION}]
    limits = RolloutLimits(response_tokens=10_000, assistant_turns=9, calls_per_turn=2)
    prompt = [{"role": "user", "content": content}]
    trajectory = asyncio.run(
        run_rollout(prompt, inputs(images), policy=engine, renderer=renderer, tool=tool, limits=limits)
    )
    assert trajectory.end_reason is EndReason.ANSWER
    return trajectory


def letter_by_letter(renderer: Any, text: str) -> list[int]:
    """Returns tokens that no tokenizer would choose for the text, but an engine may sample."""
    return [token for letter in text for token in renderer.tokenizer(letter)["input_ids"]] + [renderer.end_id]


def opening(renderer: Any) -> str:
    return "<think>\n" if renderer.processor.chat_template is THINKING else ""


def collapsed(renderer: Any, ids: Sequence[int]) -> str:
    """Returns the text with one mark for each image."""
    runs = ((token, len(list(run))) for token, run in groupby(ids))
    single = [token for token, length in runs for _ in range(1 if token == renderer.image_id else length)]
    return str(renderer.tokenizer.decode(single))


@pytest.mark.parametrize("images", IMAGES)
def test_sampled_tokens_are_trained_and_the_messages_between_them_are_whole_and_have_no_loss(
    renderer: Any, tool: CodeTool, images: int
) -> None:
    question_images, calls = IMAGES[images]
    turns = [text.replace("\n</think>\n\n", "  \n\n\n</think>") for text in replies(calls)]  # not as templates write it
    engine = Engine([letter_by_letter(renderer, text.removeprefix(opening(renderer))) for text in turns])
    trajectory = roll_out(renderer, tool, engine, question_images)
    token_buffer = trajectory.token_buffer

    sampled = [at for at, own in enumerate(token_buffer.response_mask) if own]
    assert [token_buffer.response_ids[at] for at in sampled] == list(chain(*engine.turns))
    assert [token_buffer.log_probs[at] for at in sampled] == list(chain(*engine.log_probs))
    assert all(token_buffer.log_probs[at] == 0 for at, own in enumerate(token_buffer.response_mask) if not own)
    assert trajectory.replies == [text.removeprefix(opening(renderer)) for text in turns]
    assert trajectory.malformed == (1 if calls == 3 else 0)

    ends = [len(prompt) + len(turn) for prompt, turn in zip(engine.prompts, engine.turns, strict=True)]
    assert token_buffer.ids == engine.prompts[-1] + engine.turns[-1]
    assert ends[-1] == len(token_buffer.ids)
    for at, prompt in enumerate(engine.prompts[1:], start=1):
        assert prompt[: ends[at - 1]] == engine.prompts[at - 1] + engine.turns[at - 1]
        between = collapsed(renderer, prompt[ends[at - 1] :])
        assert between.startswith("\n<|im_start|>user\n<tool_response>\n")
        assert between.endswith(f"\n</tool_response><|im_end|>\n<|im_start|>assistant\n{opening(renderer)}")
        assert between.count("<|im_start|>") == 2
    assert engine.images[-1] == len(trajectory.resized) == images


@pytest.mark.parametrize("images", IMAGES)
def test_marks_grids_and_pixels_agree_and_positions_are_those_of_the_whole_conversation(
    renderer: Any, model: Any, tool: CodeTool, images: int
) -> None:
    import torch  # noqa: PLC0415  # after the device is settled

    question_images, calls = IMAGES[images]
    trajectory = roll_out(renderer, tool, Engine([renderer.turn(text) for text in replies(calls)]), question_images)
    turns: list[dict[str, Any]] = [
        {"role": "user", "content": [{"type": "image"}] * question_images + [{"type": "text", "text": QUESTION}]}
    ]
    for message, text in zip(trajectory.messages, _alternating(replies(calls)), strict=True):
        parts: list[dict[str, str]] = [{"type": "text", "text": text or message.text}]
        turns.append({"role": message.role, "content": parts + [{"type": "image"} for _ in message.images]})
    text = renderer.processor.apply_chat_template(turns, tools=[TOOL_SCHEMA], tokenize=False)
    whole = renderer.processor(text=[text.removesuffix("\n")], images=list(trajectory.resized), return_tensors="pt")

    ids = torch.tensor(trajectory.token_buffer.ids)
    features = renderer.features(trajectory.resized)
    assert torch.equal(ids, whole["input_ids"][0])
    assert torch.equal(features["image_grid_thw"], whole["image_grid_thw"])
    assert torch.equal(features["pixel_values"], whole["pixel_values"])
    marks = [len(list(run)) for token, run in groupby(trajectory.token_buffer.ids) if token == renderer.image_id]
    assert marks == (features["image_grid_thw"].prod(-1) // 4).tolist()
    assert marks == [renderer.image_tokens(image) for image in trajectory.resized]
    assert len(marks) == images
    true, _ = model.get_rope_index(
        whole["input_ids"],
        mm_token_type_ids=(whole["input_ids"] == renderer.image_id).int(),
        image_grid_thw=whole["image_grid_thw"],
        attention_mask=whole["attention_mask"],
    )
    positions = renderer.position_ids(ids, features["image_grid_thw"])
    assert torch.equal(positions[0], torch.arange(len(ids)))
    assert torch.equal(positions[1:], true[:, 0])


def _alternating(turns: Sequence[str]) -> list[str]:
    """Returns the turns with an empty text between each two."""
    return [text for reply in turns for text in (reply, "")][:-1]


@pytest.mark.parametrize("images", [2, 6])
def test_fine_tuning_on_a_rollout_sees_its_tokens_and_the_same_ones_have_loss(
    renderer: Any, tool: CodeTool, images: int
) -> None:
    question_images, calls = IMAGES[images]
    trajectory = roll_out(renderer, tool, Engine([renderer.turn(text) for text in replies(calls)]), question_images)
    messages = [{"role": "user", "content": "<image>" * question_images + QUESTION}]
    for message, text in zip(trajectory.messages, _alternating(replies(calls)), strict=True):
        content = text or message.text + "<image>" * len(message.images)
        messages.append({"role": message.role, "content": content})
    encoded = renderer.conversation(messages, [TOOL_SCHEMA], trajectory.images)
    token_buffer = trajectory.token_buffer
    assert encoded.ids[: len(token_buffer.ids)] == token_buffer.ids
    assert encoded.mask[: len(token_buffer.ids)] == [0] * len(token_buffer.prompt_ids) + token_buffer.response_mask
    assert renderer.tokenizer.decode(encoded.ids[len(token_buffer.ids) :]) == "\n"
    assert not any(encoded.mask[len(token_buffer.ids) :])


def test_what_was_thought_before_a_later_question_is_neither_left_out_nor_written_anew(renderer: Any) -> None:
    turns = [f"<think>\nodd \n\n thought {at}\n\n</think>{at}" for at in range(3)]
    messages = [
        {"role": role, "content": text} for text in turns for role, text in (("user", "?"), ("assistant", text))
    ]
    encoded = renderer.conversation(messages, [], [])
    text = renderer.tokenizer.decode(encoded.ids)
    assert [text.count(f"\n{reply}<|im_end|>\n") for reply in turns] == [1, 1, 1]
    assert text.count("<think>") == 3
    learned = renderer.tokenizer.decode([token for token, own in zip(encoded.ids, encoded.mask, strict=True) if own])
    assert learned == "".join(reply.removeprefix(opening(renderer)) + "<|im_end|>" for reply in turns)


def test_an_assistant_s_turn_is_neither_the_first_nor_does_it_have_an_image(renderer: Any) -> None:
    user, assistant = {"role": "user", "content": "?"}, {"role": "assistant", "content": "<image>"}
    with pytest.raises(InputError, match="message 1 is the assistant's and has an <image>"):
        renderer.conversation([user, assistant], [], inputs(1))
    with pytest.raises(InputError, match="the conversation begins with an assistant's turn"):
        renderer.conversation([assistant | {"content": "7"}, user], [], [])
