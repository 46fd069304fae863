"""Would this training run, and learn from the tokens it was meant to? `codevision doctor --model`, before GPU hours.

It reads the checkpoint's config and processor (no weights), composes the recipe as verl will, reads every row, starts
the sandbox, plays conversations, asks the judge one question, and estimates the memory.
"""

import asyncio
import io
import json
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import torch
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console
from verl.trainer.ppo.utils import need_critic, need_reference_policy
from verl.utils.config import omega_conf_to_dataclass, validate_config

from codevision_ext.config import JudgeSettings, Settings, read_settings
from codevision_ext.errors import InputError, JudgeError, SandboxError
from codevision_ext.io.progress import Stages
from codevision_ext.judge.prompts import Query
from codevision_ext.judge.shared import open_judge
from codevision_ext.models.checkpoint import renderer_of, weight_shapes
from codevision_ext.models.renderer import QwenRenderer
from codevision_ext.preflight import memory
from codevision_ext.preflight import rows as check_rows
from codevision_ext.preflight import tokens as check_tokens
from codevision_ext.preflight.recipe import load_recipe
from codevision_ext.preflight.result import CheckResult, Level, failure, ok, warning
from codevision_ext.preflight.rows import RowProblem, Rows
from codevision_ext.rollout.code_tool import CodeTool
from codevision_ext.rollout.loop import Trajectory
from codevision_ext.sandbox.settings import ToolSettings, open_sandbox
from codevision_ext.types import CoordinateSystem
from codevision_ext.verl_adapter.trainer import prepare
from codevision_ext.verl_config import file_beside, plain_dict, read_tool_config

QUESTION = Query(question="How many legs does a spider have?", references=("8",), answer="eight")
"""What the judge is asked; the answer is right."""
PLUGGED = (
    "actor_rollout_ref.rollout.agent.default_agent_loop",
    "reward.reward_manager.name",
    "trainer.v1.trainer_mode",
)
"""Settings by which verl starts what the plugin brings."""
TIGHT = 0.9
"""Share of a device's memory from which an estimate is a warning."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preflight:
    """What was found."""

    findings: tuple[CheckResult, ...]
    faults: tuple[RowProblem, ...] = ()
    """Every row that can't be used."""
    estimate: memory.Estimate | None = None
    """None where it can't be told."""

    @property
    def ok(self) -> bool:
        return not any(finding.level is Level.FAILURE for finding in self.findings)

    def plain(self) -> dict[str, Any]:
        """The same for JSON."""
        return {"ok": self.ok, **asdict(self)}


def inspect(
    model: Path, data: Sequence[Path], recipe: Path, settings: Sequence[str] = (), gpu_gib: float | None = None
) -> Preflight:
    """Checks a training before it is started.

    Args:
        model: Checkpoint folder; config.json, the processor and the shapes of the weights are read.
        data: Files of RL rows, and of the SFT rows that the checkpoint was trained on.
        recipe: `grpo.yaml` of a recipe.
        settings: As on verl's command line.
        gpu_gib: Memory of one device, GiB; None: that of the first one here, if there is one.

    Raises:
        InputError: checkpoint, recipe or a file of data can't be read at all.
    """
    checkpoint = renderer_of(model)
    weight_shapes(model)
    config = load_recipe(recipe.parent, recipe.stem, [*settings, f"actor_rollout_ref.model.path={model}"])
    plugin = _plugin_settings(config)
    path = config.actor_rollout_ref.rollout.multi_turn.tool_config_path
    if not path:
        raise InputError("actor_rollout_ref.rollout.multi_turn.tool_config_path is empty: training has no tool")
    tool = read_tool_config(file_beside(recipe, path))
    with Stages(["checkpoint", "rows", "renderings", "judge", "memory"], console=Console(stderr=True)) as stages:
        stages.start("checkpoint")
        found = list(
            check_tokens.special_tokens(
                checkpoint, _json(model / "config.json"), _json(model / "generation_config.json")
            )
        )
        if any(finding.level is Level.FAILURE for finding in found):
            found.append(warning("everything else", "not checked: it hangs on the tokens", "mend them first"))
            return Preflight(findings=tuple(found))
        found += _settings(config, plugin)
        hf = omega_conf_to_dataclass(config.actor_rollout_ref.model)
        rollout = QwenRenderer(hf.processor)
        found += check_tokens.chat_template(rollout, plugin)
        stages.start("rows")
        limit = config.data.max_prompt_length
        rows = check_rows.read_rows(data, rollout, plugin, limit, stages.advance)
        found += check_rows.row_results(rows, rollout, plugin, limit)
        stages.start("renderings")
        rendered, played = _renderings(rows, tool, rollout, checkpoint, plugin.coordinates)
        found += rendered
        found += _budgets(config, hf.hf_config, rollout, rows, played)
        stages.start("judge")
        found.append(_judge(plugin.judge))
        stages.start("memory")
        strategy = config.actor_rollout_ref.actor.strategy
        estimate = None
        if strategy not in ("fsdp", "fsdp2") or not rows.rl:
            said = f"not estimated for {rows.rl} usable RL rows and strategy {strategy}"
            found.append(warning("memory", said, "it knows fsdp and fsdp2; else watch the first step"))
        else:
            device = _device_bytes(config, gpu_gib)
            estimate = memory.estimate_memory(config, hf.hf_config, _images(rows), device)
            found += _memory(config, estimate, device)
    return Preflight(findings=tuple(found), faults=tuple(rows.faults), estimate=estimate)


