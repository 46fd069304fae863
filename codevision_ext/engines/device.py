"""Prepares a process for the device that it runs on, before verl or an engine is imported."""

import os

from codevision_ext.patches import torchvision as torchvision_cpu

CPU_ENVIRONMENT = {
    "VERL_PLATFORM": "cpu",
    "VERL_ENGINE_DEVICE": "cuda",  # verl's FSDP engines are registered for cuda and npu only
    "SGLANG_USE_CPU_ENGINE": "1",
    "TORCHDYNAMO_DISABLE": "1",
    "TQ_NUM_THREADS": "1",  # the default of TransferQueue is 8, with a warning at each call on fewer cores
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
}
"""Environment variables for verl, the engines, TransferQueue and torch on a CPU; a variable that is set stays."""

CPU_ENGINE = {
    "device": "cpu",
    "dtype": "float32",
    "attention_backend": "torch_native",
    "mm_attention_backend": "sdpa",
    "sampling_backend": "pytorch",
    "enable_memory_saver": False,
    "disable_cuda_graph": True,
    "disable_overlap_schedule": True,
    "max_total_tokens": 131072,
    "sleep_on_idle": True,
}
"""Settings of SGLang on a CPU, those of recipe/demo/device/cpu.yaml; on CUDA the defaults of SGLang are used."""


def use_cpu_if_no_cuda() -> bool:
    """Prepares this process for the device that torch has, and returns whether that is the CPU.

    Call it before the first import of verl, transformers, SGLang or vLLM.
    """
    torchvision_cpu.arm()
    import torch  # noqa: PLC0415  # after the hook, and only in a process that needs it

    if torch.cuda.is_available():
        return False
    for name, value in CPU_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # two threads on shared cores were measured up to 15 times slower
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    return True
