"""Compares the agent loop with verl's, and measures the event loop and memory with many concurrent rollouts.

`python benchmarks/loop.py overhead [--rounds N]` runs the same scripted rollouts with verl's tool agent loop and with
ours, alternating, with the same processor, sandbox and tool. `crowd [--rounds N] [--rollouts N]` runs many concurrent
rollouts in the worker. The engine returns fixed turns, and nothing is written to verl's store. Prints Markdown; exits 1
if a target is missed. docs/loop.md has the figures.
"""

import argparse
import asyncio
import gc
import json
import os
import random
import statistics
import sys
import tempfile
import time
import warnings
from asyncio.events import Handle
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
from PIL import Image

os.environ.setdefault("OMP_NUM_THREADS", "1")
warnings.simplefilter("ignore")  # transformers and verl print many warnings at import

from codevision_ext.engines.device import use_cpu_if_no_cuda  # noqa: E402

use_cpu_if_no_cuda()

import torch  # noqa: E402
from verl.experimental.agent_loop.agent_loop import AgentLoopWorker, DictConfigWrap, ToolListWrap  # noqa: E402
from verl.experimental.agent_loop.tool_agent_loop import ToolAgentLoop  # noqa: E402
from verl.trainer.ppo.v1 import agent_loop_tq  # noqa: E402
from verl.utils import hf_processor  # noqa: E402
from verl.utils.dataset.rl_dataset import RLHFDataset  # noqa: E402
from verl.workers.rollout.replica import TokenOutput  # noqa: E402

from codevision_ext.models import tiny_model  # noqa: E402
from codevision_ext.preflight.recipe import load_recipe  # noqa: E402
from codevision_ext.verl_adapter.agent_loop import (  # noqa: E402
    STORED_AT_ONCE,
    CodeVisionAgentLoop,
    _Worker,
    shared_renderer,
)
from codevision_ext.verl_adapter.tool import CodeImageTool  # noqa: E402

DEMO = Path(__file__).parents[1] / "recipe" / "demo"
SIZES = {"84x84": (84, 84), "1 MP": (1008, 980)}
"""Width and height of the images; multiples of a token's side, so that no image is resized."""
CODES = (
    "image = image.rotate(90, expand=True)",
    "image = ImageOps.flip(image)",
    "image = image.rotate(180)",
)
TURNS = len(CODES) + 1
ROLLOUTS_OF_A_PROMPT = 8
DELAY_S = 0.5
"""Maximum random delay of a turn in `crowd`, in seconds."""
MOST_OVERHEAD, MOST_CALLBACK_MS, MOST_GROWTH = 1.1, 50.0, 0.03


class Kit:
    """Holds the parts that both loops share: processor, config and tool."""

    def __init__(self, folder: Path) -> None:
        sizes = {"hidden": 32, "layers": 1, "vision_hidden": 32, "vision_layers": 1, "max_pixels": 2**20}
        tiny_model.build("qwen2_5_vl", folder, texts=tiny_model.tokenizer_texts(), **sizes)
        self.processor = hf_processor(str(folder))
        self.renderer = shared_renderer(self.processor)
        self.config = load_recipe(
            DEMO,
            "grpo",
            [
                *("data.max_prompt_length=8192", "data.max_response_length=16384", "codevision.turn_tokens=null"),
                f"actor_rollout_ref.rollout.n={ROLLOUTS_OF_A_PROMPT}",
                f"actor_rollout_ref.rollout.multi_turn.max_assistant_turns={TURNS}",
                "actor_rollout_ref.rollout.multi_turn.max_tool_response_length=10240",
            ],
        )
        self.tool = CodeImageTool({"wall_s": 60}, None)
        self.tool._sandbox.start()

    def close(self) -> None:
        self.tool._sandbox.close()

    def loop_arguments(self, engine: "Script") -> dict[str, Any]:
        """Returns the arguments that verl passes to an agent loop."""
        return {
            "trainer_config": DictConfigWrap(self.config),
            "server_manager": engine,
            "tokenizer": self.processor.tokenizer,
            "processor": self.processor,
            "hf_model_type": "qwen2_5_vl",
            "dataset_cls": RLHFDataset,
            "data_config": DictConfigWrap(self.config.data),
            "tools": ToolListWrap([self.tool]),
        }


