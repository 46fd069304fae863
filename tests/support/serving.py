"""Starts `codevision serve` as a command, and speaks with it."""

import base64
import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import psutil


@dataclass
class Served:
    """A running server, a client for it, and what it wrote on stderr."""

    url: str
    process: subprocess.Popen[str]
    client: httpx.Client
    lines: list[str] = field(default_factory=list)

    def ask(self, *messages: dict[str, Any], **fields: Any) -> httpx.Response:
        """Sends a request for the model `m`, unless the fields name another."""
        return self.client.post("/v1/chat/completions", json={"model": "m", "messages": list(messages)} | fields)

    def stream(self, *messages: dict[str, Any], **fields: Any) -> list[Any]:
        """Returns the chunks of a stream, `[DONE]` included."""
        body = {"model": "m", "messages": list(messages), "stream": True} | fields
        with self.client.stream("POST", "/v1/chat/completions", json=body) as response:
            assert response.status_code == 200, response.read()
            lines = [line.removeprefix("data: ") for line in response.iter_lines() if line.startswith("data: ")]
        return [line if line == "[DONE]" else json.loads(line) for line in lines]

    def children(self) -> list[psutil.Process]:
        """Returns the processes below the server."""
        return psutil.Process(self.process.pid).children(recursive=True)


@contextmanager
def codevision_serve(*words: object, timeout_s: float = 120.0) -> Iterator[Served]:
    """Serves while the block runs; the words are those behind `codevision serve`."""
    command = [sys.executable, "-m", "codevision_ext.cli", "serve", *map(str, words), "--port", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    lines: list[str] = []
    ready = threading.Event()

    def read() -> None:
        for line in process.stderr or ():
            lines.append(line)
            if " is served at " in line:
                ready.set()
        ready.set()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        assert ready.wait(timeout_s), lines
        address = [match[1] for line in lines if (match := re.search(r"is served at (http://\S+)/v1", line))]
        assert address, "".join(lines)
        with httpx.Client(base_url=address[0], timeout=120.0) as client:
            yield Served(url=f"{address[0]}/v1", process=process, client=client, lines=lines)
    finally:
        process.terminate()
        try:
            process.wait(60)
        finally:
            process.kill()
            process.wait()
        reader.join()
        if process.stderr:
            process.stderr.close()


def user(text: str, *images: bytes, kind: str = "png") -> dict[str, Any]:
    """Returns a message of the user: the images, then the text."""
    parts = [{"type": "image_url", "image_url": {"url": data_url(each, kind)}} for each in images]
    return {"role": "user", "content": [*parts, {"type": "text", "text": text}]}


def data_url(data: bytes, kind: str = "png") -> str:
    """Returns a file as a URL that contains it."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def joined(chunks: Sequence[Any], name: str) -> str:
    """Returns the text of a field of all deltas."""
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks if chunk != "[DONE]" and chunk["choices"]]
    return "".join(delta.get(name) or "" for delta in deltas)
