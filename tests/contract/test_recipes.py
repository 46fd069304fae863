"""verl accepts each production recipe, and its settings are those of the published run."""

import os
import re
import shlex
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from codevision_ext.errors import InputError
from codevision_ext.evaluate.recipe_config import read_recipe_config
from codevision_ext.preflight import recipe as check_recipe
from codevision_ext.verl_config import read_tool_config

RECIPES = Path(__file__).parents[2] / "recipe"
TRAINED = ("qwen2_5_vl_7b", "qwen3_vl_8b", "qwen3_vl_32b", "lora_80gb")
ALL = (*TRAINED, "vthinker_7b", "evaluate", "gpu_smoke")
PLAIN = (*TRAINED, "evaluate")
"""With no stages but those of recipe/base/stages.sh."""
STAGED = (*PLAIN, "vthinker_7b")
"""With the stages of recipe/base/stages.sh; a recipe may replace some of them."""

PUBLISHED = {
    "algorithm.adv_estimator": "grpo",
    "data.train_batch_size": 64,
    "data.max_prompt_length": 16384,
    "data.max_response_length": 16384,
    "actor_rollout_ref.rollout.n": 8,
    "actor_rollout_ref.rollout.multi_turn.max_assistant_turns": 12,
    "actor_rollout_ref.actor.ppo_mini_batch_size": 32,
    "actor_rollout_ref.actor.optim.lr": 1e-6,
    "actor_rollout_ref.actor.use_kl_loss": True,
    "actor_rollout_ref.actor.kl_loss_coef": 0.001,
    "actor_rollout_ref.actor.entropy_coeff": 0.0,
    "actor_rollout_ref.actor.clip_ratio_low": 0.2,
    "actor_rollout_ref.actor.clip_ratio_high": 0.28,
    "actor_rollout_ref.actor.clip_ratio_c": 10.0,
    "actor_rollout_ref.actor.loss_agg_mode": "token-mean",
    "codevision.judge.model": "Qwen/Qwen3-235B-A22B-Instruct-2507",
}
PUBLISHED_SFT = {
    "codevision.freeze": ["visual", "projector"],
    "data.train_batch_size": 128,
    "data.max_length": 32768,
    "optim.lr": 5e-6,
    "optim.lr_scheduler_type": "cosine",
    "optim.lr_warmup_steps_ratio": 0.05,
    "trainer.total_epochs": 2,
}
COORDINATES = {"qwen2_5_vl": "seen", "qwen3_vl": "relative"}
"""What each family learned to write."""
STAGES = "".join((RECIPES / "base" / name).read_text() for name in ("trainings.sh", "stages.sh"))
PIXELS_A_TOKEN = {"qwen2_5_vl": 28 * 28, "qwen3_vl": 32 * 32}


@cache  # a second each
def load(folder: Path, name: str = "grpo", *overrides: str) -> DictConfig:
    return check_recipe.load_recipe(folder, name, list(overrides))


def load_with(engine: str, name: str) -> DictConfig:
    return load(RECIPES / name, "grpo", f"rollout={engine}", "actor_rollout_ref.model.path=model")


def selected(config: DictConfig, names: Mapping[str, Any]) -> dict[str, Any]:
    return {name: OmegaConf.select(config, name) for name in names}


def differing(left: Any, right: Any, above: str = "") -> set[str]:
    """Dotted names of the values in which two plain configs differ."""
    if not (isinstance(left, dict) and isinstance(right, dict)):
        return {above} if left != right else set()
    names = left.keys() | right.keys()
    return set().union(*(differing(left.get(n), right.get(n), f"{above}.{n}".lstrip(".")) for n in names))


