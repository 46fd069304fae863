"""Estimates the memory that a training needs, from config.json, the recipe and the data; no weights are read.

The estimate counts the large parts that follow from the settings: weights, gradients, optimizer, activations, logits,
the engine's share, and images on the host. It doesn't count fragmentation, CUDA contexts, communication buffers and the
processes themselves. It hasn't been compared with a GPU run, so leave a tenth of the memory free.

Sources: for the sharded parts the ZeRO paper (Rajbhandari et al. 2020, arXiv 1910.02054, section 3), with the float32
weights as the master copy, as in verl's FSDP engine. For activations Korthikanti et al. 2022 (arXiv 2205.05198, section
4.1): 34 bytes per token, layer and hidden unit in 16 bit, and 2 bytes with full recomputation. The paper's quadratic
term is left out, because neither flash-attn nor sdpa stores it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForImageTextToText, PretrainedConfig
from verl.utils.torch_dtypes import PrecisionType

from codevision_ext.verl_config import plain_dict

GIB = 2**30
ACTIVATION = 17
"""Values that the backward pass needs per token, layer and hidden unit: 34 bytes in 16 bit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """Numbers of a model's parameters."""

    total: int
    """All parameters; shared ones (tied embeddings) count once, those of LoRA not at all."""
    trained: int
    """Parameters that are trained: all of them, or only those of LoRA."""
    block: int
    """Parameters of the largest layer, which is the unit that FSDP gathers."""
    outside: int
    """Parameters outside of all layers (embeddings, head, merger), gathered for a whole pass."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Images:
    """Sizes of a prompt's images, as means over the rows of the data."""

    each: float
    """Images per prompt."""
    pixels: float
    """Pixels per image, at full resolution."""
    tokens: float
    """Tokens per image."""
    share: float
    """Share of image tokens in the tokens of the prompts, in [0, 1]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Estimated memory in bytes, by purpose."""

    update: dict[str, float]
    """Bytes on each device while weights are updated."""
    rollout: dict[str, float]
    """Bytes on each device while rollouts are sampled; without `engine` where its share is of an unknown size."""
    host: dict[str, float]
    """Bytes in the memory of each node."""
    kv_token: float
    """Bytes of the engine's cache per token, on one device."""
    engine_weights: float
    """Bytes of the engine's weights, on one device."""
    parameters: Parameters


def count_parameters(model: PretrainedConfig, lora: Mapping[str, Any] | None = None) -> Parameters:
    """Counts the parameters of a model, which is built on the meta device: no memory is allocated.

    `lora` has the arguments of `peft.LoraConfig`; with None all parameters are trained.
    """
    with torch.device("meta"):
        built = AutoModelForImageTextToText.from_config(  # type: ignore[no-untyped-call]  # transformers doesn't annotate it
            model, attn_implementation="sdpa"
        )
        sizes = {name: parameter.numel() for name, parameter in built.named_parameters()}
        total = sum(sizes.values())
        blocks: dict[str, int] = {}
        for name, size in sizes.items():
            head, marker, rest = name.partition(".layers." if ".layers." in name else ".blocks.")
            if marker:
                layer = f"{head}{marker}{rest.partition('.')[0]}"
                blocks[layer] = blocks.get(layer, 0) + size
        trained = total
        if lora is not None:
            adapted = get_peft_model(built, LoraConfig(**lora))
            trained = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    return Parameters(
        total=total, trained=trained, block=max(blocks.values(), default=0), outside=total - sum(blocks.values())
    )


def estimate_memory(config: DictConfig, model: PretrainedConfig, images: Images, gpu_bytes: float | None) -> Estimate:
    """Estimates the memory of a training with an FSDP actor, from the composed config of verl's ppo_trainer.

    `gpu_bytes` is the memory of one device; None if it is unknown, then the engine's share isn't counted.
    """
    actor, rollout, trainer = config.actor_rollout_ref.actor, config.actor_rollout_ref.rollout, config.trainer
    fsdp = actor.fsdp_config
    size = count_parameters(model, _lora(config))
    states = _states(config, size)
    offloaded = {
        "weights": fsdp.param_offload or fsdp.offload_policy,
        "optimizer": fsdp.optimizer_offload or fsdp.offload_policy,
    }
    resident = {name: size for name, size in states.items() if not offloaded.get(name)}
    weights = size.total * _width(rollout.dtype) / rollout.tensor_model_parallel_size
    kv_token = _kv_token(config, model)
    tokens = OmegaConf.select(rollout, f"engine_kwargs.{rollout.name}.max_total_tokens")
    if tokens:
        engine = {"engine": weights + tokens * kv_token}
    else:
        engine = {"engine": rollout.gpu_memory_utilization * gpu_bytes} if gpu_bytes else {}
    update = states | _work(config, model, size, images) | ({} if rollout.free_cache_engine else engine)

    ranks = trainer.n_gpus_per_node
    host = {f"offloaded {name}": ranks * states[name] for name in states if offloaded.get(name)}
    if (actor.use_kl_loss or config.algorithm.use_kl_in_reward) and not _lora(config):
        width = _width(config.actor_rollout_ref.ref.fsdp_config.model_dtype or "bf16")
        host["reference policy"] = ranks * size.total * width / _shards(config)
    host |= _images(config, model, images)
    if trainer.device == "cpu":
        host |= {f"{name} (on the CPU)": ranks * size for name, size in (engine | update).items()}
    return Estimate(
        update=update,
        rollout={name: size for name, size in resident.items() if name != "gradients"} | engine,
        host=host,
        kv_token=kv_token,
        engine_weights=weights,
        parameters=size,
    )


