"""A demonstration, a rollout and the chat template have the same tokens, and no id without a meaning is sampled."""

import json
import warnings
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from PIL import Image

from codevision_ext.engines.device import use_cpu_if_no_cuda
from codevision_ext.errors import InputError
from codevision_ext.rollout.code_tool import TOOL_SCHEMA

pytestmark = pytest.mark.filterwarnings("ignore")  # transformers and SGLang warn at import, by the dozen

SPARE = 3
"""Rows of the model's embedding without a token."""
CALL = '<think>t</think><tool_call>\n{"name": "code_image_tool", "arguments": {"code": "image = 1"}}\n</tool_call>'
IMAGES = [Image.new("RGB", (84, 56), "red"), Image.new("RGB", (40, 100), "blue")]
CONVERSATION = [
    {"role": "user", "content": "<image>\nWhat is written?"},
    {"role": "assistant", "content": CALL},
    {"role": "tool", "content": "Picture 1: 40x100.<image>"},
    {"role": "assistant", "content": "<think>t</think><answer>7</answer>"},
]


@pytest.fixture(scope="module", params=["qwen2_5_vl", "qwen3_vl"])
def renderer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        use_cpu_if_no_cuda()
        from codevision_ext.models import checkpoint, tiny_model  # noqa: PLC0415  # after the device is settled
    out: Path = tmp_path_factory.mktemp(request.param) / "model"
    sizes = {"hidden": 32, "layers": 1, "vision_hidden": 32, "vision_layers": 1, "vocab_size": 600}
    tiny_model.build(request.param, out, texts=tiny_model.tokenizer_texts(), **sizes)
    config = json.loads((out / "config.json").read_text())
    config["text_config"]["vocab_size"] += SPARE
    (out / "config.json").write_text(json.dumps(config))
    return checkpoint.renderer_of(out)


def parts(content: str) -> list[dict[str, str]]:
    text = content.replace("<image>", "")
    return [{"type": "image"}] * content.count("<image>") + [{"type": "text", "text": text}]


@pytest.mark.parametrize("tools", [[], [TOOL_SCHEMA]], ids=["alone", "tool"])
def test_a_rollout_is_tokenized_as_its_demonstration_and_as_the_template_would_as_a_whole(
    renderer: Any, tools: list[Any]
) -> None:
    encoded = renderer.conversation(CONVERSATION, tools, IMAGES)
    resized = [renderer.resize(image) for image in IMAGES]
    user = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "\nWhat is written?"}]}]
    turns = [renderer.tokenizer(CONVERSATION[at]["content"] + "<|im_end|>")["input_ids"] for at in (1, 3)]
    ids = renderer.prompt(user, tools, resized[:1])
    mask = [0] * len(ids) + [1] * len(turns[0])
    ids += turns[0]
    observation = renderer.observation("tool", "Picture 1: 40x100.", resized[1:], closed=True)
    ids += observation + turns[1]
    mask += [0] * len(observation) + [1] * len(turns[1])
    assert encoded.ids[: len(ids)] == ids
    assert encoded.mask == mask + [0] * (len(encoded.ids) - len(ids))
    assert renderer.tokenizer.decode(encoded.ids[len(ids) :]) in ("", "\n")
    messages = [{"role": turn["role"], "content": parts(turn["content"])} for turn in CONVERSATION]
    messages[2]["content"].reverse()
    text = renderer.processor.apply_chat_template(messages, tools=tools or None, tokenize=False)
    assert renderer._ids(text, resized) == encoded.ids


@pytest.mark.parametrize("masked", [(1,), (3,), (1, 3, 5)])
def test_a_message_that_isn_t_trained_has_its_tokens_and_no_loss(renderer: Any, masked: tuple[int, ...]) -> None:
    turns = [*CONVERSATION[:3], CONVERSATION[1], CONVERSATION[2], CONVERSATION[1], CONVERSATION[2], CONVERSATION[3]]
    images = [*IMAGES, *IMAGES[1:], *IMAGES[1:]]
    whole = renderer.conversation([{**turn, "train": None} for turn in turns], [TOOL_SCHEMA], images)
    marked = [{**turn, "train": at not in masked} for at, turn in enumerate(turns)]
    encoded = renderer.conversation(marked, [TOOL_SCHEMA], images)
    assert encoded.ids == whole.ids
    spans = [list(span) for own, span in groupby(range(len(whole.ids)), lambda at: whole.mask[at]) if own]
    assert [renderer.tokenizer.decode([whole.ids[at] for at in span]) for span in spans] == [
        turns[at]["content"] + "<|im_end|>" for at in (1, 3, 5, 7)
    ]
    learned = {at for turn, span in zip((1, 3, 5, 7), spans, strict=True) if turn not in masked for at in span}
    assert encoded.mask == [int(at in learned) for at in range(len(whole.ids))]


