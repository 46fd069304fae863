"""The check of the judge asks it one question and grades the verdict."""

import re
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
from chat_server import json_server

from codevision_ext.config import read_judge_settings
from codevision_ext.engines.device import use_cpu_if_no_cuda

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    use_cpu_if_no_cuda()
    from codevision_ext.preflight.run import _judge

pytestmark = pytest.mark.filterwarnings("ignore")  # transformers and verl warn at import, by the dozen


def judge(reply: Callable[[str], str]) -> AbstractContextManager[str]:
    """Serves a judge whose replies are built from the nonce."""

    def answer(request: Any) -> tuple[int, Any]:
        nonce = re.findall(r"VERDICT (\w+):", request["messages"][0]["content"])[0]
        message = {"role": "assistant", "content": reply(nonce)}
        return 200, {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}

    return json_server(answer)


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
