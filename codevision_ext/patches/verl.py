"""Every place where verl 0.9.1 can't be satisfied through a registry, with the lines worked around.

Each patch names the function it replaces or wraps and a fragment of its source. When the fragment is gone the patch
refuses (`CompatError`), so that another verl fails at start and not in a metric. `position_ids_of_equal_length`,
`text_only_batches`, `no_epoch_left_out` and `buffers_beside_dummy_weights` are for every device, the others for the CPU
only.
"""

import os
from functools import wraps
from types import ModuleType, SimpleNamespace
from typing import Any

from codevision_ext.patches.guard import expect


def gloo_once(distributed: ModuleType) -> None:
    """verl/utils/distributed.py:62-77 and :83-100 build "cpu:gloo,cpu:gloo"; torch refuses a device named twice."""
    line = 'f"cpu:gloo,{get_device_name()}:{get_nccl_backend()}"'
    expect(distributed, "initialize_global_process_group", line)
    expect(distributed, "initialize_global_process_group_ray", line, "backend = backend or")
    # With another name for the device the string is "cpu:gloo,cuda:gloo", which torch accepts; a CPU build uses the
    # first half. Nothing else in that module asks for the name.
    distributed.get_device_name = lambda: "cuda"


def vectorised_logprobs(torch_functional: ModuleType) -> None:
    """verl/utils/torch_functional.py:173-205 loops over rows in Python where flash-attn is missing (speed only)."""
    expect(
        torch_functional, "logprobs_from_logits_v2", "torch.stack([torch.logsumexp(logit, dim=-1) for logit in logits])"
    )
    torch_functional.logprobs_from_logits_v2 = torch_functional.logprobs_from_logits_naive


def unpinned_reference(transformer_impl: ModuleType) -> None:
    """verl/workers/engine/fsdp/transformer_impl.py:459-462 pins the reference policy's memory, which needs a GPU."""
    expect(transformer_impl.FSDPEngine, "_build_fsdp_module", "CPUOffloadPolicy(pin_memory=True)")
    stock = transformer_impl.CPUOffloadPolicy
    transformer_impl.CPUOffloadPolicy = lambda pin_memory: stock(pin_memory=False)  # noqa: ARG005


def cores_for_ranks(common: ModuleType) -> None:
    """transfer_queue/utils/common.py:118 puts a process back to the threads it had at import, which is one here.

    While a rank of verl's trainer computes the engine waits, so the ranks of a machine share its cores (speed only).
    """
    expect(
        common,
        "limit_pytorch_auto_parallel_threads",
        "torch.set_num_threads(DEFAULT_TORCH_NUM_THREADS)",
        of="TransferQueue 0.1.11",
    )
    ranks = int(os.environ.get("RAY_LOCAL_WORLD_SIZE", "0"))  # verl's, in its workers only
    if ranks:
        common.DEFAULT_TORCH_NUM_THREADS = max(1, len(os.sched_getaffinity(0)) // ranks)
        common.torch.set_num_threads(common.DEFAULT_TORCH_NUM_THREADS)


def typed_dicts_once(processing_utils: ModuleType) -> None:
    """transformers/processing_utils.py:1372 makes a new type at every call, and the checker of its fields with it.

    That is most of what a processor costs an engine for a small image (speed only).
    """
    expect(processing_utils.ProcessorMixin, "_merge_kwargs", "typed_dict_obj = TypedDict(", of="transformers 5.8")
    stock = processing_utils.TypedDict
    made: dict[Any, Any] = {}

    def once(name: str, fields: dict[str, Any], *, total: bool = True) -> Any:
        key = (name, *fields.items(), total)
        if key not in made:
            made[key] = stock(name, fields, total=total)
        return made[key]

    processing_utils.TypedDict = once


def position_ids_of_equal_length(tensordict_utils: ModuleType) -> None:
    """verl/utils/tensordict_utils.py:910-915 takes every batch of (4, tokens) positions as ragged in the last one.

    TransferQueue packs them with `as_nested_tensor`, which makes equally long rows, or a single one, ragged in the
    first of the two; read the other way, they can't be taken apart. Such a batch is packed anew.
    """
    stock = expect(tensordict_utils, "maybe_fix_3d_position_ids", 'data["position_ids"]._ragged_idx = 2')

    @wraps(stock)
    def maybe_fix_3d_position_ids(data: Any) -> None:
        ids = data["position_ids"] if "position_ids" in data.keys() else None  # noqa: SIM118  # a TensorDict
        if ids is not None and ids.is_nested and ids.dim() == 3 and int(ids.offsets()[-1]) == len(ids.values()):
            rows = ids.values().split(ids.offsets().diff().tolist())
            data["position_ids"] = tensordict_utils.nested_tensor_from_tensor_list(list(rows))
        else:
            stock(data)

    tensordict_utils.maybe_fix_3d_position_ids = maybe_fix_3d_position_ids


def text_only_batches(qwen2_vl: ModuleType) -> None:
    """verl/models/transformers/qwen2_vl.py:389-395 takes the vision tower's output of transformers 5 for a tensor.

    It does so where no row of a micro-batch has an image, as in the rows with which verl fills up an incomplete batch.
    """
    stock = expect(
        qwen2_vl,
        "_get_input_embeds",
        "        image_embeds = model.visual(pixel_values, grid_thw=image_grid_thw)\n",
        "inputs_embeds = inputs_embeds + 0.0 * image_embeds.mean()",
    )

    @wraps(stock)
    def _get_input_embeds(
        model: Any,
        input_ids: Any,
        attention_mask: Any = None,
        pixel_values: Any = None,
        pixel_values_videos: Any = None,
        *grids: Any,
    ) -> Any:
        if pixel_values is None and pixel_values_videos is None:
            whole = model
            model = SimpleNamespace(
                get_input_embeddings=whole.get_input_embeddings,
                config=whole.config,
                visual=lambda *args, **kwargs: qwen2_vl.unpack_visual_output(whole.visual(*args, **kwargs))[0],
            )
        return stock(model, input_ids, attention_mask, pixel_values, pixel_values_videos, *grids)

    qwen2_vl._get_input_embeds = _get_input_embeds


def no_epoch_left_out(checkpoint_handler: ModuleType) -> None:
    """verl/utils/checkpoint/checkpoint_handler.py:170-178 puts a data loader back to the end of an epoch.

    Its next epoch has no batch then: SFT that goes on from a checkpoint of `save_freq: after_each_epoch` leaves out a
    whole epoch and ends as if it were done.
    """
    handler = checkpoint_handler.CheckpointHandler
    stock = expect(handler, "_load_dataloader_state", "self.train_dataloader.load_state_dict(dataloader_state_dict)")

    @wraps(stock)
    def _load_dataloader_state(self: Any, checkpoint_path: str) -> None:
        if self.resume_global_step % len(self.train_dataloader):
            stock(self, checkpoint_path)

    handler._load_dataloader_state = _load_dataloader_state