def _settings(config: DictConfig, plugin: Settings) -> list[CheckResult]:
    """Would verl and the trainer take them, and is it the plugin that they start?"""
    found = []
    for name in PLUGGED:
        if (value := OmegaConf.select(config, name)) != "codevision":
            found.append(failure("settings", f"{name} is {value}: the plugin's isn't used", f"set {name}=codevision"))
    try:
        with redirect_stdout(io.StringIO()):  # verl says there that all is well
            validate_config(config.copy(), need_reference_policy(config), need_critic(config))
        prepare(config.copy(), plugin.model_copy(update={"records": "OUT"}))  # whose folder the run will name
    except (ValueError, AssertionError, HydraException, OmegaConfBaseException, InputError) as error:
        said = " ".join(str(error).split()) or type(error).__name__
        found.append(failure("settings", f"training refuses them: {said}", "mend what it names"))
    return found or [ok("settings", "verl and the trainer take them")]


def _plugin_settings(config: DictConfig) -> Settings:
    section = plain_dict(config.codevision)
    section.pop("records", None)  # hangs on the folder of a run, which there is none of
    return read_settings(section)


def _json(path: Path) -> dict[str, Any]:
    """The file's content; {} where there is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except ValueError as error:
        raise InputError(f"{path}: isn't JSON: {error}") from error


def _renderings(
    rows: Rows, settings: ToolSettings, rollout: QwenRenderer, checkpoint: QwenRenderer, coordinates: CoordinateSystem
) -> tuple[list[CheckResult], list[Trajectory]]:
    """Starts the sandbox and plays a conversation of each file."""
    found: list[CheckResult] = []
    played: list[Trajectory] = []
    if not rows.conversations:
        found.append(warning("rendering", "not compared: no usable row has an image", "mend the rows"))
    try:
        with open_sandbox(settings) as sandbox:
            found.append(ok("sandbox", f"code runs behind: {sandbox.start()}"))
            tool = CodeTool(sandbox, settings.max_text_chars, settings.keep_variables)
            for talk in rows.conversations:
                said, trajectory = check_tokens.renderings(
                    talk, tool, rollout=rollout, checkpoint=checkpoint, coordinates=coordinates
                )
                found += said
                played += [trajectory] if trajectory else []
    except SandboxError as error:
        remedy = "`codevision doctor --tool` names what is missing; renderings weren't compared"
        found.append(failure("sandbox", str(error), remedy))
    return found, played


def _budgets(
    config: DictConfig, model: Any, renderer: QwenRenderer, rows: Rows, played: Sequence[Trajectory]
) -> Iterator[CheckResult]:
    """Do prompt, response and a tool's image fit where they must?"""
    check = "budgets"
    response = config.data.max_response_length
    whole = config.data.max_prompt_length + response
    rollout = config.actor_rollout_ref.rollout
    engine = OmegaConf.select(rollout, f"engine_kwargs.{rollout.name}.context_length")
    wide = {
        "rollout.max_model_len": rollout.max_model_len,
        "the engine's context_length": engine,
        "the model's max_position_embeddings": model.text_config.max_position_embeddings,
    }
    narrow = {name: size for name, size in wide.items() if size is not None and size < whole}
    for name, size in narrow.items():
        said = f"prompt and response may have {whole:,} tokens, {name} is {size:,}"
        yield failure(check, said, "raise it, or lower data.max_prompt_length or data.max_response_length")
    side = renderer.processor.image_processor.patch_size * renderer.processor.image_processor.merge_size
    pixels = renderer.processor.image_processor.size
    if not all(isinstance(pixels[edge], int) for edge in ("shortest_edge", "longest_edge")):
        yield failure(check, f"the processor's size is {dict(pixels)}, no numbers", "mend preprocessor_config.json")
        return
    least, most = pixels["shortest_edge"], pixels["longest_edge"]
    if least > most or most < side**2:
        said = f"the processor wants images of {least:,} to {most:,} pixels, and a token has {side**2:,}"
        yield failure(check, said, "mend size in preprocessor_config.json")
        return
    if not played:
        return
    turns = min(len(t.token_buffer.response_ids) - sum(map(renderer.image_tokens, _made(t))) for t in played)
    room = response - turns
    turned = f"a call, its image and an answer must fit into {response:,} tokens"
    if rows.largest_image > room:
        said = f"{turned}, but an image as large as the data's largest has {rows.largest_image:,} of them"
        remedy = f"set data.max_response_length: {turns + rows.largest_image + 1} or more, or size.longest_edge"
        yield failure(check, said, f"{remedy}: {max(least, room * side**2)} in preprocessor_config.json")
    elif most // side**2 > room:
        said = f"{turned}, but an image of {most:,} pixels, which the processor allows, has {most // side**2:,} of them"
        remedy = f"calls that enlarge end as `length`: set size.longest_edge: {room * side**2}"
        yield warning(check, said, f"{remedy} in preprocessor_config.json, or a longer response")
    elif not narrow:
        said = f"{whole:,} tokens fit engine and model, an image has at most {most // side**2:,}"
        yield ok(check, said)


