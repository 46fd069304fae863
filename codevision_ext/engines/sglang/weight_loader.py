"""Loads weights into SGLang's model under the names that SGLang uses, and refuses to drop any.

Runs inside the engine process, as SGLang's `custom_weight_loader`. transformers >= 5 calls the parts of a Qwen-VL
`model.visual` and `model.language_model`; SGLang calls them `visual` and `model`, stacks some of them, and skips names
that it doesn't know without a word. The engine's cache of image embeddings is keyed by the image alone and would
outlive the weights that made them, so it is emptied with every load.
"""

from collections.abc import Sequence

import torch

from codevision_ext.models.weight_names import STACKED, engine_name

LOADER = "codevision_ext.engines.sglang.weight_loader.load_weights"
"""Dotted path for `custom_weight_loader` and `load_format`."""


def load_weights(model: torch.nn.Module, named_tensors: Sequence[tuple[str, torch.Tensor]]) -> None:
    """Renames, loads, and forgets the embeddings of every image seen before.

    Raises:
        KeyError: a name has no parameter in the engine's model; nothing was loaded.
    """
    known = dict(model.named_parameters(remove_duplicate=False))
    tied = getattr(model.config, "tie_word_embeddings", False)
    renamed = [(engine_name(name), tensor) for name, tensor in named_tensors]
    for name, _ in renamed:
        homes = {name} | {name.replace(part, whole) for part, whole in STACKED if part in name}
        if not homes & known.keys() and not (tied and name == "lm_head.weight"):
            raise KeyError(f"the rollout engine has no parameter {name}")
    model.load_weights((name, tensor) for name, tensor in renamed if not (tied and name == "lm_head.weight"))
    from sglang.srt.managers import mm_utils  # noqa: PLC0415  # loaded where this runs; names are asked for elsewhere

    if mm_utils.embedding_cache is not None:
        mm_utils.embedding_cache.clear()
