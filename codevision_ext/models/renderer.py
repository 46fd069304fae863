"""From messages and images to the tokens and tensors of a Qwen-VL model, the same for SFT, rollout and evaluation.

A conversation is rendered in pieces that begin and end at special tokens, so a piece tokenizes by itself to what it
tokenizes to inside the whole: what was sampled is never rendered again.
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
from codevision_ext.task.rows import split_content
from codevision_ext.types import CoordinateSystem

FAMILIES = {"Qwen2_5_VL": ("Qwen2.5-VL", CoordinateSystem.SEEN), "Qwen3VL": ("Qwen3-VL", CoordinateSystem.RELATIVE)}
"""By how the names of their processors begin: what they are called, and the coordinates that they learned to write."""
NEVER = -1e4
"""Logit bias of an id that must not be sampled."""
_PASSES = 16
"""Six were the most that any image took under the bounds of published checkpoints."""
_OPENING = [{"role": "user", "content": [{"type": "text", "text": "?"}]}]


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """A rendered conversation, unpadded."""

    ids: list[int]
    mask: list[int]
    """1 where an assistant's own tokens stand (the closing `<|im_end|>` included), else 0."""
    images: tuple[Image.Image, ...]
    """The images as the model sees them."""


class QwenRenderer:
    """Renders, tokenizes and measures for one processor; one serves every rollout and thread of a process.

    Args:
        processor: A Qwen2.5-VL or Qwen3-VL processor with a chat template.
        vocab_size: Rows of the model's embedding, often more than there are tokens; only sampling asks for it.

    Raises:
        InputError: another processor, or one without a chat template.
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
        """Tokens that end an assistant turn."""
        marks = ("<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>")
        self.banned_ids = (*map(token_id, marks), *range(len(self.tokenizer), vocab_size))
        """Ids that must never be sampled: a stray mark breaks the count of image tokens, the others mean nothing."""
        self._resized: dict[int, tuple[ref[Image.Image], ref[Image.Image]]] = {}
        self._locks = [Lock() for _ in range(64)]

    # -- images ------------------------------------------------------------------------------------------------

    def resize(self, image: Image.Image) -> Image.Image:
        """The image as the model sees it: RGB, sides a multiple of patch x merge, area in the processor's bounds.

        As long as it is in use, whoever asks for the same image gets the same one: the rollouts of a prompt share it.
        """
        size = self.resized_size(*image.size)
        if image.mode == "RGB" and image.size == size:
            return image
        key = id(image)
        with self._locks[key // 64 % len(self._locks)]:
            of, known = self._resized.get(key, (None, None))
            resized = known() if of and known and of() is image else None
            if resized is None:
                resized = image.convert("RGB").resize(size, Image.Resampling.BICUBIC)
                self._resized[key] = ref(image, lambda _: self._resized.pop(key, None)), ref(resized)
            return resized

    def resized_size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height that the processor leaves as they are.

        It doesn't always leave what it makes: a narrow image, one patch high, comes out with more pixels than it
        allows. An engine that is given that image fits it once more, and counts fewer tokens than we do.

        Raises:
            InputError: the processor's bounds leave no size for it.
        """
        size = (width, height)
        for _ in range(_PASSES):
            before = size
            high, wide = smart_resize(size[1], size[0], self._patch * self._merge, self._min_pixels, self._max_pixels)
            size = (wide, high)
            if size == before:
                return size
        raise InputError(
            f"an image of {width}x{height} has no size between {self._min_pixels} and {self._max_pixels} pixels"
        )

    def image_tokens(self, resized: Image.Image) -> int:
        """How many `<|image_pad|>` a resized image takes."""
        side = self._patch * self._merge
        return (resized.width // side) * (resized.height // side)

    def features(self, resized: Sequence[Image.Image]) -> dict[str, torch.Tensor]:
        """`pixel_values` (patches, channels x t x patch x patch) and `image_grid_thw` (images, 3); {} without any."""
        if not resized:
            return {}
        return dict(self.processor.image_processor(images=list(resized), return_tensors="pt"))

    # -- tokens --------------------------------------------------------------------------------------------------

    def prompt(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[dict[str, Any]], resized: Sequence[Image.Image]
    ) -> list[int]:
        """The ids up to where the first assistant turn begins."""
        return self._ids(self._render(messages, tools, generate=True), resized)

    def observation(self, role: str, text: str, resized: Sequence[Image.Image], *, closed: bool) -> list[int]:
        """What stands between two assistant turns: the end of the last one, a message, the start of the next.

        Args:
            role: `tool` for an executed call, `user` for anything else.
            text: The words; images follow them.
            resized: Images of the message.
            closed: Whether the last turn already ends with `<|im_end|>`.
        """
        content = [{"type": "text", "text": text}] + [{"type": "image"} for _ in resized]
        said = self._later([{"role": role, "content": content}], generate=True)
        return ([] if closed else [self.end_id]) + self._ids("\n" + said, resized)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of an assistant turn without its closing token."""
        end = len(ids) - 1 if ids and ids[-1] == self.end_id else len(ids)
        return str(self.tokenizer.decode(list(ids[:end]), skip_special_tokens=False))

    def turn(self, text: str) -> list[int]:
        """The ids of an assistant turn that says `text`, as a policy would sample them: behind what the template opens
        the turn with (`<think>` on thinking models), up to `<|im_end|>`.
        """
        opening = self._turn_opening
        said = text.removeprefix(opening) if text.startswith(opening) else text.removeprefix(opening.strip())
        return [*self._ids(said, ()), self.end_id]

    def conversation(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[dict[str, Any]], images: Sequence[Image.Image]
    ) -> Encoded:
        """A finished conversation with the mask of its assistant tokens, rendered as a rollout would have been.

        The template never renders an assistant turn: some leave out what was thought in earlier ones.

        Args:
            messages: Roles and contents; a content is text with `<image>` where the next image stands.
            tools: Tool schemas of the system block.
            images: All images of the conversation, in order.

        Raises:
            InputError: the number of `<image>` isn't the number of images, or an assistant's turn has one or is the
                first.
        """
        resized = tuple(self.resize(image) for image in images)
        wanted = sum(message["content"].count("<image>") for message in messages)
        if wanted != len(resized):
            raise InputError(f"the conversation has {wanted} <image> but {len(resized)} images")
        if any("<image>" in message["content"] for message in messages if message["role"] == "assistant"):
            raise InputError("an assistant's turn has an <image>")
        if messages[0]["role"] == "assistant":
            raise InputError("the conversation begins with an assistant's turn")
        turns = [at for at, message in enumerate(messages) if message["role"] == "assistant"]
        shown = iter(resized)
        ids: list[int] = []
        mask: list[int] = []
        for at, stop in zip([-1, *turns], [*turns, len(messages)], strict=True):
            own = self.turn(messages[at]["content"]) if at >= 0 else []
            between = messages[at + 1 : stop]
            said = [{"role": other["role"], "content": split_content(other["content"])} for other in between]
            more = stop < len(messages)
            text = "\n" + self._later(said, generate=more) if at >= 0 else self._render(said, tools, generate=more)
            count = sum(other["content"].count("<image>") for other in between)
            context = self._ids(text, list(islice(shown, count)))
            ids += own + context
            mask += [1] * len(own) + [0] * len(context)
        return Encoded(ids=ids, mask=mask, images=resized)

    def narrowed(self, ids: Sequence[int]) -> list[int]:
        """One mark an image, as engines want it that widen the marks themselves."""
        return [token for at, token in enumerate(ids) if token != self.image_id or at == 0 or ids[at - 1] != token]

    def position_ids(self, ids: torch.Tensor, grids: torch.Tensor | None) -> torch.Tensor:
        """Positions (mrope) of an unpadded sequence: row 0 counts tokens, rows 1-3 are (t, h, w); shape (4, tokens)."""
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
        """Messages, none of them an assistant's, as they stand behind others: what opens a conversation isn't there."""
        whole = self._render([*_OPENING, *messages], (), generate=generate)
        if not whole.startswith(self._opened):
            raise InputError("the chat template renders a message otherwise when others follow it")
        return whole.removeprefix(self._opened)

    @cached_property
    def _opened(self) -> str:
        """What stands before every message of `_later`."""
        return self._render(_OPENING, ())

    @cached_property
    def _turn_opening(self) -> str:
        """What the template opens an assistant's turn with, behind its role."""
        return self._later((), generate=True).rpartition("<|im_start|>assistant\n")[2]

    def _ids(self, text: str, resized: Sequence[Image.Image]) -> list[int]:
        """Tokenizes and widens the i-th `<|image_pad|>` to the i-th image's number of tokens."""
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
