"""The recipe of V-Thinker has the published settings, and its stages hand their checkpoints on."""

from pathlib import Path

import pytest
from test_recipes import RECIPES, commands, load, selected

from codevision_ext.config import read_settings
from codevision_ext.evaluate.recipe_config import read_recipe_config
from codevision_ext.verl_config import plain_dict, read_tool_config

RECIPE = RECIPES / "vthinker_7b"
PUBLISHED_SFT = {
    "optim.lr": 1e-5,
    "optim.lr_scheduler_type": "cosine",
    "optim.lr_warmup_steps_ratio": 0.03,
    "optim.weight_decay": 0.1,
    "data.max_length": 15000,
    "engine.model_dtype": "fp32",  # the master weights; verl computes in bfloat16
    "model.lora_rank": 0,
    "trainer.save_freq": 300,
}
PUBLISHED_STAGES = {
    "perception": {"data.train_batch_size": 8 * 128, "trainer.total_epochs": 1},
    "interactive": {"data.train_batch_size": 4 * 8, "trainer.total_epochs": 3},
}
PUBLISHED_RL = {
    "algorithm.adv_estimator": "grpo",
    "codevision.dialect": "code_tags",
    "codevision.reward.overturn": "mask_loss",
    "codevision.judge.model": "Qwen/Qwen2.5-VL-72B-Instruct",
    "data.train_batch_size": 1 * 8 * 5 // 8,  # rollouts of a GPU, GPUs, accumulated steps, rollouts of a prompt
    "data.max_response_length": 10240,
    "actor_rollout_ref.rollout.n": 8,
    "actor_rollout_ref.rollout.temperature": 1.0,
    "actor_rollout_ref.rollout.top_p": 0.9,
    "actor_rollout_ref.rollout.top_k": 50,
    "actor_rollout_ref.rollout.repetition_penalty": 1.05,
    "actor_rollout_ref.rollout.max_model_len": 15000,
    "actor_rollout_ref.rollout.gpu_memory_utilization": 0.55,
    "actor_rollout_ref.rollout.tensor_model_parallel_size": 1,
    "actor_rollout_ref.rollout.multi_turn.max_assistant_turns": 2,
    "actor_rollout_ref.actor.ppo_mini_batch_size": 5,
    "actor_rollout_ref.actor.loss_agg_mode": "seq-mean-token-mean",
    "actor_rollout_ref.actor.use_kl_loss": True,
    "actor_rollout_ref.actor.kl_loss_coef": 0.01,
    "actor_rollout_ref.actor.kl_loss_type": "low_var_kl",
    "actor_rollout_ref.actor.optim.lr": 5e-7,
    "actor_rollout_ref.actor.optim.lr_scheduler_type": "cosine",
    "actor_rollout_ref.actor.optim.min_lr_ratio": 0.1,
    "actor_rollout_ref.actor.optim.lr_warmup_steps_ratio": 0.03,
    "trainer.total_epochs": 3,
    "trainer.save_freq": 50,
}
PIXELS = {"sft": 4_194_304, "rl": 2_408_448}
"""Largest image of the SFT stages and of RL."""


@pytest.mark.parametrize("stage", PUBLISHED_STAGES)
def test_the_settings_of_a_stage_of_fine_tuning_are_those_of_its_script(stage: str) -> None:
    published = PUBLISHED_SFT | PUBLISHED_STAGES[stage]
    assert selected(load(RECIPE, "sft", f"stage={stage}"), published) == published


@pytest.mark.parametrize("stage", PUBLISHED_STAGES)
def test_a_row_of_the_longest_length_fits_a_micro_batch_and_what_isn_t_stated_is_the_default_of_ms_swift(
    stage: str,
) -> None:
    config = load(RECIPE, "sft", f"stage={stage}")
    assert config.data.max_length <= config.data.max_token_len_per_gpu
    assert read_settings(plain_dict(config)["codevision"]).freeze == ("visual", "projector")
    assert list(config.optim.betas) == [0.9, 0.95]


def test_the_settings_of_rl_are_those_of_its_script() -> None:
    assert selected(load(RECIPE, "grpo"), PUBLISHED_RL) == PUBLISHED_RL


def test_the_coordinates_and_the_system_message_are_those_of_the_converted_rows() -> None:
    settings = read_recipe_config(RECIPE / "grpo.yaml").settings
    assert (settings.coordinates, settings.system_prompt, settings.think_prefix) == ("original", None, "")


def test_a_later_call_has_the_variables_of_the_earlier_ones() -> None:
    tool = read_tool_config(RECIPE / "tool.yaml")
    assert tool.keep_variables
    assert tool.limits.wall_s == 10


@pytest.mark.parametrize(
    ("preset", "weights"),
    [
        ("vthinker", {"accuracy": 1.0, "format": 0.5, "tool": 0.3, "drawn": 0.5}),
        ("vthinker_paper", {"accuracy": 1.0, "format": 0.5, "tool": 0.3}),
        ("vthinker_as_run", {"accuracy": 1.0, "format": 0.5, "code": 0.3, "consistency": 0.5}),
    ],
)
def test_each_reward_is_selected_in_one_word(preset: str, weights: dict[str, float]) -> None:
    from codevision_ext.rewards.rubric import Rubric  # noqa: PLC0415

    words = () if preset == "vthinker" else (f"codevision.reward.preset={preset}",)
    settings = read_settings(plain_dict(load(RECIPE, "grpo", *words))["codevision"])
    assert settings.reward.preset == preset
    assert {name: weight for name, weight in Rubric(settings.reward).weights.items() if weight} == weights


