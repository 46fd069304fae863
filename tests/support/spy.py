"""A worker that writes down what the engine answered and what the trainer received, for tests only.

Named in `rollout.agent.agent_loop_manager_class`; every rollout becomes one file in the folder `SPY_OUT`. Before the
first of them the engine itself is tried: `interrupted.pt` beside that folder holds requests that were aborted and went
on, and one behind a nap.
"""

import asyncio
import os
from pathlib import Path
from typing import Any

import ray
import torch
from PIL import Image
from verl.trainer.ppo.v1 import agent_loop_tq

from codevision_ext.verl_adapter import agent_loop
from codevision_ext.verl_adapter.agent_loop import (
    CodeVisionAgentLoopManager,
    _EnginePolicy,
    _Worker,
    shared_renderer,
)

LONG = 200
"""Tokens of a request that is to be interrupted."""


class _Listening:
    """The engine's client; keeps question and answer of each turn by request."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.turns: dict[str, list[dict[str, Any]]] = {}

    async def generate(self, request_id: str, **asked: Any) -> Any:
        output = await self.client.generate(request_id, **asked)
        turn = {"asked": list(asked["prompt_ids"]), "ids": list(output.token_ids), "log_probs": list(output.log_probs)}
        turn |= {"version": output.extra_fields["global_steps"]}
        self.turns.setdefault(request_id, []).append(turn)
        return output


class _Policy(_EnginePolicy):
    """The loop's own; keeps of each turn whether it is taken for finished."""

    async def __call__(self, *args: Any) -> Any:
        sample = await super().__call__(*args)
        self.client.turns[self.request_id][-1]["finished"] = sample.finished
        return sample


class _Spy(_Worker):
    """Writes what goes into the trainer's store."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.llm_client = _Listening(self.llm_client)
        agent_loop._EnginePolicy = _Policy
        self.images: dict[str, list[Any]] = {}
        store = agent_loop_tq.tq.async_kv_batch_put

        async def put(keys: list[str], fields: Any, tags: list[dict[str, Any]], partition_id: str) -> None:
            for at, (key, tag) in enumerate(zip(keys, tags, strict=True)):
                self._write(key, {name: fields[name][at] for name in fields.keys()}, tag)  # noqa: SIM118  # a TensorDict
            await store(keys=keys, fields=fields, tags=tags, partition_id=partition_id)

        agent_loop_tq.tq.async_kv_batch_put = put

    async def generate_sequences(self, batch: Any) -> None:
        path = Path(os.environ["SPY_OUT"]).with_name("interrupted.pt")
        if not path.exists():
            torch.save(await self._interrupt(), path)
        await super().generate_sequences(batch)

    async def _interrupt(self) -> list[dict[str, Any]]:
        """Requests with the parts of their answers, in order; the last request is asked behind a nap of the engine."""
        server = ray.get_actor(f"{self.config.actor_rollout_ref.rollout.name}_server_0_0")
        renderer = shared_renderer(self.processor)
        image = renderer.resize(Image.linear_gradient("L").resize((84, 56)))
        said = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is written?"}]}]
        asked = renderer.prompt(said, (), [image])

        async def answer(done: list[int]) -> dict[str, Any]:
            output = await server.generate.remote(
                request_id=os.urandom(8).hex(),
                prompt_ids=asked + done,
                sampling_params={"max_tokens": LONG - len(done), "logprobs": True, "ignore_eos": True},
                image_data=[image],
            )
            answered = {"ids": list(output.token_ids), "log_probs": list(output.log_probs or [])}
            return answered | {"reason": output.stop_reason}

        for pause_s in (0.2, 0.6, 2, 6):
            waiting = [asyncio.create_task(answer([])) for _ in range(4)]
            await asyncio.sleep(pause_s)
            await server.abort_all_requests.remote()
            first = await asyncio.gather(*waiting)
            if any(part["ids"] for part in first):
                break
            await server.resume_generation.remote()
        waiting = [asyncio.create_task(answer(part["ids"])) for part in first]
        await asyncio.sleep(0.5)
        early = sum(each.done() for each in waiting)
        await server.resume_generation.remote()
        parts = [list(both) for both in zip(first, await asyncio.gather(*waiting), strict=True)]
        await server.release_kv_cache.remote()
        await server.resume_kv_cache.remote()
        parts.append([await answer([])])
        rest = {"asked": asked, "images": [image], "wanted": LONG, "early": early}
        return [{"parts": part, **rest} for part in parts]

    async def _agent_loop_postprocess(self, output: Any, validate: bool, **kwargs: Any) -> None:
        self.images[f"{kwargs['uid']}_{kwargs['session_id']}"] = list(output.multi_modal_data["images"])
        await super()._agent_loop_postprocess(output, validate, **kwargs)

    def _write(self, key: str, fields: dict[str, Any], tag: dict[str, Any]) -> None:
        rollout, _, _ = key.rpartition("_")
        uid, _, session = rollout.rpartition("_")
        names = ("input_ids", "prompts", "responses", "response_mask", "rollout_log_probs", "position_ids", "rm_scores")
        kept: dict[str, Any] = {name: fields[name] for name in names}
        inputs = fields["multi_modal_inputs"]
        kept["inputs"] = dict(getattr(inputs, "data", inputs))
        extra = fields["extra_fields"]
        kept["turn_gains"] = getattr(extra, "data", extra)["turn_gains"]
        kept |= {"uid": uid, "session": int(session), "tag": tag, "images": self.images[rollout]}
        kept["turns"] = self.llm_client.turns[f"{uid}-{session}"]
        torch.save(kept, Path(os.environ["SPY_OUT"]) / f"{key}.pt")


class SpyManager(CodeVisionAgentLoopManager):
    """The plugin's manager with a worker that writes down what passes."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.agent_loop_workers_class = ray.remote(_Spy)
