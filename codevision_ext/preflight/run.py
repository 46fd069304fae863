"""Checks that a training would run and learn from the right tokens, before it is started: `codevision doctor --model`.

The checks read the checkpoint's config and processor (no weights), compose the recipe as verl will, read every row,
start the sandbox, run conversations, ask the judge one question, and estimate the memory.
"""

import asyncio
import io
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import torch
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from PIL import Image
from rich.console import Console
from verl.trainer.ppo.utils import need_critic, need_reference_policy
from verl.utils.config import omega_conf_to_dataclass, validate_config

from codevision_ext.config import JudgeSettings, Settings, read_settings
from codevision_ext.errors import InputError, JudgeError, SandboxError
from codevision_ext.io.json_codec import read_json
from codevision_ext.io.progress import Stages
from codevision_ext.judge.prompts import Query
from codevision_ext.judge.shared import open_judge
from codevision_ext.models.checkpoint import renderer_of, weight_shapes
from codevision_ext.models.checkpoint_settings import CheckpointSettings, checkpoint_settings
from codevision_ext.models.renderer import QwenRenderer
from codevision_ext.preflight import memory
from codevision_ext.preflight import rows as check_rows
from codevision_ext.preflight import tokens as check_tokens
from codevision_ext.preflight.recipe import load_recipe
from codevision_ext.preflight.result import CheckResult, Level, failure, ok, published, warning
from codevision_ext.preflight.rows import DataSummary, RowProblem
from codevision_ext.rollout.code_tool import CodeTool
from codevision_ext.rollout.loop import Trajectory
from codevision_ext.rollout.trained_format import FILE
from codevision_ext.sandbox.settings import ToolSettings, open_sandbox
from codevision_ext.types import Verdict
from codevision_ext.verl_adapter.trainer import prepare
from codevision_ext.verl_config import file_beside, plain_dict, read_tool_config

QUESTION = Query(question="How many legs does a spider have?", references=("8",), answer="eight")
"""Question for the judge, with a correct answer."""
PLUGIN_SETTINGS = (
    "actor_rollout_ref.rollout.agent.default_agent_loop",
    "reward.reward_manager.name",
    "trainer.v1.trainer_mode",
)
"""Settings that must be `codevision` for verl to use the plugin."""
WARNING_SHARE = 0.9
"""Share of a device's memory above which an estimate is a warning."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preflight:
    """The results of all checks of a training."""

    results: tuple[CheckResult, ...]
    problems: tuple[RowProblem, ...] = ()
    """All rows that can't be used."""
    estimate: memory.Estimate | None = None
    """Memory that the training needs; None if it can't be estimated."""

    @property
    def ok(self) -> bool:
        """True if no result is a failure."""
        return not any(result.level is Level.FAILURE for result in self.results)

    def plain(self) -> dict[str, Any]:
        """Returns all fields and `ok`, for JSON."""
        return {"ok": self.ok, **published(self)}