def test_the_three_trainings_hand_their_checkpoints_on(tmp_path: Path) -> None:
    out = tmp_path / "out"
    lines = commands(tmp_path, "vthinker_7b", "perception", MODEL="/m", DATA="/d")
    assert lines[0].endswith(f"max_pixels /m {out}/model {PIXELS['sft']}")
    assert f"--config-path {RECIPE} --config-name sft data.train_files=/d/perception.parquet" in lines[1]
    assert lines[1].endswith(f"model.path={out}/model trainer.default_local_dir={out}/perception stage=perception")
    lines = commands(tmp_path, "vthinker_7b", "sft", "optim.lr=2e-5", DATA="/d")
    checkpoint = f"{out}/perception/global_step_2/huggingface"
    assert lines[0].endswith(f"max_pixels {checkpoint} {out}/perception_model {PIXELS['sft']}")
    assert f"data.train_files=/d/sft.parquet model.path={out}/perception_model" in lines[1]
    assert lines[1].endswith(f"trainer.default_local_dir={out}/sft stage=interactive optim.lr=2e-5")
    lines = commands(tmp_path, "vthinker_7b", "rl", DATA="/d")
    checkpoint = f"{out}/sft/global_step_2/huggingface"
    assert lines[0].endswith(f"max_pixels {checkpoint} {out}/sft_model {PIXELS['rl']}")
    assert f"--config-path {RECIPE} --config-name grpo" in lines[1]
    assert f"tool_config_path={RECIPE}/tool.yaml data.train_files=/d/train.parquet" in lines[1]
    assert "trainer.val_only=true" in commands(tmp_path, "vthinker_7b", "val", DATA="/d")[-1]


def test_interactive_fine_tuning_starts_from_any_checkpoint_that_is_named(tmp_path: Path) -> None:
    lines = commands(tmp_path, "vthinker_7b", "sft", PERCEPTION="/qwen", DATA="/d")
    assert f"max_pixels /qwen {tmp_path}/out/perception_model" in lines[0]


def test_of_several_nodes_the_first_makes_the_checkpoint_and_all_train(tmp_path: Path) -> None:
    nodes = {"MODEL": "/m", "DATA": "/d", "NNODES": 16, "MASTER_ADDR": "first"}
    lines = commands(tmp_path, "vthinker_7b", "perception", NODE_RANK=15, **nodes)
    assert len(lines) == 1
    assert "--nnodes 16 --node-rank 15 --master-addr first" in lines[0]


def test_base_sft_and_rl_are_evaluated_on_vtbench_by_both_protocols_or_on_the_suites_that_are_named(
    tmp_path: Path,
) -> None:
    out = tmp_path / "out"
    (out / "rl" / "global_step_9" / "actor").mkdir(parents=True)
    (out / "rl" / "latest_checkpointed_iteration.txt").write_text("9")
    line = commands(tmp_path, "vthinker_7b", "eval", "--replicas", "8", MODEL="/m", DATA="/d")[-1]
    assert f"--checkpoint base={out}/base_model --checkpoint sft={out}/sft_model" in line
    assert f"--checkpoint rl={out}/rl/global_step_9/actor/huggingface" in line
    prompts = "--set judge.published_prompts=/d/vtbench_prompts"
    assert line.endswith(f"--suite vtbench_published=/d/vtbench {prompts} --suite vtbench=/d/vtbench --replicas 8")
    suites = "vtbench=/v rows=/r.parquet"
    line = commands(tmp_path, "vthinker_7b", "eval", MODEL="/m", DATA="/d", SUITES=suites)[-1]
    assert line.endswith("--suite vtbench=/v --suite rows=/r.parquet")
    assert "published" not in line


def test_smoke_runs_all_three_trainings_on_generated_drawings(tmp_path: Path) -> None:
    smoke = tmp_path / "out" / "smoke"
    lines = commands(tmp_path, "vthinker_7b", "smoke")
    kinds = ["data_prep figures", "tiny-model", "max_pixels", "sft_trainer", "max_pixels", "sft_trainer", "max_pixels"]
    assert [kind in line for kind, line in zip([*kinds, "main_ppo"], lines, strict=True)] == [True] * 8
    assert lines[1].endswith(f"--texts {smoke}/data/corpus.jsonl")
    assert f"data.train_files={smoke}/data/places.parquet model.path={smoke}/model" in lines[3]
    assert lines[3].endswith("stage=perception variant=smoke_sft")
    assert f"data.train_files={smoke}/data/sft.parquet model.path={smoke}/perception_model" in lines[5]
    assert lines[5].endswith("stage=interactive variant=smoke_sft")
    assert f"model.path={smoke}/sft_model" in lines[7]
    assert lines[7].endswith("variant=smoke")
