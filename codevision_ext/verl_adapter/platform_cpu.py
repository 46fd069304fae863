"""Makes the CPU a platform of verl, which `VERL_PLATFORM=cpu` selects.

verl accesses its devices through a platform object and a module like `torch.cuda`. On the CPU, the module is
`torch.cpu` with more names that verl uses; memory figures are those of the process. Ray assigns logical GPUs
(`ray_kwargs.ray_init.num_gpus`), so that the placement groups of the trainer work unchanged.
"""

import contextlib
import resource
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import psutil
import torch
from verl.plugin.platform.platform_base import PlatformBase


class _Stream:
    """Stands in for a CUDA stream or event. Operations on a CPU have ended when they return, so there is no waiting."""

    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    def _nothing(self, *args: Any, **kwargs: Any) -> None: ...

    record = wait = wait_event = wait_stream = synchronize = record_event = _nothing


def _peak_bytes(*_: Any) -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _resident_bytes(*_: Any) -> int:
    return psutil.Process().memory_info().rss


def _free_and_total(*_: Any) -> tuple[int, int]:
    memory = psutil.virtual_memory()
    return memory.available, memory.total


class _CpuDevice(ModuleType):
    """`torch.cpu`, plus the names of `torch.cuda` that verl uses."""

    Event = Stream = _Stream
    memory_allocated = memory_reserved = staticmethod(_resident_bytes)
    max_memory_allocated = max_memory_reserved = staticmethod(_peak_bytes)
    mem_get_info = staticmethod(_free_and_total)
    get_rng_state = staticmethod(lambda *_: torch.get_rng_state())
    set_rng_state = staticmethod(lambda state, *_: torch.set_rng_state(state))
    stream = staticmethod(lambda *_: contextlib.nullcontext())
    get_device_name = staticmethod(lambda *_: "cpu")

    @staticmethod
    def _nothing(*_: Any, **__: Any) -> None: ...

    empty_cache = ipc_collect = reset_peak_memory_stats = set_per_process_memory_fraction = set_device = _nothing
    manual_seed = manual_seed_all = _nothing

    def __getattr__(self, name: str) -> Any:
        return getattr(torch.cpu, name)


_DEVICE = _CpuDevice("codevision_cpu")


class PlatformCPU(PlatformBase):
    """verl's device interface on the host's own cores."""

    device_name = vendor_name = "cpu"
    device_module = _DEVICE

    def _nothing(self, *_: Any, **__: Any) -> None: ...

    set_device = synchronize = set_allocator_settings = empty_cache = profiler_start = profiler_stop = cudart = _nothing

    def is_available(self) -> bool:
        return True

    def is_platform_available(self, use_smi_check: bool = False) -> bool:  # noqa: ARG002
        """Returns False: verl never detects this platform, only `VERL_PLATFORM=cpu` selects it."""
        return False

    def current_device(self) -> str:
        """Returns the device that verl moves tensors to."""
        return "cpu"

    def device_count(self) -> int:
        return 1

    def manual_seed(self, seed: int) -> None:
        torch.manual_seed(seed)

    manual_seed_all = manual_seed

    def get_device_capability(self, device_index: int = 0) -> tuple[None, None]:  # noqa: ARG002
        return None, None

    def communication_backend_name(self) -> str:
        return "gloo"

    def visible_devices_envvar(self) -> str:
        return "CUDA_VISIBLE_DEVICES"

    @contextlib.contextmanager
    def nvtx_range(self, msg: str) -> Iterator[None]:  # noqa: ARG002
        yield

    def ray_resource_name(self) -> str:
        return "GPU"

    def ray_noset_envvars(self) -> list[str]:
        return []

    def is_ipc_supported(self) -> bool:
        return False

    def rollout_env_vars(self) -> dict[str, str]:
        """Returns one thread for each engine process; two on shared cores were measured up to 15 times slower."""
        return {"OMP_NUM_THREADS": "1"}
