"""Turns messages and images into the tokens and tensors of a Qwen-VL model; SFT, rollout and evaluation all use it.

A conversation is rendered in pieces that begin and end at special tokens. A piece therefore has the same tokens by
itself as inside the whole conversation, and sampled tokens are never rendered again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from threading import Lock
from typing import Any, cast
from weakref import ref

import torch
from jinja2 import TemplateError
from PIL import Image
from transformers import ProcessorMixin
from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

from codevision_ext.errors import InputError
from codevision_ext.geometry import MAX_ASPECT_RATIO
from codevision_ext.rollout.dialects.registry import TOOL_CALL, dialect_of
from codevision_ext.task.row_checks import IMAGE_TAG, check_size, check_tags, check_trained, is_trained
from codevision_ext.task.rows import split_content
from codevision_ext.types import CoordinateSystem

FAMILIES = {"Qwen2_5_VL": ("Qwen2.5-VL", CoordinateSystem.SEEN), "Qwen3VL": ("Qwen3-VL", CoordinateSystem.RELATIVE)}
"""Name and learned coordinate system of each model family, by the first letters of its processor's class."""
NEVER = -1e4
"""Logit bias of a token that must not be sampled."""
IMAGE_MARKS = "<|vision_start|><|image_pad|><|vision_end|>"
"""Text into which the chat templates turn an image."""
_PASSES = 16
"""Maximum passes of `resized_size`; with the bounds of published checkpoints no image needed more than six."""
_OPENING = [{"role": "user", "content": [{"type": "text", "text": "?"}]}]


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """A rendered conversation, unpadded."""

    ids: list[int]
    mask: list[int]
    """1 for the tokens of assistant turns that are learned, the closing `<|im_end|>` included; 0 for all others."""
    images: tuple[Image.Image, ...]
    """Images as the model sees them."""


