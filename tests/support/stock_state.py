"""Prints the state of verl and of the libraries below it in this process, as JSON, for a comparison with another process.

`python stock_state.py CONFIG [SETTING ...]` composes a config of verl, hands it to verl as the entry points do, imports
the modules that the plugin can change, and describes every function, class and registry in them. With `HIDE_PLUGIN=1` the
package can't be imported, as if it weren't installed.
"""

import importlib
import json
import os
import signal
import sys
import types
from collections.abc import Iterator
from contextlib import redirect_stdout
from typing import Any

if os.environ.get("HIDE_PLUGIN"):
    for name in [name for name in sys.modules if name.partition(".")[0] == "codevision_ext"]:
        del sys.modules[name]
    sys.modules["codevision_ext"] = None  # type: ignore[assignment]

MODULES = (
    "transfer_queue.utils.common",
    "transformers.processing_utils",
    "sglang.srt.layers.attention.torch_native_backend",
    "sglang.srt.layers.sampler",
    "sglang.srt.sampling.sampling_batch_info",
    "verl.experimental.agent_loop",
    "verl.experimental.reward_loop.reward_manager",
    "verl.models.transformers.qwen2_vl",
    "verl.plugin.platform.platform_manager",
    "verl.trainer.main_ppo",
    "verl.trainer.ppo.v1",
    "verl.trainer.sft_trainer",
    "verl.utils.distributed",
    "verl.utils.torch_functional",
    "verl.workers.engine.fsdp.transformer_impl",
    "verl.workers.rollout.replica",
    "vllm.config.vllm",
    "vllm.model_executor.layers.utils",
    "vllm.model_executor.model_loader.dummy_loader",
)
"""Modules that the plugin patches or registers with, and the entry points of verl."""


def describe(value: Any, depth: int = 3) -> Any:
    """Returns what tells a stock value from a changed one: the place and the code of a function, the items of a table."""
    if isinstance(value, staticmethod | classmethod):
        return [type(value).__name__, describe(value.__func__, depth)]
    if isinstance(value, property):
        return ["property", describe(value.fget, depth)]
    if isinstance(value, types.FunctionType):
        code = value.__code__
        wrapped = describe(value.__wrapped__, depth) if hasattr(value, "__wrapped__") else None
        return [value.__module__, value.__qualname__, code.co_filename, code.co_firstlineno, wrapped]
    if isinstance(value, type):
        return f"{value.__module__}.{value.__qualname__}"
    if isinstance(value, dict) and depth:
        return {str(key): describe(item, depth - 1) for key, item in value.items()}
    if isinstance(value, list | tuple) and depth:
        return [describe(item, depth - 1) for item in value]
    return value if isinstance(value, str | int | float | bool | None) else type(value).__qualname__


def state() -> Iterator[tuple[str, Any]]:
    """Yields the name and the description of everything in the modules, and of the process."""
    tops = {name.partition(".")[0] for name in MODULES}
    for name, module in sorted(sys.modules.items()):
        if name.partition(".")[0] not in tops or not isinstance(module, types.ModuleType):
            continue
        if not name.startswith("verl") and name not in MODULES:
            continue
        for key, value in vars(module).items():
            if key.startswith("__"):
                continue
            yield f"{name}.{key}", describe(value)
            if isinstance(value, type) and value.__module__ == name:
                for attribute, inner in vars(value).items():
                    yield f"{name}.{key}.{attribute}", describe(inner)
    for number in signal.valid_signals():
        yield f"signal {number}", str(signal.getsignal(number))
    for name, value in os.environ.items():
        yield f"environment {name}", value
    yield "import hooks", [describe(finder) if isinstance(finder, type) else str(type(finder)) for finder in sys.meta_path]


def main() -> None:
    """Prints the state after a config was handed to verl."""
    from hydra import compose, initialize_config_module  # noqa: PLC0415
    from verl.utils.device import auto_set_device  # noqa: PLC0415

    with redirect_stdout(sys.stderr):
        with initialize_config_module("verl.trainer.config", version_base=None):
            config = compose(sys.argv[1], overrides=sys.argv[2:])
        auto_set_device(config)
        if sys.argv[1] == "ppo_trainer":
            from verl.trainer.ppo.utils import need_critic, need_reference_policy  # noqa: PLC0415
            from verl.utils.config import validate_config  # noqa: PLC0415

            validate_config(config, need_reference_policy(config), need_critic(config))
        for name in MODULES:
            if importlib.util.find_spec(name.partition(".")[0]):
                importlib.import_module(name)
    state_now = dict(state())
    state_now["config"] = str(config)
    print(json.dumps(state_now))


if __name__ == "__main__":
    main()
