"""The memory estimate follows model sizes, shards, offloading and micro-batches, and is compared with the GPU."""

import json
import warnings
from pathlib import Path
from typing import Any

import pytest

from codevision_ext.engines.device import use_cpu_if_no_cuda

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    use_cpu_if_no_cuda()
    from codevision_ext.preflight.memory import GIB, Estimate, Images, count_parameters, estimate_memory
    from codevision_ext.preflight.recipe import load_recipe
    from codevision_ext.preflight.run import _memory

pytestmark = pytest.mark.filterwarnings("ignore")  # transformers and verl warn at import, by the dozen

DEMO = Path(__file__).parents[2] / "recipe" / "demo"
BIG = {
    "model_type": "qwen2_5_vl", "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28,
    "num_attention_heads": 28, "num_key_value_heads": 4, "vocab_size": 152064, "tie_word_embeddings": False,
    "vision_config": {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "out_hidden_size": 3584},
}  # fmt: skip
"""Sizes of Qwen2.5-VL-7B, whose release names 16,584,333,312 bytes of bf16 weights."""
IMAGES = Images(each=1.0, pixels=1e6, tokens=1280.0, share=0.5)


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from transformers import AutoConfig  # noqa: PLC0415

    folder = tmp_path_factory.mktemp("big")
    (folder / "config.json").write_text(json.dumps(BIG))
    return AutoConfig.from_pretrained(folder)


def estimated(big: Any, *settings: str, gpu_gib: float | None = 80) -> Estimate:
    config = load_recipe(DEMO, "grpo", ["device=gpu", *settings])
    return estimate_memory(config, big, IMAGES, gpu_gib and gpu_gib * GIB)


def test_parameters_are_counted_without_weights_and_with_lora_only_its_own_are_trained(big: Any) -> None:
    whole = count_parameters(big)
    assert whole.total == whole.trained == 16_584_333_312 // 2
    assert whole.block == 233_057_792  # of the language model; 32 of the vision tower are smaller
    lora = count_parameters(big, {"r": 8, "target_modules": ["q_proj"]})
    assert (lora.total, lora.trained) == (whole.total, 28 * 8 * (3584 + 3584))


def test_states_are_divided_among_the_gpus_and_offloaded_ones_count_for_the_host(big: Any) -> None:
    one = estimated(big)
    parameters = one.parameters.total
    assert (one.update["weights"], one.update["gradients"]) == (parameters * 4 / 8, parameters * 4 / 8)
    assert one.update["optimizer"] == parameters * 8 / 8
    assert one.rollout["weights"] == one.update["weights"]
    assert one.kv_token == 2 * 28 * 4 / 2 * 128 * 2
    two = estimated(big, "trainer.nnodes=2", "actor_rollout_ref.actor.fsdp_config.optimizer_offload=true")
    assert two.update["weights"] == one.update["weights"] / 2
    assert set(one.rollout) - set(two.rollout) == {"optimizer"}
    assert two.host["offloaded optimizer"] == 8 * two.update["optimizer"]
    assert two.host["pictures"] == one.host["pictures"] / 2
    lora = estimated(big, "actor_rollout_ref.model.lora_rank=8")
    assert lora.update["optimizer"] < one.update["optimizer"] / 50


def test_activations_and_logits_grow_with_the_micro_batch_and_shrink_with_checkpointing(big: Any) -> None:
    one = estimated(big)
    half = estimated(big, "actor_rollout_ref.actor.ppo_max_token_len_per_gpu=16384")
    for name in ("activations", "logits"):
        assert half.update[name] == one.update[name] / 2
    stored = estimated(big, "actor_rollout_ref.model.enable_gradient_checkpointing=false")
    assert stored.update["activations"] > 8 * one.update["activations"]
    assert estimated(big, "actor_rollout_ref.model.use_fused_kernels=true").update["logits"] == 0


def test_a_recipe_that_does_not_fit_the_gpu_is_a_failure_and_without_one_nothing_is_compared(big: Any) -> None:
    def levels(gib: float | None, *settings: str) -> dict[str, str]:
        config = load_recipe(DEMO, "grpo", ["device=gpu", *settings])
        size = gib and gib * GIB
        results = _memory(config, estimate_memory(config, big, IMAGES, size), size)
        return {result.check: result.level for result in results}

    assert set(levels(1000).values()) - {"warning"} == {"ok"}
    assert levels(16)["GPU memory, update"] == "failure"
    assert levels(None)["GPU memory, update"] == "warning"
    assert "KV cache" not in levels(None)
