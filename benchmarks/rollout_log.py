"""Agent loop manager that logs tokens, log-probs, reward and images of each rollout, for `reproducible.py`.

It is set in `rollout.agent.agent_loop_manager_class`. Each process appends to its own file in the folder `ROLLOUT_LOG`.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import ray

from codevision_ext.verl_adapter.agent_loop import CodeVisionAgentLoopManager, _Worker


class _Logging(_Worker):
    async def _agent_loop_postprocess(self, output: Any, validate: bool, **kwargs: Any) -> None:
        images = [hashlib.sha256(image.tobytes()).hexdigest() for image in output.multi_modal_data["images"]]
        await super()._agent_loop_postprocess(output, validate, **kwargs)
        line = {
            "split": "val" if validate else "train",
            "step": int(kwargs["global_steps"]),
            "rollout": f"{kwargs['uid']}-{kwargs['session_id']}",
            "row": int(kwargs["index"]),
            "tokens": [*output.prompt_ids, *output.response_ids],
            "log_probs": [float(value).hex() for value in output.response_logprobs or []],
            "reward": float(output.reward_score).hex(),
            "images": images,
        }
        with (Path(os.environ["ROLLOUT_LOG"]) / f"{os.getpid()}.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")


class LoggingManager(CodeVisionAgentLoopManager):
    """Manager of the plugin with a worker that logs its rollouts."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.agent_loop_workers_class = ray.remote(_Logging)
