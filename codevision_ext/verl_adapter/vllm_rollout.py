"""Runs verl's vLLM rollout, reports how each turn ended, and ends a weight update that no engine receives.

A run that asks for CodeVision gets these classes under verl's own name `vllm`, on every device (`activation`):

* The number of prompt tokens that the engine counts must equal the agent loop's.
* No image token can be sampled, as on SGLang; verl bans only two of them.
* A turn that was cut at its length ends with `length`; verl reports `completed`.
* A weight update ends with an error if no engine receives the weights (`WeightSender`).

On the CPU linear layers keep their weights in a form that can be replaced (`patches.vllm.plain_linears`).
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
from codevision_ext.patches.guard import expect

SYNC_S = 600
"""Seconds that an engine may take for one bucket of weights."""
_POLL_S = 1.0
"""Seconds between two checks whether the engine has stopped."""


def check_stock() -> None:
    """Checks the methods of verl that the classes below replace; raises `CompatError` if they are others."""
    expect(vLLMHttpServer, "run_server", 'method="monkey_patch_model"')
    expect(vLLMHttpServer, "generate", "generator = self.engine.generate(", 'stop_reason = "completed"')
    expect(vLLMReplica, "__init__", "self.server_class = ray.remote(vLLMHttpServer)")
    expect(ServerAdapter, "update_weights", '"update_weights_from_ipc"', "await sender.async_send_weights(weights)")
    expect(BucketedWeightSender, "_init_socket", "self.socket.bind(self.zmq_handle)")


check_stock()


class CodeVisionVLLMServer(vLLMHttpServer):
    """One vLLM engine, whose `generate` reports how a turn ended."""

    async def run_server(self, args: Any) -> None:
        await super().run_server(args)
        renderer = QwenRenderer(self.model_config.processor)
        banned = {"vocab_size": len(renderer.tokenizer), "banned_token_ids": list(renderer.banned_ids)}
        await self.engine.collective_rpc("monkey_patch_model", kwargs=banned)
        self._last: dict[str, Any] = {}
        self._stock_generate, self.engine.generate = self.engine.generate, self._engine_generate

    async def _engine_generate(self, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        """Yields what the engine's `generate` yields, and keeps the last output of a request of ours."""
        async for output in self._stock_generate(*args, **kwargs):
            if kwargs.get("request_id") in self._last:
                self._last[kwargs["request_id"]] = output
            yield output

    async def generate(
        self,
        prompt_ids: list[int],
        sampling_params: dict[str, Any],
        request_id: str,
        video_data: list[Any] | None = None,
        **kwargs: Any,
    ) -> TokenOutput:
        """Samples a continuation of `prompt_ids`, whose image tokens are expanded; returns its tokens and log-probs.

        Raises:
            EngineError: The engine counted another number of prompt tokens.
        """
        if video_data:
            raise EngineError("videos aren't supported by the CodeVision rollout")
        self._last[request_id] = None
        try:
            output = await super().generate(prompt_ids, sampling_params, request_id, **kwargs)
        finally:
            last = self._last.pop(request_id)
        if output.stop_reason == "completed":
            if len(last.prompt_token_ids) != len(prompt_ids):
                raise EngineError(
                    f"the engine counted {len(last.prompt_token_ids)} prompt tokens, but {len(prompt_ids)} were sent"
                )
            if last.outputs[0].finish_reason == "length":
                output.stop_reason = "length"
        return output


class CodeVisionVLLMReplica(vLLMReplica):
    """verl's replica, with `CodeVisionVLLMServer` as its server."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.server_class = ray.remote(CodeVisionVLLMServer)


class CodeVisionVLLMAdapter(ServerAdapter):
    """The trainer's side of a weight update, which ends even if the engine stops."""

    async def update_weights(
        self,
        weights: Generator[tuple[str, torch.Tensor], None, None],
        global_steps: int | None = None,
        wire_format: str = "named_tensors",
        **kwargs: Any,
    ) -> None:
        """Sends every weight, then clears the caches of the engine.

        Raises:
            EngineError: The engine took no weights for `SYNC_S` seconds. An engine that failed raises its own error
            instead.
        """
        if wire_format != "named_tensors":
            await super().update_weights(weights, global_steps=global_steps, wire_format=wire_format, **kwargs)
            return
        receiver = await self._execute_method(
            "update_weights_from_ipc", non_block=True, kwargs={**kwargs, "use_shm": self.use_shm}
        )
        sender = WeightSender(
            zmq_handle=self.zmq_handle,
            bucket_size_mb=self.config.checkpoint_engine.update_weights_bucket_megabytes,
            use_shm=self.use_shm,
            ended=lambda: receiver is not None and bool(ray.wait([receiver], timeout=0)[0]),
        )
        try:
            await sender.async_send_weights(weights)
        except EngineError:
            if sender.ended():
                await receiver
            raise
        if receiver is not None:
            await receiver
            await self.server_handle.clear_kv_cache.remote()
            if global_steps is not None:
                await self.server_handle.set_global_steps.remote(global_steps)


class WeightSender(BucketedWeightSender):
    """Sends weights to a receiver that may stop; verl's own sender would wait for ever.

    `ended` returns whether the receiver has stopped, with or without an error. `timeout_s` is the longest wait for the
    receiver, each time, in seconds. Other arguments are those of verl's sender.
    """

    def __init__(self, *, ended: Callable[[], bool], timeout_s: float = SYNC_S, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.ended = ended
        self._timeout_s = timeout_s

    def _init_socket(self) -> None:
        super()._init_socket()
        self.socket.linger = 0  # a message that nobody took must not keep this process from ending
        self.socket = _SocketWithTimeout(self.socket, self.ended, self._timeout_s)


class _SocketWithTimeout:
    """A ZMQ request socket that raises `EngineError` when the other side has stopped or takes too long."""

    def __init__(self, socket: zmq.Socket, ended: Callable[[], bool], timeout_s: float) -> None:
        self._socket, self._ended, self._timeout_s = socket, ended, timeout_s
        self.close = socket.close

    def send_pyobj(self, message: object) -> None:
        self._wait(zmq.POLLOUT)
        self._socket.send_pyobj(message)

    def recv(self) -> bytes:
        self._wait(zmq.POLLIN)
        return self._socket.recv()

    def _wait(self, event: int) -> None:
        deadline = time.monotonic() + self._timeout_s
        while not self._socket.poll(min(_POLL_S, self._timeout_s) * 1000, event):
            if self._ended() and not self._socket.poll(0, event):
                raise EngineError("the rollout engine stopped in the middle of a weight update")
            if time.monotonic() > deadline:
                raise EngineError(f"the rollout engine took no weights for {self._timeout_s:g} s")
