"""verl's synchronous trainer, with the group statistics of `rewards.advantages` and the rollouts' numbers at each step.

`trainer.v1.trainer_mode: codevision`. Stock V1 drops what the reward says of a rollout from training metrics, and
counts every rollout in its group's mean and spread.
"""

import logging
from collections import defaultdict
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import transfer_queue as tq
from omegaconf import DictConfig, OmegaConf, open_dict
from tensordict import TensorDict
from verl.trainer.ppo.core_algos import register_adv_est
from verl.trainer.ppo.v1 import PPOTrainerSync, register_trainer

from codevision_ext.config import Settings, read_settings
from codevision_ext.errors import CollapseError, InfraError, InputError
from codevision_ext.monitor.rollout_metrics import summarise_step
from codevision_ext.monitor.signals import WATCHED, SignalFinding, new_findings
from codevision_ext.rewards.advantages import Flags, Floats, component_advantages, group_advantages, participation
from codevision_ext.rewards.rubric import Rubric
from codevision_ext.verl_adapter import trajectory_log

logger = logging.getLogger(__name__)

ESTIMATOR = "codevision"
"""`algorithm.adv_estimator`; stands in for `grpo`, which it equals where every rollout takes part."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Batch:
    """What verl doesn't hand to an estimator; rows as in the batch."""

    counted: Flags
    contributions: Floats | None
    """Shape (rows, terms); None where the total is normalised."""
    weights: tuple[float, ...]


_BATCH: ContextVar[_Batch] = ContextVar("batch")


