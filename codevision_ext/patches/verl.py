"""Patches of verl 0.9.1 that none of its registries can replace.

`gloo_once`, `vectorised_logprobs` and `unpinned_reference` are for the CPU, the others for every device.
"""

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from shutil import copy
from types import ModuleType, SimpleNamespace
from typing import Any

from codevision_ext.patches.guard import expect, replace

FILE = "codevision.json"
"""Copy of `rollout.trained_format.FILE`; that module is too slow to import in every process of verl."""


def gloo_once(distributed: ModuleType) -> None:
    """Names the gloo backend once: verl builds "cpu:gloo,cpu:gloo" on a CPU, and torch refuses a device named twice.

    verl/utils/distributed.py:62-77 and :83-100 build the string. With `cuda` as the name of the device it becomes
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

    The loop is in verl/utils/torch_functional.py:173-205. The patch changes speed only.

    Drop when verl has a path without that loop on the CPU.
    """
    expect(
        torch_functional, "logprobs_from_logits_v2", "torch.stack([torch.logsumexp(logit, dim=-1) for logit in logits])"
    )
    replace(torch_functional, "logprobs_from_logits_v2", torch_functional.logprobs_from_logits_naive)


def unpinned_reference(transformer_impl: ModuleType) -> None:
    """Keeps the reference policy in unpinned memory; verl pins it, which needs a GPU.

    verl/workers/engine/fsdp/transformer_impl.py:459-462 pins the memory.

    Drop when verl pins memory only if there is a GPU.
    """
    expect(transformer_impl.FSDPEngine, "_build_fsdp_module", "CPUOffloadPolicy(pin_memory=True)")
    stock = transformer_impl.CPUOffloadPolicy
    vars(transformer_impl)["CPUOffloadPolicy"] = lambda pin_memory: stock(pin_memory=False)  # noqa: ARG005


def position_ids_of_equal_length(tensordict_utils: ModuleType) -> None:
    """Repairs the position ids of a batch whose rows are equally long.

    verl/utils/tensordict_utils.py:910-915 assumes that a nested batch of (4, tokens) position ids is ragged in its last
    dimension. TransferQueue packs the batch with `as_nested_tensor`. For rows of equal length, or a single row, that
    makes the first of the two dimensions ragged, and verl can't split the batch. The patch packs such a batch again.

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

    verl/models/transformers/qwen2_vl.py:389-395 treats the output of transformers 5 as a tensor. verl pads incomplete
    batches with rows without images.

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
            stock_model = model
            model = SimpleNamespace(
                get_input_embeddings=stock_model.get_input_embeddings,
                config=stock_model.config,
                visual=lambda *args, **kwargs: qwen2_vl.unpack_visual_output(stock_model.visual(*args, **kwargs))[0],
            )
        return stock(model, input_ids, attention_mask, pixel_values, pixel_values_videos, *grids)

    replace(qwen2_vl, "_get_input_embeds", _get_input_embeds)


def change_built_modules(transformer_impl: ModuleType, change: Callable[[Any], None]) -> None:
    """Calls `change` with each model that verl's FSDP engine loads, before the model is sharded.

    verl 0.9.1 declares `freeze_vision_tower` and never reads it. verl/workers/engine/fsdp/transformer_impl.py:254-337
    loads the model.

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
    """Starts a new epoch if SFT resumes from a checkpoint that was saved at the end of an epoch.

    verl/utils/checkpoint/checkpoint_handler.py:170-178 restores the data loader at the end of the old epoch, so the
    next epoch has no batch. SFT that resumes from a checkpoint of `save_freq: after_each_epoch` then skips a whole
    epoch without an error.

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
    """Writes codevision.json, which names prompt and format of the training, beside the weights of an SFT checkpoint.

    Only for data sets with a method `write_format`. verl/utils/checkpoint/checkpoint_handler.py:82-130 writes a
    checkpoint without a hook. codevision.json is written before the weights, so every complete checkpoint has it.

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
    """Copies codevision.json, if the checkpoint has it, into the folder that `python -m verl.model_merger` writes.

    verl/model_merger/base_model_merger.py:410-439 copies a fixed list of files.

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
    """Applies both patches of verl's SFT checkpoints. Drop when neither is left."""
    no_epoch_left_out(checkpoint_handler)
    format_beside_weights(checkpoint_handler)


def agent_loop_worker(agent_loop_tq: ModuleType) -> Any:
    """Returns the class behind verl's Ray actor `AgentLoopWorkerTQ`, for a subclass that scores whole groups.

    Ray actors can't be subclassed, so the class is taken from the actor's private `__ray_metadata__`. The checked
    fragments are those that `verl_adapter.agent_loop` relies on: one task for each rollout of a prompt, overridable
    methods that compute features and position ids, and a repetition penalty that no setting changes.

    Drop when verl's manager takes a worker class, or when verl scores the rollouts of a prompt together.
    """
    worker = agent_loop_tq.AgentLoopWorkerTQ.__ray_metadata__.modified_class
    expect(
        worker,
        "generate_sequences",
        "repetition_penalty=1.0,",
        "self._run_prompt(prompt, sampling_params, trajectory=trajectory_info[i]",
    )
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