@pytest.mark.filterwarnings("ignore")  # verl's own imports warn
@pytest.mark.parametrize("engine", ["sglang", "vllm"])
@pytest.mark.parametrize("name", ALL)
def test_verl_takes_the_recipe_with_either_engine_and_its_sizes_fit_each_other(name: str, engine: str) -> None:
    from verl.trainer.ppo.utils import need_critic, need_reference_policy  # noqa: PLC0415  imports torch
    from verl.utils.config import omega_conf_to_dataclass, validate_config  # noqa: PLC0415

    config = load_with(engine, name)
    data, actor, rollout = config.data, config.actor_rollout_ref.actor, config.actor_rollout_ref.rollout
    validate_config(config, need_reference_policy(config), need_critic(config))
    for section in (config.algorithm, rollout):
        omega_conf_to_dataclass(section)

    assert rollout.name == engine
    gpus = config.trainer.nnodes * config.trainer.n_gpus_per_node
    shards = gpus // actor.ulysses_sequence_parallel_size
    longest = data.max_prompt_length + data.max_response_length
    assert longest < rollout.max_model_len, "engines keep a token back"
    assert longest <= actor.ppo_max_token_len_per_gpu * actor.ulysses_sequence_parallel_size
    assert data.train_batch_size % actor.ppo_mini_batch_size == 0
    assert actor.ppo_mini_batch_size * rollout.n % shards == 0
    assert gpus % rollout.tensor_model_parallel_size == 0
    assert config.trainer.n_gpus_per_node % rollout.tensor_model_parallel_size == 0, "an engine stays on its node"


@pytest.mark.parametrize("name", [*TRAINED, "vthinker_7b"])
def test_another_engine_changes_nothing_but_the_rollout_s_own_settings(name: str) -> None:
    plain = [OmegaConf.to_container(load_with(engine, name)) for engine in ("sglang", "vllm")]
    changed = differing(*plain)
    assert "actor_rollout_ref.rollout.name" in changed
    assert all(name.startswith("actor_rollout_ref.rollout.") for name in changed)


@pytest.mark.parametrize("name", ["qwen2_5_vl_7b", "qwen3_vl_8b", "qwen3_vl_32b"])
def test_the_settings_are_those_of_the_published_run(name: str) -> None:
    assert selected(load(RECIPES / name, "grpo"), PUBLISHED) == PUBLISHED


def test_the_settings_of_fine_tuning_are_those_of_the_published_run() -> None:
    assert selected(load(RECIPES / "base", "sft"), PUBLISHED_SFT) == PUBLISHED_SFT


@pytest.mark.parametrize("name", STAGED)
def test_a_image_of_the_largest_size_fits_the_prompt_and_one_that_a_call_makes_fits_the_response(name: str) -> None:
    script = (RECIPES / name / "run.sh").read_text()
    pixels = re.search(r"rl_pixels=\$\(\((.+?)\)\)", script) or re.search(
        r"rl_pixels=\$\{rl_pixels:-\$\(\((.+?)\)\)\}", STAGES
    )
    family = re.search(r"^family=(\w+)", script, re.MULTILINE)
    assert pixels
    assert family
    numbers = [int(number) for number in pixels[1].split("*")]
    tokens = numbers[0] * numbers[1] * numbers[2] // PIXELS_A_TOKEN[family[1]]
    data = load(RECIPES / name, "grpo").data
    assert tokens <= min(data.max_prompt_length, data.max_response_length) * 3 // 4, "words need room too"


@pytest.mark.parametrize("name", TRAINED)
def test_the_coordinates_are_those_that_the_model_family_learned_and_of_a_smoke_run_those_of_its_rows(
    name: str,
) -> None:
    family = re.search(r"^family=(\w+)", (RECIPES / name / "run.sh").read_text(), re.MULTILINE)
    assert family
    assert load(RECIPES / name, "grpo").codevision.coordinates == COORDINATES[family[1]]
    assert load(RECIPES / name, "grpo", "variant=smoke").codevision.coordinates == "original"


def test_a_call_may_say_as_many_characters_as_in_the_published_run() -> None:
    assert read_tool_config(RECIPES / "base" / "tool.yaml").max_text_chars == 10_240


@pytest.mark.parametrize("name", ALL)
def test_the_smoke_variant_is_two_steps_on_the_cpu_that_ask_no_judge(name: str) -> None:
    config = load(RECIPES / name, "grpo", "variant=smoke")
    assert (config.trainer.total_training_steps, config.trainer.device) == (2, "cpu")
    assert config.codevision.judge is None
    assert (
        config.data.max_prompt_length + config.data.max_response_length < config.actor_rollout_ref.rollout.max_model_len
    )
    assert config.data.train_batch_size % config.actor_rollout_ref.actor.ppo_mini_batch_size == 0
    assert load(RECIPES / "base", "sft", "variant=smoke_sft").trainer.device == "cpu"


