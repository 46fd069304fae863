"""The check of the judge asks it one question and grades the verdict."""

import json
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from codevision_ext.config import read_judge_settings
from codevision_ext.engines.device import use_cpu_if_no_cuda

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    use_cpu_if_no_cuda()
    from codevision_ext.preflight.run import _judge

pytestmark = pytest.mark.filterwarnings("ignore")  # transformers and verl warn at import, by the dozen


@contextmanager
def judge(reply: Callable[[str], str]) -> Iterator[str]:
    """Serves a judge whose replies are built from the nonce, and yields its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            nonce = re.findall(r"VERDICT (\w+):", request["messages"][0]["content"])[0]
            message = {"role": "assistant", "content": reply(nonce)}
            body = json.dumps({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("VERDICT {}: CORRECT", "ok: judge-7b gives the right verdict"),
        ("VERDICT {}: INCORRECT", "warning: judge-7b takes 'eight' for wrong where '8' is right"),
        ("Who knows", "failure: judge-7b gave no verdict: 'Who knows'"),
    ],
)
def test_the_judge_is_asked_one_question(reply: str, expected: str) -> None:
    with judge(reply.format) as url:
        result = _judge(read_judge_settings(base_url=url, model="judge-7b"))
    assert f"{result.level}: {result.message}" == expected


def test_a_judge_that_can_not_be_reached_is_a_failure() -> None:
    result = _judge(read_judge_settings(base_url="http://127.0.0.1:9/v1", model="judge-7b", retries=0))
    assert (result.level, result.message.split(":")[0]) == ("failure", "the judge judge-7b at http")