class QwenRenderer:
    """Renders and tokenizes with one processor, and resizes images; one object serves all rollouts and threads.

    Args:
        processor: A Qwen2.5-VL or Qwen3-VL processor with a chat template.
        vocab_size: Rows of the model's embedding, often more than there are tokens; only sampling needs it.

    Raises:
        InputError: the processor is of another family, or has no chat template.
    """

    def __init__(self, processor: ProcessorMixin, vocab_size: int = 0) -> None:
        name = type(processor).__name__
        known = next((known for prefix, known in FAMILIES.items() if name.startswith(prefix)), None)
        if known is None:
            raise InputError(f"{name}: only Qwen2.5-VL and Qwen3-VL processors are supported")
        self.family, self.coordinates = known
        if not processor.chat_template:
            raise InputError(f"{name}: the checkpoint has no chat template")
        self.processor = processor
        self.tokenizer = processor.tokenizer
        images = processor.image_processor
        self._patch: int = images.patch_size
        self._merge: int = images.merge_size
        self._min_pixels: int = images.size["shortest_edge"]
        self._max_pixels: int = images.size["longest_edge"]
        token_id = self.tokenizer.convert_tokens_to_ids
        self.image_id = token_id("<|image_pad|>")
        self.end_id = token_id("<|im_end|>")
        self.end_ids = (self.end_id, token_id("<|endoftext|>"))
        """Ids of the tokens that end an assistant turn."""
        marks = ("<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>")
        self.banned_ids = (*map(token_id, marks), *range(len(self.tokenizer), vocab_size))
        """Ids that must never be sampled: marks of images, whose count must stay right, and ids without a token."""
        self._resized: dict[int, tuple[ref[Image.Image], ref[Image.Image]]] = {}
        self._locks = [Lock() for _ in range(64)]

    @property
    def image_bounds(self) -> tuple[int, int]:
        """Minimum and maximum pixels of an image as the model sees it."""
        return self._min_pixels, self._max_pixels

    # -- images ------------------------------------------------------------------------------------------------

    def resize(self, image: Image.Image) -> Image.Image:
        """Returns the image as the model sees it: RGB, sides multiples of patch x merge, area in bounds.

        The rollouts of a prompt share one resized image: it is cached while it is in use, by the identity of `image`.

        Raises:
            InputError: the processor's bounds leave no size for the image.
        """
        size = self.resized_size(*image.size)
        if image.mode == "RGB" and image.size == size:
            return image
        key = id(image)
        with self._locks[key // 64 % len(self._locks)]:
            source, cached = self._resized.get(key, (None, None))
            resized = cached() if source and cached and source() is image else None
            if resized is None:
                resized = image.convert("RGB").resize(size, Image.Resampling.BICUBIC)
                self._resized[key] = ref(image, lambda _: self._resized.pop(key, None)), ref(resized)
            return resized

    def resized_size(self, width: int, height: int) -> tuple[int, int]:
        """Returns the width and height to which an image is resized. The processor keeps an image of this size.

        One pass of the processor isn't enough: after it, a narrow image, one patch high, can have more pixels than the
        processor allows. An engine would resize that image again and count fewer tokens than this package.

        Raises:
            InputError: the image fails `check_size`, or the processor's bounds leave no size for it.
        """
        check_size(width, height)
        size = (width, height)
        for _ in range(_PASSES):
            before = size
            high, wide = smart_resize(size[1], size[0], self._patch * self._merge, self._min_pixels, self._max_pixels)
            longest = int(MAX_ASPECT_RATIO) * min(wide, high)  # rounding the shorter side down can exceed the limit
            size = (min(wide, longest), min(high, longest))
            if size == before:
                return size
        raise InputError(
            f"an image of {width}x{height} has no size between {self._min_pixels} and {self._max_pixels} pixels"
        )

    def image_tokens(self, resized: Image.Image) -> int:
        """Returns the number of `<|image_pad|>` tokens of a resized image."""
        side = self._patch * self._merge
        return (resized.width // side) * (resized.height // side)

    def features(self, resized: Sequence[Image.Image]) -> dict[str, torch.Tensor]:
        """Returns `pixel_values` (patches, channels x t x patch x patch) and `image_grid_thw` (images, 3).

        Without images the result is empty.
        """
        if not resized:
            return {}
        return dict(self.processor.image_processor(images=list(resized), return_tensors="pt"))

    # -- tokens --------------------------------------------------------------------------------------------------

    def prompt(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[dict[str, Any]], resized: Sequence[Image.Image]
    ) -> list[int]:
        """Returns the tokens of the prompt, up to the start of the first assistant turn.

        Raises:
            InputError: the messages have more or fewer image parts than there are images, or can't be rendered.
        """
        return self._ids(self._render(messages, tools, generate=True), resized)

    def observation(self, role: str, text: str, resized: Sequence[Image.Image], *, closed: bool) -> list[int]:
        """Returns the tokens between two assistant turns: the end of the last one, a message, the start of the next.

        Args:
            role: `tool` for the result of calls, `user` for anything else.
            text: Text of the message; images follow it.
            resized: Images of the message, as the model sees them.
            closed: Whether the last turn already ends with `<|im_end|>`.

        Raises:
            InputError: the message can't be rendered.
        """
        content = [{"type": "text", "text": text}] + [{"type": "image"} for _ in resized]
        message = self._later([{"role": role, "content": content}], generate=True)
        return ([] if closed else [self.end_id]) + self._ids("\n" + message, resized)

    def insertion(self, before: str, resized: Sequence[Image.Image], after: str = "") -> list[int]:
        """Returns the tokens of a text, images and another text inside of a message of the assistant.

        Raises:
            InputError: a text has marks of images.
        """
        return self._ids(before + IMAGE_MARKS * len(resized) + after, resized)

    def decode(self, ids: Sequence[int]) -> str:
        """Returns the text of an assistant turn without its closing token."""
        end = len(ids) - 1 if ids and ids[-1] == self.end_id else len(ids)
        return str(self.tokenizer.decode(list(ids[:end]), skip_special_tokens=False))

    def turn(self, text: str, *, begins: bool = True, ends: bool = True) -> list[int]:
        """Returns the tokens of an assistant turn with this text, as a policy would sample them.

        Args:
            text: Text of the turn. The text with which the template opens a message (`<think>` on thinking models) is
                left out at its beginning.
            begins: Whether the turn begins its message.
            ends: Whether the turn ends its message, with `<|im_end|>`.
        """
        opening = self.turn_opening if begins else ""
        sampled = text.removeprefix(opening) if text.startswith(opening) else text.removeprefix(opening.strip())
        return [*self._ids(sampled, ()), *[self.end_id] * ends]

    def conversation(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[dict[str, Any]], images: Sequence[Image.Image]
    ) -> Encoded:
        """Renders a finished conversation as a rollout would, with a mask of the tokens that SFT learns.

        The template never renders an assistant turn, because some templates drop the thoughts of earlier turns. The
        calls are in the dialect of the first call (`dialect_of`).

        Args:
            messages: Roles and contents; a content is text with `<image>` in place of each image. An assistant's
                message with a `train` of False is rendered and not learned.
            tools: Tool schemas of the system block.
            images: All images of the conversation at full resolution, in order.

        Raises:
            InputError: a tag fails `check_tags`, no message is learned, or the first message is an assistant's.
        """
        resized = tuple(self.resize(image) for image in images)
        check_tags(messages, len(resized))
        check_trained(messages)
        if messages[0]["role"] == "assistant":
            raise InputError("the conversation begins with an assistant's turn")
        turns = [at for at, message in enumerate(messages) if message["role"] == "assistant"]
        remaining = iter(resized)
        dialect = dialect_of((message["role"], message["content"]) for message in messages) or TOOL_CALL
        ids: list[int] = []
        mask: list[int] = []
        frame = None
        for at, stop in zip([-1, *turns], [*turns, len(messages)], strict=True):
            begins, frame = frame is None, dialect.frame(messages[at]["content"]) if at >= 0 else None
            own = self.turn(messages[at]["content"], begins=begins, ends=frame is None) if at >= 0 else []
            between = messages[at + 1 : stop]
            more = stop < len(messages)
            if frame:
                text = self._output(frame, between) if between else ""
            else:
                parts = [{"role": other["role"], "content": split_content(other["content"])} for other in between]
                later = at >= 0
                text = "\n" + self._later(parts, generate=more) if later else self._render(parts, tools, generate=more)
            count = sum(other["content"].count(IMAGE_TAG) for other in between)
            context = self._ids(text, list(islice(remaining, count)))
            ids += own + context
            mask += [int(at >= 0 and is_trained(messages[at]))] * len(own) + [0] * len(context)
        return Encoded(ids=ids, mask=mask, images=resized)

    @staticmethod
    def _output(frame: tuple[str, str], between: Sequence[Mapping[str, Any]]) -> str:
        """Returns the text of an observation inside of a message of the assistant."""
        if [message["role"] for message in between] != ["tool"]:
            raise InputError("a message of the assistant ends with a call, and no message of the tool alone follows it")
        before, after = frame
        content: str = between[0]["content"]
        return before + content.replace(IMAGE_TAG, IMAGE_MARKS) + after

    def collapse_image_tokens(self, ids: Sequence[int]) -> list[int]:
        """Returns the tokens with one `<|image_pad|>` per image, for engines that repeat the marks themselves."""
        return [token for at, token in enumerate(ids) if token != self.image_id or at == 0 or ids[at - 1] != token]

    def position_ids(self, ids: torch.Tensor, grids: torch.Tensor | None) -> torch.Tensor:
        """Returns the positions (mrope) of an unpadded sequence, shape (4, tokens).

        Row 0 counts the tokens; rows 1 to 3 are time, height and width.

        Args:
            ids: Tokens, shape (tokens,).
            grids: `image_grid_thw` of `features`; None without images.
        """
        text = torch.arange(len(ids), dtype=torch.long).unsqueeze(0)
        token_types = (ids == self.image_id).long().unsqueeze(0)
        vision, _ = self.processor.get_rope_index(  # type: ignore[attr-defined]  # verl's `hf_processor` adds it
            input_ids=ids.unsqueeze(0),
            attention_mask=torch.ones_like(ids).unsqueeze(0),
            image_grid_thw=grids,
            video_grid_thw=None,
            mm_token_type_ids=token_types,
        )
        return torch.cat([text, vision[:, 0]], dim=0)

    def _render(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[dict[str, Any]], *, generate: bool = False
    ) -> str:
        try:
            rendered = self.processor.apply_chat_template(
                cast("list[dict[str, str]]", messages),
                tools=list(tools) or None,
                tokenize=False,
                add_generation_prompt=generate,
            )
        except TemplateError as error:
            raise InputError(f"the chat template can't be rendered: {error}") from error
        return str(rendered)

    def _later(self, messages: Sequence[Mapping[str, Any]], *, generate: bool) -> str:
        """Renders messages of users and tools as they follow other messages, without the start of a conversation."""
        whole = self._render([*_OPENING, *messages], (), generate=generate)
        if not whole.startswith(self._opened):
            raise InputError("the chat template renders a message otherwise when others follow it")
        return whole.removeprefix(self._opened)

    @cached_property
    def _opened(self) -> str:
        """Rendered text before every message of `_later`."""
        return self._render(_OPENING, ())

    @cached_property
    def turn_opening(self) -> str:
        """Text with which the template opens an assistant turn, after the role."""
        return self._later((), generate=True).rpartition("<|im_start|>assistant\n")[2]

    def _ids(self, text: str, resized: Sequence[Image.Image]) -> list[int]:
        """Tokenizes the text, and repeats each `<|image_pad|>` as often as its image has tokens."""
        collapsed = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        if collapsed.count(self.image_id) != len(resized):
            raise InputError(
                f"{collapsed.count(self.image_id)} image marks for {len(resized)} images in: {text[:80]!r}"
            )
        counts = iter([self.image_tokens(image) for image in resized])
        ids: list[int] = []
        for token in collapsed:
            ids += [token] * (next(counts) if token == self.image_id else 1)
        return ids
