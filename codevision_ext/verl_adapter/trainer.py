"""Extends verl's synchronous trainer by the group statistics of `rewards.advantages` and by metrics of the rollouts.

Registered as `codevision` (`trainer.v1.trainer_mode`). The stock trainer leaves the terms of a reward out of the
metrics, and counts every rollout in the mean and the spread of its group, invalid ones included.
"""

import logging
from collections import Counter, defaultdict
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transfer_queue as tq
from omegaconf import DictConfig, OmegaConf, open_dict
from tensordict import TensorDict
from verl.trainer.ppo.core_algos import register_adv_est
from verl.trainer.ppo.v1 import PPOTrainerSync, register_trainer, trainer_base

from codevision_ext.config import Settings
from codevision_ext.errors import CollapseError, InfraError, InputError
from codevision_ext.io.records import Record, drop_records
from codevision_ext.models.checkpoint_settings import format_of_rl
from codevision_ext.models.max_pixels import image_bounds
from codevision_ext.monitor.rollout_metrics import summarise_step
from codevision_ext.monitor.signals import WATCHED, SignalFinding, new_findings
from codevision_ext.patches.guard import expect
from codevision_ext.patches.verl_order import fix_order, prompt_ids
from codevision_ext.rewards.advantages import (
    Flags,
    Floats,
    component_advantages,
    group_advantages,
    participation,
    turn_advantages,
)
from codevision_ext.rewards.rubric import Rubric
from codevision_ext.rollout.dialects.registry import DIALECTS
from codevision_ext.rollout.seeds import prompt_id
from codevision_ext.rollout.trained_format import TrainedFormat, write_trained_format
from codevision_ext.scoring import TurnGains
from codevision_ext.verl_adapter import trajectory_log
from codevision_ext.verl_adapter.activation import MODEL_PATH, require_active, run_settings

logger = logging.getLogger(__name__)

ESTIMATOR = "codevision"
"""Name of the advantage estimator that replaces `grpo`; both are equal if all rollouts count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Batch:
    """The values of a batch that verl doesn't hand to an advantage estimator."""

    counted: Flags
    """Rollouts that count in the statistics of their group, shape (rows,)."""
    contributions: Floats | None
    """Value of each reward term, shape (rows, terms); None if only the total is normalised."""
    weights: tuple[float, ...]
    """Weight of each reward term, shape (terms,)."""
    turns: tuple[TurnGains, ...] | None = None
    """What the turns of each rollout add to its reward; None if each token of a rollout has the same advantage."""


_BATCH: ContextVar[_Batch] = ContextVar("batch")


