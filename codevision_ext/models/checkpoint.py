"""Reads a checkpoint folder: its processor as a renderer, its config, and its weights under the engine's names."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import AutoProcessor

from codevision_ext.errors import InputError, first_line
from codevision_ext.io.inputs import require_checkpoint
from codevision_ext.io.json_codec import read_json
from codevision_ext.models.renderer import QwenRenderer
from codevision_ext.models.weight_names import engine_name


def renderer_of(checkpoint: Path) -> QwenRenderer:
    """Returns the renderer of a checkpoint.

    Raises:
        InputError: the folder isn't a checkpoint, or its processor can't be used.
    """
    config = _config(checkpoint)
    size = (config.get("text_config") or config).get("vocab_size", 0)
    try:
        processor = AutoProcessor.from_pretrained(  # type: ignore[no-untyped-call]  # transformers doesn't annotate it
            checkpoint, local_files_only=True
        )
        return QwenRenderer(processor, size)
    except (OSError, ValueError, InputError) as error:
        raise InputError(f"{checkpoint}: its processor can't be used: {first_line(error)}") from error


def longest(checkpoint: Path) -> int | None:
    """Returns the model's maximum context in tokens; None if config.json has none.

    Raises:
        InputError: the folder isn't a checkpoint.
    """
    config = _config(checkpoint)
    tokens: int | None = (config.get("text_config") or config).get("max_position_embeddings")
    return tokens


def weight_shapes(checkpoint: Path) -> dict[str, tuple[int, ...]]:
    """Returns the shape of every weight of a checkpoint, by the engine's names.

    Raises:
        InputError: the folder has no weights, or a file of weights is damaged.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for path in _weight_files(checkpoint):
        try:
            with safe_open(path, "pt") as file:
                shapes |= {engine_name(name): tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise InputError(f"{path}: can't be read: {error}") from error
    if _config(checkpoint).get("tie_word_embeddings"):
        shapes.pop("lm_head.weight", None)  # the same tensor as the embeddings, whether the file repeats it or not
    return shapes


def _config(checkpoint: Path) -> dict[str, Any]:
    require_checkpoint(checkpoint)
    return read_json(checkpoint / "config.json")


def check_alike(checkpoint: Path, other: Path) -> None:
    """Checks that an engine of `checkpoint` can load the weights of `other`.

    Raises:
        InputError: one of the folders isn't a checkpoint, or `other` has another architecture or tokenizer.
    """
    if weight_shapes(other) != weight_shapes(checkpoint):
        raise InputError(f"{other}: its weights have other names or shapes than those of {checkpoint}")
    if renderer_of(other).tokenizer.get_vocab() != renderer_of(checkpoint).tokenizer.get_vocab():
        raise InputError(f"{other}: its tokenizer is another than that of {checkpoint}")


def _weight_files(checkpoint: Path) -> list[Path]:
    files = sorted(checkpoint.glob("*.safetensors"))
    if not files:
        raise InputError(f"{checkpoint}: not a checkpoint: there are no weights (*.safetensors) in it")
    return files


def buckets(checkpoint: Path, most_bytes: int) -> Iterator[list[tuple[str, torch.Tensor]]]:
    """Yields all weights by name, in lists of at most `most_bytes` bytes; a larger weight is a list of its own.

    Raises:
        InputError: the folder has no weights.
    """
    bucket: list[tuple[str, torch.Tensor]] = []
    size = 0
    for path in _weight_files(checkpoint):
        with safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118
                tensor = file.get_tensor(name)
                if bucket and size + tensor.nbytes > most_bytes:
                    yield bucket
                    bucket, size = [], 0
                bucket.append((name, tensor))
                size += tensor.nbytes
    if bucket:
        yield bucket