def check_training(
    model: Path, data: Sequence[Path], recipe: Path, settings: Sequence[str] = (), gpu_gib: float | None = None
) -> Preflight:
    """Checks a training before it is started.

    Args:
        model: Checkpoint folder; config.json, the processor and the shapes of the weights are read.
        data: Files of RL rows, and of the SFT rows that the checkpoint was trained on.
        recipe: Path of a recipe's `grpo.yaml`.
        settings: Overrides, as on verl's command line.
        gpu_gib: Memory of one device in GiB; None for that of the first device of this machine, if it has one.

    Raises:
        InputError: checkpoint, recipe or a file of data can't be read at all.
    """
    checkpoint = renderer_of(model)
    weight_shapes(model)
    config = load_recipe(recipe.parent, recipe.stem, [*settings, f"actor_rollout_ref.model.path={model}"])
    own = checkpoint_settings(_plugin_settings(config), model)
    plugin = own.settings
    path = config.actor_rollout_ref.rollout.multi_turn.tool_config_path
    if not path:
        raise InputError("actor_rollout_ref.rollout.multi_turn.tool_config_path is empty: training has no tool")
    tool = read_tool_config(file_beside(recipe, path))
    with Stages(["checkpoint", "rows", "renderings", "judge", "memory"], console=Console(stderr=True)) as stages:
        stages.start("checkpoint")
        generation = model / "generation_config.json"
        generation_config = read_json(generation) if generation.exists() else {}
        results = list(check_tokens.special_tokens(checkpoint, read_json(model / "config.json"), generation_config))
        if any(result.level is Level.FAILURE for result in results):
            results.append(warning("everything else", "not checked: it depends on the tokens", "correct them first"))
            return Preflight(results=tuple(results))
        results += _settings(config, plugin)
        results += _trained(own)
        hf = omega_conf_to_dataclass(config.actor_rollout_ref.model)
        rollout = QwenRenderer(hf.processor)
        results += check_tokens.chat_template(rollout, plugin)
        stages.start("rows")
        limit = config.data.max_prompt_length
        summary = check_rows.read_rows(data, rollout, plugin, limit, stages.advance)
        results += check_rows.row_results(summary, rollout, plugin, limit)
        stages.start("renderings")
        rendered, trajectories = _renderings(summary, tool, rollout, checkpoint, plugin)
        results += rendered
        results += _budgets(config, hf.hf_config, rollout, summary, trajectories)
        stages.start("judge")
        results.append(_judge(plugin.judge))
        stages.start("memory")
        strategy = config.actor_rollout_ref.actor.strategy
        estimate = None
        if strategy not in ("fsdp", "fsdp2") or not summary.rl:
            message = f"not estimated for strategy {strategy} and {summary.rl} usable RL rows"
            results.append(warning("memory", message, "use fsdp or fsdp2, or watch the memory of the first step"))
        else:
            device = _device_bytes(config, gpu_gib)
            estimate = memory.estimate_memory(config, hf.hf_config, _images(summary), device)
            results += _memory(config, estimate, device)
    return Preflight(results=tuple(results), problems=tuple(summary.problems), estimate=estimate)


def _settings(config: DictConfig, plugin: Settings) -> list[CheckResult]:
    """Checks that verl and the trainer accept the settings, and that verl will use the plugin."""
    results = []
    for name in PLUGIN_SETTINGS:
        if (value := OmegaConf.select(config, name)) != "codevision":
            message = f"{name} is {value}: verl won't use the plugin"
            results.append(failure("settings", message, f"set {name}=codevision"))
    try:
        with redirect_stdout(io.StringIO()):  # verl prints there that all is well
            validate_config(config.copy(), need_reference_policy(config), need_critic(config))
        prepare(config.copy(), plugin.model_copy(update={"records": "OUT"}))  # a run will name the folder
    except (ValueError, AssertionError, HydraException, OmegaConfBaseException, InputError) as error:
        message = " ".join(str(error).split()) or type(error).__name__
        results.append(failure("settings", f"training refuses them: {message}", "correct the named setting"))
    return results or [ok("settings", "verl and the trainer accept them")]


def _trained(own: CheckpointSettings) -> Iterator[CheckResult]:
    """Names the settings that differ from those with which the checkpoint was trained before."""
    check = "checkpoint"
    for difference in own.differences:
        yield warning(check, difference, "leave the setting out to take the checkpoint's, or keep it on purpose")
    if own.trained is None:
        yield ok(check, f"no {FILE}: settings that aren't given have the package's defaults")
    elif not own.differences:
        yield ok(check, f"the settings are those of its training, {own.trained.trained_by}, in {FILE}")


def _plugin_settings(config: DictConfig) -> Settings:
    section = plain_dict(config.codevision)
    section.pop("records", None)  # names the folder of a run, which doesn't exist yet
    return read_settings(section)