class Script:
    """Engine that samples fixed turns: a call for each of `CODES`, then an answer."""

    def __init__(self, kit: Kit, delay_s: float = 0.0) -> None:
        calls = [
            {"name": "code_image_tool", "arguments": {"code": code, "image_index": at}} for at, code in enumerate(CODES)
        ]
        turns = [f"<tool_call>\n{json.dumps(call)}\n</tool_call>" for call in calls] + ["<answer>7</answer>"]
        self.turns = [kit.renderer.turn(f"<think>\nIt lies.\n</think>\n\n{text}") for text in turns]
        self.delay_s = delay_s
        self.requests: defaultdict[str, int] = defaultdict(int)

    async def generate(self, request_id: str, **_: Any) -> TokenOutput:
        """Returns the next turn of a rollout, like verl's client."""
        ids = self.turns[self.requests[request_id]]
        self.requests[request_id] += 1
        if self.delay_s:
            await asyncio.sleep(random.random() * self.delay_s)
        log_probs = [-1.0] * len(ids)
        extra = {"global_steps": 1}
        return TokenOutput(token_ids=ids, log_probs=log_probs, stop_reason="completed", extra_fields=extra)


def photo(size: tuple[int, int], seed: int) -> Image.Image:
    """Returns an image of coarse and fine noise."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (size[1] // 16 + 1, size[0] // 16 + 1, 3), np.uint8))
    fine = Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), np.uint8))
    return Image.blend(coarse.resize(size, Image.Resampling.BICUBIC), fine, 0.1)


def row(image: Image.Image, uid: str) -> dict[str, Any]:
    """Returns a row like verl's dataset."""
    content = [{"type": "image", "image": image}, {"type": "text", "text": "Which number is it?"}]
    return {
        "raw_prompt": [{"role": "user", "content": content}],
        "uid": uid,
        "global_steps": 1,
        "data_source": "made up",
        "reward_model": {"ground_truth": ["7"]},
        "extra_info": {"index": 0, "transform": ["rotate_90"]},
        "index": 0,
    }


# -- overhead ----------------------------------------------------------------------------------------------------------


