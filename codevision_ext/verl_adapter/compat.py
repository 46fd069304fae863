"""Every place where verl 0.9.1 can't be satisfied through a registry, with the lines worked around.

Each patch names the function it replaces or wraps and a fragment of its source. When the fragment is gone the patch
refuses (`CompatError`), so that another verl fails at start and not in a metric. All but one are for the CPU only.
"""

import inspect
from collections.abc import Callable
from types import ModuleType
from typing import Any

from codevision_ext.errors import CompatError


def _expect(owner: Any, name: str, *fragments: str) -> Callable[..., Any]:
    """The function `owner.name`, once its source is seen to contain every fragment."""
    function = getattr(owner, name, None)
    where = f"{getattr(owner, '__name__', owner)}.{name}"
    if function is None:
        raise CompatError(f"{where} is gone: this plugin was written for verl 0.9.1")
    source = inspect.getsource(inspect.unwrap(function))
    for fragment in fragments:
        if fragment not in source:
            raise CompatError(f"{where} no longer contains {fragment!r}: this plugin was written for verl 0.9.1")
    return function


def gloo_once(distributed: ModuleType) -> None:
    """verl/utils/distributed.py:62-77 and :83-100 build "cpu:gloo,cpu:gloo"; torch refuses a device named twice."""
    line = 'f"cpu:gloo,{get_device_name()}:{get_nccl_backend()}"'
    _expect(distributed, "initialize_global_process_group", line)
    _expect(distributed, "initialize_global_process_group_ray", line, "backend = backend or")
    # Only the platform's two names enter that string: answering "gloo" and "" for them leaves "cpu:gloo,cuda:gloo", a
    # mapping that torch accepts and of which a CPU build uses the first half.
    distributed.get_device_name = lambda: "cuda"


def vectorised_logprobs(torch_functional: ModuleType) -> None:
    """verl/utils/torch_functional.py:173-205 loops over rows in Python where flash-attn is missing (speed only)."""
    _expect(
        torch_functional, "logprobs_from_logits_v2", "torch.stack([torch.logsumexp(logit, dim=-1) for logit in logits])"
    )
    torch_functional.logprobs_from_logits_v2 = torch_functional.logprobs_from_logits_naive


def unpinned_reference(transformer_impl: ModuleType) -> None:
    """verl/workers/engine/fsdp/transformer_impl.py:459-462 pins the reference policy's memory, which needs a GPU."""
    _expect(transformer_impl.FSDPEngine, "_build_fsdp_module", "CPUOffloadPolicy(pin_memory=True)")
    stock = transformer_impl.CPUOffloadPolicy
    transformer_impl.CPUOffloadPolicy = lambda pin_memory: stock(pin_memory=False)  # noqa: ARG005
