"""verl's SGLang rollout with the defects handled that make its tokens, weights or images drift from the trainer's.

Registered under verl's own name `sglang`, on every device:

* prompts go to the engine with one mark an image (ids with widened marks are decoded and tokenized again there), and
  the engine's own count of prompt tokens must equal ours;
* image marks and ids outside the vocabulary can't be sampled;
* weights are renamed and none is dropped, and the engine's cache of image embeddings, which would survive a weight
  update, is emptied (`sglang_loader`).

On the CPU its scheduler decodes all sequences at once (`sglang_attention`).
"""

import os
from collections.abc import Generator
from typing import Any

import ray
import torch
from sglang.srt.entrypoints import engine
from sglang.srt.weight_sync.utils import update_weights as send_bucket
from torch.distributed.tensor import DTensor
from verl.utils.device import get_device_id, is_support_ipc
from verl.workers.rollout.replica import TokenOutput
from verl.workers.rollout.sglang_rollout.async_sglang_server import SGLangHttpServer, SGLangReplica
from verl.workers.rollout.sglang_rollout.sglang_rollout import ServerAdapter
from verl.workers.rollout.sglang_rollout.utils import SGLANG_LORA_NAME, get_named_tensor_buckets

from codevision_ext.engines.sglang.request import read_output, release_loads, request_of, weights_request
from codevision_ext.engines.sglang.weight_loader import LOADER
from codevision_ext.errors import EngineError
from codevision_ext.models.renderer import QwenRenderer


class CodeVisionSGLangServer(SGLangHttpServer):
    """One SGLang engine; `generate` takes and returns the trainer's own tokens."""

    async def launch_server(self, master_address: str | None = None, master_port: int | None = None) -> None:
        if self.lora_as_adapter:  # the cache of image embeddings is emptied by our loader, which adapters don't pass
            os.environ["SGLANG_VLM_CACHE_SIZE_MB"] = "0"
        engine_kwargs = self.config.engine_kwargs.setdefault("sglang", {})
        loaders = list(engine_kwargs.get("custom_weight_loader") or [])
        engine_kwargs["custom_weight_loader"] = [*loaders, LOADER]
        self._renderer = QwenRenderer(
            self.model_config.processor, self.model_config.hf_config.get_text_config().vocab_size
        )
        if engine_kwargs.get("attention_backend") == "torch_native":
            from codevision_ext.patches.sglang_attention import run_scheduler  # noqa: PLC0415  # for the CPU

            engine.run_scheduler_process = run_scheduler  # what verl's server hands to SGLang
        await super().launch_server(master_address=master_address, master_port=master_port)
        if self.node_rank == 0:
            release_loads(self.tokenizer_manager.load_snapshot_reader)
            # On the CPU a flush of the cache collects garbage: half a second of every weight update, if it looks at all
            # that was imported.
            await self.tokenizer_manager.freeze_gc()

    async def generate(
        self,
        prompt_ids: list[int],
        sampling_params: dict[str, Any],
        request_id: str,
        image_data: list[Any] | None = None,
        video_data: list[Any] | None = None,
        **disaggregation: Any,
    ) -> TokenOutput:
        """Continues `prompt_ids` (image marks widened) and returns what was sampled, with its log-probs.

        Raises:
            EngineError: as `request_of` and `read_output`.
        """
        if video_data or any(disaggregation.values()):
            raise EngineError("videos and disaggregated prefill aren't supported by the CodeVision rollout")
        params = dict(sampling_params)
        params.pop("logprobs", None)
        asked = params.pop("max_tokens", None) or params.pop("max_new_tokens", None) or self.config.response_length
        request = request_of(
            prompt_ids, image_data or (), params, asked, renderer=self._renderer, context=self.config.max_model_len
        )
        request.rid = request_id
        if self.lora_as_adapter:
            request.lora_path = SGLANG_LORA_NAME
        output = await anext(self.tokenizer_manager.generate_request(request, None))
        sampled = read_output(output, len(prompt_ids))
        return TokenOutput(
            token_ids=sampled.ids,
            log_probs=sampled.log_probs,
            stop_reason={"abort": "aborted", "length": "length"}.get(sampled.reason, "completed"),
            extra_fields={"global_steps": self.global_steps},
        )


class CodeVisionSGLangReplica(SGLangReplica):
    """verl's replica around `CodeVisionSGLangServer`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.server_class = ray.remote(CodeVisionSGLangServer)


class CodeVisionServerAdapter(ServerAdapter):
    """The trainer's side of a weight update: named tensors to the engine's own loader, by CUDA IPC or by value."""

    async def update_weights(
        self,
        weights: Generator[tuple[str, torch.Tensor], None, None],
        global_steps: int | None = None,
        **kwargs: Any,
    ) -> None:
        """Sends every weight; the engine's key-value cache is flushed behind it."""
        lora = kwargs.get("peft_config") and kwargs.get("base_sync_done")
        if lora or kwargs.get("wire_format", "named_tensors") != "named_tensors":
            await super().update_weights(weights, global_steps=global_steps, **kwargs)
            return
        await self._init_server_adapter()
        send = self._send_over_ipc if is_support_ipc() else self._send_by_value
        bucket_bytes = int(self.config.checkpoint_engine.update_weights_bucket_megabytes) << 20
        async for bucket in get_named_tensor_buckets(weights, bucket_bytes):
            await send(bucket)
        if self._engine is not None and self._is_server_tp_leader():
            await self._engine.flush_cache()
            if global_steps is not None:
                await self.server_actor.set_global_steps.remote(global_steps)

    async def _send_over_ipc(self, bucket: list[tuple[str, torch.Tensor]]) -> None:
        """SGLang's own way: handles of device tensors."""
        await send_bucket(
            engine=self._engine,
            params_batch=[(name, tensor.to(get_device_id(), non_blocking=True)) for name, tensor in bucket],
            device_mesh_key="infer_tp",
            device_mesh=self.device_mesh,
            load_format=LOADER,
        )

    async def _send_by_value(self, bucket: list[tuple[str, torch.Tensor]]) -> None:
        """Without CUDA."""
        if self._engine is None:
            return
        tensors = [(name, tensor.full_tensor() if isinstance(tensor, DTensor) else tensor) for name, tensor in bucket]
        await self._engine.update_weights_from_tensor(weights_request(tensors, self.device_mesh["infer_tp"].size()))
