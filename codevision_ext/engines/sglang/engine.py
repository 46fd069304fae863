"""SGLang as a rollout engine without a trainer: starts once, takes one checkpoint after the other, leaves no process.

It is the engine that verl runs in training, asked in the same words (`sglang_request`). Call
`device.use_cpu_if_no_cuda` before this module is imported.
"""

import asyncio
import atexit
import contextlib
import gc
import multiprocessing
import signal
import threading
import uuid
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import psutil
import torch
from anyio.from_thread import start_blocking_portal
from PIL import Image
from sglang.srt.entrypoints.engine import Engine as SGLang

from codevision_ext.engines.device import CPU_ENGINE
from codevision_ext.engines.sglang.request import read_output, release_loads, request_of, weights_request
from codevision_ext.engines.sglang.weight_loader import LOADER
from codevision_ext.errors import EngineError, first_line
from codevision_ext.io.processes import remove_unused_loads
from codevision_ext.models.checkpoint import buckets, check_alike, longest, renderer_of
from codevision_ext.patches.sglang_invariance import SETTINGS
from codevision_ext.patches.sglang_sampling import run_seeded_scheduler
from codevision_ext.rollout.loop import Completion, Policy, stopped_at_text, turn_ended

T = TypeVar("T")

MAX_RUNNING = 256
"""Maximum rollouts that the engine samples at the same time."""
BUCKET_BYTES = 512 << 20
"""Bytes of weights in one request."""
_ALIVE_EVERY_S = 1.0
"""Seconds between two checks of a waiting caller that the engine is alive."""


class _SGLang(SGLang):
    if not torch.cuda.is_available():
        run_scheduler_process_func = staticmethod(run_seeded_scheduler)

    def shutdown(self) -> None:
        """Nothing: the stock method, also called at exit, kills every child of this process, whoever started it."""


def _stay(signum: int, frame: object) -> None:
    """For SIGQUIT, which a failing engine process sends us: stock SGLang would end this process; we look ourselves."""


