"""Starts a task through verl's `run_ppo`, and describes the processes of the run.

`python ray_state.py OUT [SETTING ...]`; OUT gets a JSON list with the state of the task runner, of an actor that the
task runner started, and of a process that the actor spawned, as an engine spawns its workers.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import ray
from hydra import compose, initialize_config_module
from verl.trainer import main_ppo

REPORT = """
import json
import verl
from verl.experimental.agent_loop.agent_loop import _agent_loop_registry
from verl.utils import tensordict_utils
from verl.workers.rollout import base, replica

print(json.dumps({
    "agent_loops": sorted(_agent_loop_registry),
    "patched": hasattr(tensordict_utils.maybe_fix_3d_position_ids, "__wrapped__"),
    "replica": replica.RolloutReplicaRegistry._registry["sglang"].__module__,
    "adapter": base._ROLLOUT_REGISTRY[("sglang", "async")],
}))
"""


def report() -> dict[str, Any]:
    """Returns the state of a process that this one starts; it has the environment of this process."""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", REPORT], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def here() -> dict[str, Any]:
    """Returns the state of this process."""
    import contextlib  # noqa: PLC0415
    import io  # noqa: PLC0415

    with contextlib.redirect_stdout(io.StringIO()) as text:
        exec(REPORT, {})
    return json.loads(text.getvalue().splitlines()[-1])


@ray.remote(num_cpus=0)
class Worker:
    """An actor as verl starts them for the trainer and the engines."""

    def states(self) -> list[dict[str, Any]]:
        return [here(), report()]


@ray.remote(num_cpus=0)
class TaskRunner:
    """Stands in for verl's task runner."""

    def run(self, config: Any) -> None:
        states = [here(), *ray.get(Worker.remote().states.remote())]
        Path(config.trainer.default_local_dir).write_text(json.dumps(states), encoding="utf-8")


def main() -> None:
    """Runs the task as `main_ppo` does."""
    out, *settings = sys.argv[1:]
    with initialize_config_module("verl.trainer.config", version_base=None):
        config = compose("ppo_trainer", overrides=[f"trainer.default_local_dir={out}", *settings])
    main_ppo.auto_set_device(config)
    os.environ.pop("CODEVISION_ACTIVE", None)  # a machine of a cluster doesn't have the environment of this process
    main_ppo.run_ppo(config, task_runner_class=TaskRunner)


if __name__ == "__main__":
    main()
