"""Loads weights into SGLang's model under the names that SGLang uses, and refuses to drop any.

Runs inside the engine process, as SGLang's `custom_weight_loader`. transformers >= 5 calls the parts of a Qwen-VL
`model.visual` and `model.language_model`; SGLang calls them `visual` and `model`, stacks some of them, and skips names
that it doesn't know without a word. The engine's cache of picture embeddings is keyed by the picture alone and would
outlive the weights that made them, so it is emptied with every load.
"""

from collections.abc import Sequence

import torch

LOADER = "codevision_ext.verl_adapter.sglang_loader.load"
"""What `custom_weight_loader` and `load_format` name."""

_PREFIXES = (("model.visual.", "visual."), ("model.language_model.", "model."))
_STACKED = (
    (".q_proj", ".qkv_proj"),
    (".k_proj", ".qkv_proj"),
    (".v_proj", ".qkv_proj"),
    (".gate_proj", ".gate_up_proj"),
    (".up_proj", ".gate_up_proj"),
    (".attn.qkv.", ".attn.qkv_proj."),
)


def engine_name(name: str) -> str:
    """The name that SGLang's checkpoint loader expects for a parameter of transformers >= 5."""
    for prefix, replacement in _PREFIXES:
        if name.startswith(prefix):
            return replacement + name[len(prefix) :]
    return name


def load(model: torch.nn.Module, named_tensors: Sequence[tuple[str, torch.Tensor]]) -> None:
    """Renames, loads, and forgets the embeddings of every picture seen before.

    Raises:
        KeyError: a name has no parameter in the engine's model; nothing was loaded.
    """
    known = dict(model.named_parameters(remove_duplicate=False))
    tied = getattr(model.config, "tie_word_embeddings", False)
    renamed = [(engine_name(name), tensor) for name, tensor in named_tensors]
    for name, _ in renamed:
        homes = {name} | {name.replace(part, whole) for part, whole in _STACKED if part in name}
        if not homes & known.keys() and not (tied and name == "lm_head.weight"):
            raise KeyError(f"the rollout engine has no parameter {name}")
    model.load_weights((name, tensor) for name, tensor in renamed if not (tied and name == "lm_head.weight"))
    from sglang.srt.managers import mm_utils  # noqa: PLC0415  # loaded where this runs; names are asked for elsewhere

    if mm_utils.embedding_cache is not None:
        mm_utils.embedding_cache.clear()
