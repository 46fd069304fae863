"""verl's synchronous trainer, logging every reward component and the health of the rollouts at each step.

`trainer.v1.trainer_mode: codevision`. Stock V1 drops what the reward says of a rollout from training metrics.
"""

from typing import Any

import numpy as np
import transfer_queue as tq
from omegaconf import DictConfig, open_dict
from verl.trainer.ppo.v1 import PPOTrainerSync, register_trainer

from codevision_ext.config import read_settings
from codevision_ext.errors import InfraError


@register_trainer("codevision")
class CodeVisionTrainer(PPOTrainerSync):
    """PPOTrainerSync with the rollouts' own numbers among the metrics.

    Raises:
        InfraError: more than `codevision.invalid_limit` of a step's rollouts broke under us.
    """

    def __init__(self, config: DictConfig) -> None:
        self.settings = read_settings(config.get("codevision"))
        with open_dict(config):
            config.trainer.v1.trainer_mode = "sync"  # the base class compares with its own name in several places
        super().__init__(config)

    def _build_replay_buffer(self) -> Any:
        buffer = super()._build_replay_buffer()
        buffer.poll_interval = 0.1  # seconds; stock waits up to 2 s behind a finished batch
        return buffer

    def _compute_metrics(self, batch: Any, metrics: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        super()._compute_metrics(batch, metrics, *args, **kwargs)
        keys = [key for key, tag in zip(batch.keys, batch.tags, strict=True) if not tag.get("is_padding", False)]
        stored = tq.kv_batch_get(keys=keys, partition_id=batch.partition_id, select_fields=["extra_fields"])
        infos = [fields["reward_extra_info"] for fields in list(stored["extra_fields"])]
        metrics.update(summarise(infos))
        metrics["rollout/dropped"] = self.expected_rollouts - len(infos)
        check_valid(metrics["rollout/invalid_share"], self.settings.invalid_limit, self.global_steps)

    @property
    def expected_rollouts(self) -> int:
        """Rollouts that a step asks for."""
        return self.config.data.train_batch_size * self.config.actor_rollout_ref.rollout.n


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


def summarise(infos: list[dict[str, float]]) -> dict[str, float]:
    """Step metrics from what is logged of each rollout (`scoring.numbers`); means are over valid rollouts."""
    valid = [info for info in infos if info["valid"]]

    def mean(name: str) -> float:
        return float(np.mean([info[name] for info in valid])) if valid else 0.0

    calls, malformed = mean("calls"), mean("malformed_calls")
    metrics = {f"reward/{name.removeprefix('term_')}/mean": mean(name) for name in infos[0] if name.startswith("term_")}
    metrics |= {f"rollout/{name}": mean(name) for name in infos[0] if name.startswith("end_")}
    return metrics | {
        "reward/total/mean": sum(metrics[name] for name in metrics if name.startswith("reward/")),
        "rollout/accuracy": mean("acc"),
        "rollout/format": mean("format"),
        "rollout/tool_rate": mean("tool"),
        "rollout/calls": calls,
        "rollout/invalid_call_rate": (mean("failed_calls") + malformed) / max(calls + malformed, 1e-9),
        "rollout/noop_calls": mean("noop_calls"),
        "rollout/turns/mean": mean("turns"),
        "rollout/turns/max": float(max((info["turns"] for info in valid), default=0.0)),
        "rollout/invalid_share": 1 - len(valid) / len(infos),
    }
