"""Patch of SGLang on the CPU: computes the attention of a decoding step for all sequences at once.

SGLang's `torch_native` back end loops over the sequences in Python, which takes most of a step of a small model. The
patch changes speed only.

Drop when `TorchNativeAttnBackend._run_sdpa_forward_decode` has no loop over sequences.
"""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
from sglang.srt.layers.attention.torch_native_backend import TorchNativeAttnBackend
from sglang.srt.managers.scheduler import run_scheduler_process
from torch.nn.functional import scaled_dot_product_attention

from codevision_ext.patches.guard import expect

PADDED_TO = 128
"""Number of tokens to whose multiples sequences are padded."""
_STOCK: Any = getattr(TorchNativeAttnBackend, "_run_sdpa_forward_decode", None)


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
    """Replaces `TorchNativeAttnBackend._run_sdpa_forward_decode`; pads every sequence to a multiple of `PADDED_TO`.

    The order of summation depends on the padded length. Each sequence is padded by its own length only, so its result
    doesn't depend on the other sequences of the batch.

    Encoders, cross attention and sliding windows go to the stock method. `causal` is unused, because a single query
    attends to all keys.

    Shapes: `query` and `output` (sequences, heads, dim), one new token per sequence; `k_cache` and `v_cache` (slots,
    key heads, dim); `req_to_token` (requests, tokens), the slot of each token; `req_pool_indices` and `seq_lens`
    (sequences,), the request of each sequence and its tokens with the new one.
    """
    if encoder_lens is not None or is_cross_attn or (sliding_window_size is not None and sliding_window_size > -1):
        options = (encoder_lens, scaling, enable_gqa, causal, is_cross_attn, sliding_window_size)
        stock: torch.Tensor = _STOCK(
            self, query, output, k_cache, v_cache, req_to_token, req_pool_indices, seq_lens, *options
        )
        return stock
    groups = -(-seq_lens // PADDED_TO)
    for group in sorted(set(groups.tolist())):
        (members,) = torch.where(groups == group)
        longest = min(group * PADDED_TO, req_to_token.shape[1])
        present = torch.arange(longest) < seq_lens[members].unsqueeze(1)
        slots = req_to_token[req_pool_indices[members], :longest].masked_fill(~present, 0)
        keys, values = (_rows(cache, slots).transpose(1, 2).to(query.dtype) for cache in (k_cache, v_cache))
        attended = scaled_dot_product_attention(
            query[members].unsqueeze(2),
            keys,
            values,
            attn_mask=present[:, None, None],
            scale=scaling,
            enable_gqa=enable_gqa,
        )
        output[members] = attended.squeeze(2)
    return output


def _rows(cache: torch.Tensor, slots: torch.Tensor) -> torch.Tensor:
    """Returns `cache[slots]`; copying whole rows is several times faster than an index of two dimensions."""
    return cache.flatten(1).index_select(0, slots.flatten()).view(*slots.shape, *cache.shape[1:])


def patch() -> None:
    """Installs `decode_attention` in SGLang's back end. Raises CompatError for another version of SGLang."""
    expect(
        TorchNativeAttnBackend,
        "_run_sdpa_forward_decode",
        "for seq_idx in range(seq_lens.shape[0]):",
        "per_req_tokens = req_to_token[req_pool_idx, start_kv:end_kv]",
        of="SGLang 0.5.14",
    )
    TorchNativeAttnBackend._run_sdpa_forward_decode = decode_attention


def run_scheduler(*args: Any, **kwargs: Any) -> None:
    """Runs SGLang's scheduler process with the patch. Raises what `patch` raises."""
    patch()
    run_scheduler_process(*args, **kwargs)


def run_scheduler_in_verl(server: type, engine: ModuleType, run: Callable[..., None] = run_scheduler) -> None:
    """Makes verl's SGLang server start `run` instead of `run_scheduler_process` of `engine`.

    Drop when verl's server takes the scheduler function as an argument, or together with the patch.

    Args:
        server: verl's `SGLangHttpServer`.
        engine: The module `sglang.srt.entrypoints.engine`.
        run: Runs the scheduler process with its patches.

    Raises:
        CompatError: verl or SGLang isn't the version that the patch was written for.
    """
    expect(server, "launch_server", "run_scheduler_process_func=sglang.srt.entrypoints.engine.run_scheduler_process")
    expect(engine, "run_scheduler_process", of="SGLang 0.5.14")
    vars(engine)["run_scheduler_process"] = run