@register_adv_est(ESTIMATOR)
def estimate_advantages(
    token_level_rewards: torch.Tensor, response_mask: torch.Tensor, index: np.ndarray, config: Any = None, **_: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    """Advantages and returns (the same), both of shape (rows, response tokens).

    Args:
        token_level_rewards: Shape (rows, response tokens).
        response_mask: 1 where the policy sampled; same shape.
        index: The group of each row.
        config: verl's `algorithm` section.
    """
    batch, by_std = _BATCH.get(), True if config is None else bool(config.get("norm_adv_by_std_in_grpo", True))
    groups = [str(group) for group in index]
    if batch.contributions is None:
        rewards = token_level_rewards.sum(dim=-1).double().cpu().numpy()
        values = group_advantages(rewards, groups, batch.counted, by_std=by_std)
    else:
        values = component_advantages(batch.contributions, batch.weights, groups, batch.counted, by_std=by_std)
    scalars = torch.as_tensor(values, dtype=token_level_rewards.dtype, device=token_level_rewards.device)
    advantages = scalars.unsqueeze(-1) * response_mask
    return advantages, advantages


@register_trainer("codevision")
class CodeVisionTrainer(PPOTrainerSync):
    """PPOTrainerSync with group statistics of our own, and the rollouts' own numbers among the metrics.

    Raises:
        InputError: two settings can't be had together.
        InfraError: more than `codevision.invalid_limit` of a step's rollouts broke under us, or none is of use.
        CollapseError: `codevision.watch` found something at the step before, and is set to stop.
    """

    def __init__(self, config: DictConfig) -> None:
        self.settings = read_settings(config.get("codevision"))
        self.weights = Rubric(self.settings.reward).weights
        self.seen: dict[str, dict[int, float]] = defaultdict(dict)
        self.found: list[SignalFinding] = []
        prepare(config, self.settings)
        super().__init__(config)

    def on_step_begin(self) -> None:
        super().on_step_begin()
        if self.settings.watch.stop and self.found:  # here, so that the step before is saved and logged
            raise CollapseError(f"codevision.watch.stop ends the run: {'; '.join(map(str, self.found))}")

    def _build_replay_buffer(self) -> Any:
        buffer = super()._build_replay_buffer()
        buffer.poll_interval = 0.1  # seconds; stock waits up to 2 s behind a finished batch
        return buffer

    def _compute_advantage(self, batch: Any, metrics: dict[str, Any]) -> Any:
        stored = tq.kv_batch_get(
            keys=batch.keys, partition_id=batch.partition_id, select_fields=["extra_fields", "response_mask"]
        )
        infos = [
            None if tag.get("is_padding", False) else fields["reward_extra_info"]
            for fields, tag in zip(list(stored["extra_fields"]), batch.tags, strict=True)
        ]
        valid = [info["valid"] for info in infos if info]
        check_valid(1 - sum(valid) / max(1, len(valid)), self.settings.invalid_limit, self.global_steps)
        who = participation(infos, self.settings.reward.overturn)
        if not who.learns.any():
            raise InfraError(
                f"step {self.global_steps} has no rollout to learn from: each is invalid, or ran into the turn or "
                f"length limit while codevision.reward.overturn is {self.settings.reward.overturn}"
            )
        if self.settings.reward.overturn != "none":
            mask = masked(stored["response_mask"], who.learns)
            fields = TensorDict({"response_mask": mask, "loss_mask": mask}, batch_size=len(batch.keys))
            tq.kv_batch_put(keys=batch.keys, partition_id=batch.partition_id, fields=fields)
        contributions = None
        if self.settings.reward.normalise == "components":
            contributions = np.array([[info[f"term_{n}"] if info else 0.0 for n in self.weights] for info in infos])
        token = _BATCH.set(
            _Batch(counted=who.counted, contributions=contributions, weights=tuple(self.weights.values()))
        )
        try:
            return super()._compute_advantage(batch, metrics)
        finally:
            _BATCH.reset(token)

    def _compute_metrics(self, batch: Any, metrics: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        super()._compute_metrics(batch, metrics, *args, **kwargs)
        metrics.update(self._rollout_metrics(batch))
        self._watch(metrics)
        trajectory_log.log_step(self.logger.logger, self.settings, self.global_steps)

    def _rollout_metrics(self, batch: Any) -> dict[str, float]:
        keys = [key for key, tag in zip(batch.keys, batch.tags, strict=True) if not tag.get("is_padding", False)]
        stored = tq.kv_batch_get(keys=keys, partition_id=batch.partition_id, select_fields=["extra_fields", "uid"])
        infos = [fields["reward_extra_info"] for fields in list(stored["extra_fields"])]
        return summarise_step(infos, list(stored["uid"])) | {"rollout/dropped": self.expected_rollouts - len(infos)}

    def _watch(self, metrics: Mapping[str, Any]) -> None:
        """Says in the log what the step's numbers tell of a collapse."""
        for name in WATCHED & metrics.keys():
            self.seen[name][self.global_steps] = float(metrics[name])
        found = new_findings(self.seen, self.settings.watch, self.global_steps)
        for finding in found:
            logger.warning("%s", finding)
        self.found += found

    @property
    def expected_rollouts(self) -> int:
        """Rollouts that a step asks for."""
        return self.config.data.train_batch_size * self.config.actor_rollout_ref.rollout.n


def prepare(config: DictConfig, settings: Settings) -> None:
    """Sets what of verl's config follows from ours.

    Raises:
        InputError: two settings can't be had together; names both.
    """
    trajectory_log.check_settings(config, settings)
    reward, algorithm = settings.reward, config.algorithm
    with open_dict(config):
        config.trainer.v1.trainer_mode = "sync"  # the base class compares with its own name in several places
        if algorithm.adv_estimator == "grpo":
            algorithm.adv_estimator = ESTIMATOR
        if reward.filter_groups == "accuracy":
            OmegaConf.update(algorithm, "filter_groups", {"enable": True, "metric": "filter_acc"}, merge=True)
    if algorithm.adv_estimator != ESTIMATOR:
        for name, default in (("normalise", "total"), ("overturn", "none")):
            if getattr(reward, name) != default:
                raise InputError(f"codevision.reward.{name} is read by algorithm.adv_estimator=grpo only")
        return
    if reward.normalise == "components" and algorithm.use_kl_in_reward:
        raise InputError("codevision.reward.normalise=components has no room for algorithm.use_kl_in_reward=true")
    if config.actor_rollout_ref.rollout.n < 2:
        raise InputError("actor_rollout_ref.rollout.n is 1: a rollout is compared with others of its group")


def masked(mask: torch.Tensor, learns: Flags) -> torch.Tensor:
    """A nested mask of shape (rows, tokens) with zeros in the rows that aren't learned from."""
    rows = [row if learn else torch.zeros_like(row) for row, learn in zip(mask.unbind(), learns, strict=True)]
    return torch.nested.as_nested_tensor(rows, layout=torch.jagged)


def check_valid(invalid_share: float, limit: float, step: int) -> None:
    """Whether a step's rollouts are worth training on; shares in [0, 1].

    Raises:
        InfraError: too many broke under us.
    """
    if invalid_share > limit:
        raise InfraError(
            f"{invalid_share:.0%} of the rollouts of step {step} are invalid, more than codevision.invalid_limit "
            f"allows ({limit:.0%}); the log says why each one broke"
        )
