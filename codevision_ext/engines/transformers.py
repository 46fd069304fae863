"""Samples with `generate()` of transformers, one rollout at a time: the reference for other engines."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, StoppingCriteria, StoppingCriteriaList

from codevision_ext.errors import InputError, TooLongError, first_line
from codevision_ext.models.checkpoint import renderer_of
from codevision_ext.rollout.loop import Completion, Policy, stopped_at_text, turn_ended


class _Cancelled(StoppingCriteria):
    """Ends the generation of a rollout that was cancelled."""

    def __init__(self, cancelled: Event) -> None:
        self._cancelled = cancelled

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **_: Any) -> torch.Tensor:  # noqa: ARG002
        return torch.full((len(input_ids),), self._cancelled.is_set(), device=input_ids.device)


class TransformersEngine(AbstractContextManager["TransformersEngine"]):
    """Engine that samples from the model that was loaded last; slow, and the reference for other engines.

    The model is in float32 on the CPU, and in its own type on CUDA. The seed of a rollout determines the sampled
    tokens. Use the engine as a context manager. `checkpoint` is the folder of a Qwen2.5-VL or Qwen3-VL, for its
    tokenizer and image settings; `context` is the maximum tokens of a prompt and its response; a turn ends at a text of
    `stop`.

    Raises:
        InputError: the folder isn't a checkpoint.
    """

    def __init__(self, checkpoint: Path, *, context: int, stop: Sequence[str] = ()) -> None:
        self.renderer = renderer_of(checkpoint)
        self._context = context
        self._stop = list(stop)
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._thread = ThreadPoolExecutor(1, "generate")

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown()

    async def load(self, checkpoint: Path) -> None:
        """Loads the model of `checkpoint`, before the first rollout or in place of the current model.

        Raises:
            InputError: the folder isn't a checkpoint.
        """
        try:
            model = AutoModelForImageTextToText.from_pretrained(
                checkpoint, local_files_only=True, dtype="auto" if self._device == "cuda" else torch.float32
            )
        except (OSError, ValueError) as error:
            raise InputError(f"{checkpoint}: not a checkpoint: {first_line(error)}") from error
        self._model = model.to(self._device).eval()  # type: ignore[arg-type]  # transformers' `to` is annotated wrongly

    def policy(self, seed: int, *, temperature: float = 1.0) -> Policy:
        """Returns the policy of one rollout; `seed` in [0, 2**63), temperature 0 takes the likeliest token."""

        async def sample(ids: list[int], images: Sequence[Image.Image], max_tokens: int) -> Completion:
            cancelled = Event()
            work = partial(self._sample, ids, images, max_tokens, seed, temperature, cancelled)
            try:
                return await asyncio.get_running_loop().run_in_executor(self._thread, work)
            finally:
                cancelled.set()

        return sample

    @torch.inference_mode()
    def _sample(
        self,
        ids: list[int],
        images: Sequence[Image.Image],
        max_tokens: int,
        seed: int,
        temperature: float,
        cancelled: Event,
    ) -> Completion:
        room = min(max_tokens, self._context - len(ids))
        if room < 1:
            raise TooLongError(f"{len(ids)} prompt tokens leave no room in the engine's context of {self._context}")
        prompt = torch.tensor([ids], device=self._device)
        features = {name: tensor.to(self._device) for name, tensor in self.renderer.features(images).items()}
        choice: dict[str, Any] = {"do_sample": False}
        if temperature:
            choice = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}
        with torch.random.fork_rng():
            torch.manual_seed((seed + len(ids)) % 2**63)  # each turn draws anew
            output = self._model.generate(
                input_ids=prompt,
                attention_mask=torch.ones_like(prompt),
                mm_token_type_ids=(prompt == self.renderer.image_id).long(),
                **features,
                **choice,
                stop_strings=self._stop or None,
                stopping_criteria=StoppingCriteriaList([_Cancelled(cancelled)]),
                tokenizer=self.renderer.tokenizer,
                max_new_tokens=room,
                suppress_tokens=list(self.renderer.banned_ids),
                return_dict_in_generate=True,
                output_logits=True,
            )
        sampled = output.sequences[0, len(ids) :]
        logits = torch.stack([step[0] for step in output.logits]).float()
        logits[:, list(self.renderer.banned_ids)] = -torch.inf  # before they were suppressed
        own = torch.log_softmax(logits / (temperature or 1.0), dim=-1).gather(1, sampled[:, None])[:, 0]
        turn = sampled.tolist()
        finished = turn_ended(turn, self.renderer.end_ids, stopped=len(turn) < room)
        stopped = stopped_at_text(turn, self.renderer.end_ids, self._stop, finished=finished)
        return Completion(ids=turn, log_probs=own.tolist(), finished=finished, stopped=stopped)