def test_a_conversation_without_a_message_to_learn_is_refused(renderer: Any) -> None:
    turns = [turn | ({"train": False} if turn["role"] == "assistant" else {}) for turn in CONVERSATION]
    with pytest.raises(InputError, match="there is nothing to learn"):
        renderer.conversation(turns, [], IMAGES)


def test_every_image_has_as_many_tokens_as_the_processor_makes_features(renderer: Any) -> None:
    encoded = renderer.conversation(CONVERSATION, [], IMAGES)
    grids = renderer.features(encoded.images)["image_grid_thw"]
    assert encoded.ids.count(renderer.image_id) == int(grids.prod(-1).sum()) // 4
    assert [renderer.image_tokens(image) for image in encoded.images] == (grids.prod(-1) // 4).tolist()
    assert renderer.features(()) == {}


@given(width=st.integers(1, 6000), height=st.integers(1, 6000))
@example(width=2000, height=28)
def test_a_resized_image_keeps_its_size_in_an_engine_that_resizes_it_again(
    renderer: Any, width: int, height: int
) -> None:
    assume(max(width, height) <= 200 * min(width, height))
    wide, high = renderer.resized_size(width, height)
    again = renderer.processor._get_num_multimodal_tokens(image_sizes=[(high, wide)]).num_image_tokens
    assert again == [renderer.image_tokens(Image.new("1", (wide, high)))]


def test_the_rollouts_of_a_prompt_share_what_they_see_of_its_image_and_nothing_of_it_stays(renderer: Any) -> None:
    image, whole = Image.effect_noise((300, 200), 90).convert("RGB"), renderer.resize(IMAGES[0])
    assert renderer.resize(whole) is whole
    with ThreadPoolExecutor(8) as threads:
        shared = list(threads.map(renderer.resize, [image] * 8))
    assert all(one is shared[0] for one in shared)
    assert renderer.resize(image.copy()) is not shared[0]
    other = renderer.resize(image.convert("L"))
    assert (other.mode, other.size) == ("RGB", shared[0].size)
    del shared
    assert renderer.resize(image).tobytes() == renderer.resize(image.copy()).tobytes()
    key = id(image)
    assert key in renderer._resized
    del image
    assert key not in renderer._resized


def test_a_turn_cut_off_before_its_end_is_closed_by_the_observation(renderer: Any) -> None:
    open_, closed = (renderer.observation("tool", "x", (), closed=closed) for closed in (False, True))
    assert open_ == [renderer.end_id, *closed]
    assert renderer.decode([*renderer.tokenizer("7")["input_ids"], renderer.end_id]) == "7"


def test_marks_of_images_and_ids_that_no_token_has_are_banned_in_every_request(renderer: Any) -> None:
    from codevision_ext.engines.sglang.request import request_of  # noqa: PLC0415
    from codevision_ext.models.renderer import NEVER  # noqa: PLC0415

    size = len(renderer.tokenizer)
    names = ("<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>")
    expected = {renderer.tokenizer.convert_tokens_to_ids(name) for name in names} | set(range(size, size + SPARE))
    request = request_of([5, 6], (), {"temperature": 1.0}, 4, renderer=renderer, context=100)
    assert request.sampling_params["logit_bias"] == {str(token): NEVER for token in expected}


@pytest.mark.parametrize("size", [(60_000, 300), (238, 47_600), (200, 1), (1, 1), (7, 1_400)])
def test_a_narrow_image_that_the_checks_accept_has_a_size_that_processors_accept(
    renderer: Any, size: tuple[int, int]
) -> None:
    renderer._min_pixels, renderer._max_pixels = 56 * 56, 16384 * 28 * 28  # as published
    width, height = renderer.resized_size(*size)
    assert max(width, height) <= 200 * min(width, height)
    assert renderer.resized_size(width, height) == (width, height)


def test_an_image_that_is_too_narrow_is_refused_by_name(renderer: Any) -> None:
    with pytest.raises(InputError, match="an image of 9x2000 is too narrow"):
        renderer.resize(Image.new("RGB", (9, 2000)))


def test_images_and_marks_that_don_t_belong_together_are_refused(renderer: Any) -> None:
    with pytest.raises(InputError, match="2 <image> tags, but 1 images"):
        renderer.conversation(CONVERSATION, [], IMAGES[:1])
    with pytest.raises(InputError, match="1 image marks for 0 images"):
        renderer.prompt([{"role": "user", "content": [{"type": "image"}]}], (), ())