def _renderings(
    summary: DataSummary,
    settings: ToolSettings,
    rollout: QwenRenderer,
    checkpoint: QwenRenderer,
    plugin: Settings,
) -> tuple[list[CheckResult], list[Trajectory]]:
    """Starts the sandbox and runs one conversation of each file."""
    results: list[CheckResult] = []
    trajectories: list[Trajectory] = []
    if not summary.conversations:
        results.append(warning("rendering", "not compared: no usable row has an image", "correct the rows"))
    try:
        with open_sandbox(settings) as sandbox:
            results.append(ok("sandbox", f"code runs behind: {sandbox.start()}"))
            tool = CodeTool.of(sandbox, settings)
            for conversation in summary.conversations:
                compared, trajectory = check_tokens.renderings(
                    conversation, tool, rollout=rollout, checkpoint=checkpoint, settings=plugin
                )
                results += compared
                trajectories += [trajectory] if trajectory else []
    except SandboxError as error:
        remedy = "run `codevision doctor --tool` to see what is missing; renderings weren't compared"
        results.append(failure("sandbox", str(error), remedy))
    return results, trajectories


def _budgets(
    config: DictConfig, model: Any, renderer: QwenRenderer, summary: DataSummary, trajectories: Sequence[Trajectory]
) -> Iterator[CheckResult]:
    """Checks that prompt and response fit into engine and model, and that a tool's image fits into the response."""
    check = "budgets"
    response = config.data.max_response_length
    total = config.data.max_prompt_length + response
    rollout = config.actor_rollout_ref.rollout
    contexts = {
        "rollout.max_model_len": rollout.max_model_len,
        "the engine's context_length": OmegaConf.select(rollout, f"engine_kwargs.{rollout.name}.context_length"),
        "the model's max_position_embeddings": model.text_config.max_position_embeddings,
    }
    too_short = {name: size for name, size in contexts.items() if size is not None and size < total}
    for name, size in too_short.items():
        message = f"prompt and response may have {total:,} tokens, but {name} is {size:,}"
        yield failure(check, message, "raise it, or lower data.max_prompt_length or data.max_response_length")
    processor = renderer.processor.image_processor
    side = processor.patch_size * processor.merge_size
    pixels = processor.size
    if not all(isinstance(pixels[edge], int) for edge in ("shortest_edge", "longest_edge")):
        message = f"the processor's size is {dict(pixels)}, which aren't all numbers"
        yield failure(check, message, "correct size in preprocessor_config.json")
        return
    least, most = pixels["shortest_edge"], pixels["longest_edge"]
    if least > most or most < side**2:
        message = f"the processor makes images of {least:,} to {most:,} pixels, but a token covers {side**2:,}"
        yield failure(check, message, "correct size in preprocessor_config.json")
        return
    if not trajectories:
        return
    text_tokens = min(
        len(trajectory.token_buffer.response_ids) - sum(map(renderer.image_tokens, _new_images(trajectory)))
        for trajectory in trajectories
    )
    room = response - text_tokens
    need = f"a call, its image and an answer must fit into {response:,} tokens"
    if summary.largest_image > room:
        message = f"{need}, but an image as large as the largest of the data has {summary.largest_image:,}"
        remedy = (
            f"set data.max_response_length: {text_tokens + summary.largest_image + 1} or more, or size.longest_edge"
        )
        yield failure(check, message, f"{remedy}: {max(least, room * side**2)} in preprocessor_config.json")
    elif most // side**2 > room:
        message = f"{need}, but an image of {most:,} pixels, which the processor allows, has {most // side**2:,}"
        remedy = f"calls that enlarge an image end as `length`: set size.longest_edge: {room * side**2}"
        yield warning(check, message, f"{remedy} in preprocessor_config.json, or a longer response")
    elif not too_short:
        message = f"{total:,} tokens fit into engine and model, and an image has at most {most // side**2:,} tokens"
        yield ok(check, message)


def _new_images(trajectory: Trajectory) -> tuple[Image.Image, ...]:
    """Returns the images that calls returned, as the model saw them."""
    return trajectory.resized[len(trajectory.resized) - len(trajectory.new_images) :]