class Stopwatch:
    """Sums the seconds spent in the tool and in the engine."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._inside = False

    def timed(self, function: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        """Wraps a function to count its time; a timed function within a timed function counts once."""

        async def run(*args: Any, **kwargs: Any) -> Any:
            if self._inside:
                return await function(*args, **kwargs)
            self._inside = True
            start = time.perf_counter()
            try:
                return await function(*args, **kwargs)
            finally:
                self.seconds += time.perf_counter() - start
                self._inside = False

        return run


async def overhead(kit: Kit, rounds: int) -> bool:
    """Prints the time of a rollout without engine and tool, and returns whether ours is within the target."""
    watch = Stopwatch()
    engine = Script(kit)
    engine.generate = watch.timed(engine.generate)
    kit.tool.execute = watch.timed(kit.tool.execute)
    kit.tool.code_tool.begin = watch.timed(kit.tool.code_tool.begin)
    stock = object.__new__(AgentLoopWorker)
    stock.processor, stock.tokenizer, stock.mm_processor_kwargs = kit.processor, kit.processor.tokenizer, {}

    async def run_ours(fields: dict[str, Any]) -> Any:
        return await CodeVisionAgentLoop(**kit.loop_arguments(engine)).run({}, **fields)

    async def run_stock(fields: dict[str, Any]) -> Any:
        return await ToolAgentLoop(**kit.loop_arguments(engine)).run({}, **fields)

    def tensors_ours(output: Any, ids: torch.Tensor) -> None:
        features = kit.renderer.features(output.multi_modal_data["images"])
        kit.renderer.position_ids(ids, features["image_grid_thw"])

    def tensors_stock(output: Any, ids: torch.Tensor) -> None:
        features = stock._compute_multi_modal_inputs(output, ids)
        stock._compute_position_ids(ids[None], torch.ones_like(ids)[None], features)

    loops = {"verl's": (run_stock, tensors_stock), "ours": (run_ours, tensors_ours)}
    times: defaultdict[tuple[str, str, str], list[float]] = defaultdict(list)
    for number in range(rounds + 1):
        for size, sides in SIZES.items():
            image = photo(sides, number)
            tokens = {}
            for name, (run_loop, tensors) in loops.items():
                uid = f"{number} {size} {name}"
                watch.seconds = 0.0
                start = time.perf_counter()
                output = await run_loop(row(image, uid) | {"session_id": 0})
                loop = time.perf_counter() - start - watch.seconds
                ids = torch.tensor(output.prompt_ids + output.response_ids)
                start = time.perf_counter()
                tensors(output, ids)
                if number:  # the first round is a warm-up
                    times[size, name, "loop"].append(loop)
                    times[size, name, "tensors"].append(time.perf_counter() - start)
                    times[size, name, "both"].append(times[size, name, "loop"][-1] + times[size, name, "tensors"][-1])
                tokens[name] = (sum(output.response_mask), len(output.multi_modal_data["images"]))
            if len(set(tokens.values())) != 1:
                raise SystemExit(f"the loops ran different turns: {tokens}")
    write("| images | part | verl's, ms | ours, ms | ours / verl's |\n|---|---|---|---|---|")
    within = True
    for size in SIZES:
        for part in ("loop", "tensors", "both"):
            theirs, ours = (1000 * statistics.median(times[size, name, part]) for name in loops)
            write(f"| {size} | {part} | {theirs:.1f} | {ours:.1f} | {ours / theirs:.2f} |")
            within &= part == "tensors" or ours <= MOST_OVERHEAD * theirs
    write(f"\nTarget, loop and both: at most {MOST_OVERHEAD} times verl's: {verdict(within)}")
    return within


# -- crowd -------------------------------------------------------------------------------------------------------------


class Callbacks:
    """Times of the callbacks of the event loop."""

    def __init__(self) -> None:
        self.count = 0
        self.slowest: list[tuple[float, float, str]] = []
        """Wall milliseconds, CPU milliseconds and owner of the slowest callbacks, slowest first."""
        self.collection = 0.0
        """CPU milliseconds of the longest garbage collection on any thread."""

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Measures all callbacks of this process's event loops while the block runs."""
        run = Handle._run

        def timed(handle: Handle) -> None:
            start, cpu = time.perf_counter(), time.thread_time()
            run(handle)
            elapsed, cpu = 1000 * (time.perf_counter() - start), 1000 * (time.thread_time() - cpu)
            self.count += 1
            if elapsed > 1:
                self.slowest.append((elapsed, cpu, name_of(handle)))
                self.slowest = sorted(self.slowest, reverse=True)[:20]

        began = 0.0

        def collect(phase: str, _: dict[str, int]) -> None:
            nonlocal began
            if phase == "start":
                began = time.thread_time()
            else:
                self.collection = max(self.collection, 1000 * (time.thread_time() - began))

        Handle._run = timed
        gc.callbacks.append(collect)
        try:
            yield
        finally:
            Handle._run = run
            gc.callbacks.remove(collect)


def name_of(handle: Handle) -> str:
    """Returns the coroutine of a callback, and the line at which the coroutine waits next."""
    task = getattr(handle._callback, "__self__", None)
    if not isinstance(task, asyncio.Task):
        return str(handle._callback)
    inner: Any = task.get_coro()
    while getattr(inner, "cr_await", None) is not None and hasattr(inner.cr_await, "cr_frame"):
        inner = inner.cr_await
    frame = getattr(inner, "cr_frame", None)
    return f"{inner.__qualname__}:{frame.f_lineno if frame else 'end'}"


class HeldImages:
    """Number of images in finished trajectories."""

    def __init__(self) -> None:
        self.rollouts = 0
        self.images = 0
        self.held = 0

    def add(self, trajectory: Any) -> None:
        """Counts the images of a trajectory and their distinct objects."""
        self.rollouts += 1
        self.images += len(trajectory.images)
        self.held += len({id(image) for image in (*trajectory.images, *trajectory.resized)})


