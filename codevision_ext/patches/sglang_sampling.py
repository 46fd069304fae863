"""How a rollout samples the same tokens whatever is sampled beside it: a seed for each request, in SGLang on the CPU.

SGLang has seeds for requests, but reads them in its deterministic mode only, whose kernels need a GPU. Here its
scheduler process is told to read them always, and gets the one kernel that their noise needs in plain torch. What is
left to chance is the rounding of float32 (about 1e-6), which differs with the size of a batch and decides only between
tokens that are equally good to six digits.
"""

from typing import Any

import torch
from sglang.srt.layers import sampler
from sglang.srt.sampling.sampling_batch_info import SamplingBatchInfo

from codevision_ext.errors import CompatError
from codevision_ext.patches import sglang_attention

_LOW = 0xFFFFFFFF


def murmur_hash32(seed: torch.Tensor, positions: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """MurmurHash3 (x86, 32 bits) of seed (8 bytes), position and column (4 bytes each), as SGLang's Triton kernel.

    Args:
        seed: One a row, shape (n,).
        positions: One a row, shape (n,).
        columns: Shape (m,).

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


def run_seeded_scheduler(*args: Any, **kwargs: Any) -> None:
    """SGLang's scheduler process, reading the seeds of requests; a request without one has seed 0.

    Raises:
        CompatError: SGLang isn't the one that this was written for.
    """
    if not hasattr(sampler, "murmur_hash32") or "sampling_seed" not in SamplingBatchInfo.__dataclass_fields__:
        raise CompatError("sglang.srt.layers.sampler has no seeds for requests: this was written for SGLang 0.5.14")
    sampler.murmur_hash32 = murmur_hash32
    stock = SamplingBatchInfo.from_schedule_batch.__func__

    def from_schedule_batch(cls: type, batch: Any, *rest: Any, **named: Any) -> Any:
        info = stock(cls, batch, *rest, **named)
        info.sampling_seed = torch.tensor([request.sampling_params.sampling_seed or 0 for request in batch.reqs])
        return info

    SamplingBatchInfo.from_schedule_batch = classmethod(from_schedule_batch)
    sglang_attention.run_scheduler(*args, **kwargs)
