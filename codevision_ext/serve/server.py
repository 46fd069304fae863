"""Runs the server until a signal stops it; answers that are under way are finished first."""

import asyncio
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

import uvicorn
from PIL import Image

from codevision_ext.engines.base import LoadedModel
from codevision_ext.errors import InputError
from codevision_ext.serve.admission import Admission
from codevision_ext.serve.answers import ServedModel
from codevision_ext.serve.app import make_app
from codevision_ext.serve.exchange import Chat, ServeLimits
from codevision_ext.serve.metrics import Metrics
from codevision_ext.serve.trajectories import Trajectories


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """The place and the size of a server."""

    listener: socket.socket
    """Bound socket, which the server closes."""
    api_key: str | None
    """Key that every request must have; None: none."""
    concurrency: int
    """Number of rollouts that run at the same time."""
    queue: int
    """Number of requests that may wait."""
    keep: int
    """Number of trajectories that can be asked for."""
    grace_s: int
    """Seconds that answers under way have when the server is stopped."""
    limits: ServeLimits


class _Server(uvicorn.Server):
    """uvicorn without its own handling of signals, because `io.stopping` handles the signals of a command."""

    name = ""
    """Id of the model."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Starts to listen, and prints the address."""
        await super().startup(sockets)
        for listener in sockets or ():
            host, port = listener.getsockname()[:2]
            address = f"[{host}]" if ":" in host else host
            _say(f"{self.name} is served at http://{address}:{port}/v1")


def bind(host: str, port: int, api_key: str | None) -> socket.socket:
    """Returns a socket that is bound, and doesn't listen yet; port 0 takes a free one.

    Raises:
        InputError: the address can't be used, or others could reach it and there is no key.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError, OverflowError) as error:
        raise InputError(f"--host {host} --port {port}: can't be used: {error}") from error
    if not ip_address(str(address[0]).partition("%")[0]).is_loopback and not api_key:
        listener.close()
        raise InputError(f"--host {host}: others can reach this address; give --api-key or CODEVISION_API_KEY too")
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise InputError(f"--host {host} --port {port}: can't be used: {error.strerror}") from error
    return listener


async def serve_until_stopped(served: ServedModel, checkpoint: Path | None, config: ServerConfig) -> None:
    """Loads the weights, serves until the task is cancelled, and then finishes the answers under way.

    Args:
        served: Model that answers; its engine is open.
        checkpoint: Folder whose weights are loaded; None: the model is behind an endpoint.
        config: Place and size of the server.

    Raises:
        EngineError: the engine refused the weights.
    """
    model: LoadedModel = served.model
    Image.MAX_IMAGE_PIXELS = config.limits.prompt.pixels  # Pillow then refuses larger ones before it decodes them
    try:
        if checkpoint is not None:
            await model.load(checkpoint)
        with tempfile.TemporaryDirectory(prefix="codevision-serve-") as folder:
            admission = Admission(config.concurrency, config.queue)
            chat = Chat(
                served=served,
                limits=config.limits,
                admission=admission,
                trajectories=Trajectories(Path(folder), config.keep),
                metrics=Metrics(admission),
            )
            await _run(make_app(chat, config.api_key), config, served.name)
    finally:
        await model.close()


async def _run(app: object, config: ServerConfig, name: str) -> None:
    server = _Server(
        uvicorn.Config(
            app,  # type: ignore[arg-type]  # FastAPI is an application
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            server_header=False,
            timeout_graceful_shutdown=config.grace_s,
        )
    )
    server.name = name
    running = asyncio.ensure_future(server.serve(sockets=[config.listener]))
    try:
        await asyncio.shield(running)
    except asyncio.CancelledError:
        _say("the server stops; answers under way are finished first")
        raise
    finally:
        server.should_exit = True
        await running


def _say(sentence: str) -> None:
    sys.stderr.write(f"codevision: {sentence}\n")
    sys.stderr.flush()
