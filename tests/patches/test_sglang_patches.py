"""SGLang's patches for the CPU compute what stock SGLang computes, and refuse another SGLang."""

from types import ModuleType
from typing import Any

import pytest
import torch

from codevision_ext.engines.device import use_cpu_if_no_cuda
from codevision_ext.errors import CompatError

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


def rewritten(*_: Any) -> None:
    """Stands in for what the next release does."""


def test_the_patch_is_in_the_scheduler_s_process_and_refuses_another_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    from codevision_ext.patches import sglang_attention  # noqa: PLC0415

    backend = sglang_attention.TorchNativeAttnBackend
    monkeypatch.setattr(backend, "_run_sdpa_forward_decode", backend._run_sdpa_forward_decode)  # is put back
    monkeypatch.setattr(sglang_attention, "run_scheduler_process", lambda: None)
    sglang_attention.run_scheduler()
    assert backend._run_sdpa_forward_decode is sglang_attention.decode_attention
    backend._run_sdpa_forward_decode = rewritten
    with pytest.raises(CompatError, match=r"_run_sdpa_forward_decode no longer contains .*written for SGLang 0\.5\.14"):
        sglang_attention.run_scheduler()


@pytest.mark.parametrize("name", ["multinomial_with_seed", "from_schedule_batch"])
def test_a_sampler_that_reads_seeds_in_another_way_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from codevision_ext.patches import sglang_sampling  # noqa: PLC0415

    owner = sglang_sampling.SamplingBatchInfo if name == "from_schedule_batch" else sglang_sampling.sampler
    monkeypatch.setattr(owner, name, rewritten)
    with pytest.raises(CompatError, match=rf"{name} no longer contains .*written for SGLang 0\.5\.14"):
        sglang_sampling.run_seeded_scheduler()


def test_verl_starts_the_patched_scheduler_and_another_verl_is_refused() -> None:
    from sglang.srt.entrypoints import engine  # noqa: PLC0415
    from verl.workers.rollout.sglang_rollout.async_sglang_server import SGLangHttpServer  # noqa: PLC0415

    from codevision_ext.patches import sglang_attention  # noqa: PLC0415

    module = ModuleType("engine")
    module.run_scheduler_process = engine.run_scheduler_process  # type: ignore[attr-defined]
    sglang_attention.run_scheduler_in_verl(SGLangHttpServer, module)
    assert module.run_scheduler_process is sglang_attention.run_scheduler
    with pytest.raises(CompatError, match="launch_server no longer contains"):
        sglang_attention.run_scheduler_in_verl(type("Server", (), {"launch_server": rewritten}), module)


def test_a_row_s_product_is_the_same_among_any_number_of_rows() -> None:
    import torch  # noqa: PLC0415

    from codevision_ext.patches.sglang_invariance import check_product, padded  # noqa: PLC0415

    torch.manual_seed(0)
    torch.set_num_threads(1)
    weights, rows = torch.randn(48, 128), torch.randn(40, 128)
    together = padded(lambda matrix: matrix @ weights.T, rows)
    for count in (1, 2, 3, 15, 16, 17):
        some = padded(lambda matrix: matrix @ weights.T, rows[:count])
        assert torch.equal(some, together[:count])
        assert torch.equal(padded(lambda matrix: matrix @ weights.T, rows[None, :count]), some[None])
    check_product(48, 128)


def test_a_machine_whose_products_depend_on_the_number_of_rows_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch  # noqa: PLC0415

    from codevision_ext.errors import EngineError  # noqa: PLC0415
    from codevision_ext.patches.sglang_invariance import check_product  # noqa: PLC0415

    stock = torch.nn.functional.linear
    monkeypatch.setattr(torch.nn.functional, "linear", lambda rows, weights: stock(rows, weights) + len(rows))
    with pytest.raises(EngineError, match=r"weights of 47 x 128 depends on the number of rows"):
        check_product(47, 128)