@register_adv_est(ESTIMATOR)
def estimate_advantages(
    token_level_rewards: torch.Tensor, response_mask: torch.Tensor, index: np.ndarray, config: Any = None, **_: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns advantages and returns, which are equal; both have shape (rows, response tokens).

    Args:
        token_level_rewards: Reward at its token, shape (rows, response tokens).
        response_mask: 1 for tokens that the policy sampled, shape (rows, response tokens).
        index: Group of each row.
        config: verl's `algorithm` section.
    """
    batch, by_std = _BATCH.get(), True if config is None else bool(config.get("norm_adv_by_std_in_grpo", True))
    groups = [str(group) for group in index]
    rewards = token_level_rewards.sum(dim=-1).double().cpu().numpy()
    if batch.turns is not None:
        gains = [turns.gains for turns in batch.turns]
        by_turn = turn_advantages(rewards, gains, groups, batch.counted, by_std=by_std)
        values = torch.zeros(response_mask.shape, dtype=torch.float64)
        for row, (turns, own) in enumerate(zip(batch.turns, by_turn, strict=True)):
            for (start, end), value in zip(turns.spans, own, strict=True):
                values[row, start:end] = value
    elif batch.contributions is None:
        values = group_advantages(rewards, groups, batch.counted, by_std=by_std)[:, None]
    else:
        values = component_advantages(batch.contributions, batch.weights, groups, batch.counted, by_std=by_std)[:, None]
    scalars = torch.as_tensor(values, dtype=token_level_rewards.dtype, device=token_level_rewards.device)
    advantages = scalars * response_mask
    return advantages, advantages


def check_stock() -> None:
    """Checks the methods of verl that `CodeVisionTrainer` extends; raises `CompatError` if they are others."""
    expect(PPOTrainerSync, "on_step_begin")
    expect(PPOTrainerSync, "_build_replay_buffer", "return sampler_cls(**replay_buffer_kwargs)")
    expect(
        PPOTrainerSync,
        "_compute_advantage",
        "compute_advantage_for_multi_trajectories(",
        "select_fields=fields",
        '"rm_scores"',
    )
    expect(PPOTrainerSync, "_load_checkpoint", "self.global_steps = int(global_step_folder.split(")
    expect(PPOTrainerSync, "_compute_metrics", "metrics.update(", 'tag.get("is_padding", False)')
    expect(PPOTrainerSync, "_save_checkpoint", 'f"global_step_{self.global_steps}"', '"actor")')


@register_trainer("codevision")
class CodeVisionTrainer(PPOTrainerSync):
    """verl's `PPOTrainerSync` with other group statistics and more metrics.

    Raises:
        InputError: Two settings exclude each other, or CodeVision isn't active.
        InfraError: More than `codevision.invalid_limit` of the rollouts of a step are invalid, or no rollout of a step
            can be learned from.
        CollapseError: `codevision.watch` reported a collapse at the step before, and `codevision.watch.stop` is set.
    """

    def __init__(self, config: DictConfig) -> None:
        require_active()
        check_stock()
        own = run_settings(config)
        self.settings, self.trained_before = own.settings, own.trained
        self.weights = Rubric(self.settings.reward).weights
        self.history: dict[str, dict[int, float]] = defaultdict(dict)
        self.findings: list[SignalFinding] = []
        self._submitted: Counter[tuple[str, int]] = Counter()
        prepare(config, self.settings)
        super().__init__(config)

    def on_step_begin(self) -> None:
        super().on_step_begin()
        if self.settings.watch.stop and self.findings:  # at the next step, so that this one is saved and logged
            raise CollapseError(f"codevision.watch.stop ends the run: {'; '.join(map(str, self.findings))}")

    def _save_checkpoint(self) -> None:
        """Writes codevision.json beside the weights; before them, so that no complete checkpoint is without it."""
        folder = Path(self.config.trainer.default_local_dir) / f"global_step_{self.global_steps}" / "actor"
        write_trained_format(folder / "huggingface", self.trained_format)
        super()._save_checkpoint()

    @cached_property
    def trained_format(self) -> TrainedFormat:
        """Format that this training teaches."""
        own_systems = getattr(self.train_dataset, "system_messages", Counter)()
        bounds = image_bounds(Path(OmegaConf.select(self.config, MODEL_PATH)))
        return format_of_rl(self.settings, own_systems, bounds, self.trained_before)

    def _build_replay_buffer(self) -> Any:
        buffer = super()._build_replay_buffer()
        buffer.poll_interval = 0.1  # seconds; verl waits up to 2 s after a batch is finished
        if self.settings.deterministic:
            fix_order(buffer)
        return buffer

    def _load_checkpoint(self) -> None:
        super()._load_checkpoint()
        self.drop_repeated_records()

    def drop_repeated_records(self) -> None:
        """Removes the records that a deterministic run writes again behind its last checkpoint."""
        if self.settings.deterministic and self.settings.records:
            for split in ("train", "val"):
                drop_records(Path(self.settings.records) / f"{split}.jsonl", self._repeated)

    def _repeated(self, record: Record) -> bool:
        """Returns whether a record is of this run and of a step that is trained again, behind the last checkpoint."""
        step, (_, position, *_) = record.step or 0, [*record.group.split("-"), ""]
        if step <= self.global_steps or not position.isdecimal():
            return False
        return record.group == prompt_id(self.config.data.seed, record.split, step, int(position))

    def _fetch_one_gen_batch(self) -> Any:
        with self._prompt_ids("train"):
            return super()._fetch_one_gen_batch()

    def _validate(self) -> dict[str, float]:
        with self._prompt_ids("val"):
            return super()._validate()

    def _prompt_ids(self, split: str) -> AbstractContextManager[None]:
        """Returns a context in which the prompts of a deterministic run get ids that come from its seed."""
        if not self.settings.deterministic:
            return nullcontext()

        def next_id() -> str:
            position = self._submitted[split, self.global_steps]
            self._submitted[split, self.global_steps] += 1
            return prompt_id(self.config.data.seed, split, self.global_steps, position)

        return prompt_ids(trainer_base, next_id)

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
        turns = None
        if self.settings.reward.credit == "call":
            turns = tuple(
                TurnGains(**fields["turn_gains"]) if info else TurnGains()
                for info, fields in zip(infos, list(stored["extra_fields"]), strict=True)
            )
        weights = tuple(self.weights.values())
        token = _BATCH.set(_Batch(counted=who.counted, contributions=contributions, weights=weights, turns=turns))
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
        expected = self.config.data.train_batch_size * self.config.actor_rollout_ref.rollout.n
        return summarise_step(infos, list(stored["uid"])) | {"rollout/dropped": expected - len(infos)}

    def _watch(self, metrics: Mapping[str, Any]) -> None:
        """Logs a warning when the metrics of the step are signs of a collapse."""
        for name in WATCHED & metrics.keys():
            self.history[name][self.global_steps] = float(metrics[name])
        findings = new_findings(self.history, self.settings.watch, self.global_steps)
        for finding in findings:
            logger.warning("%s", finding)
        self.findings += findings


def prepare(config: DictConfig, settings: Settings) -> None:
    """Sets those settings of verl that follow from the `codevision` section.

    Raises:
        InputError: Two settings exclude each other; the message names both.
    """
    trajectory_log.check_settings(config, settings)
    reward, algorithm = settings.reward, config.algorithm
    with open_dict(config):
        if DIALECTS[settings.dialect].stop:  # SGLang finds these texts with a tokenizer of its own
            config.actor_rollout_ref.rollout.skip_tokenizer_init = False
        config.trainer.v1.trainer_mode = "sync"  # verl compares the mode with this name in several places
        if algorithm.adv_estimator == "grpo":
            algorithm.adv_estimator = ESTIMATOR
        if reward.filter_groups == "accuracy":
            OmegaConf.update(algorithm, "filter_groups", {"enable": True, "metric": "filter_acc"}, merge=True)
    if algorithm.adv_estimator != ESTIMATOR:
        for name, default in (("normalise", "total"), ("overturn", "none"), ("credit", "rollout")):
            if getattr(reward, name) != default:
                raise InputError(f"codevision.reward.{name} is read by algorithm.adv_estimator=grpo only")
        return
    for name, value in (("normalise", "components"), ("credit", "call")):
        if getattr(reward, name) == value and algorithm.use_kl_in_reward:
            raise InputError(f"codevision.reward.{name}={value} excludes algorithm.use_kl_in_reward=true")
    if reward.normalise == "components" and reward.credit == "call":
        raise InputError("codevision.reward.normalise=components excludes codevision.reward.credit=call")
    if config.actor_rollout_ref.rollout.n < 2:
        raise InputError("actor_rollout_ref.rollout.n is 1, but a rollout is compared with the others of its group")


def masked(mask: torch.Tensor, learns: Flags) -> torch.Tensor:
    """Returns a nested mask, shape (rows, tokens), with zeros in the rows that aren't learned from."""
    rows = [row if learn else torch.zeros_like(row) for row, learn in zip(mask.unbind(), learns, strict=True)]
    return torch.nested.as_nested_tensor(rows, layout=torch.jagged)


def check_valid(invalid_share: float, limit: float, step: int) -> None:
    """Checks that few enough rollouts of a step are invalid; share and limit are in [0, 1].

    Raises:
        InfraError: The share is above the limit.
    """
    if invalid_share > limit:
        raise InfraError(
            f"{invalid_share:.0%} of the rollouts of step {step} are invalid, more than codevision.invalid_limit "
            f"allows ({limit:.0%}); the log has the reason for each one"
        )