def _lora(config: DictConfig) -> dict[str, Any] | None:
    model = plain_dict(config.actor_rollout_ref.model)
    names = ("target_modules", "exclude_modules")
    return {"r": model["lora_rank"]} | {name: model[name] for name in names} if model["lora_rank"] > 0 else None


def _shards(config: DictConfig) -> int:
    world: int = config.trainer.nnodes * config.trainer.n_gpus_per_node
    size: int = config.actor_rollout_ref.actor.fsdp_config.fsdp_size
    return min(size, world) if size > 0 else world


def _states(config: DictConfig, size: Parameters) -> dict[str, float]:
    """Returns the bytes of one shard of weights, gradients and Adam's two moments, all in the dtype of the weights."""
    width = _width(config.actor_rollout_ref.actor.fsdp_config.model_dtype or "fp32")
    adapters = size.trained if config.actor_rollout_ref.model.lora_rank > 0 else 0
    counts = {"weights": size.total + adapters, "gradients": size.trained, "optimizer": 2 * size.trained}
    return {name: count * width / _shards(config) for name, count in counts.items()}


def _work(config: DictConfig, model: PretrainedConfig, size: Parameters, images: Images) -> dict[str, float]:
    """Returns the bytes that a pass over the largest micro-batch needs.

    Gathered layers: two layers (one is computed while the next is fetched) and all parameters outside of layers, in the
    compute dtype. Activations: as in the module's sources; the vision tower's follow from the data's share of image
    tokens. Logits: the logits, their gradient, and the softmax of the entropy unless that is computed in chunks.
    """
    actor, settings = config.actor_rollout_ref.actor, config.actor_rollout_ref.model
    text, vision, fsdp = model.text_config, model.vision_config, actor.fsdp_config
    width = _width((fsdp.get("mixed_precision") or {}).get("param_dtype", "bf16"))
    tokens = actor.ppo_max_token_len_per_gpu
    if not actor.use_dynamic_bsz:
        length = config.data.max_prompt_length + config.data.max_response_length
        tokens = (actor.ppo_micro_batch_size_per_gpu or 1) * length / fsdp.ulysses_sequence_parallel_size
    patches = tokens * images.share * vision.spatial_merge_size**2
    activations = 0.0
    for units, layers in (
        (text.hidden_size * tokens, text.num_hidden_layers),
        (vision.hidden_size * patches, vision.depth),
    ):
        recomputed = settings.enable_gradient_checkpointing
        activations += units * width * (layers + ACTIVATION if recomputed else ACTIVATION * layers)
    copies = 0 if settings.use_fused_kernels else 2 if fsdp.entropy_from_logits_with_chunking else 3
    return {
        "gathered layers": (2 * size.block + size.outside) * width,
        "activations": activations,
        "logits": copies * tokens * text.vocab_size * width,
    }


def _kv_token(config: DictConfig, model: PretrainedConfig) -> float:
    """Returns the bytes of keys and values of all layers for one token, on one of the engine's devices."""
    rollout, text = config.actor_rollout_ref.rollout, model.text_config
    heads: float = max(1, text.num_key_value_heads / rollout.tensor_model_parallel_size)
    head: int = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    layers: int = text.num_hidden_layers
    return 2 * layers * heads * head * _width(rollout.dtype)


def _images(config: DictConfig, model: PretrainedConfig, images: Images) -> dict[str, float]:
    """Returns the bytes of a step's images on one node, if every call returns an image as large as the prompt's.

    An image takes 3 bytes per pixel at full resolution. Its features are float32 patches of channels x time x side x
    side.
    """
    vision, rollout = model.vision_config, config.actor_rollout_ref.rollout
    calls = (rollout.multi_turn.max_assistant_turns or 2) - 1
    count = config.data.train_batch_size * rollout.n / config.trainer.nnodes * (images.each + calls)
    patch = vision.in_channels * vision.temporal_patch_size * vision.patch_size**2
    return {
        "pictures": count * images.pixels * 3,
        "picture features": count * images.tokens * vision.spatial_merge_size**2 * patch * 4,
    }


def _width(dtype: str) -> int:
    """Returns the bytes of one value."""
    return int(PrecisionType.to_dtype(dtype).itemsize)  # type: ignore[no-untyped-call]  # verl annotates nothing
