"""Is a batch attended to as its sequences are one by one?"""

import pytest
import torch

from codevision_ext.engines.device import use_cpu_if_no_cuda

pytestmark = pytest.mark.filterwarnings("ignore")  # SGLang warns at import, by the dozen


@pytest.mark.parametrize("key_heads", [4, 2])
def test_a_step_of_a_batch_is_what_stock_computes_for_each_of_its_sequences(key_heads: int) -> None:
    use_cpu_if_no_cuda()
    from sglang.srt.layers.attention.torch_native_backend import TorchNativeAttnBackend  # noqa: PLC0415

    from codevision_ext.patches.sglang_attention import decode_attention  # noqa: PLC0415

    torch.manual_seed(0)
    lengths = torch.tensor([1, 7, 30, 12])
    slots = torch.randperm(200)[: 6 * 30].view(6, 30).to(torch.int32)
    caches = [torch.randn(200, key_heads, 8) for _ in range(2)]
    query = torch.randn(4, 4, 8)
    backend = object.__new__(TorchNativeAttnBackend)
    results = []
    for step in (TorchNativeAttnBackend._run_sdpa_forward_decode, decode_attention):
        output = torch.full_like(query, float("nan"))
        gqa = {"scaling": 0.3, "enable_gqa": key_heads < 4}
        step(backend, query, output, *caches, slots, torch.tensor([5, 0, 3, 2]), lengths, **gqa)
        results.append(output)
    assert torch.allclose(*results, atol=1e-6)
    assert not torch.allclose(results[0][0], results[0][1])
