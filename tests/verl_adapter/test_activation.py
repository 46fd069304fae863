"""An installed plugin leaves verl as it is until a config asks for CodeVision; then every process of the run has it."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from codevision_ext.errors import InputError
from codevision_ext.verl_adapter.activation import VARIABLE, asks, require_active

SUPPORT = Path(__file__).parents[1] / "support"
RL = (
    "ppo_trainer",
    "actor_rollout_ref.rollout.name=sglang",
    "actor_rollout_ref.actor.use_dynamic_bsz=true",
    "actor_rollout_ref.rollout.log_prob_use_dynamic_bsz=true",
    "algorithm.adv_estimator=grpo",
    "trainer.n_gpus_per_node=1",
    "trainer.device=cpu",
)
"""A stock config of verl, with the settings that it can't be validated without."""
SFT = ("sft_trainer_engine", "trainer.device=cpu")
WATCHED = "verl.utils.device.auto_set_device"
"""The only function of verl that differs in a run that doesn't ask."""


def start(program: str, *words: object, **environment: str) -> subprocess.Popen[str]:
    """Starts a program of `tests/support` in an environment that asks for nothing."""
    env = {name: value for name, value in os.environ.items() if name not in ("VERL_PLATFORM", "RAY_ADDRESS", VARIABLE)}
    command = [sys.executable, "-W", "ignore", str(SUPPORT / program), *map(str, words)]
    return subprocess.Popen(
        command, env=env | environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


def finish(process: subprocess.Popen[str]) -> None:
    """Waits for the end of a program, which must be a good one."""
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors[-3000:]


@cache
def state(*words: str, hide_plugin: bool = False) -> Mapping[str, Any]:
    """Returns what `stock_state.py` says about a process that got this config."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "state.json"
        finish(start("stock_state.py", out, *words, **({"HIDE_PLUGIN": "1"} if hide_plugin else {})))
        return json.loads(out.read_text())


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> set[str]:
    return {name for name in one.keys() | other.keys() if one.get(name) != other.get(name)}


@pytest.mark.parametrize("config", [RL, SFT])
def test_a_run_that_does_not_ask_has_the_verl_of_an_environment_without_the_plugin(config: tuple[str, ...]) -> None:
    installed, absent = state(*config), state(*config, hide_plugin=True)
    assert len(absent) > 2000
    different = differences(installed, absent)
    assert WATCHED in different
    assert {name.rpartition(".")[2] for name in different} == {"auto_set_device"}
    for name in different:
        *place, wrapped = installed[name]
        assert place[:2] == ["verl.utils.device", "auto_set_device"]
        assert wrapped == absent[name], "the wrapper calls the stock function"


def test_a_run_that_asks_has_the_patches_and_the_classes_of_the_plugin() -> None:
    stock, asking = state(*RL), state(*RL, "+codevision={}")
    different = differences(stock, asking)
    for patched in (
        "verl.models.transformers.qwen2_vl._get_input_embeds",
        "verl.utils.checkpoint.checkpoint_handler.CheckpointHandler._load_dataloader_state",
        "verl.utils.tensordict_utils.maybe_fix_3d_position_ids",
        "verl.workers.engine.base.maybe_fix_3d_position_ids",
    ):
        assert patched in different
        assert asking[patched][-1] == stock[patched], "the patch wraps the stock function"
    replicas = asking["verl.workers.rollout.replica.RolloutReplicaRegistry._registry"]
    assert replicas["sglang"][0] == replicas["vllm"][0] == "codevision_ext.verl_adapter.activation"
    adapters = asking["verl.workers.rollout.base._ROLLOUT_REGISTRY"]
    assert adapters["('sglang', 'async')"] == "codevision_ext.verl_adapter.sglang_rollout.CodeVisionServerAdapter"
    assert adapters["('vllm', 'async')"] == "codevision_ext.verl_adapter.vllm_rollout.CodeVisionVLLMAdapter"
    assert "codevision" in asking["verl.experimental.agent_loop.agent_loop._agent_loop_registry"]
    assert "codevision" in asking["verl.experimental.reward_loop.reward_manager.registry.REWARD_MANAGER"]
    assert "codevision" in asking["verl.trainer.ppo.v1.trainer_base.TRAINER_REGISTRY"]
    assert asking[f"environment {VARIABLE}"] == "1"
    assert f"'{VARIABLE}': '1'" in asking["config"]


def test_sft_on_a_dataset_of_ours_has_the_patches_in_modules_that_verl_imported_before_its_config() -> None:
    dataset = "data.custom_cls.path=pkg://codevision_ext.verl_adapter.sft_dataset"
    asking = state(*SFT, dataset, "data.custom_cls.name=CodeVisionSFTDataset")
    different = differences(state(*SFT), asking)
    assert "verl.utils.checkpoint.checkpoint_handler.CheckpointHandler._load_dataloader_state" in different
    assert "verl.workers.engine_workers.maybe_fix_3d_position_ids" in different


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"codevision": None}, True),
        ({"codevision": {"reward": {"preset": "verified"}}}, True),
        ({"trainer": {"v1": {"trainer_mode": "codevision"}}}, True),
        ({"reward": {"reward_manager": {"name": "codevision"}}}, True),
        ({"algorithm": {"adv_estimator": "codevision"}}, True),
        ({"actor_rollout_ref": {"rollout": {"agent": {"default_agent_loop": "codevision"}}}}, True),
        ({"actor_rollout_ref": {"rollout": {"agent": {"agent_loop_manager_class": "codevision_ext.x.Manager"}}}}, True),
        ({"data": {"custom_cls": {"path": "pkg://codevision_ext.verl_adapter.rl_dataset"}}}, True),
        ({"trainer": {"project_name": "codevision", "default_local_dir": "codevision_ext/runs"}}, False),
        (
            {"trainer": {"v1": {"trainer_mode": "${nothing}"}}, "data": {"train_files": "???", "val_files": ["a"]}},
            False,
        ),
        ({}, False),
    ],
)
def test_a_run_asks_by_a_section_or_by_a_name_of_ours(settings: dict[str, Any], expected: bool) -> None:
    assert asks(OmegaConf.create(settings)) is expected


def test_verl_may_look_at_something_else_than_a_config() -> None:
    assert not asks(None)
    assert not asks({"codevision": {}})


def test_every_process_of_a_run_that_asks_has_the_plugin(tmp_path: Path) -> None:
    scratch = tempfile.mkdtemp(prefix="cv")  # Ray's sockets need a short path
    ray = ["+ray_kwargs.ray_init.include_dashboard=false", f"+ray_kwargs.ray_init._temp_dir={scratch}"]
    try:
        finish(start("ray_state.py", tmp_path / "states.json", *RL[1:], *ray, "+codevision={}"))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    states = json.loads((tmp_path / "states.json").read_text())
    assert len(states) == 3
    for process in states:
        assert process["patched"]
        assert "codevision" in process["agent_loops"]
        assert process["replica"].startswith("codevision_ext.")
        assert process["adapter"].startswith("codevision_ext.")


def test_a_program_that_activates_nothing_is_told_how(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(InputError, match=rf"isn't active in this process.*{VARIABLE}=1"):
        require_active()
    monkeypatch.setenv(VARIABLE, "1")
    require_active()


@pytest.mark.parametrize(("code", "handler"), [("activate()", "SIG_DFL"), ("pass", "SIG_IGN")])
def test_engines_of_a_run_that_a_script_started_in_the_background_can_be_ended_by_sigquit(
    code: str, handler: str
) -> None:
    program = f"""
import signal
from codevision_ext.verl_adapter.activation import activate
{code}
print(signal.getsignal(signal.SIGQUIT).name)
"""
    words = ["bash", "-c", 'trap "" QUIT; exec "$@"', "ignoring", sys.executable, "-W", "ignore", "-c", program]
    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip() == handler
