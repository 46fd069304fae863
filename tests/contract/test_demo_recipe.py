"""verl accepts the demos' recipes on a CPU and on a GPU node, and every setting in them has a reader."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from codevision_ext.errors import InputError
from codevision_ext.experiments.demo import stage_keys
from codevision_ext.experiments.demo_stages import read_stages
from codevision_ext.preflight.recipe import load_recipe
from codevision_ext.verl_config import unknown

RECIPES = Path(__file__).parents[2] / "recipe"
DEMO, DRAWING_DEMO = RECIPES / "demo", RECIPES / "vthinker_demo"
each_demo = pytest.mark.parametrize("demo", [DEMO, DRAWING_DEMO], ids=lambda demo: demo.name)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A copy of the recipe that a test may spoil."""
    return Path(shutil.copytree(DEMO, tmp_path / "recipe"))


def append(path: Path, text: str) -> None:
    path.write_text(path.read_text() + text)


@each_demo
@pytest.mark.parametrize(("name", "settings"), [("grpo", []), ("grpo", ["device=gpu"]), ("sft", [])])
def test_the_recipe_composes_and_has_no_setting_that_nobody_reads(demo: Path, name: str, settings: list[str]) -> None:
    config = load_recipe(demo, name, settings)
    assert config.data.custom_cls.path.startswith("pkg://codevision_ext.verl_adapter.")


def test_on_a_gpu_node_nothing_is_left_of_what_the_cpu_needs() -> None:
    config = load_recipe(DEMO, "grpo", ["device=gpu"])
    assert config.trainer.device == "cuda"
    assert config.actor_rollout_ref.rollout.engine_kwargs.sglang == {}
    assert config.ray_kwargs.ray_init.num_cpus is None


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("grpo.yaml", "\ncodevision_typo: 1\n", "codevision_typo: verl's ppo_trainer has no such setting"),
        ("grpo.yaml", "  save_frequency: 3\n", "trainer.save_frequency: verl's ppo_trainer has no such setting"),
        ("sft.yaml", "  total_epoch: 3\n", "trainer.total_epoch: verl's sft_trainer_engine has no such setting"),
        ("sft.yaml", "optim: {a: 1}: [\n", "sft.yaml: "),
    ],
)
def test_a_setting_that_nobody_reads_is_refused_by_name(recipe: Path, file: str, text: str, said: str) -> None:
    append(recipe / file, text)
    with pytest.raises(InputError, match=re.escape(said)):
        load_recipe(recipe, file.removesuffix(".yaml"))


@pytest.mark.parametrize(
    ("name", "setting", "said"),
    [
        ("sft", "trainer.total_epochs=abc", "trainer.total_epochs: 'abc' isn't a number"),
        ("grpo", "trainer.nnodes={a: 1}", "trainer.nnodes: {'a': 1} isn't a number"),
        ("grpo", "trainer.balance_batch=often", "trainer.balance_batch: 'often' isn't true or false"),
        ("grpo", "trainer.save_freq=abc", "trainer.save_freq: 'abc' isn't a number"),
        ("grpo", "trainer.save_freq=after_each_epoch", "trainer.save_freq: 'after_each_epoch' isn't a number"),
        ("sft", "trainer.save_freq=after_every_epoch", "trainer.save_freq: 'after_every_epoch' isn't a number"),
        ("grpo", "trainer.total_training_steps=abc", "trainer.total_training_steps: 'abc' isn't a number"),
        ("sft", "trainer.max_ckpt_to_keep=all", "trainer.max_ckpt_to_keep: 'all' isn't a number"),
        ("grpo", "+trainer.foo=1", "trainer.foo: verl's ppo_trainer has no such setting"),
        ("grpo", "actor_rollout_ref.actor.optim=3", "actor_rollout_ref.actor.optim: 3 isn't a section"),
    ],
)
def test_a_setting_of_another_kind_than_verl_s_is_refused_by_name(name: str, setting: str, said: str) -> None:
    with pytest.raises(InputError, match=re.escape(said)):
        load_recipe(DEMO, name, [setting])


@pytest.mark.parametrize("setting", ["data.train_files=[a,b]", "trainer.total_training_steps=3", "trainer.logger=[x]"])
def test_what_verl_takes_in_two_kinds_is_taken(setting: str) -> None:
    load_recipe(DEMO, "grpo", [setting])


def test_a_setting_of_the_plugin_that_nobody_reads_is_refused_and_the_known_ones_are_listed(recipe: Path) -> None:
    path = recipe / "grpo.yaml"
    path.write_text(path.read_text().replace("codevision:\n", "codevision:\n  turn_token: 3\n"))
    with pytest.raises(InputError, match=r"codevision\.turn_token: unknown setting; known are .*turn_tokens"):
        load_recipe(recipe, "grpo")


def test_the_check_is_one_sentence_and_exit_code_2(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "codevision_ext.preflight.recipe", str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == f"codevision: {tmp_path / 'grpo.yaml'}: no such file"


def test_a_tool_config_with_a_setting_that_nobody_reads_is_refused_before_the_first_stage(recipe: Path) -> None:
    append(recipe / "tool.yaml", "      wal_s: 3\n")
    words = [sys.executable, "-m", "codevision_ext.preflight.recipe", str(recipe)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, "wal_s" in done.stderr.splitlines()[-1]) == (2, True), done.stderr


def test_names_below_an_open_section_and_fields_of_a_dataclass_are_known() -> None:
    known = {"ray_kwargs": {"ray_init": {"num_cpus": None}}, "open": {}, "none": None, "closed": {"a": 1}}
    ours = {"ray_kwargs": {"ray_init": {"x": 1}}, "open": {"x": 1}, "none": {"x": 1}, "closed": {"a": 1, "x": 1}}
    assert list(unknown(ours, known)) == ["closed.x"]
    score = {"_target_": "codevision_ext.evaluate.metrics.Score", "extra": 0}
    assert list(unknown({"score": {"low": 1, "extra": 2, "lower": 3}}, {"score": score})) == ["score.lower"]


@each_demo
def test_every_stage_has_a_branch_in_run_sh_and_its_settings_are_files_of_the_recipe(demo: Path) -> None:
    stages = read_stages(demo)
    assert list(stage_keys(demo, stages, 0)) == [stage.name for stage in stages]


@each_demo
def test_run_sh_without_a_stage_or_with_an_unknown_one_says_which_there_are(demo: Path, tmp_path: Path) -> None:
    for words in ([], ["nap"]):
        done = subprocess.run(
            ["bash", str(demo / "run.sh"), *words], capture_output=True, text=True, check=False, cwd=tmp_path
        )
        assert done.returncode in (1, 2)
        assert len(done.stderr.splitlines()) == 1
        assert all(stage.name in done.stderr for stage in read_stages(demo))
