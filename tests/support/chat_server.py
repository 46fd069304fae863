"""Serves chat completions on loopback; a function of the request gives the reply."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

Request = dict[str, Any]


@dataclass
class Endpoint:
    """Address of the server, and the requests that it received."""

    url: str
    requests: list[Request] = field(default_factory=list)


@contextmanager
def json_server(answer: Callable[[Any], tuple[int, Any]]) -> Iterator[str]:
    """Serves JSON while the block runs, and yields the URL.

    A function of the request's JSON (None for GET) gives the status and the JSON of the answer.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(None)

        def do_POST(self) -> None:
            self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def _answer(self, request: Any) -> None:
            status, content = answer(request)
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def chat_server(reply: Callable[[Request], str | None]) -> Iterator[Endpoint]:
    """Serves while the block runs; a reply of None is an error of the server."""
    requests: list[Request] = []

    def answer(request: Request) -> tuple[int, Any]:
        requests.append(request)
        text = reply(request)
        if text is None:
            return 400, {"error": {"message": "no"}}
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        return 200, {"id": "x", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}

    with json_server(answer) as url:
        yield Endpoint(url=url, requests=requests)


def texts(request: Request) -> list[str]:
    """Returns the texts of the messages, without images."""
    texts = []
    for message in request["messages"]:
        content = message["content"]
        parts = [content] if isinstance(content, str) else [part["text"] for part in content if part["type"] == "text"]
        texts.append("\n".join(parts))
    return texts


def images(request: Request) -> int:
    """Returns the number of images in a request."""
    contents = [message["content"] for message in request["messages"] if isinstance(message["content"], list)]
    return sum(part["type"] == "image_url" for content in contents for part in content)


def call(code: str, thought: str = "I look.", image_index: int = 0) -> str:
    """Returns a turn that calls the tool."""
    arguments = {"code": code, "description": "", "image_index": image_index}
    request = json.dumps({"name": "code_image_tool", "arguments": arguments})
    return f"<think>{thought}</think><tool_call>{request}</tool_call>"


def answer(text: str, thought: str = "I read it.") -> str:
    """Returns a turn that answers."""
    return f"<think>{thought}</think><answer>{text}</answer>"
