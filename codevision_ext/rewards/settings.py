"""Defines the settings of the reward: the `codevision.reward` section of a config."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from codevision_ext.rewards.similarity import Sim

GroupSplit = Literal["optional", "any"]
"""Rollouts that count as using the tool: those with an optional operation, or those with any call."""
TruncationPolicy = Literal["none", "mask_loss", "mask_loss_and_baseline"]
"""Exclusion of rollouts that reached a limit: from nothing, from the loss, or from loss and group statistics."""


class CuriositySettings(BaseModel):
    """Schedule of the bonus for trying the tool; read only if the term `curiosity` has a weight."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    target: Annotated[float, Field(gt=0, le=1)] = 0.3
    """Share of a prompt's rollouts with a successful call, in (0, 1], from which there is no bonus."""
    full_steps: Annotated[int, Field(ge=0)] = 0
    """Number of training steps with the whole bonus."""
    decay_steps: Annotated[int, Field(ge=0)] | None = None
    """Number of training steps after `full_steps` in which the bonus falls linearly to 0; None: it never falls."""

    def share(self, step: int | None) -> float:
        """Returns the share of the bonus at a training step (from 1), in [0, 1]; for None 0, or 1 if it never falls."""
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
    """Name of the terms and default weights.

    `upstream`, `paper`, `verified` or `ordered`; for rows that ask for drawings `vthinker`, `vthinker_paper` or
    `vthinker_as_run`.
    """
    weights: dict[str, float] = {}
    """Weights that replace the preset's, by term name."""
    group_split: GroupSplit = "optional"
    """Rollouts that count as using the tool in the term `necessity`; presets `paper`, `verified`, `ordered`."""
    sim: Sim = "iou"
    """Similarity of a cropped region and the box; presets `verified` and `ordered`."""
    gate_strategy_on_correct: bool = False
    """True: the terms about the use of the tool are 0 for wrong answers.

    Presets `paper`, `verified`, `ordered` and `vthinker`.
    """
    gate_steps: Annotated[int, Field(ge=1)] | None = None
    """Number of training steps in which the gate closes; None: it is closed from the first step on.

    A wrong answer gets a share of the terms about the tool that falls linearly from 1 at step 1 to 0.
    """
    cap_total: FiniteFloat | None = None
    """Maximum reward of a rollout; the term `cap` subtracts the excess. None: no maximum.

    Presets `paper`, `verified`, `ordered` and `vthinker`.
    """
    curiosity: CuriositySettings = CuriositySettings()

    overturn: TruncationPolicy = "none"
    """Treatment of rollouts that reached the limit of turns or tokens; see `advantages.participation`."""
    normalise: Literal["total", "components"] = "total"
    """Numbers that are normalised within a group: the reward (GRPO), or each term before the sum (GDPO)."""
    credit: Literal["rollout", "call"] = "rollout"
    """Tokens that a gain of the term `must` is credited to: the whole rollout's, or only those up to its call.

    See `advantages.turn_advantages`; presets `paper`, `verified` and `ordered`.
    """
    filter_groups: Literal["none", "accuracy"] = "none"
    """Groups that are replaced by other prompts; `accuracy`: groups whose answers are all right or all wrong."""

    def open_share(self, step: int | None) -> float:
        """Returns the share of the terms about the tool that a gated wrong answer gets at a step (from 1), in [0, 1].

        It is 0 for None, which is an evaluation.
        """
        return 0.0 if self.gate_steps is None or step is None else max(0.0, 1 - (step - 1) / self.gate_steps)
