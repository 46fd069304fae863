"""Patches of vLLM: one for every device (`buffers_beside_dummy_weights`), two for the CPU."""

from functools import wraps
from types import ModuleType
from typing import Any

from codevision_ext.patches.guard import expect


def plain_linears(layers: ModuleType) -> None:
    """Keeps the weights of linear layers on a CPU unpacked, so that new weights can be loaded.

    vLLM packs the weights for oneDNN and drops the originals (vllm/model_executor/layers/utils.py).

    Drop when vLLM can load weights into linear layers that it packed for the CPU.
    """
    expect(layers, "dispatch_cpu_unquantized_gemm", "ops._supports_onednn", "if remove_weight:", of="vLLM 0.28")
    layers.ops._supports_onednn = False


def architectures_of_parts(vllm_config: ModuleType) -> None:
    """Gives a part of a model the architectures of the whole model; on a CPU vLLM reads the first of them.

    vllm/config/vllm.py:808 leaves a part without architectures, for example the language model of Qwen3-VL.

    Drop when vLLM's `with_hf_config` gives every part architectures.
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
    """Restores the buffers of a model that starts with dummy weights.

    vllm/model_executor/model_loader/weight_utils.py:1289 overwrites the whole state dict with random numbers, buffers
    included. Weight updates don't contain buffers, so mean and standard deviation of images in Qwen2.5-VL
    (`input_norm`) would stay random for the whole training.

    Drop when vLLM's dummy loader fills parameters only.
    """
    stock = expect(
        dummy_loader, "initialize_dummy_weights", "for param in model.state_dict().values():", of="vLLM 0.28"
    )

    @wraps(stock)
    def initialize_dummy_weights(model: Any, *args: Any, **kwargs: Any) -> None:
        buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
        stock(model, *args, **kwargs)
        for name, buffer in model.named_buffers():
            buffer.copy_(buffers[name])

    vars(dummy_loader)["initialize_dummy_weights"] = initialize_dummy_weights