def _made(played: Trajectory) -> tuple[Any, ...]:
    """The images that the calls made, as the model saw them."""
    return played.resized[len(played.resized) - len(played.new_images) :]


def _judge(settings: JudgeSettings | None) -> CheckResult:
    if settings is None:
        return ok("judge", "none is configured: what no rule decides is wrong")

    async def ask() -> Any:
        async with open_judge(
            settings.model_copy(update={"cache": None, "retries": min(1, settings.retries)})
        ) as judge:
            return await judge.ask(QUESTION)

    try:
        verdict = asyncio.run(ask())
    except JudgeError as error:
        return failure("judge", str(error), "start it, or mend codevision.judge: without verdicts rollouts are invalid")
    if verdict.score is None:
        said = f"{settings.model} gave no verdict: {verdict.reply[-100:]!r}"
        return failure("judge", said, "let it say more (max_tokens of codevision.judge.request), or take another model")
    if not verdict.score:
        said = f"{settings.model} takes {QUESTION.answer!r} for wrong where {QUESTION.references[0]!r} is right"
        return warning("judge", said, "measure it with `codevision judge-check`")
    return ok("judge", f"{settings.model} answers, and is right")


def _device_bytes(config: DictConfig, gpu_gib: float | None) -> float | None:
    if gpu_gib is not None:
        return gpu_gib * memory.GIB
    if config.trainer.device != "cuda" or not torch.cuda.is_available():
        return None
    return float(torch.cuda.get_device_properties(0).total_memory)


def _images(rows: Rows) -> memory.Images:
    count = max(1, rows.images)
    return memory.Images(
        each=rows.images / rows.rl,
        pixels=rows.pixels / count,
        tokens=rows.image_tokens / count,
        share=rows.image_tokens / max(1, rows.tokens),
    )


def _memory(config: DictConfig, estimate: memory.Estimate, device: float | None) -> Iterator[CheckResult]:
    """One line each for both phases on a device, for the engine's cache, and for the host."""
    whole = config.data.max_prompt_length + config.data.max_response_length
    remedies = {
        "update": "lower ppo_max_token_len_per_gpu, offload optimizer and parameters, or take more GPUs",
        "rollout": "lower rollout.gpu_memory_utilization, or offload optimizer and parameters",
    }
    if config.trainer.device != "cpu":
        for phase, remedy in remedies.items():
            yield _against(f"GPU memory, {phase}", getattr(estimate, phase), device, remedy)
    pool = estimate.rollout.get("engine")
    if pool is not None:
        full = max(0.0, pool - estimate.engine_weights) / estimate.kv_token / whole
        said = f"the engine's cache holds about {full:.1f} rollouts of full length"
        remedy = "raise rollout.gpu_memory_utilization or rollout.tensor_model_parallel_size"
        yield failure("KV cache", said, remedy) if full < 1 else ok("KV cache", said)
    remedy = "smaller images, a smaller data.train_batch_size, or less offloading"
    host = _against("host memory", estimate.host, float(psutil.virtual_memory().total), remedy)
    # images are counted as if every call made one, and the machine of the training may be another
    yield replace(host, level=Level.WARNING) if host.level is Level.FAILURE else host


def _against(check: str, parts: dict[str, float], there: float | None, remedy: str) -> CheckResult:
    total = sum(parts.values())
    largest = sorted(parts.items(), key=lambda part: -part[1])[:4]
    of = "" if there is None else f" of {_gib(there)}"
    said = f"an estimate: {_gib(total)}{of} ({', '.join(f'{name} {_gib(size)}' for name, size in largest)})"
    if there is None:
        return warning(check, said, "not compared: say --gpu-gib") if total else ok(check, said)
    if total > there:
        return failure(check, said, remedy)
    return warning(check, said, remedy) if total > TIGHT * there else ok(check, said)


def _gib(size: float) -> str:
    return f"{size / memory.GIB:.3g} GiB"
