"""Builds a small random Qwen2.5-VL or Qwen3-VL, offline, with the real processor and tokenizer classes.

The result is an ordinary checkpoint folder: transformers, verl and SGLang load it by path. With it, all real parts of
the system run on two cores.
"""

import json
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    GenerationConfig,
    PreTrainedModel,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2Tokenizer,
    Qwen2VLImageProcessor,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
)
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX
from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor

from codevision_ext.errors import InputError
from codevision_ext.io.json_codec import JsonCodec

_CLASSES: dict[str, tuple[Any, Any, Any, Any]] = {
    "qwen2_5_vl": (
        Qwen2_5_VLConfig,
        Qwen2_5_VLForConditionalGeneration,
        Qwen2_5_VLProcessor,
        Qwen2VLVideoProcessor,
    ),
    "qwen3_vl": (Qwen3VLConfig, Qwen3VLForConditionalGeneration, Qwen3VLProcessor, Qwen3VLVideoProcessor),
}
"""Classes of config, model, processor and video processor by family."""
FAMILIES = tuple(_CLASSES)

_TEXT: JsonCodec[str] = JsonCodec(str)
SPECIAL_TOKENS = [
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>",
    "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>",
    "<|image_pad|>", "<|video_pad|>",
]  # fmt: skip
MARKUP_TOKENS = ["<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<think>", "</think>"]
"""Single tokens in Qwen3's vocabulary that aren't special, so that decoding keeps them."""


def tokenizer_texts(path: Path | None = None) -> list[str]:
    """Returns texts on which `build` can train a tokenizer: those of a file, a JSON string a line, or the package's.

    Raises:
        InputError: the file can't be read, or a line isn't a JSON string; names file and line.
    """
    if path is None:
        source = resources.files("codevision_ext.prompts").joinpath("corpus.jsonl")
        return [json.loads(line) for line in source.read_text(encoding="utf-8").splitlines()]
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise InputError(f"{path}: can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: isn't UTF-8") from error
    if not lines:
        raise InputError(f"{path}: has no text")
    return [_TEXT.load(line.encode(), f"{path}, line {number}") for number, line in enumerate(lines, start=1)]


def _train_tokenizer(texts: Iterable[str], vocab_size: int) -> Qwen2Tokenizer:
    """Trains a byte-level BPE with Qwen's pre-tokenizer on `texts`."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(SPECIAL_TOKENS) - len(MARKUP_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    learned = json.loads(bpe.to_str())["model"]
    merges = [tuple(pair) for pair in learned["merges"]]
    tokenizer = Qwen2Tokenizer(
        vocab=learned["vocab"],
        merges=merges,  # type: ignore[arg-type]  # its annotation names strings, which its BPE refuses
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        model_max_length=32768,
    )
    tokenizer.add_special_tokens({"additional_special_tokens": SPECIAL_TOKENS})
    tokenizer.add_tokens(MARKUP_TOKENS)
    return tokenizer


def build(
    family: str,
    out: Path,
    *,
    texts: Iterable[str],
    hidden: int = 128,
    layers: int = 4,
    vision_hidden: int = 96,
    vision_layers: int = 3,
    vocab_size: int = 1024,
    min_pixels: int = 28 * 28,
    max_pixels: int = 128 * 128,
    seed: int = 0,
) -> int:
    """Writes the checkpoint to `out`, a folder that is made with its parents, and returns its number of parameters.

    `hidden` and `vision_hidden` are widths of language model and vision tower, multiples of 32, the width of a head;
    `layers` and `vision_layers` are their depths. The tokenizer is trained on `texts`; `vocab_size` includes special
    tokens. `min_pixels` and `max_pixels` bound an image as the model sees it. `seed` is that of the weights.

    Raises:
        InputError: the family is unknown, or a width isn't a multiple of 32.
    """
    if family not in FAMILIES:
        raise InputError(f"--family {family}: unknown model family; known are {', '.join(FAMILIES)}")
    if hidden % 32 or vision_hidden % 32:
        raise InputError(f"widths {hidden} and {vision_hidden} must be multiples of 32")
    tokenizer = _train_tokenizer(texts, vocab_size)
    ids = {name: tokenizer.convert_tokens_to_ids(name) for name in SPECIAL_TOKENS}
    text_config: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": hidden,
        "intermediate_size": 2 * hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": hidden // 32,
        "num_key_value_heads": hidden // 32,
        "head_dim": 32,
        "max_position_embeddings": 8192,
        "initializer_range": 0.08,
        "use_sliding_window": False,
        "tie_word_embeddings": True,
        "bos_token_id": ids["<|endoftext|>"],
        "eos_token_id": ids["<|im_end|>"],
        "pad_token_id": ids["<|endoftext|>"],
    }
    tokens: dict[str, Any] = {
        "image_token_id": ids["<|image_pad|>"],
        "video_token_id": ids["<|video_pad|>"],
        "vision_start_token_id": ids["<|vision_start|>"],
        "vision_end_token_id": ids["<|vision_end|>"],
    }
    vision_config: dict[str, Any] = {
        "depth": vision_layers,
        "hidden_size": vision_hidden,
        "intermediate_size": 2 * vision_hidden,
        "num_heads": vision_hidden // 32,
        "out_hidden_size": hidden,
        "initializer_range": 0.08,
    }
    torch.manual_seed(seed)
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": 10000.0}
    if family == "qwen2_5_vl":
        patch, rope = 14, rope | {"mrope_section": [4, 6, 6]}
        vision_config |= {"window_size": 112, "fullatt_block_indexes": list(range(vision_layers))}
    else:
        patch, rope = 16, rope | {"mrope_section": [6, 5, 5], "mrope_interleaved": True}
        vision_config |= {"num_position_embeddings": 64, "deepstack_visual_indexes": [0]}
    text_config["rope_parameters"] = rope
    config_class, model_class, processor_class, video_class = _CLASSES[family]
    model: PreTrainedModel = model_class(
        config_class(text_config=text_config, vision_config=vision_config, tie_word_embeddings=True, **tokens)
    )
    size = {"shortest_edge": min_pixels, "longest_edge": max_pixels}
    image_processor = Qwen2VLImageProcessor(patch_size=patch, merge_size=2, temporal_patch_size=2, size=size)
    template = resources.files("codevision_ext.prompts").joinpath("chat_template.jinja").read_text()
    processor = processor_class(
        image_processor=image_processor,
        tokenizer=tokenizer,
        video_processor=video_class(patch_size=patch, merge_size=2, temporal_patch_size=2, size=size),
        chat_template=template,
    )
    tokenizer.chat_template = template
    model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]  # transformers doesn't annotate it
        eos_token_id=[ids["<|im_end|>"], ids["<|endoftext|>"]], pad_token_id=ids["<|endoftext|>"]
    )
    out.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(out)
    processor.save_pretrained(out)
    return int(sum(p.numel() for p in model.parameters()))
