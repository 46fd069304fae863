"""Attention of a decoding step in SGLang on the CPU: all sequences at once, where stock takes them one by one.

SGLang's `torch_native` back end loops over the batch in Python: most of the time of a step, where the model is small.
"""

from typing import Any

import torch
from sglang.srt.layers.attention.torch_native_backend import TorchNativeAttnBackend
from sglang.srt.managers.scheduler import run_scheduler_process
from torch.nn.functional import scaled_dot_product_attention

from codevision_ext.errors import CompatError

_STOCK = getattr(TorchNativeAttnBackend, "_run_sdpa_forward_decode", None)


def decode_attention(
    self: TorchNativeAttnBackend,
    query: torch.Tensor,
    output: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    req_to_token: torch.Tensor,
    req_pool_indices: torch.Tensor,
    seq_lens: torch.Tensor,
    encoder_lens: torch.Tensor | None = None,
    scaling: float | None = None,
    enable_gqa: bool = False,
    causal: bool = False,
    is_cross_attn: bool = False,
    sliding_window_size: int | None = None,
) -> torch.Tensor:
    """`TorchNativeAttnBackend._run_sdpa_forward_decode`, padded to the longest sequence; the rare cases stay stock's.

    Args:
        self: SGLang's back end.
        query: The new token of each sequence, shape (sequences, heads, dim).
        output: Of the same shape; written.
        k_cache: Shape (slots, key heads, dim).
        v_cache: Likewise.
        req_to_token: Slot of each token of each request, shape (requests, tokens).
        req_pool_indices: The request of each sequence, shape (sequences,).
        seq_lens: Tokens of each sequence, the new one included, shape (sequences,).
        encoder_lens: Only where there is an encoder: stock's.
        scaling: Of the scores; None: 1 / sqrt(dim).
        enable_gqa: Fewer key heads than heads.
        causal: As stock; one query sees all keys either way.
        is_cross_attn: Stock's.
        sliding_window_size: Stock's.
    """
    if encoder_lens is not None or is_cross_attn or (sliding_window_size is not None and sliding_window_size > -1):
        rest = (encoder_lens, scaling, enable_gqa, causal, is_cross_attn, sliding_window_size)
        return _STOCK(self, query, output, k_cache, v_cache, req_to_token, req_pool_indices, seq_lens, *rest)
    longest = int(seq_lens.max())
    there = torch.arange(longest) < seq_lens.unsqueeze(1)
    slots = req_to_token[req_pool_indices, :longest].masked_fill(~there, 0)
    keys, values = (_rows(cache, slots).transpose(1, 2).to(query.dtype) for cache in (k_cache, v_cache))
    mixed = scaled_dot_product_attention(
        query.unsqueeze(2), keys, values, attn_mask=there[:, None, None], scale=scaling, enable_gqa=enable_gqa
    )
    output.copy_(mixed.squeeze(2))
    return output


def _rows(cache: torch.Tensor, slots: torch.Tensor) -> torch.Tensor:
    """`cache[slots]`; whole rows are copied several times faster than by an index of two dimensions."""
    return cache.flatten(1).index_select(0, slots.flatten()).view(*slots.shape, *cache.shape[1:])


def run_scheduler(*args: Any, **kwargs: Any) -> None:
    """SGLang's scheduler process on the CPU.

    Raises:
        CompatError: SGLang isn't the one that this was written for.
    """
    if _STOCK is None:
        raise CompatError("TorchNativeAttnBackend._run_sdpa_forward_decode is gone: this was written for SGLang 0.5.14")
    TorchNativeAttnBackend._run_sdpa_forward_decode = decode_attention
    run_scheduler_process(*args, **kwargs)
