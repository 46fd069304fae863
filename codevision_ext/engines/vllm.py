"""vLLM as a rollout engine without a trainer: takes one checkpoint after the other; needs neither SGLang nor Ray.

Call `device.use_cpu_if_no_cuda` before this module is imported.
"""

import asyncio
import uuid
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from vllm import AsyncEngineArgs, SamplingParams
from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError

from codevision_ext.errors import EngineError, TooLongError, first_line
from codevision_ext.models.checkpoint import check_alike, renderer_of
from codevision_ext.models.renderer import NEVER
from codevision_ext.patches.install import install_cpu_patches, install_patches, on_cpu
from codevision_ext.rollout.loop import Completion, Policy, stopped_at_text, turn_ended

MAX_RUNNING = 256
"""Rollouts that an engine samples at the same time."""
IMAGE_TOKENS = 16_384
"""Tokens of a prompt that are computed at once; an image must fit in."""
_CPU = {"dtype": "float32", "enforce_eager": True, "compilation_config": {"cudagraph_mode": "NONE"}}


class WorkerExtension:
    """Brings the patches of vLLM to its worker processes, which import this module for the class."""


install_patches()
if on_cpu():
    install_cpu_patches()


class VLLMEngine(AbstractContextManager["VLLMEngine"]):
    """vLLM's engines; use it as a context manager, and play the rollouts of a `load` in one event loop.

    A rollout's seed decides what is sampled, as far as vLLM promises it: sums of a batch depend on its size.
    `checkpoint` is the folder of a Qwen2.5-VL or Qwen3-VL, for its tokenizer and image settings; `context` is the
    maximum of tokens of a prompt and its response. The replicas share the rollouts; each has `gpus` GPUs (tensor
    parallel). A turn ends at a text of `stop`.

    Raises:
        InputError: the folder isn't a checkpoint.
    """

    def __init__(
        self,
        checkpoint: Path,
        *,
        context: int,
        seed: int = 0,
        replicas: int = 1,
        gpus: int = 1,
        stop: Sequence[str] = (),
    ) -> None:
        self.renderer = renderer_of(checkpoint)
        self._checkpoint = checkpoint
        self._context = context
        self._stop = list(stop)
        self._engine: AsyncLLM | None = None
        self._arguments = {
            "max_model_len": context,
            "max_num_seqs": MAX_RUNNING,
            "max_num_batched_tokens": IMAGE_TOKENS,
            "seed": seed,
            "data_parallel_size": replicas,
            "tensor_parallel_size": gpus,
            "logprobs_mode": "processed_logprobs",
            "worker_extension_cls": f"{__name__}.{WorkerExtension.__name__}",
            "disable_log_stats": True,
            **({} if torch.cuda.is_available() else _CPU),
        }

    def __exit__(self, *_: object) -> None:
        if self._engine is not None:
            self._engine.shutdown()

    async def load(self, checkpoint: Path) -> None:
        """Starts the engines with the weights of `checkpoint`, and ends those before, while no rollout is under way.

        Raises:
            InputError: it isn't a checkpoint of this one's architecture and tokenizer.
            EngineError: they can't start.
        """
        check_alike(self._checkpoint, checkpoint)
        if self._engine is not None:
            self._engine.shutdown()
            self._engine = None
        arguments = AsyncEngineArgs(model=str(checkpoint), **self._arguments)
        try:
            # on a thread: started in an event loop it would belong to that one
            self._engine = await asyncio.to_thread(AsyncLLM.from_engine_args, arguments)
        except (RuntimeError, ValueError, OSError) as error:
            raise EngineError(f"vLLM can't start on {checkpoint}: {first_line(error)}") from error

    def policy(self, seed: int, *, temperature: float = 1.0) -> Policy:
        """The engine as one rollout sees it; `seed` in [0, 2**63), temperature 0 takes the likeliest token."""
        return partial(self._sample, {"seed": seed, "temperature": temperature})

    async def _sample(
        self, params: dict[str, Any], ids: list[int], images: Sequence[Image.Image], max_tokens: int
    ) -> Completion:
        room = self._context - len(ids)
        if room < 1:
            raise TooLongError(f"{len(ids)} prompt tokens leave no room in the engine's context of {self._context}")
        if self._engine is None:
            raise EngineError("no weights were loaded")
        prompt: Any = {"prompt_token_ids": self.renderer.collapse_image_tokens(ids)}
        if images:
            prompt["multi_modal_data"] = {"image": list(images)}
        sampling = SamplingParams(
            **params,
            max_tokens=min(max_tokens, room),
            logprobs=0,
            logit_bias=dict.fromkeys(self.renderer.banned_ids, NEVER),
            detokenize=bool(self._stop),
            stop=self._stop,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        try:
            answers = [answer async for answer in self._engine.generate(prompt, sampling, uuid.uuid4().hex)]
        except EngineDeadError as error:
            raise EngineError("the rollout engine died; its last words are above") from error
        seen = len(answers[-1].prompt_token_ids or ())
        if seen != len(ids):
            raise EngineError(f"the engine saw {seen} prompt tokens, we sent {len(ids)}")
        turn = answers[-1].outputs[0]
        if turn.finish_reason not in ("stop", "length"):
            raise EngineError(f"the engine ended a request with {turn.finish_reason}")
        sampled = list(turn.token_ids)
        log_probs = [entry[token].logprob for token, entry in zip(sampled, turn.logprobs or (), strict=True)]
        finished = turn_ended(sampled, self.renderer.end_ids, stopped=turn.finish_reason == "stop")
        stopped = stopped_at_text(sampled, self.renderer.end_ids, self._stop, finished=finished)
        return Completion(ids=sampled, log_probs=log_probs, finished=finished, stopped=stopped)