async def crowd(kit: Kit, rounds: int, rollouts: int) -> bool:
    """Prints memory after each round and the slowest callbacks, and returns whether the targets are met."""
    counts, callbacks, process = HeldImages(), Callbacks(), psutil.Process()

    class Worker(_Worker):
        def _score(self, outputs: list[Any], validate: bool, row: dict[str, Any]) -> None:
            for output in outputs:
                counts.add(output.extra_fields["trajectory"])
            super()._score(outputs, validate, row)

    async def drop(*_: Any, **__: Any) -> None:
        pass

    agent_loop_tq.tq = SimpleNamespace(async_kv_put=drop, async_kv_batch_put=drop)
    worker = object.__new__(Worker)
    loop_arguments = kit.loop_arguments(Script(kit, DELAY_S))
    worker.config, worker.processor, worker.tokenizer = kit.config, kit.processor, kit.processor.tokenizer
    worker.llm_client, worker.tools = loop_arguments["server_manager"], [kit.tool]
    worker.dataset_cls, worker.hf_model_type = RLHFDataset, "qwen2_5_vl"
    worker.distillation_enabled, worker.reward_loop_worker_handles = False, None
    worker.settings, worker._groups = _settings(kit), {}
    worker._storing = asyncio.Semaphore(STORED_AT_ONCE)
    gc.freeze()  # as in the worker's constructor, which needs a Ray cluster
    prompts = max(1, rollouts // ROLLOUTS_OF_A_PROMPT)
    resident: list[float] = []
    peaks: list[float] = []
    write("| round | s | resident at its end, MiB | at its peak, MiB |\n|---|---|---|---|")
    for number in range(rounds):
        start = time.perf_counter()
        rows = [row(photo(SIZES["1 MP"], at), f"{number}-{at}") | {"agent_name": "codevision"} for at in range(prompts)]
        trajectory = {"step": 1, "sample_index": 0, "rollout_n": 0, "validate": False}
        done = asyncio.Event()
        peak = asyncio.create_task(watch_memory(process, done))
        with callbacks.watched():
            await asyncio.gather(*[worker._run_prompt(one, {}, trajectory=trajectory) for one in rows])
        done.set()
        peaks.append(await peak)
        loop_arguments["server_manager"].requests.clear()
        del rows
        gc.collect()
        resident.append(process.memory_info().rss / 2**20)
        write(f"| {number + 1} | {time.perf_counter() - start:.0f} | {resident[-1]:.0f} | {peaks[-1]:.0f} |")
    expected = rounds * prompts * ROLLOUTS_OF_A_PROMPT
    if counts.rollouts != expected or counts.images != expected * TURNS:
        raise SystemExit(f"{counts.rollouts} of {expected} rollouts ran, with {counts.images} images")
    write("\n| callback, ms | CPU time, ms | coroutine and the line where it waits next |\n|---|---|---|")
    for elapsed, cpu, name in callbacks.slowest[:8]:
        write(f"| {elapsed:.1f} | {cpu:.1f} | `{name}` |")
    write(f"\nThe longest garbage collection took {callbacks.collection:.1f} ms on the CPU.")
    late = rounds // 2
    growth = max(resident[late:]) / max(resident[: max(1, late)]) - 1
    elapsed, cpu, _ = max(callbacks.slowest, default=(0.0, 0.0, ""))
    on_cpu = max((cpu for _, cpu, _ in callbacks.slowest), default=0.0)
    targets = {
        f"of {callbacks.count:,} callbacks the longest took {elapsed:.1f} ms, and at most {on_cpu:.1f} ms CPU time "
        f"(target {MOST_CALLBACK_MS:g} ms)": elapsed <= MOST_CALLBACK_MS,
        f"resident memory of the later half of the rounds against the earlier one: {growth:+.1%} "
        f"(target {MOST_GROWTH:.0%})": growth <= MOST_GROWTH,
        f"an image is held {counts.held / counts.images:.2f} times": counts.held == counts.images,
    }
    for target, met in targets.items():
        write(f"\n{target}: {verdict(met)}")
    return all(targets.values())


def _settings(kit: Kit) -> Any:
    from omegaconf import OmegaConf  # noqa: PLC0415

    from codevision_ext.config import read_settings  # noqa: PLC0415

    section = OmegaConf.to_container(kit.config.codevision, resolve=False)
    section.pop("records", None)
    return read_settings(section)


async def watch_memory(process: psutil.Process, done: asyncio.Event) -> float:
    """Returns the peak of resident memory until `done`, in MiB."""
    most = 0
    while not done.is_set():
        most = max(most, process.memory_info().rss)
        await asyncio.sleep(0.1)
    return most / 2**20


def verdict(met: bool) -> str:
    """Returns the text for the outcome of a target."""
    return "met" if met else "MISSED"


def write(line: str) -> None:
    """Prints a line without buffering."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    """Runs one benchmark; exits 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("overhead", "crowd"))
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--rollouts", type=int, default=256)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        kit = Kit(Path(folder) / "model")
        try:
            if options.what == "overhead":
                met = asyncio.run(overhead(kit, options.rounds))
            else:
                met = asyncio.run(crowd(kit, options.rounds, options.rollouts))
        finally:
            kit.close()
    sys.exit(0 if met else 1)


if __name__ == "__main__":
    main()
