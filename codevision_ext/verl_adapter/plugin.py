"""Waits for a verl run that asks for CodeVision, and changes nothing in other runs.

verl loads this module by the `verl.plugins` entry point, in every process, while it is itself being imported. So
nothing heavy is imported here. Four things happen:

* `auto_set_device` is wrapped: each of verl's entry points hands its config to that function first. The wrapper looks
  at the config and calls the stock function. A config that asks for CodeVision (`activation.asks`) activates it.
* The processes that such a run starts find `CODEVISION_ACTIVE=1` in their environment and activate it at once.
* `VERL_PLATFORM=cpu` asks for verl on a machine without a GPU, which needs a platform and patches of its own.
* `python -m verl.model_merger`, which has no config, copies the codevision.json of a checkpoint that has one.
"""

import os
import sys
from types import ModuleType

from codevision_ext.patches.install import install_cpu_patches, on_cpu, when_imported
from codevision_ext.patches.verl import format_of_merged
from codevision_ext.verl_adapter.activation import activate, active, watch_config


def _support_cpu() -> None:
    """Registers the CPU as a platform of verl, installs the patches that it needs and sets the environment for it."""
    from codevision_ext.engines.device import CPU_ENVIRONMENT  # noqa: PLC0415
    from codevision_ext.patches import torchvision  # noqa: PLC0415

    @when_imported("verl.plugin.platform.platform_manager")
    def register(manager: ModuleType) -> None:
        from codevision_ext.verl_adapter.platform_cpu import PlatformCPU  # noqa: PLC0415

        manager.PlatformRegistry.register("cpu")(PlatformCPU)

    torchvision.arm()
    for name, value in CPU_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    install_cpu_patches()


if on_cpu():
    _support_cpu()
if active():
    activate()
if "verl.model_merger" in sys.orig_argv:
    when_imported("verl.model_merger.base_model_merger")(format_of_merged)
from verl.utils import device as _device  # noqa: E402  # verl has imported it already

watch_config(_device)
