"""Patches of verl 0.9.1, for what none of its registries can change.

`position_ids_of_equal_length`, `text_only_batches`, `no_epoch_left_out`, `format_beside_weights` and
`agent_loop_worker` are for every device, the others for the CPU.
"""

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from shutil import copy
from types import ModuleType, SimpleNamespace
from typing import Any

from codevision_ext.patches.guard import expect, replace

FILE = "codevision.json"
"""Name of the file `rollout.trained_format.FILE`; that module is too slow to import in every process of verl."""


def gloo_once(distributed: ModuleType) -> None:
    """Names the gloo backend once: verl builds "cpu:gloo,cpu:gloo" on a CPU, and torch refuses a device named twice.

    The string is built in verl/utils/distributed.py:62-77 and :83-100. With another name for the device it is
    "cpu:gloo,cuda:gloo", which torch accepts; a CPU build uses the first half. Nothing else in that module reads the
    name.

    Drop when verl builds the backend string of a CPU with one entry.
    """
    line = 'f"cpu:gloo,{get_device_name()}:{get_nccl_backend()}"'
    expect(distributed, "initialize_global_process_group", line)
    expect(distributed, "initialize_global_process_group_ray", line, "backend = backend or")
    vars(distributed)["get_device_name"] = lambda: "cuda"


def vectorised_logprobs(torch_functional: ModuleType) -> None:
    """Computes the log-probs of all rows at once; without flash-attn verl loops over rows in Python.

    The loop is in verl/utils/torch_functional.py:173-205. This changes speed only.

    Drop when verl has a path without that loop on the CPU.
    """
    expect(
        torch_functional, "logprobs_from_logits_v2", "torch.stack([torch.logsumexp(logit, dim=-1) for logit in logits])"
    )
    replace(torch_functional, "logprobs_from_logits_v2", torch_functional.logprobs_from_logits_naive)


def unpinned_reference(transformer_impl: ModuleType) -> None:
    """Keeps the reference policy in ordinary memory; verl pins it, which needs a GPU.

    The line is verl/workers/engine/fsdp/transformer_impl.py:459-462.

    Drop when verl pins memory only where there is a GPU.
    """
    expect(transformer_impl.FSDPEngine, "_build_fsdp_module", "CPUOffloadPolicy(pin_memory=True)")
    stock = transformer_impl.CPUOffloadPolicy
    vars(transformer_impl)["CPUOffloadPolicy"] = lambda pin_memory: stock(pin_memory=False)  # noqa: ARG005


def position_ids_of_equal_length(tensordict_utils: ModuleType) -> None:
    """Repairs the position ids of a batch whose rows are equally long.

    verl/utils/tensordict_utils.py:910-915 assumes that a nested batch of (4, tokens) position ids is ragged in its last
    dimension. TransferQueue packs the batch with `as_nested_tensor`, which makes equally long rows, or a single row,
    ragged in the first of the two dimensions; read the other way, the batch can't be taken apart. The patch packs such
    a batch again.

    Drop when verl reads the ragged dimension from the tensor, or TransferQueue packs rows with a fixed one.
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

    replace(tensordict_utils, "maybe_fix_3d_position_ids", maybe_fix_3d_position_ids)


def text_only_batches(qwen2_vl: ModuleType) -> None:
    """Unpacks the output of the vision tower for a micro-batch without an image.

    verl/models/transformers/qwen2_vl.py:389-395 takes the output of transformers 5 for a tensor there. verl fills up an
    incomplete batch with such rows.

    Drop when verl calls `unpack_visual_output` in that branch too.
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

    replace(qwen2_vl, "_get_input_embeds", _get_input_embeds)


def change_built_modules(transformer_impl: ModuleType, change: Callable[[Any], None]) -> None:
    """Calls `change` with each model that verl's FSDP engine has loaded, before the model is sharded.

    verl 0.9.1 declares `freeze_vision_tower` and never reads it. The module is loaded in
    verl/workers/engine/fsdp/transformer_impl.py:254-337.

    Drop when verl reads a setting that freezes parts of a model in SFT.
    """
    engine = transformer_impl.FSDPEngine
    stock = expect(engine, "_build_module", "module.to(torch_dtype)", "return module")

    @wraps(stock)
    def _build_module(self: Any) -> Any:
        module = stock(self)
        change(module)
        return module

    engine._build_module = _build_module


