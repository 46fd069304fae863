"""Runs rollouts inside verl: an agent loop for one rollout, and a worker that scores all rollouts of a prompt.

The agent loop is registered as `codevision`; `CodeVisionAgentLoopManager` is the value of
`rollout.agent.agent_loop_manager_class`. The worker waits for the last rollout of a prompt, scores the group, writes
its records, and then passes each rollout to verl. So the group terms of a reward see all rollouts before verl drops
any.
"""

import asyncio
import gc
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import ray
import torch
from PIL import Image
from transformers import ProcessorMixin
from verl.experimental.agent_loop.agent_loop import (
    AgentLoopBase,
    AgentLoopMetrics,
    AgentLoopOutput,
    ToolListWrap,
    register,
)
from verl.trainer.ppo.v1 import agent_loop_tq
from verl.workers.rollout.llm_server import LLMServerClient

from codevision_ext.config import Settings, system_prompt, tool_schemas
from codevision_ext.errors import EngineError, InfraError, last_line
from codevision_ext.io.records import RecordWriter
from codevision_ext.models.renderer import QwenRenderer
from codevision_ext.monitor.rollout_metrics import group_numbers
from codevision_ext.patches.verl import agent_loop_worker
from codevision_ext.patches.verl_order import SEED_FIELDS
from codevision_ext.rewards.advantages import neutral_rewards
from codevision_ext.rewards.rubric import Rubric
from codevision_ext.rollout.dialects.registry import DIALECTS
from codevision_ext.rollout.loop import Completion, run_rollout, stopped_at_text, turn_ended
from codevision_ext.rollout.seeds import request_seed
from codevision_ext.rollout.token_buffer import RolloutLimits, TokenBuffer
from codevision_ext.scoring import score_rollouts, turn_gains, with_images
from codevision_ext.task.item import read_item
from codevision_ext.task.rows import split_prompt
from codevision_ext.verl_adapter.activation import require_active, run_settings
from codevision_ext.verl_adapter.tool import CodeImageTool

logger = logging.getLogger(__name__)

STORED_AT_ONCE = 4
"""Maximum rollouts of a worker with image features in memory. Features need 24 bytes per pixel, the image four."""


@cache
def shared_renderer(processor: ProcessorMixin) -> QwenRenderer:
    """Returns the renderer of a processor; each processor of this process has one renderer."""
    return QwenRenderer(processor)


@dataclass(slots=True)
class _EnginePolicy:
    """Samples from verl's server client, as a `Policy` of `rollout.loop`."""

    client: LLMServerClient
    sampling_params: dict[str, Any]
    request_id: str
    end_ids: Sequence[int]
    seed: Callable[[int], dict[str, int]]
    """Function from the number of tokens before a turn to the sampling parameter that seeds the turn, if any."""
    versions: list[int] = field(default_factory=list)
    """Versions of the weights that sampled each turn, in training steps."""
    seconds: float = 0.0
    """Time spent in the engine, seconds."""

    async def __call__(self, ids: list[int], images: Sequence[Image.Image], max_tokens: int) -> Completion:
        start = time.monotonic()
        try:
            output = await self.client.generate(
                self.request_id,
                prompt_ids=ids,
                sampling_params=self.sampling_params | {"max_tokens": max_tokens} | self.seed(len(ids)),
                image_data=list(images) or None,
            )
        except ray.exceptions.RayError as error:
            raise EngineError(f"the rollout engine failed: {last_line(error)}") from error
        self.seconds += time.monotonic() - start
        self.versions.append(output.extra_fields.get("global_steps") or 0)
        if output.stop_reason == "aborted":
            raise EngineError("the rollout engine aborted a request")
        finished = turn_ended(output.token_ids, self.end_ids, stopped=output.stop_reason != "length")
        stop = self.sampling_params.get("stop", ())
        stopped = stopped_at_text(output.token_ids, self.end_ids, stop, finished=finished)
        return Completion(ids=output.token_ids, log_probs=output.log_probs, finished=finished, stopped=stopped)