def _judge(settings: JudgeSettings | None) -> CheckResult:
    """Asks the judge one question."""
    if settings is None:
        return ok("judge", "none is configured: an answer that no rule accepts is wrong")

    async def ask() -> Verdict:
        async with open_judge(
            settings.model_copy(update={"cache": None, "retries": min(1, settings.retries)})
        ) as judge:
            return await judge.ask(QUESTION)

    try:
        verdict = asyncio.run(ask())
    except JudgeError as error:
        remedy = "start the judge, or correct codevision.judge: without verdicts rollouts are invalid"
        return failure("judge", str(error), remedy)
    if verdict.score is None:
        message = f"{settings.model} gave no verdict: {verdict.reply[-100:]!r}"
        return failure("judge", message, "raise max_tokens of codevision.judge.request, or use another model")
    if not verdict.score:
        message = f"{settings.model} takes {QUESTION.answer!r} for wrong where {QUESTION.references[0]!r} is right"
        return warning("judge", message, "measure it with `codevision judge-check`")
    return ok("judge", f"{settings.model} gives the right verdict")


def _device_bytes(config: DictConfig, gpu_gib: float | None) -> float | None:
    if gpu_gib is not None:
        return gpu_gib * memory.GIB
    if config.trainer.device != "cuda" or not torch.cuda.is_available():
        return None
    return float(torch.cuda.get_device_properties(0).total_memory)


def _images(summary: DataSummary) -> memory.Images:
    count = max(1, summary.images)
    return memory.Images(
        each=summary.images / summary.rl,
        pixels=summary.pixels / count,
        tokens=summary.image_tokens / count,
        share=summary.image_tokens / max(1, summary.prompt_tokens),
    )


def _memory(config: DictConfig, estimate: memory.Estimate, device: float | None) -> Iterator[CheckResult]:
    """Compares the estimate with the memory of a device (in bytes, None if unknown) and of this machine."""
    total = config.data.max_prompt_length + config.data.max_response_length
    remedies = {
        "update": "lower ppo_max_token_len_per_gpu, offload optimizer and parameters, or use more GPUs",
        "rollout": "lower rollout.gpu_memory_utilization, or offload optimizer and parameters",
    }
    if config.trainer.device != "cpu":
        for phase, remedy in remedies.items():
            yield _compare(f"GPU memory, {phase}", getattr(estimate, phase), device, remedy)
    pool = estimate.rollout.get("engine")
    if pool is not None:
        rollouts = max(0.0, pool - estimate.engine_weights) / estimate.kv_token / total
        message = f"the engine's cache holds about {rollouts:.1f} rollouts of full length"
        remedy = "raise rollout.gpu_memory_utilization or rollout.tensor_model_parallel_size"
        yield failure("KV cache", message, remedy) if rollouts < 1 else ok("KV cache", message)
    remedy = "use smaller images, a smaller data.train_batch_size, or less offloading"
    host = _compare("host memory", estimate.host, float(psutil.virtual_memory().total), remedy)
    # the estimate counts an image for every call, and the training may run on another machine
    yield replace(host, level=Level.WARNING) if host.level is Level.FAILURE else host


def _compare(check: str, parts: dict[str, float], available: float | None, remedy: str) -> CheckResult:
    """Compares the sum of `parts` with the available memory, in bytes; None if that is unknown."""
    total = sum(parts.values())
    largest = sorted(parts.items(), key=lambda part: -part[1])[:4]
    of = "" if available is None else f" of {_gib(available)}"
    message = f"an estimate: {_gib(total)}{of} ({', '.join(f'{name} {_gib(size)}' for name, size in largest)})"
    if available is None:
        return warning(check, message, "not compared: set --gpu-gib") if total else ok(check, message)
    if total > available:
        return failure(check, message, remedy)
    return warning(check, message, remedy) if total > WARNING_SHARE * available else ok(check, message)


def _gib(size: float) -> str:
    return f"{size / memory.GIB:.3g} GiB"
