"""Scores single rollouts inside verl, as the reward manager `codevision`.

It serves verl's stock worker, where each rollout is a group of one. The worker of `agent_loop` scores whole groups
itself, since group terms need all rollouts of a prompt, and never calls a reward manager.
"""

import asyncio
from typing import Any

from omegaconf import DictConfig
from transformers import PreTrainedTokenizerBase
from verl import DataProto
from verl.experimental.reward_loop.reward_manager import register
from verl.experimental.reward_loop.reward_manager.base import RewardManagerBase

from codevision_ext.errors import InfraError, InputError
from codevision_ext.monitor.rollout_metrics import rollout_numbers
from codevision_ext.scoring import score_rollouts
from codevision_ext.task.item import read_item
from codevision_ext.verl_adapter.activation import run_settings


@register("codevision")
class CodeVisionRewardManager(RewardManagerBase):
    """Scores a rollout of the agent loop `codevision`."""

    def __init__(self, config: DictConfig, tokenizer: PreTrainedTokenizerBase, compute_score: Any, **_: Any) -> None:
        super().__init__(config, tokenizer, compute_score)
        self.settings = run_settings(config).settings

    async def run_single(self, data: DataProto) -> dict[str, Any]:
        """Returns `reward_score` and `reward_extra_info` of one rollout.

        Raises:
            InputError: The rollout comes from another agent loop.
            InfraError: The rollout is invalid. verl's stock worker scores each rollout alone, so it has no number that
                leaves the baseline of the group where it is.
        """
        row = {key: value[0] for key, value in data.non_tensor_batch.items()}
        extra = row.get("tool_extra_fields") or {}
        if "trajectory" not in extra:
            raise InputError("reward manager codevision: the rollout needs agent loop codevision (default_agent_loop)")
        trajectory = extra["trajectory"]
        size = trajectory.images[0].size if trajectory and trajectory.images else (0, 0)
        item = read_item(row, size)
        (record,) = await asyncio.to_thread(score_rollouts, item, str(row["uid"]), [trajectory], self.settings)
        if record.reward is None:
            raise InfraError(
                f"rollout {record.id} is invalid, which verl's stock worker can't leave out; the log says why; set "
                "actor_rollout_ref.rollout.agent.agent_loop_manager_class as recipe/base/published.yaml does"
            )
        return {"reward_score": record.reward, "reward_extra_info": rollout_numbers(record, trajectory, self.settings)}
