"""Runs verl's SGLang rollout, and keeps its tokens, weights and images equal to those of the trainer.

A run that asks for CodeVision gets these classes under verl's own name `sglang`, on every device (`activation`):

* A prompt goes to the engine with one image token for each image: the engine decodes and tokenizes a prompt with
  expanded image tokens again. The number of prompt tokens that the engine counts must equal ours.
* Image tokens and ids outside the vocabulary can't be sampled.
* Weights are renamed, none is dropped, and the engine's cache of image embeddings, which would survive a weight update,
  is emptied (`engines.sglang.weight_loader`).

On the CPU the scheduler decodes all sequences at once (`patches.sglang_attention`).
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
from codevision_ext.patches.guard import expect


def check_stock() -> None:
    """Checks the methods of verl that the classes below replace; raises `CompatError` if they are others."""
    expect(SGLangHttpServer, "generate", "-> TokenOutput:", "self.tokenizer_manager.generate_request(", "lora_path")
    expect(SGLangReplica, "__init__", "self.server_class = ray.remote(SGLangHttpServer)")
    expect(
        ServerAdapter,
        "update_weights",
        "await self._init_server_adapter()",
        "await self._engine.flush_cache()",
        "await self.server_actor.set_global_steps.remote(global_steps)",
    )


check_stock()


class CodeVisionSGLangServer(SGLangHttpServer):
    """One SGLang engine, whose `generate` takes and returns the tokens of the trainer."""

    async def launch_server(self, master_address: str | None = None, master_port: int | None = None) -> None:
        if self.lora_as_adapter:  # adapters don't go through our weight loader, which empties the cache of embeddings
            os.environ["SGLANG_VLM_CACHE_SIZE_MB"] = "0"
        engine_kwargs = self.config.engine_kwargs.setdefault("sglang", {})
        loaders = list(engine_kwargs.get("custom_weight_loader") or [])
        engine_kwargs["custom_weight_loader"] = [*loaders, LOADER]
        self._renderer = QwenRenderer(
            self.model_config.processor, self.model_config.hf_config.get_text_config().vocab_size
        )
        if engine_kwargs.get("attention_backend") == "torch_native":
            from codevision_ext.patches import (  # noqa: PLC0415  # for the CPU
                sglang_attention,
                sglang_invariance,
                sglang_sampling,
            )

            run = sglang_attention.run_scheduler
            if self.config.full_determinism:
                run = sglang_sampling.run_seeded_scheduler
                engine_kwargs.update(sglang_invariance.SETTINGS)
            sglang_attention.run_scheduler_in_verl(SGLangHttpServer, engine, run)
        elif self.config.full_determinism:
            engine_kwargs.setdefault("enable_deterministic_inference", True)
        await super().launch_server(master_address=master_address, master_port=master_port)
        if self.node_rank == 0:
            release_loads(self.tokenizer_manager.load_snapshot_reader)
            # A flush of the cache collects garbage on the CPU. Among all imported objects that takes half a second of
            # every weight update.
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
        """Samples a continuation of `prompt_ids`, whose image tokens are expanded; returns its tokens and log-probs.

        Raises:
            EngineError: See `engines.sglang.request`.
        """
        if video_data or any(disaggregation.values()):
            raise EngineError("videos and disaggregated prefill aren't supported by the CodeVision rollout")
        params = dict(sampling_params)
        params.pop("logprobs", None)
        limit = params.pop("max_tokens", None) or params.pop("max_new_tokens", None) or self.config.response_length
        request = request_of(
            prompt_ids, image_data or (), params, limit, renderer=self._renderer, context=self.config.max_model_len
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
    """verl's replica, with `CodeVisionSGLangServer` as its server."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.server_class = ray.remote(CodeVisionSGLangServer)


class CodeVisionServerAdapter(ServerAdapter):
    """The trainer's side of a weight update: sends named tensors to our weight loader, by CUDA IPC or by value."""

    async def update_weights(
        self, weights: Generator[tuple[str, torch.Tensor], None, None], global_steps: int | None = None, **kwargs: Any
    ) -> None:
        """Sends every weight, then flushes the key-value cache of the engine."""
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
        """Sends handles of device tensors, as SGLang does."""
        await send_bucket(
            engine=self._engine,
            params_batch=[(name, tensor.to(get_device_id(), non_blocking=True)) for name, tensor in bucket],
            device_mesh_key="infer_tp",
            device_mesh=self.device_mesh,
            load_format=LOADER,
        )

    async def _send_by_value(self, bucket: list[tuple[str, torch.Tensor]]) -> None:
        """Sends the tensors themselves, where there is no CUDA."""
        if self._engine is None:
            return
        tensors = [(name, tensor.full_tensor() if isinstance(tensor, DTensor) else tensor) for name, tensor in bucket]
        await self._engine.update_weights_from_tensor(weights_request(tensors, self.device_mesh["infer_tp"].size()))
