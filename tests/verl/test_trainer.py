"""Do verl's own functions compute advantages with our estimator, and is stock GRPO what is left where all take part?"""

from typing import Any

import numpy as np
import pytest

from codevision_ext.config import read_settings
from codevision_ext.errors import InputError

pytestmark = pytest.mark.filterwarnings("ignore")  # torch and transformers warn at import, by the dozen

GROUPS = ["a", "b", "a", "b", "a", "b", "a", "b"]


@pytest.fixture(scope="module")
def trainer() -> Any:
    from codevision_ext.verl_adapter.device import use_cpu_if_no_cuda  # noqa: PLC0415

    use_cpu_if_no_cuda()
    from codevision_ext.verl_adapter import trainer  # noqa: PLC0415

    return trainer


def advantages(name: str, rewards: list[float]) -> Any:
    """What verl's `compute_advantage_for_multi_trajectories` gives; rows of 5 tokens, the last two never sampled."""
    import torch  # noqa: PLC0415
    from omegaconf import OmegaConf  # noqa: PLC0415
    from verl import DataProto  # noqa: PLC0415
    from verl.trainer.ppo.v1.utils import compute_advantage_for_multi_trajectories  # noqa: PLC0415

    scores = torch.zeros(len(rewards), 5)
    scores[:, 2] = torch.tensor(rewards)
    mask = torch.tensor([[1, 1, 1, 0, 0]] * len(rewards))
    data = DataProto.from_dict(
        tensors={"token_level_rewards": scores, "response_mask": mask},
        non_tensors={"uid": np.array(GROUPS[: len(rewards)], dtype=object)},
    )
    given = compute_advantage_for_multi_trajectories(
        data,
        batch_keys=[f"{group}_{i}_0" for i, group in enumerate(GROUPS[: len(rewards)])],
        adv_estimator=name,
        config=OmegaConf.create({"norm_adv_by_std_in_grpo": True}),
    )
    assert torch.equal(given.batch["advantages"], given.batch["returns"])
    return given.batch["advantages"]


def beside(trainer: Any, counted: list[int], contributions: Any = None, weights: tuple[float, ...] = ()) -> Any:
    return trainer._BATCH.set(
        trainer._Batch(counted=np.array(counted, dtype=bool), contributions=contributions, weights=weights)
    )


def test_with_every_rollout_counted_the_estimator_is_verl_s_grpo(trainer: Any) -> None:
    rewards = [1.1, 0.1, 2.2, 0.1, 1.1, 1.2, 0.6, -0.4]
    beside(trainer, [1] * 8)
    np.testing.assert_allclose(advantages("codevision", rewards), advantages("grpo", rewards), atol=1e-5)


def test_an_invalid_rollout_is_out_of_mean_and_spread(trainer: Any) -> None:
    rewards = [1.1, 0.1, 2.2, 0.1, 1.1, 1.2, 0.6, 99.0]
    beside(trainer, [1] * 7 + [0])
    given = advantages("codevision", rewards)
    np.testing.assert_allclose(given[:7], advantages("grpo", rewards[:7]), atol=1e-5)
    assert not given[7].any()
    assert not given[:, 3:].any()


def test_components_are_normalised_one_by_one(trainer: Any) -> None:
    from codevision_ext.rewards.advantages import component_advantages  # noqa: PLC0415

    contributions = np.random.default_rng(0).random((8, 3))
    beside(trainer, [1] * 8, contributions, (1.0, 0.1, -0.5))
    expected = component_advantages(contributions, (1.0, 0.1, -0.5), GROUPS)
    np.testing.assert_allclose(advantages("codevision", [0.0] * 8)[:, 0], expected, atol=1e-6)


def test_rows_that_are_not_learned_from_lose_their_mask_and_no_other(trainer: Any) -> None:
    import torch  # noqa: PLC0415

    rows = [torch.tensor([1, 0, 1]), torch.tensor([1, 1]), torch.tensor([0, 1, 1, 1])]
    given = trainer.masked(torch.nested.as_nested_tensor(rows, layout=torch.jagged), np.array([True, False, True]))
    assert [row.tolist() for row in given.unbind()] == [[1, 0, 1], [0, 0], [0, 1, 1, 1]]
    assert given.offsets().tolist() == [0, 3, 5, 9]


def config(**algorithm: Any) -> Any:
    from omegaconf import OmegaConf  # noqa: PLC0415

    known = {"adv_estimator": "grpo", "use_kl_in_reward": False, "filter_groups": {"enable": False, "metric": "reward"}}
    return OmegaConf.create(
        {
            "algorithm": known | algorithm,
            "trainer": {"v1": {"trainer_mode": "codevision"}},
            "actor_rollout_ref": {"rollout": {"n": 8}},
        }
    )


def test_one_setting_turns_on_verl_s_group_filter_by_accuracy(trainer: Any) -> None:
    made = config()
    trainer.prepare(made, read_settings({"reward": {"filter_groups": "accuracy"}}))
    assert made.algorithm.filter_groups == {"enable": True, "metric": "filter_acc"}
    assert made.algorithm.adv_estimator == "codevision"
    assert made.trainer.v1.trainer_mode == "sync"


@pytest.mark.parametrize(
    ("algorithm", "reward", "said"),
    [
        ({"adv_estimator": "rloo"}, {"overturn": "mask_loss"}, "codevision.reward.overturn is read by .*grpo only"),
        ({"adv_estimator": "gae"}, {"normalise": "components"}, "codevision.reward.normalise is read by .*grpo only"),
        ({"use_kl_in_reward": True}, {"normalise": "components"}, "no room for algorithm.use_kl_in_reward"),
    ],
)
def test_settings_that_cannot_be_had_together_are_refused_at_the_start(
    trainer: Any, algorithm: dict[str, Any], reward: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        trainer.prepare(config(**algorithm), read_settings({"reward": reward}))


def test_a_group_of_one_is_refused(trainer: Any) -> None:
    made = config()
    made.actor_rollout_ref.rollout.n = 1
    with pytest.raises(InputError, match=r"rollout\.n is 1"):
        trainer.prepare(made, read_settings({}))
