"""Describes verl and the libraries below it in this process, as JSON, for a comparison with another process.

`python stock_state.py OUT CONFIG [SETTING ...]` imports an entry point of verl, composes its config, hands it to verl
as the entry point does, and imports the other modules that the plugin can change. Every function, class and table in
them goes to the file OUT. With `HIDE_PLUGIN=1` the package can't be imported, as if it weren't installed.
"""

import importlib
import json
import os
import signal
import sys
import types
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

if os.environ.get("HIDE_PLUGIN"):
    for loaded in [name for name in sys.modules if name.partition(".")[0] == "codevision_ext"]:
        del sys.modules[loaded]
    sys.modules["codevision_ext"] = None  # type: ignore[assignment]

ENTRY_POINTS = {"ppo_trainer": "verl.trainer.main_ppo", "sft_trainer_engine": "verl.trainer.sft_trainer"}
"""Entry points of verl, by their config."""
MODULES = (
    "sglang.srt.layers.attention.torch_native_backend",
    "sglang.srt.layers.sampler",
    "sglang.srt.sampling.sampling_batch_info",
    "transfer_queue.utils.common",
    "transformers.processing_utils",
    "verl.experimental.agent_loop",
    "verl.experimental.reward_loop.reward_manager",
    "verl.models.transformers.qwen2_vl",
    "verl.trainer.ppo.v1",
    "verl.workers.engine.fsdp.transformer_impl",
    "verl.workers.rollout.replica",
    "vllm.config.vllm",
    "vllm.model_executor.layers.utils",
    "vllm.model_executor.model_loader.dummy_loader",
)
"""Modules that the plugin patches or registers with, besides those that an entry point imports."""


def describe(value: Any, depth: int = 3) -> Any:
    """Returns what tells a stock value from a changed one: the file and line of a function, the items of a table."""
    match value:
        case staticmethod() | classmethod():
            return [type(value).__name__, describe(value.__func__, depth)]
        case property():
            return ["property", describe(value.fget, depth)]
        case types.FunctionType():
            code = value.__code__
            wrapped = describe(value.__wrapped__, depth) if hasattr(value, "__wrapped__") else None
            return [value.__module__, value.__qualname__, code.co_filename, code.co_firstlineno, wrapped]
        case type():
            return f"{value.__module__}.{value.__qualname__}"
        case dict() if depth:
            return {str(key): describe(item, depth - 1) for key, item in value.items()}
        case list() | tuple() if depth:
            return [describe(item, depth - 1) for item in value]
        case str() | int() | float() | bool() | None:
            return value
    return type(value).__qualname__


def state() -> Iterator[tuple[str, Any]]:
    """Yields the name and the description of everything in the modules, and of the process."""
    names = [name for name in sys.modules if name.partition(".")[0] == "verl" or name in MODULES]
    for name, module in ((name, sys.modules[name]) for name in names):
        for key, value in vars(module).items():
            if key.startswith("__"):
                continue
            yield f"{name}.{key}", describe(value)
            if isinstance(value, type) and value.__module__ == name:
                inner = {attribute: item for attribute, item in vars(value).items() if "_pydantic_" not in attribute}
                yield from ((f"{name}.{key}.{attribute}", describe(item)) for attribute, item in inner.items())
    yield from ((f"signal {number}", str(signal.getsignal(number))) for number in signal.valid_signals())
    yield from ((f"environment {name}", value) for name, value in os.environ.items() if name != "HIDE_PLUGIN")
    yield "import hooks", [str(finder if isinstance(finder, type) else type(finder)) for finder in sys.meta_path]


def main() -> None:
    """Writes the state after a config was handed to verl."""
    from hydra import compose, initialize_config_module  # noqa: PLC0415

    out, name, *settings = sys.argv[1:]
    entry_point = importlib.import_module(ENTRY_POINTS[name])
    with initialize_config_module("verl.trainer.config", version_base=None):
        config = compose(name, overrides=settings)
    entry_point.auto_set_device(config)
    if name == "ppo_trainer":
        entry_point.validate_config(config, entry_point.need_reference_policy(config), entry_point.need_critic(config))
    for module in MODULES:
        if find_spec(module.partition(".")[0]):
            importlib.import_module(module)
    Path(out).write_text(json.dumps(dict(state()) | {"config": str(config)}), encoding="utf-8")


if __name__ == "__main__":
    main()
