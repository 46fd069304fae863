"""Patches of vLLM."""

from functools import wraps
from types import ModuleType
from typing import Any

from codevision_ext.patches.guard import expect


def plain_linears(layers: ModuleType) -> None:
    """vllm/model_executor/layers/utils.py packs weights for oneDNN on a CPU and drops them: no others can be loaded."""
    expect(layers, "dispatch_cpu_unquantized_gemm", "ops._supports_onednn", "if remove_weight:", of="vLLM 0.28")
    layers.ops._supports_onednn = False


def architectures_of_parts(vllm_config: ModuleType) -> None:
    """vllm/config/vllm.py:808 leaves a part of a model without architectures, and vLLM asks for the first on a CPU.

    Qwen3-VL's language model is such a part.
    """
    config = vllm_config.VllmConfig
    stock = expect(config, "with_hf_config", "elif hf_config.architectures is None:", of="vLLM 0.28")

    @wraps(stock)
    def with_hf_config(self: Any, hf_config: Any, architectures: list[str] | None = None) -> Any:
        if hf_config.architectures is None:
            architectures = architectures or list(self.model_config.architectures)
        return stock(self, hf_config, architectures)

    config.with_hf_config = with_hf_config


def buffers_beside_dummy_weights(dummy_loader: ModuleType) -> None:
    """vllm/model_executor/model_loader/weight_utils.py:1289 fills whatever is in a model's state with random numbers.

    Buffers are, too, and no weight update brings them back: Qwen2.5-VL's `input_norm`, mean and spread of images,
    stayed random for the whole training.
    """
    stock = expect(
        dummy_loader, "initialize_dummy_weights", "for param in model.state_dict().values():", of="vLLM 0.28"
    )

    @wraps(stock)
    def initialize_dummy_weights(model: Any, *args: Any, **kwargs: Any) -> None:
        kept = {name: buffer.clone() for name, buffer in model.named_buffers()}
        stock(model, *args, **kwargs)
        for name, buffer in model.named_buffers():
            buffer.copy_(kept[name])

    dummy_loader.initialize_dummy_weights = initialize_dummy_weights