class SGLangEngine(contextlib.AbstractContextManager["SGLangEngine"]):
    """One SGLang engine in child processes; use it as a context manager, from the main thread.

    `load` puts weights into it and must come before the first sample. On the CPU a rollout's seed decides its tokens
    and their log-probs to the last bit, whatever else the engine does (`patches.sglang_invariance`). On CUDA SGLang has
    one generator for all requests, seeded with `seed`, and which draws first depends on timing: runs differ there.

    Args:
        checkpoint: Folder whose architecture, tokenizer and image settings the engine takes.
        context: Tokens of a prompt and its response together, at most.
        seed: Of the engine's own generator.
        gpus: Numbers of those that it takes (tensor parallel), in a row; the CPU counts as one.
        stop: Texts at which a turn ends. SGLang finds them with its own tokenizer, which it loads only for them.

    Raises:
        InputError: the folder isn't a checkpoint.
        EngineError: the engine can't start.
    """

    def __init__(
        self, checkpoint: Path, *, context: int, seed: int = 0, gpus: range = range(1), stop: Sequence[str] = ()
    ) -> None:
        self.renderer = renderer_of(checkpoint)
        self._checkpoint = checkpoint
        self._stop = list(stop)
        self._context = min(context + 1, longest(checkpoint) or context + 1)  # SGLang keeps one token back
        remove_unused_loads()  # of engines that were killed while they started
        before = set(multiprocessing.active_children())
        self._sigquit = signal.getsignal(signal.SIGQUIT)
        self._opened = contextlib.ExitStack()
        atexit.register(self.close)
        try:
            self._engine = _SGLang(
                model_path=str(checkpoint),
                load_format="dummy",
                context_length=self._context,
                max_running_requests=MAX_RUNNING,
                random_seed=seed,
                base_gpu_id=gpus.start,
                tp_size=len(gpus),
                skip_tokenizer_init=not stop,
                custom_weight_loader=[LOADER],
                custom_sigquit_handler=_stay,
                log_level="error",
                **({} if torch.cuda.is_available() else CPU_ENGINE | SETTINGS | {"mem_fraction_static": 0.5}),
            )
        except (RuntimeError, ValueError, OSError, EOFError) as error:
            raise EngineError(f"SGLang can't start on {checkpoint}: {first_line(error)}") from error
        finally:
            self._children = [child for child in multiprocessing.active_children() if child not in before]
            if not hasattr(self, "_engine"):
                self.close()
        release_loads(self._engine.tokenizer_manager.load_snapshot_reader)
        self._portal = self._opened.enter_context(start_blocking_portal(name="sglang"))
        self._opened.callback(lambda: self._portal.call(self._portal.stop, True))

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the engine and every process that it started; may be called again."""
        atexit.unregister(self.close)
        watchdog = getattr(getattr(self, "_engine", None), "tokenizer_manager", None)
        if watchdog is not None:
            watchdog._subprocess_watchdog.stop()  # it takes the end of a child for a crash
        processes = [process for child in self._children for process in _family(child.pid)]
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        for child in self._children:
            child.join(timeout=10)
        self._children = []
        remove_unused_loads()  # where it didn't come to `release_loads`
        gc.unfreeze()  # else the interpreter's exit finds what `load` froze, and triton complains at length
        self._opened.close()
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGQUIT, self._sigquit)

    async def load(self, checkpoint: Path) -> None:
        """Puts the weights of `checkpoint` in place of the present ones, while no rollout is under way.

        SGLang forgets what it cached of earlier prompts with them.

        Raises:
            InputError: it isn't a checkpoint of this engine's architecture and tokenizer.
            EngineError: the engine died or refused the weights.
        """
        check_alike(self._checkpoint, checkpoint)
        manager = self._engine.tokenizer_manager
        await self._ask(manager.freeze_gc)  # behind a load the garbage is collected, and what was imported isn't any
        for bucket in buckets(checkpoint, BUCKET_BYTES):
            request = weights_request(bucket, self._engine.server_args.tp_size)
            loaded, message = await self._ask(lambda request=request: manager.update_weights_from_tensor(request, None))
            if not loaded:
                raise EngineError(f"{checkpoint}: the engine refused the weights: {first_line(message)}")

    def policy(self, seed: int, *, temperature: float = 1.0) -> Policy:
        """The engine as one rollout sees it; any number of rollouts may be played at the same time.

        The seed of the rollout is in [0, 2**63); temperature 0 takes the likeliest token each time.
        """
        return partial(self._sample, {"temperature": temperature, "sampling_seed": seed})

    async def _sample(
        self, params: dict[str, Any], ids: list[int], images: Sequence[Image.Image], max_tokens: int
    ) -> Completion:
        params = params | {"stop": self._stop}
        request = request_of(ids, images, params, max_tokens, renderer=self.renderer, context=self._context)
        request.rid = uuid.uuid4().hex
        manager = self._engine.tokenizer_manager
        try:
            output = await self._ask(lambda: anext(manager.generate_request(request, None)))
        except asyncio.CancelledError:  # SGLang would generate on for nobody
            self._portal.start_task_soon(_abort, manager, request.rid)
            raise
        sampled = read_output(output, len(ids))
        if sampled.reason == "abort":
            raise EngineError("the engine aborted a request")
        finished = turn_ended(sampled.ids, self.renderer.end_ids, stopped=sampled.reason != "length")
        stopped = stopped_at_text(sampled.ids, self.renderer.end_ids, self._stop, finished=finished)
        return Completion(ids=sampled.ids, log_probs=sampled.log_probs, finished=finished, stopped=stopped)

    async def _ask(self, question: Callable[[], Awaitable[T]]) -> T:
        """Run a request in the engine's event loop and wait, as long as the engine's processes live."""
        self._check()
        answer = asyncio.wrap_future(self._portal.start_task_soon(question))
        try:
            while not (await asyncio.wait({answer}, timeout=_ALIVE_EVERY_S))[0]:
                self._check()
            return answer.result()
        except ValueError as error:
            raise EngineError(f"the engine refused a request: {error}") from error
        finally:
            answer.cancel()

    def _check(self) -> None:
        dead = [child for child in self._children if not child.is_alive()]
        if dead or not self._children:
            code = f" (exit code {dead[0].exitcode})" if dead else ""
            raise EngineError(f"the rollout engine died{code}; its last words are above")


async def _abort(manager: Any, rid: str) -> None:
    manager.abort_request(rid)


def _family(pid: int | None) -> list[psutil.Process]:
    """A process and everything below it."""
    try:
        parent = psutil.Process(pid)
        return [*parent.children(recursive=True), parent]
    except psutil.NoSuchProcess:
        return []
