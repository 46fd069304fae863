"""A chat completion endpoint on loopback that does what a test asks of it: answer, dawdle, fail, lie."""

import json
import re
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Lock, Thread
from typing import Any

Request = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What goes back; `reset` breaks the connection, `pieces` bytes a time with `pause_s` between make it slow."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    pause_s: float = 0.0
    reset: bool = False
    missing: int = 0
    """Bytes that are promised and never come."""


def says(
    text: str | None, finish: str = "stop", thought: str = "", tokens: tuple[int, int] | None = None, **more: Any
) -> Reply:
    """A chat completion with this text; `tokens`: of the prompt and of the text."""
    message = {"role": "assistant", "content": text} | ({"reasoning_content": thought} if thought else {})
    body: dict[str, Any] = {"id": "x", "object": "chat.completion", "created": 0, "model": "m"}
    body["choices"] = [{"index": 0, "message": message, "finish_reason": finish}]
    if tokens:
        body["usage"] = dict(zip(("prompt_tokens", "completion_tokens"), tokens, strict=True)) | {"total_tokens": 0}
    return Reply(body=json.dumps(body).encode(), **more)


def fails(status: int, **headers: str) -> Reply:
    """An error that is tried again soon."""
    soon = {"Retry-After": "0.01"} | {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status=status, body=b'{"error": {"message": "no"}}', headers=soon)


def nonce_of(request: Request) -> str:
    """The nonce that the judge is told to write."""
    return re.search(r"VERDICT (\w+):", request["messages"][0]["content"])[1]  # type: ignore[index]


def data_of(request: Request) -> tuple[str, list[str], str]:
    """Question, references and answer, as a judge reads them."""
    message, nonce = request["messages"][1]["content"], nonce_of(request)
    found = [re.search(f"<{name}-{nonce}>\n(.*)\n</{name}-{nonce}>", message) for name in NAMES]
    return tuple(json.loads(match[1]) for match in found if match)  # type: ignore[return-value]


NAMES = ("question", "references", "answer")


def verdict(request: Request, word: str = "CORRECT") -> str:
    """The last line of a judge that keeps the format."""
    return f"VERDICT {nonce_of(request)}: {word}"


def honest(request: Request) -> Reply:
    """A judge that calls an answer right when it contains a reference."""
    _, references, answer = data_of(request)
    right = any(reference.casefold() in answer.casefold() for reference in references)
    return says("They were compared.\n" + verdict(request, "CORRECT" if right else "INCORRECT"))


@dataclass
class JudgeServer:
    """A running endpoint: `url`, what it was asked, and how many requests it had at once."""

    url: str
    requests: list[Request] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    most_at_once: int = 0
    _now: int = 0


@contextmanager
def serve(*replies: Callable[[Request], Reply] | Reply) -> Iterator[JudgeServer]:
    """An endpoint that gives the replies in order, and the last one ever after."""
    lock, closed = Lock(), Event()
    seen = JudgeServer(url="")

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                chosen = replies[min(len(seen.requests), len(replies) - 1)]
                seen.requests.append(request)
                seen.headers.append(dict(self.headers))
                seen.times.append(time.monotonic())
                seen._now += 1
                seen.most_at_once = max(seen.most_at_once, seen._now)
            reply = chosen if isinstance(chosen, Reply) else chosen(request)
            closed.wait(reply.delay_s)
            with lock:
                seen._now -= 1  # before the client can know, and ask again
            with suppress(BrokenPipeError, ConnectionResetError):  # the client gave up, as some tests want
                self._send(reply)

        def do_GET(self) -> None:
            served = {"object": "list", "data": [{"id": "m", "object": "model", "created": 0, "owned_by": "us"}]}
            self._send(Reply(body=json.dumps(served).encode()))

        def _send(self, reply: Reply) -> None:
            if reply.reset:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
                return
            self.send_response(reply.status)
            for name, value in {"Content-Type": "application/json", **reply.headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(reply.body) + reply.missing))
            self.end_headers()
            step = 1 if reply.pause_s else max(1, len(reply.body))
            for at in range(0, len(reply.body), step):
                self.wfile.write(reply.body[at : at + step])
                self.wfile.flush()
                closed.wait(reply.pause_s)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.block_on_close = False
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    seen.url = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield seen
    finally:
        closed.set()
        server.shutdown()
        server.server_close()
        thread.join()
