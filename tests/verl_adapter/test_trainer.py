"""verl's own functions compute advantages with our estimator, which equals stock GRPO if every rollout counts."""

import logging
import shutil
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codevision_ext.config import read_settings
from codevision_ext.errors import CollapseError, InfraError, InputError
from codevision_ext.experiments.study.plan import read_plan
from codevision_ext.experiments.study.train import SETTINGS
from codevision_ext.preflight.recipe import load_recipe
from codevision_ext.verl_config import plain_dict

pytestmark = pytest.mark.filterwarnings("ignore")  # torch and transformers warn at import, by the dozen

ROOT = Path(__file__).parents[2]
GROUPS = ["a", "b", "a", "b", "a", "b", "a", "b"]


@pytest.fixture(scope="module")
def trainer() -> Any:
    from codevision_ext.engines.device import use_cpu_if_no_cuda  # noqa: PLC0415

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


def test_with_credit_per_call_the_tokens_of_a_turn_have_its_advantage(trainer: Any) -> None:
    """The second turn of the first rollout gets nothing for the call; tokens between turns have no advantage."""
    called, direct = ([((0, 1), (2, 3)), (1.0, 0.0)], [((0, 3),), (0.0,)])
    turns = tuple(trainer.TurnGains(spans=spans, gains=gains) for spans, gains in (called, direct, direct, direct))
    trainer._BATCH.set(trainer._Batch(counted=np.ones(4, dtype=bool), contributions=None, weights=(), turns=turns))
    unit = 2**-0.5
    given = advantages("codevision", [2.0, 1.0, 1.0, 1.0])[[0, 2]]  # one group
    np.testing.assert_allclose(given, [[unit, 0, 0, 0, 0], [-unit] * 3 + [0, 0]], atol=1e-5)


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
        ({"use_kl_in_reward": True}, {"normalise": "components"}, "components excludes algorithm.use_kl_in_reward"),
        ({"use_kl_in_reward": True}, {"credit": "call"}, "credit=call excludes algorithm.use_kl_in_reward"),
        ({"adv_estimator": "rloo"}, {"credit": "call"}, "codevision.reward.credit is read by .*grpo only"),
        ({}, {"credit": "call", "normalise": "components"}, "normalise=components excludes .*credit=call"),
    ],
)
def test_settings_that_cannot_be_had_together_are_refused_at_the_start(
    trainer: Any, algorithm: dict[str, Any], reward: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        trainer.prepare(config(**algorithm), read_settings({"reward": reward}))


PLANS = {path.stem: read_plan(path) for path in sorted((ROOT / "recipe" / "studies").glob("*.yaml"))}


@pytest.mark.parametrize("study", PLANS)
def test_every_training_of_a_study_passes_the_checks_of_a_training(trainer: Any, study: str) -> None:
    from verl.trainer.ppo.core_algos import get_policy_loss_fn  # noqa: PLC0415

    run = ["actor_rollout_ref.model.path=/m", "data.train_files=/t", "data.val_files=/v", "data.seed=0"]
    run += ["trainer.default_local_dir=/o", "codevision.records=/r", "trainer.total_training_steps=2", *SETTINGS]
    for training in PLANS[study].trainings.values():
        words = [*run, *PLANS[study].settings, *training.settings] if training.by == "grpo" else run
        made = load_recipe(ROOT / "recipe" / "demo", "grpo", words)
        settings = read_settings(plain_dict(made)["codevision"])
        trainer.prepare(made, settings)
        assert settings.deterministic
        assert get_policy_loss_fn(made.actor_rollout_ref.actor.policy_loss.loss_mode)
        assert made.data.train_batch_size % made.actor_rollout_ref.actor.ppo_mini_batch_size == 0


def test_a_group_of_one_is_refused(trainer: Any) -> None:
    made = config()
    made.actor_rollout_ref.rollout.n = 1
    with pytest.raises(InputError, match=r"rollout\.n is 1"):
        trainer.prepare(made, read_settings({}))


@pytest.fixture(scope="module")
def store() -> Any:
    """TransferQueue with four rollouts of one prompt: two that answered, one over the turn limit, one invalid."""
    import ray  # noqa: PLC0415
    import torch  # noqa: PLC0415
    import transfer_queue as tq  # noqa: PLC0415
    from omegaconf import OmegaConf  # noqa: PLC0415
    from verl.utils.tensordict_utils import list_of_dict_to_tensordict  # noqa: PLC0415

    rows = []
    for i, (end, valid, reward) in enumerate(
        [("answer", 1, 1.0), ("answer", 1, 2.0), ("turn_cap", 1, 0.5), ("answer", 0, 9.0)]
    ):
        mask = torch.full((3 + i,), valid)
        scores = torch.zeros(3 + i)
        scores[-1] = reward
        info = {"valid": float(valid), "acc": float(i == 1), "tool": 1.0, "term_accuracy": reward}
        info |= {f"end_{e}": float(e == end) for e in ("answer", "turn_cap", "length")}
        info |= dict.fromkeys(("format", "calls", "turns"), 1.0)
        counted = ("failed_calls", "noop_calls", "malformed_calls", "repeated_calls")
        info |= dict.fromkeys((*counted, "recoverable_calls", "recovered_calls", "undecided", "drawn"), 0.0)
        rows.append(
            {
                "uid": "u",
                "response_mask": mask,
                "loss_mask": mask,
                "rm_scores": scores,
                "old_log_probs": torch.zeros(3 + i),
                "extra_fields": {"reward_extra_info": info},
            }
        )
    scratch = tempfile.mkdtemp(prefix="cv")  # Ray's sockets want a short path
    ray.init(num_cpus=16, include_dashboard=False, log_to_driver=False, _temp_dir=scratch)
    try:
        tq.init(OmegaConf.create({"backend": {"SimpleStorage": {"num_data_storage_units": 1}}}))
        keys = [f"u_{i}_0" for i in range(4)]
        yield tq.kv_batch_put(
            keys=keys, partition_id="train", fields=list_of_dict_to_tensordict(rows), tags=[{"is_padding": False}] * 4
        )
        tq.close()
    finally:
        ray.shutdown()
        shutil.rmtree(scratch, ignore_errors=True)


def test_a_step_s_advantages_and_masks_follow_overturn_through_verl_s_own_store(trainer: Any, store: Any) -> None:
    import transfer_queue as tq  # noqa: PLC0415
    from omegaconf import OmegaConf  # noqa: PLC0415

    def step(overturn: str, limit: float = 0.5) -> tuple[list[float], list[list[int]]]:
        made = object.__new__(trainer.CodeVisionTrainer)
        made.settings = read_settings({"reward": {"overturn": overturn}, "invalid_limit": limit})
        made.weights, made.global_steps = {}, 3
        algorithm = {"adv_estimator": "codevision", "use_kl_in_reward": False, "gamma": 1.0, "lam": 1.0}
        made.config = OmegaConf.create({"algorithm": algorithm, "actor_rollout_ref": {"rollout": {"n": 4}}})
        made._compute_advantage(store, {})
        fields = ["advantages", "response_mask", "loss_mask"]
        got = tq.kv_batch_get(keys=store.keys, partition_id="train", select_fields=fields)
        masks = [row.tolist() for row in got["loss_mask"].unbind()]
        assert masks == [row.tolist() for row in got["response_mask"].unbind()]
        return [row[0].item() for row in got["advantages"].unbind()], masks

    whole, masked = [[1] * 3, [1] * 4, [1] * 5, [0] * 6], [[1] * 3, [1] * 4, [0] * 5, [0] * 6]
    advantages, masks = step("none")
    assert (advantages, masks) == (pytest.approx([-0.2182, 1.0911, -0.8729, 0], abs=1e-4), whole)
    with pytest.raises(InfraError, match="25% of the rollouts of step 3 are invalid"):
        step("none", limit=0.2)
    advantages, masks = step("mask_loss")
    assert (advantages, masks) == (pytest.approx([-0.2182, 1.0911, 0, 0], abs=1e-4), masked)
    advantages, masks = step("mask_loss_and_baseline")
    assert (advantages, masks) == (pytest.approx([-0.7071, 0.7071, 0, 0], abs=1e-4), masked)


def test_the_step_s_numbers_know_which_rollouts_are_of_one_prompt(trainer: Any, store: Any) -> None:
    from omegaconf import OmegaConf  # noqa: PLC0415

    made = object.__new__(trainer.CodeVisionTrainer)
    made.config = OmegaConf.create({"data": {"train_batch_size": 2}, "actor_rollout_ref": {"rollout": {"n": 4}}})
    logged = made._rollout_metrics(store)
    assert logged["rollout/group_std"] == pytest.approx(np.std([1.0, 2.0, 0.5], ddof=1))
    assert (logged["rollout/all_wrong_rate"], logged["rollout/all_right_rate"]) == (0, 0)
    assert logged["rollout/end_turn_cap"] == pytest.approx(1 / 3)
    assert logged["rollout/dropped"] == 4


def test_a_collapse_is_logged_once_and_ends_the_run_behind_that_step_where_it_is_set_to(
    trainer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    made = object.__new__(trainer.CodeVisionTrainer)
    made.history, made.findings = defaultdict(dict), []

    def step(number: int, *, stop: bool = False) -> list[str]:
        caplog.clear()
        made.settings, made.global_steps = read_settings({"watch": {"steps": 2, "stop": stop}}), number
        made.on_step_begin()
        with caplog.at_level(logging.WARNING):
            made._watch({"actor/entropy": np.float32(0.001), "rollout/tool_rate": 0.5, "actor/lr": 1.0})
        return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]

    assert step(1) == []
    (said,) = step(2)
    assert said.startswith("actor/entropy is below codevision.watch.min_entropy (0.01) since step 1 (0.001 at step 2)")
    assert step(3) == []
    with pytest.raises(CollapseError, match=r"codevision\.watch\.stop ends the run: actor/entropy is below"):
        step(4, stop=True)
