"""Which device a command runs on, and what a host without CUDA needs said before verl or SGLang is imported."""

import os

from codevision_ext.patches import torchvision as torchvision_cpu

CPU_ENVIRONMENT = {
    "VERL_PLATFORM": "cpu",
    "VERL_ENGINE_DEVICE": "cuda",  # verl's FSDP engines are registered for cuda and npu only
    "SGLANG_USE_CPU_ENGINE": "1",
    "TORCHDYNAMO_DISABLE": "1",
    "TQ_NUM_THREADS": "1",  # TransferQueue's own is 8, with a warning at each of its calls where there are fewer cores
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
}
"""Read by verl, the engines, TransferQueue and torch, here and in processes started from here; what is set stays."""

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
"""SGLang's settings on a CPU, as recipe/demo/device/cpu.yaml gives them to verl; on CUDA its own defaults serve."""


def use_cpu_if_no_cuda() -> bool:
    """Prepares this process for the device that torch has; True: it is the CPU.

    Call it before the first import of verl, transformers or SGLang.
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
