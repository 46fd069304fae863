"""What can be set about the reward: the `codevision.reward` section of a config, and the options of the laboratory."""

from math import isfinite
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from codevision_ext.rewards.similarity import Sim

GroupSplit = Literal["optional", "any"]
"""Which rollouts are compared with the rest to tell whether the tool helped: an optional op, or any call."""
TruncationPolicy = Literal["none", "mask_loss", "mask_loss_and_baseline"]


def _finite(value: float | None) -> float | None:
    if value is not None and not isfinite(value):
        raise ValueError("input should be a finite number")
    return value


class CuriositySettings(BaseModel):
    """When trying the tool is paid for itself; read where the term `curiosity` is weighed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    target: Annotated[float, Field(gt=0, le=1)] = 0.3
    """Share of a prompt's rollouts that should try the tool; nothing is paid above it."""
    full_steps: Annotated[int, Field(ge=0)] = 0
    """Training steps with the whole bonus."""
    decay_steps: Annotated[int, Field(ge=0)] | None = None
    """Training steps behind those in which the bonus falls to 0, linearly; None: it never falls."""

    def share(self, step: int | None) -> float:
        """What is left of the bonus at a training step (from 1), in [0, 1]; 0 without a step, unless it never falls."""
        if self.decay_steps is None:
            return 1.0
        if step is None:
            return 0.0
        late = step - self.full_steps
        return 1.0 if late <= 0 else max(0.0, 1 - late / self.decay_steps) if self.decay_steps else 0.0


class RewardSettings(BaseModel):
    """Which reward, and what a group makes of it; docs/reward.md has the formulas."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    preset: str = "verified"
    """`upstream`, `paper` or `verified`."""
    weights: dict[str, float] = {}
    """Weights that replace the preset's, by term name."""
    group_split: GroupSplit = "optional"
    """Presets `paper` and `verified`."""
    sim: Sim = "iou"
    """How a region is compared with the box; preset `verified`."""
    gate_strategy_on_correct: bool = False
    """Only correct answers earn more than accuracy and format; presets `paper` and `verified`."""
    cap_total: Annotated[float | None, AfterValidator(_finite)] = None
    """The most that a rollout can be worth; what is above it is taken back by a term `cap`. Presets as above."""
    curiosity: CuriositySettings = CuriositySettings()

    overturn: TruncationPolicy = "none"
    """What becomes of rollouts that ran into a limit of turns or tokens; see `advantages.participation`."""
    normalise: Literal["total", "components"] = "total"
    """What is normalised within a group: the reward (GRPO), or each term by itself before the sum (GDPO)."""
    filter_groups: Literal["none", "accuracy"] = "none"
    """`accuracy`: groups whose answers are all right or all wrong are replaced by other prompts."""
