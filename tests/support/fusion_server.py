"""A server of SandboxFusion's `POST /run_code`, on loopback: behind it our sandbox, or a bare subprocess."""

import base64
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from codevision_ext.sandbox import EarlierCall, ExecRequest, Sandbox, child
from codevision_ext.sandbox.protocol import new_result
from codevision_ext.types import ExecStatus

Answer = dict[str, Any]
Behind = Callable[[Answer], Answer]
"""From the body of a request to the body of its answer."""


def ran(return_code: int, files: dict[str, bytes]) -> Answer:
    """The answer for a program that ended."""
    encoded = {name: base64.b64encode(content).decode() for name, content in files.items()}
    run = {"status": "Finished", "execution_time": 0.1, "return_code": return_code, "stdout": "", "stderr": ""}
    return {"status": "Failed" if return_code else "Success", "message": "", "run_result": run, "files": encoded}


LATE: Answer = {
    "status": "Failed",
    "message": "",
    "run_result": {"status": "TimeLimitExceeded", "execution_time": 2.0, "return_code": None},
    "files": {},
}


def sandboxed(sandbox: Sandbox) -> Behind:
    """Takes the snippet out of its file and runs it in our sandbox, in place of the program around it."""

    def behind(body: Answer) -> Answer:
        fd = os.memfd_create("request")
        os.write(fd, base64.b64decode(body["files"]["request.bin"]))
        asked = child.read_request(fd)
        *before, call = asked.programs
        earlier = tuple(EarlierCall(code=p.code, image_index=p.image_index, images=p.images) for p in before)
        result = sandbox.run(
            ExecRequest(code=call.code, images=tuple(asked.images), image_index=call.image_index, earlier=earlier)
        )
        if result.status is ExecStatus.TIMEOUT:
            return LATE
        if result.status is ExecStatus.CRASHED:
            return ran(-11, {})
        fd = new_result(sandbox.limits)
        used = child.write_result(fd, result.status, list(result.images), result.stdout, result.detail)
        content = os.pread(fd, used, 0)
        os.close(fd)
        return ran(0, {"result.bin": content})

    return behind


def bare(body: Answer) -> Answer:
    """Runs the program as it is in a folder of its own, as a server without isolation does."""
    with tempfile.TemporaryDirectory() as folder:
        for name, content in body["files"].items():
            (Path(folder) / name).write_bytes(base64.b64decode(content))
        (Path(folder) / "main.py").write_text(body["code"])
        command = [sys.executable, "main.py"]
        try:
            done = subprocess.run(command, cwd=folder, timeout=body["run_timeout"], check=False, capture_output=True)
        except subprocess.TimeoutExpired:
            return LATE
        made = {name: Path(folder) / name for name in body["fetch_files"] if (Path(folder) / name).is_file()}
        return ran(done.returncode, {name: path.read_bytes() for name, path in made.items()})


@contextmanager
def serving(behind: Behind, statuses: Iterator[int] | None = None) -> Iterator[str]:
    """The URL of a running server; `statuses` are what it answers with first, in place of 200."""
    first = statuses or iter(())

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status = next(first, 200) if self.path == "/run_code" else 404
            content = json.dumps(behind(body) if status == 200 else {}).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