@register("codevision")
class CodeVisionAgentLoop(AgentLoopBase):
    """Runs one rollout of `rollout.loop` on verl's engine.

    If the sandbox, the judge or the engine fails, the rollout is invalid: it has no loss and isn't scored as wrong.
    """

    def __init__(self, *args: Any, tools: ToolListWrap | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.settings = run_settings(self.config).settings
        self.tool = (
            next((tool.code_tool for tool in tools.tools if isinstance(tool, CodeImageTool)), None) if tools else None
        )
        self.dialect = DIALECTS[self.settings.dialect]
        rollout = self.rollout_config
        self.limits = self.settings.limits(
            response_tokens=rollout.response_length,
            assistant_turns=rollout.multi_turn.max_assistant_turns or rollout.response_length,
        )

    async def run(self, sampling_params: dict[str, Any], **kwargs: Any) -> AgentLoopOutput:
        """Runs the rollout of a row, whose fields are in `kwargs` (those of `rl_dataset.CodeVisionRLDataset`)."""
        start = time.monotonic()
        renderer = shared_renderer(self.processor)
        prompt = system_prompt(self.settings, tools=self.tool is not None)
        messages, images = split_prompt(kwargs["raw_prompt"], prompt)
        request_id = f"{kwargs['uid']}-{kwargs['session_id']}"
        sampling = sampling_params | ({"stop": list(self.dialect.stop)} if self.tool and self.dialect.stop else {})
        policy = _EnginePolicy(self.server_manager, sampling, request_id, renderer.end_ids, self._seed(kwargs))
        try:
            trajectory = await run_rollout(
                messages,
                images,
                policy=policy,
                renderer=renderer,
                tool=self.tool,
                limits=self.limits,
                coordinates=self.settings.coordinates,
                schemas=tool_schemas(self.settings),
                dialect=self.dialect,
                think_prefix=self.settings.think_prefix,
            )
        except InfraError as error:
            logger.error("a rollout is invalid: %s", error)  # noqa: TRY400  # one line; the count is logged each step
            trajectory = None
        token_buffer, resized = (trajectory.token_buffer, trajectory.resized) if trajectory else _without_loss(renderer)
        versions = policy.versions or [kwargs["global_steps"]]
        return AgentLoopOutput(
            prompt_ids=token_buffer.prompt_ids,
            response_ids=token_buffer.response_ids,
            response_mask=token_buffer.response_mask,
            response_logprobs=token_buffer.log_probs,
            multi_modal_data={"images": list(resized)},
            num_turns=token_buffer.turns * 2,
            metrics=AgentLoopMetrics(
                generate_sequences=policy.seconds, tool_calls=time.monotonic() - start - policy.seconds
            ),
            extra_fields={
                "trajectory": trajectory,
                "min_global_steps": min(versions),
                "max_global_steps": max(versions),
            },
        )

    def _seed(self, row: Mapping[str, Any]) -> Callable[[int], dict[str, int]]:
        """Returns a function to the seed of each turn of a rollout; no seed if `codevision.deterministic` is off."""
        if not self.settings.deterministic:
            return lambda _: {}
        field = SEED_FIELDS[self.rollout_config.name]
        return lambda tokens: {field: request_seed(row["uid"], row["index"], row["session_id"], tokens)}


def _without_loss(renderer: QwenRenderer) -> tuple[TokenBuffer, tuple[Image.Image, ...]]:
    """Returns tokens and images in place of those of an invalid rollout: a prompt with an image, and one more token."""
    image = renderer.resize(Image.new("RGB", (28, 28)))  # Qwen2.5-VL in verl can't take a row without an image
    prompt = renderer.prompt([{"role": "user", "content": [{"type": "image"}]}], (), (image,))
    token_buffer = TokenBuffer(prompt_ids=prompt, limits=RolloutLimits(response_tokens=2, assistant_turns=1))
    token_buffer.add_context([renderer.end_id])
    return token_buffer, (image,)


@dataclass(slots=True)
class _Group:
    """The rollouts of one prompt, which wait until the last one is finished."""

    size: int
    """Number of rollouts of the prompt."""
    done: asyncio.Future[None]
    """Future that ends when the group is scored, or with the error of one of its rollouts."""
    outputs: dict[int, AgentLoopOutput] = field(default_factory=dict)
    """Finished rollouts by their session id, until the group is scored."""


class _Worker(agent_loop_worker(agent_loop_tq)):  # type: ignore[misc]
    """verl's worker, with three changes.

    It scores groups. It computes the image features of a rollout once, on a thread; verl would run the processor a
    second time, for the reward. It samples training rollouts with `rollout.repetition_penalty`, in whose place verl
    sends 1.0.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.settings: Settings = run_settings(self.config).settings
        gc.freeze()  # collecting garbage among all imported objects would stop every rollout for half a second
        self._groups: dict[str, _Group] = {}
        self._storing = asyncio.Semaphore(STORED_AT_ONCE)

    async def _run_prompt(
        self,
        prompt: dict[str, Any],
        sampling_params: dict[str, Any],
        trajectory: dict[str, Any],
        *args: Any,
        **kwargs: Any,
    ) -> None:
        validate, rollout = trajectory["validate"], self.config.actor_rollout_ref.rollout
        size = prompt.get("__rollout_n__", rollout.val_kwargs.n if validate else rollout.n)
        self._groups[prompt["uid"]] = _Group(size, asyncio.get_running_loop().create_future())
        if not validate:
            sampling_params = sampling_params | {"repetition_penalty": rollout.get("repetition_penalty", 1.0)}
        try:
            await super()._run_prompt(prompt, sampling_params, trajectory, *args, **kwargs)
        finally:
            del self._groups[prompt["uid"]]

    async def _run_agent_loop(self, *args: Any, **kwargs: Any) -> Any:
        done = self._groups[kwargs["uid"]].done
        try:
            return await super()._run_agent_loop(*args, **kwargs)
        except BaseException as error:
            if not done.done():
                done.set_exception(error)  # the other rollouts of the prompt wait for this one
                done.exception()
            raise

    async def _agent_loop_postprocess(self, output: AgentLoopOutput, validate: bool, **kwargs: Any) -> None:
        group = self._groups[kwargs["uid"]]
        group.outputs[kwargs["session_id"]] = output
        if len(group.outputs) == group.size and not group.done.done():
            # The list has no name: with one it would stay in memory until the last rollout of the group is stored.
            await asyncio.to_thread(self._score, [group.outputs[at] for at in sorted(group.outputs)], validate, kwargs)
            group.outputs.clear()
            group.done.set_result(None)
        await asyncio.shield(group.done)
        kwargs["raw_prompt"] = [{"role": message["role"], "content": ""} for message in kwargs["raw_prompt"]]
        async with self._storing:
            images = output.multi_modal_data["images"]
            output.multi_modal_data["features"] = await asyncio.to_thread(
                shared_renderer(self.processor).features, images
            )
            tensors = list(output.multi_modal_data["features"].values())
            await super()._agent_loop_postprocess(output, validate, **kwargs)
            await asyncio.to_thread(tensors.clear)  # freeing a hundred megabytes would hold up the event loop

    def _score(self, outputs: list[AgentLoopOutput], validate: bool, row: dict[str, Any]) -> None:
        """Sets the reward and the logged numbers of every rollout of a prompt, and writes their records."""
        trajectories = [output.extra_fields.pop("trajectory") for output in outputs]
        _, images = split_prompt(row["raw_prompt"], "")
        item = read_item(row, images[0].size if images else (0, 0))
        fields = {"split": "val" if validate else "train", "step": row["global_steps"]}
        records = score_rollouts(item, f"{row['uid']}", trajectories, self.settings, **fields)
        if self.settings.records:
            writer = RecordWriter(Path(self.settings.records), fields["split"])
            writer.write(*[with_images(r, t, writer) for r, t in zip(records, trajectories, strict=True)])
        rewards = neutral_rewards([record.reward for record in records])
        logged = group_numbers(records, trajectories, self.settings)
        for output, reward, info in zip(outputs, rewards, logged, strict=True):
            output.reward_score = reward
            output.extra_fields["reward_extra_info"] = info
        if self.settings.reward.credit == "call":
            rubric = Rubric(self.settings.reward)
            for output, record, trajectory in zip(outputs, records, trajectories, strict=True):
                output.extra_fields["turn_gains"] = asdict(turn_gains(record, trajectory, rubric))

    def _compute_multi_modal_inputs(self, output: AgentLoopOutput, input_ids: torch.Tensor) -> dict[str, torch.Tensor]:  # noqa: ARG002
        return output.multi_modal_data.pop("features")  # they are large, and `output` lives until the group is stored

    def _compute_position_ids(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,  # noqa: ARG002
        multi_modal_inputs: dict[str, torch.Tensor],
        mm_processor_kwargs: dict[str, Any] | None = None,  # noqa: ARG002
    ) -> torch.Tensor:
        positions = shared_renderer(self.processor).position_ids(input_ids[0], multi_modal_inputs.get("image_grid_thw"))
        return positions.unsqueeze(0)


class CodeVisionAgentLoopManager(agent_loop_tq.AgentLoopManagerTQ):
    """verl's manager of agent loops, with the worker of this module.

    Raises:
        InputError: CodeVision isn't active, so that the rollouts would come from stock engines.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        require_active()
        super().__init__(*args, **kwargs)
        self.agent_loop_workers_class = ray.remote(_Worker)
