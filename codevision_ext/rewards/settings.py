"""Defines the settings of the reward: the `codevision.reward` section of a config."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from codevision_ext.rewards.similarity import Sim

GroupSplit = Literal["optional", "any"]
"""Rollouts that count as using the tool: those with an optional operation, or those with any call."""
TruncationPolicy = Literal["none", "mask_loss", "mask_loss_and_baseline"]
"""Part of training that a rollout at a limit is left out of: none, the loss, or the loss and the group's statistics."""


class CuriositySettings(BaseModel):
    """Schedule of the bonus for trying the tool; read only where the term `curiosity` has a weight."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    target: Annotated[float, Field(gt=0, le=1)] = 0.3
    """Share of a prompt's rollouts that should try the tool, in (0, 1]; above it there is no bonus."""
    full_steps: Annotated[int, Field(ge=0)] = 0
    """Number of training steps with the whole bonus."""
    decay_steps: Annotated[int, Field(ge=0)] | None = None
    """Number of training steps after these, in which the bonus falls linearly to 0; None: it never falls."""

    def share(self, step: int | None) -> float:
        """Returns the share of the bonus at a training step (from 1), in [0, 1].

        Without a step it is 0, unless the bonus never falls.
        """
        if self.decay_steps is None:
            return 1.0
        if step is None:
            return 0.0
        late = step - self.full_steps
        return 1.0 if late <= 0 else max(0.0, 1 - late / self.decay_steps) if self.decay_steps else 0.0


class RewardSettings(BaseModel):
    """Terms and weights of the reward, and its normalisation within a group; docs/reward.md has the formulas."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    preset: str = "verified"
    """Name of the terms and default weights: `upstream`, `paper` or `verified`."""
    weights: dict[str, float] = {}
    """Weights that replace the preset's, by term name."""
    group_split: GroupSplit = "optional"
    """Rollouts that count as using the tool in the term `necessity`; presets `paper` and `verified`."""
    sim: Sim = "iou"
    """Similarity of a cropped region and the box; preset `verified`."""
    gate_strategy_on_correct: bool = False
    """True: wrong answers earn nothing for how the tool was used; presets `paper` and `verified`."""
    cap_total: FiniteFloat | None = None
    """Maximum reward of a rollout; the term `cap` takes the rest back. None: no maximum. Not in `upstream`."""
    curiosity: CuriositySettings = CuriositySettings()

    overturn: TruncationPolicy = "none"
    """Treatment of rollouts that ran into the limit of turns or tokens; see `advantages.participation`."""
    normalise: Literal["total", "components"] = "total"
    """Numbers that are normalised within a group: the reward (GRPO), or each term before the sum (GDPO)."""
    filter_groups: Literal["none", "accuracy"] = "none"
    """Groups that are replaced by other prompts; `accuracy`: those whose answers are all right or all wrong."""
