"""What does the trainer get, and what did the engine really answer? A worker that writes down both, for tests only.

Named in `rollout.agent.agent_loop_manager_class`; every rollout becomes one file in the folder `SPY_OUT`.
"""

import os
from pathlib import Path
from typing import Any

import ray
import torch
from verl.trainer.ppo.v1 import agent_loop_tq

from codevision_ext.verl_adapter.agent_loop import CodeVisionAgentLoopManager, _Worker


class _Listening:
    """The engine's client; keeps question and answer of each turn by request."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.turns: dict[str, list[dict[str, Any]]] = {}

    async def generate(self, request_id: str, **asked: Any) -> Any:
        output = await self.client.generate(request_id, **asked)
        turn = {"asked": list(asked["prompt_ids"]), "ids": list(output.token_ids), "log_probs": list(output.log_probs)}
        turn |= {"version": output.extra_fields["global_steps"], "reason": output.stop_reason}
        self.turns.setdefault(request_id, []).append(turn)
        return output


class _Spy(_Worker):
    """Writes what goes into the trainer's store."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.llm_client = _Listening(self.llm_client)
        self.pictures: dict[str, list[Any]] = {}
        store = agent_loop_tq.tq.async_kv_batch_put

        async def put(keys: list[str], fields: Any, tags: list[dict[str, Any]], partition_id: str) -> None:
            for at, (key, tag) in enumerate(zip(keys, tags, strict=True)):
                self._write(key, {name: fields[name][at] for name in fields.keys()}, tag)  # noqa: SIM118  # a TensorDict
            await store(keys=keys, fields=fields, tags=tags, partition_id=partition_id)

        agent_loop_tq.tq.async_kv_batch_put = put

    async def _agent_loop_postprocess(self, output: Any, validate: bool, **kwargs: Any) -> None:
        self.pictures[f"{kwargs['uid']}_{kwargs['session_id']}"] = list(output.multi_modal_data["images"])
        await super()._agent_loop_postprocess(output, validate, **kwargs)

    def _write(self, key: str, fields: dict[str, Any], tag: dict[str, Any]) -> None:
        rollout, _, _ = key.rpartition("_")
        uid, _, session = rollout.rpartition("_")
        names = ("input_ids", "prompts", "responses", "response_mask", "rollout_log_probs", "position_ids", "rm_scores")
        kept: dict[str, Any] = {name: fields[name] for name in names}
        inputs = fields["multi_modal_inputs"]
        kept["inputs"] = dict(getattr(inputs, "data", inputs))
        kept |= {"uid": uid, "session": int(session), "tag": tag, "pictures": self.pictures[rollout]}
        kept["turns"] = self.llm_client.turns[f"{uid}-{session}"]
        torch.save(kept, Path(os.environ["SPY_OUT"]) / f"{key}.pt")


class SpyManager(CodeVisionAgentLoopManager):
    """The plugin's manager with a worker that writes down what passes."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.agent_loop_workers_class = ray.remote(_Spy)