def test_an_evaluation_plays_by_rules_that_stand_in_the_shared_part_of_a_recipe() -> None:
    rules = read_recipe_config(RECIPES / "qwen3_vl_8b" / "grpo.yaml")
    assert (rules.limits.assistant_turns, rules.limits.response_tokens, rules.context) == (12, 16384, 32768)
    assert (rules.settings.think_prefix, rules.tool.max_text_chars) == ("<think>", 10_240)
    assert rules.settings.judge is not None


def test_a_config_by_another_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ppo.yaml").write_text("{}")
    with pytest.raises(InputError, match=r"ppo\.yaml: a recipe's config is called grpo\.yaml or sft\.yaml"):
        load(tmp_path, "ppo")


PROGRAM = """#!/usr/bin/env bash
printf '%s\\n' "$(basename "$0") $*" >>"$SAID"
case "$*" in
  *sft_trainer*)
    folder=${OUT_SFT:-$(printf '%s\\n' "$@" | sed -n 's/^trainer.default_local_dir=//p')}
    mkdir -p "$folder/global_step_2/huggingface"
    echo 2 >"$folder/latest_checkpointed_iteration.txt"
    ;;
esac
"""


def commands(tmp_path: Path, recipe: str, *words: str, sft: Path | None = None, **environment: object) -> list[str]:
    """What a stage would run, with programs in place of the real ones that only write down how they were called.

    The one in place of SFT leaves a checkpoint, in `sft` if that is given.
    """
    programs, said = tmp_path / "bin", tmp_path / "said"
    programs.mkdir(exist_ok=True)
    for name in ("python", "torchrun", "codevision"):
        (programs / name).write_text(PROGRAM)
        (programs / name).chmod(0o755)
    said.write_text("")
    env = {"PATH": f"{programs}:{os.environ['PATH']}", "SAID": str(said), "OUT": str(tmp_path / "out")}
    env |= {"OUT_SFT": str(sft or "")} | {name: str(value) for name, value in environment.items()}
    script = RECIPES / recipe / "run.sh"
    done = subprocess.run(["bash", script, *words], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return said.read_text().splitlines()


@pytest.mark.parametrize("name", PLAIN)
def test_smoke_is_a_tiny_model_its_data_and_two_steps_of_each_training(name: str, tmp_path: Path) -> None:
    said = commands(tmp_path, name, "smoke")
    kinds = ["tiny-model", "data_prep", "max_pixels", "sft_trainer", "max_pixels", "main_ppo"]
    assert len(said) == len(kinds)
    assert all(kind in line for kind, line in zip(kinds, said, strict=True))
    assert f"--config-path {RECIPES / name} --config-name grpo" in said[-1]
    assert said[-1].endswith("variant=smoke")
    assert f"data.train_files={tmp_path}/out/smoke/data/train.parquet" in said[-1]


@pytest.mark.parametrize("name", ["qwen2_5_vl_7b", "qwen3_vl_8b", "qwen3_vl_32b"])
def test_the_stages_hand_their_checkpoints_on(name: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    said = commands(tmp_path, name, "sft", MODEL="/m", DATA="/d")
    assert said[0].endswith(f"max_pixels /m {out}/model 262144")
    assert f"data.train_files=/d/sft.parquet model.path={out}/model trainer.default_local_dir={out}/sft" in said[1]
    said = commands(tmp_path, name, "rl", "rollout=vllm", DATA="/d")
    assert said[0].endswith(f"max_pixels {out}/sft/global_step_2/huggingface {out}/sft_model {8192 * 28 * 28}")
    assert f"actor_rollout_ref.model.path={out}/sft_model" in said[1]
    assert said[1].endswith("rollout=vllm")
    assert "trainer.val_only=true" in commands(tmp_path, name, "val", DATA="/d")[-1]
    (out / "rl" / "global_step_9" / "actor").mkdir(parents=True)
    (out / "rl" / "latest_checkpointed_iteration.txt").write_text("9")
    said = commands(tmp_path, name, "eval", MODEL="/m", DATA="/d")
    assert f"--checkpoint rl={out}/rl/global_step_9/actor/huggingface" in said[-1]


@pytest.mark.parametrize(("stage", "folder"), [("sft", "sft"), ("rl", "rl")])
def test_a_stage_goes_on_from_a_checkpoint_whose_note_a_kill_left_empty(
    stage: str, folder: str, tmp_path: Path
) -> None:
    steps = tmp_path / "out" / folder
    for step in (9, 10):
        (steps / f"global_step_{step}").mkdir(parents=True)
    note = steps / "latest_checkpointed_iteration.txt"
    note.touch()
    commands(tmp_path, "qwen3_vl_8b", stage, sft=tmp_path / "elsewhere", MODEL="/m", DATA="/d", SFT="/s")
    assert note.read_text() == "10\n"


def test_on_several_nodes_the_first_makes_the_checkpoint_and_all_train(tmp_path: Path) -> None:
    nodes = {"MODEL": "/m", "DATA": "/d", "NNODES": 4, "MASTER_ADDR": "first"}
    said = commands(tmp_path, "qwen3_vl_32b", "sft", NODE_RANK=0, **nodes)
    assert "max_pixels" in said[0]
    assert "--nnodes 4 --node-rank 0 --master-addr first" in said[1]
    said = commands(tmp_path, "qwen3_vl_32b", "sft", NODE_RANK=3, **nodes)
    assert len(said) == 1
    assert "--node-rank 3" in said[0]


def test_one_checkpoint_is_evaluated_without_training_it(tmp_path: Path) -> None:
    said = commands(tmp_path, "evaluate", "val", MODEL="/m", VAL="/v.parquet")
    assert "data.train_files=/v.parquet data.val_files=/v.parquet" in said[-1]
    assert load(RECIPES / "evaluate", "grpo").trainer.val_only
    said = commands(tmp_path, "evaluate", "columns", "--limit", "3", MODEL="/m", TEST="/t.parquet")
    assert said[-1].startswith(f"codevision eval --checkpoint rl={tmp_path}/out/model --data /t.parquet")
    assert said[-1].endswith("--limit 3")


@pytest.mark.parametrize("name", STAGED)
def test_run_sh_without_a_stage_or_with_an_unknown_one_says_which_there_are(name: str, tmp_path: Path) -> None:
    for words in ([], ["nap"]):
        done = subprocess.run(
            ["bash", RECIPES / name / "run.sh", *words],
            env=os.environ | {"OUT": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode in (1, 2)
        assert "smoke" in done.stderr
        assert len(done.stderr.splitlines()) == 1


def launches(page: Path) -> list[list[str]]:
    """The words behind `bash` in the commands of a page that start a recipe's run.sh."""
    lines = re.findall(
        r"^    (.*recipe/\w+/run\.sh.*)$|`([^`\n]*bash recipe/\w+/run\.sh[^`\n]*)`", page.read_text(), re.MULTILINE
    )
    words = [shlex.split(indented or inline, comments=True) for indented, inline in lines]
    return [line[line.index("bash") + 1 :] for line in words]


PAGES = [RECIPES.parent / "README.md", *RECIPES.parent.glob("docs/*.md"), *RECIPES.glob("*/README.md")]
LAUNCHES = [(Path(script).parent.name, words) for page in PAGES for script, *words in launches(page)]


@pytest.mark.parametrize("name", [*ALL, "demo"])
def test_what_the_pages_launch_are_stages_that_there_are_with_settings_that_are_read(name: str) -> None:
    found = [words for recipe, words in LAUNCHES if recipe == name]
    assert found
    stages = (RECIPES / name / "run.sh").read_text() + (STAGES if name in STAGED else "")
    for words in found:
        assert name == "gpu_smoke" or re.search(rf"^  {words[0]}\)", stages, re.MULTILINE), words
    trainings = [
        words for words in found if words[:1] not in (["eval"], ["report"])
    ]  # these take options, not settings
    load(RECIPES / name, "grpo", *dict.fromkeys(word for words in trainings for word in words if "=" in word))


@pytest.mark.parametrize("name", [*ALL, "base"])
def test_a_recipe_launches_something_and_says_what_has_not_run(name: str) -> None:
    page = RECIPES / name / "README.md"
    assert launches(page)
    assert "not run" in page.read_text().lower()
