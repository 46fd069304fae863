"""verl's vLLM rollout with the defects handled that hide how a rollout ended or let a weight update wait for ever.

Registered under verl's own name `vllm`, on every device:

* the engine's own count of prompt tokens must equal ours;
* image marks that verl's own ban leaves out can't be sampled either, as on SGLang;
* a turn that was cut ends with `length`, which verl calls `completed`;
* a weight update ends with an error when no one takes the weights (`WeightSender`).

On the CPU its linear layers keep their weights where new ones can be loaded (`compat.plain_linears`).
"""

import time
from collections.abc import AsyncIterator, Callable, Generator
from typing import Any

import ray
import torch
import zmq
from verl.workers.rollout.replica import TokenOutput
from verl.workers.rollout.vllm_rollout.bucketed_weight_transfer import BucketedWeightSender
from verl.workers.rollout.vllm_rollout.vllm_async_server import vLLMHttpServer, vLLMReplica
from verl.workers.rollout.vllm_rollout.vllm_rollout import ServerAdapter

from codevision_ext.errors import EngineError
from codevision_ext.models.renderer import QwenRenderer

SYNC_S = 600
"""Seconds that an engine may take for one bucket of weights."""
_LOOK_EVERY_S = 1.0


class CodeVisionVLLMServer(vLLMHttpServer):
    """One vLLM engine; `generate` says how a turn ended."""

    async def run_server(self, args: Any) -> None:
        await super().run_server(args)
        renderer = QwenRenderer(self.model_config.processor)
        banned = {"vocab_size": len(renderer.tokenizer), "banned_token_ids": list(renderer.banned_ids)}
        await self.engine.collective_rpc("monkey_patch_model", kwargs=banned)
        self._last: dict[str, Any] = {}
        self._stock_generate, self.engine.generate = self.engine.generate, self._noted

    async def _noted(self, *args: Any, **named: Any) -> AsyncIterator[Any]:
        """The engine's `generate`; the last answer to a request of ours is kept."""
        async for output in self._stock_generate(*args, **named):
            if named.get("request_id") in self._last:
                self._last[named["request_id"]] = output
            yield output

    async def generate(
        self,
        prompt_ids: list[int],
        sampling_params: dict[str, Any],
        request_id: str,
        video_data: list[Any] | None = None,
        **asked: Any,
    ) -> TokenOutput:
        """Continues `prompt_ids` (image marks widened) and returns what was sampled, with its log-probs.

        Raises:
            EngineError: the engine saw another number of prompt tokens.
        """
        if video_data:
            raise EngineError("videos aren't supported by the CodeVision rollout")
        self._last[request_id] = None
        try:
            output = await super().generate(prompt_ids, sampling_params, request_id, **asked)
        finally:
            last = self._last.pop(request_id)
        if output.stop_reason == "completed":
            if len(last.prompt_token_ids) != len(prompt_ids):
                raise EngineError(
                    f"the engine saw {len(last.prompt_token_ids)} prompt tokens, we sent {len(prompt_ids)}"
                )
            if last.outputs[0].finish_reason == "length":
                output.stop_reason = "length"
        return output


class CodeVisionVLLMReplica(vLLMReplica):
    """verl's replica around `CodeVisionVLLMServer`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.server_class = ray.remote(CodeVisionVLLMServer)


class CodeVisionVLLMAdapter(ServerAdapter):
    """The trainer's side of a weight update, which ends whatever becomes of the engine."""

    async def update_weights(
        self,
        weights: Generator[tuple[str, torch.Tensor], None, None],
        global_steps: int | None = None,
        wire_format: str = "named_tensors",
        **kwargs: Any,
    ) -> None:
        """Sends every weight; the engine's caches are cleared behind it.

        Raises:
            EngineError: the engine took none for `SYNC_S` seconds. Where it says why it failed, that is raised.
        """
        if wire_format != "named_tensors":
            await super().update_weights(weights, global_steps=global_steps, wire_format=wire_format, **kwargs)
            return
        receiving = await self._execute_method(
            "update_weights_from_ipc", non_block=True, kwargs={**kwargs, "use_shm": self.use_shm}
        )
        sender = WeightSender(
            zmq_handle=self.zmq_handle,
            bucket_size_mb=self.config.checkpoint_engine.update_weights_bucket_megabytes,
            use_shm=self.use_shm,
            ended=lambda: receiving is not None and bool(ray.wait([receiving], timeout=0)[0]),
        )
        try:
            await sender.async_send_weights(weights)
        except EngineError:
            if sender.ended():
                await receiving
            raise
        if receiving is not None:
            await receiving
            await self.server_handle.clear_kv_cache.remote()
            if global_steps is not None:
                await self.server_handle.set_global_steps.remote(global_steps)


class WeightSender(BucketedWeightSender):
    """verl's sender of weights, for a receiver that may die; verl's own waits for ever.

    Args:
        ended: Whether the receiver has stopped, well or not.
        most_s: Seconds to wait for it at most, each time.
        named: As verl's.
    """

    def __init__(self, *, ended: Callable[[], bool], most_s: float = SYNC_S, **named: Any) -> None:
        super().__init__(**named)
        self.ended = ended
        self._most_s = most_s

    def _init_socket(self) -> None:
        super()._init_socket()
        self.socket.linger = 0  # what no one took must not keep this process
        self.socket = _Watched(self.socket, self.ended, self._most_s)


class _Watched:
    """A ZMQ request socket that gives up."""

    def __init__(self, socket: zmq.Socket, ended: Callable[[], bool], most_s: float) -> None:
        self._socket, self._ended, self._most_s = socket, ended, most_s
        self.close = socket.close

    def send_pyobj(self, message: object) -> None:
        self._wait(zmq.POLLOUT)
        self._socket.send_pyobj(message)

    def recv(self) -> bytes:
        self._wait(zmq.POLLIN)
        return self._socket.recv()

    def _wait(self, event: int) -> None:
        deadline = time.monotonic() + self._most_s
        while not self._socket.poll(min(_LOOK_EVERY_S, self._most_s) * 1000, event):
            if self._ended() and not self._socket.poll(0, event):
                raise EngineError("the rollout engine stopped in the middle of a weight update")
            if time.monotonic() > deadline:
                raise EngineError(f"the rollout engine took no weights for {self._most_s:g} s")
