"""Serves a checkpoint on this machine by OpenAI's protocol, with SGLang, while a block runs."""

import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.error import URLError
from urllib.request import urlopen

from codevision_ext.engines.device import CPU_ENGINE, use_cpu_if_no_cuda
from codevision_ext.errors import EngineError, InputError
from codevision_ext.io.processes import Command

_LOOK_EVERY_S = 0.5


@contextmanager
def served(checkpoint: Path) -> Iterator[str]:
    """The URL, ending in `/v1`, of a server that lives as long as the block; it knows the model by the folder's path.

    Without CUDA it runs on the CPU. It has no deadline to start: large checkpoints take minutes to load.

    Raises:
        InputError: `checkpoint` isn't the folder of one.
        EngineError: The server ended before it could be asked; with the last line that it wrote.
    """
    if not (checkpoint / "config.json").is_file():
        raise InputError(f"{checkpoint} is no folder of a checkpoint: there is no config.json in it")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = [sys.executable, "-m", __name__, str(checkpoint), str(port)]
    with TemporaryDirectory(prefix="codevision-") as folder:
        log = Path(folder) / "log"
        with Command(words, env=os.environ, log=log) as command:
            while not _answers(f"http://127.0.0.1:{port}/health"):
                if command.poll() is not None:
                    lines = log.read_text(errors="replace").strip().splitlines() or ["nothing"]
                    raise EngineError(f"SGLang can't serve {checkpoint}; its last line is: {lines[-1]}")
                time.sleep(_LOOK_EVERY_S)
            yield f"http://127.0.0.1:{port}/v1"


def _answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=10) as reply:
            return bool(reply.status == 200)
    except (URLError, ConnectionError, TimeoutError):  # not yet
        return False


def serve_model(checkpoint: str, port: int) -> None:
    """Runs the server in this process, with the settings of the rollout engine on the device that torch has."""
    settings = CPU_ENGINE if use_cpu_if_no_cuda() else {}

    from sglang.launch_server import run_server  # noqa: PLC0415  after the device is settled
    from sglang.srt.server_args import ServerArgs  # noqa: PLC0415

    run_server(ServerArgs(model_path=checkpoint, port=port, **settings))


if __name__ == "__main__":
    serve_model(sys.argv[1], int(sys.argv[2]))
