"""Patch of SGLang on the CPU: samples each request with the request's own seed.

SGLang reads the seeds of requests only in its deterministic mode, whose kernels need a GPU. The patch makes the
scheduler process always read them, and computes the hash that the sampling noise needs in plain torch.

Drop when SGLang reads the seeds of requests without its deterministic mode, and its hash runs on a CPU.
"""

from functools import wraps
from typing import Any

import torch
from sglang.srt.layers import sampler
from sglang.srt.sampling.sampling_batch_info import SamplingBatchInfo

from codevision_ext.patches import sglang_attention, sglang_invariance
from codevision_ext.patches.guard import expect

_LOW = 0xFFFFFFFF


def murmur_hash32(seed: torch.Tensor, positions: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """Returns MurmurHash3 (x86, 32 bits) of seed (8 bytes), position and column (4 bytes each), like SGLang's kernel.

    Args:
        seed: Seed of each row, shape (n,).
        positions: Position of each row's token, shape (n,).
        columns: Token ids, shape (m,).

    Returns:
        Hashes in [0, 2**32), int64, shape (n, m).
    """
    wide = seed.to(torch.int64)
    state = torch.zeros(1, 1, dtype=torch.int64)
    for block in (wide & _LOW, (wide >> 32) & _LOW, positions.to(torch.int64) & _LOW):
        state = _mix(state, block.view(-1, 1))
    state = _mix(state, columns.to(torch.int64).view(1, -1)) ^ 16
    state = ((state ^ (state >> 16)) * 0x85EBCA6B) & _LOW
    state = ((state ^ (state >> 13)) * 0xC2B2AE35) & _LOW
    return state ^ (state >> 16)


def _mix(state: torch.Tensor, block: torch.Tensor) -> torch.Tensor:
    block = _rotate((block * 0xCC9E2D51) & _LOW, 15)
    state = state ^ ((block * 0x1B873593) & _LOW)
    return (_rotate(state, 13) * 5 + 0xE6546B64) & _LOW


def _rotate(value: torch.Tensor, bits: int) -> torch.Tensor:
    return ((value << bits) | (value >> (32 - bits))) & _LOW


def patch() -> None:
    """Makes SGLang read the seeds of requests (0 without one). Raises CompatError for another version of SGLang."""
    written_for = "SGLang 0.5.14"
    expect(sampler, "multinomial_with_seed", "murmur_hash32(seed, positions, col_indices)", of=written_for)
    stock = expect(
        SamplingBatchInfo,
        "from_schedule_batch",
        "r.sampling_params.sampling_seed",
        "sampling_seed=sampling_seed,",
        of=written_for,
    ).__func__  # type: ignore[attr-defined]  # a class method
    sampler.murmur_hash32 = murmur_hash32

    @wraps(stock)
    def from_schedule_batch(cls: type, batch: Any, *args: Any, **kwargs: Any) -> Any:
        info = stock(cls, batch, *args, **kwargs)
        info.sampling_seed = torch.tensor([request.sampling_params.sampling_seed or 0 for request in batch.reqs])
        return info

    SamplingBatchInfo.from_schedule_batch = classmethod(from_schedule_batch)


def run_seeded_scheduler(*args: Any, **kwargs: Any) -> None:
    """Runs SGLang's scheduler process with this patch and those of `sglang_invariance` and `sglang_attention`.

    Raises:
        CompatError: SGLang isn't the version that the patches were written for.
    """
    patch()
    sglang_invariance.patch()
    sglang_attention.run_scheduler(*args, **kwargs)
