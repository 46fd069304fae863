"""Writes requests to an SGLang engine and checks its answers, for verl and for evaluations."""

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from sglang.srt.managers.io_struct import GenerateReqInput, UpdateWeightsFromTensorReqInput
from sglang.srt.managers.load_snapshot import ShmLoadSnapshotReader

from codevision_ext.engines.sglang.weight_loader import LOADER
from codevision_ext.errors import EngineError, TooLongError
from codevision_ext.models.renderer import NEVER, QwenRenderer


def request_of(
    ids: Sequence[int],
    images: Sequence[Image.Image],
    params: Mapping[str, Any],
    max_tokens: int,
    *,
    renderer: QwenRenderer,
    context: int,
) -> GenerateReqInput:
    """The request that continues `ids` (image marks widened) by at most `max_tokens`.

    Ids with widened marks would be decoded and tokenized again in the engine, so there goes one mark an image; and
    image marks and ids that no token has can't be sampled.

    Raises:
        TooLongError: nothing fits behind `ids` within `context` tokens.
    """
    room = context - len(ids) - 1
    if room < 1:
        raise TooLongError(f"{len(ids)} prompt tokens leave no room in the engine's context of {context}")
    never = {str(token): NEVER for token in renderer.banned_ids}
    return GenerateReqInput(
        input_ids=renderer.collapse_image_tokens(ids),
        sampling_params={**params, "max_new_tokens": min(max_tokens, room), "logit_bias": never},
        return_logprob=True,
        image_data=list(images) or None,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampled:
    """What the engine answered."""

    ids: list[int]
    log_probs: list[float]
    """One a token, natural logarithm."""
    reason: str
    """SGLang's word for the end: `stop`, `length` or `abort`."""


def read_output(output: Mapping[str, Any], prompt_tokens: int) -> Sampled:
    """The answer to a request that began with `prompt_tokens` ids.

    Raises:
        EngineError: the engine saw another number of prompt tokens, or returned tokens without log-probs.
    """
    meta = output["meta_info"]
    reason = (meta.get("finish_reason") or {}).get("type", "")
    ids = list(output["output_ids"])
    log_probs = [float(entry[0]) for entry in meta.get("output_token_logprobs") or []]
    if reason != "abort":
        if meta["prompt_tokens"] != prompt_tokens:
            raise EngineError(f"the engine saw {meta['prompt_tokens']} prompt tokens, we sent {prompt_tokens}")
        if len(log_probs) != len(ids):
            raise EngineError(f"the engine returned {len(ids)} tokens but {len(log_probs)} log-probs")
    return Sampled(ids=ids, log_probs=log_probs, reason=reason)


def weights_request(tensors: Sequence[tuple[str, torch.Tensor]], ranks: int) -> UpdateWeightsFromTensorReqInput:
    """New weights for all `ranks` of an engine, by value.

    Named files of torch's file_system sharing would spare a copy, but on a busy machine its manager needs more than the
    second that it is given; descriptors, the other way, can't be sent over HTTP.
    """
    serialized = pickle.dumps([(name, tensor.detach().cpu().clone()) for name, tensor in tensors])
    return UpdateWeightsFromTensorReqInput(serialized_named_tensors=[serialized] * ranks, load_format=LOADER)


def release_loads(reader: object) -> None:
    """Remove the name of the file in /dev/shm in which a started engine shares its load, which SGLang never does.

    The engine's processes have it open by now, so it works on and ends with the last of them, however they end. With
    several data-parallel ranks another process opens it later: there it is left to `processes.remove_unused_loads`.
    `reader` is `load_snapshot_reader` of the engine's tokenizer manager.
    """
    if isinstance(reader, ShmLoadSnapshotReader) and reader.dp_size == 1 and reader.read_all():
        Path(reader.path).unlink(missing_ok=True)