def no_epoch_left_out(checkpoint_handler: ModuleType) -> None:
    """Begins a new epoch after a checkpoint that was saved at the end of one.

    verl/utils/checkpoint/checkpoint_handler.py:170-178 puts the data loader back to the end of that epoch. Its next
    epoch has no batch then: SFT that resumes from a checkpoint of `save_freq: after_each_epoch` leaves out a whole
    epoch and ends as if it were done.

    Drop when verl doesn't load the data loader's state at the end of an epoch.
    """
    handler = checkpoint_handler.CheckpointHandler
    stock = expect(handler, "_load_dataloader_state", "self.train_dataloader.load_state_dict(dataloader_state_dict)")

    @wraps(stock)
    def _load_dataloader_state(self: Any, checkpoint_path: str) -> None:
        if self.resume_global_step % len(self.train_dataloader):
            stock(self, checkpoint_path)

    handler._load_dataloader_state = _load_dataloader_state


def format_beside_weights(checkpoint_handler: ModuleType) -> None:
    """Lets the rows of SFT say beside each checkpoint how it was trained, if their data set can.

    verl writes a checkpoint in verl/utils/checkpoint/checkpoint_handler.py:82-130 and has no hook there. The data set's
    file is written before the weights, so that no complete checkpoint is without it.

    Drop when verl calls back while it saves a checkpoint of SFT.
    """
    handler = checkpoint_handler.CheckpointHandler
    stock = expect(
        handler,
        "save_checkpoint",
        'os.path.join(self.default_local_dir, f"global_step_{step}")',
        "self.engine.save_checkpoint(",
    )

    @wraps(stock)
    def save_checkpoint(self: Any, step: int) -> None:
        write_format = getattr(self.train_dataloader.dataset, "write_format", None)
        if self.rank == 0 and write_format is not None:
            write_format(Path(self.default_local_dir) / f"global_step_{step}" / "huggingface")
        stock(self, step)

    handler.save_checkpoint = save_checkpoint


def format_of_merged(base_model_merger: ModuleType) -> None:
    """Copies codevision.json into the folder that `python -m verl.model_merger` writes, if the checkpoint has it.

    verl saves there what it knows by name, in verl/model_merger/base_model_merger.py:410-439.

    Drop when verl copies the other files of a checkpoint's folder too.
    """
    merger = base_model_merger.BaseModelMerger
    stock = expect(
        merger, "save_hf_model_and_tokenizer", "hf_processor(self.hf_model_config_path", "self.config.target_dir"
    )

    @wraps(stock)
    def save_hf_model_and_tokenizer(self: Any, *args: Any) -> None:
        stock(self, *args)
        if (file := Path(self.hf_model_config_path) / FILE).is_file():
            copy(file, self.config.target_dir)

    merger.save_hf_model_and_tokenizer = save_hf_model_and_tokenizer


def sft_checkpoints(checkpoint_handler: ModuleType) -> None:
    """Applies both patches of verl's checkpoints of SFT. Drop when neither is left."""
    no_epoch_left_out(checkpoint_handler)
    format_beside_weights(checkpoint_handler)


def agent_loop_worker(agent_loop_tq: ModuleType) -> Any:
    """Returns the class behind verl's Ray actor `AgentLoopWorkerTQ`, for a subclass that scores whole groups.

    Ray actors can't be subclassed, so the class comes out of the actor's private `__ray_metadata__`. The fragments are
    what the methods of `verl_adapter.agent_loop` rely on: one task for each rollout of a prompt, and features and
    position ids computed in overridable methods.

    Drop when verl's manager takes a worker class, or when verl scores the rollouts of a prompt together.
    """
    worker = agent_loop_tq.AgentLoopWorkerTQ.__ray_metadata__.modified_class
    expect(worker, "generate_sequences", "self._run_prompt(prompt, sampling_params, trajectory=trajectory_info[i]")
    expect(worker, "_run_prompt", 'prompt.pop("__rollout_n__", config.n if not', "session_id=i, **prompt")
    expect(worker, "_run_agent_loop", "await self._agent_loop_postprocess(output, trajectory[")
    expect(
        worker,
        "_agent_loop_postprocess",
        "await self._compute_score(outputs, kwargs=kwargs)",
        "self._compute_multi_modal_inputs(output, input_ids)",
        "self._compute_position_ids(",
    )
    expect(worker, "_compute_score", "output.reward_score is None")
    return worker
