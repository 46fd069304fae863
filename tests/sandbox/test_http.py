"""The HTTP back end conforms, sees through a server without isolation, and blames no code for a fault of ours."""

from collections.abc import Iterator

import fusion_server
import pytest
from fusion_server import bare, sandboxed, serving
from scenes import noise

from codevision_ext.errors import InputError, SandboxError
from codevision_ext.sandbox import ExecRequest, Isolation, Limits, Sandbox, conformance
from codevision_ext.sandbox.http import HttpSandbox
from codevision_ext.sandbox.settings import open_sandbox, read_tool_settings
from codevision_ext.types import ExecStatus

TURN = ExecRequest(code="image = image.rotate(90, expand=True)", images=(noise(12, 8),))


@pytest.fixture(scope="module")
def behind() -> Iterator[fusion_server.Behind]:
    with Sandbox(Limits(wall_s=2.0)) as sandbox:
        yield sandboxed(sandbox)


def test_a_server_that_isolates_passes_every_case(behind: fusion_server.Behind) -> None:
    with serving(behind) as url, HttpSandbox(url, Limits(wall_s=2.0)) as remote:
        assert {name: fault for name, fault in conformance.check_backend(remote.run).items() if fault} == {}
        assert remote.run(TURN).isolation is Isolation.STRICT
        assert remote.run(ExecRequest(code="#" * 30_000, images=())).status is ExecStatus.TOO_LONG


def ask(url: str) -> None:
    with HttpSandbox(url) as remote:
        remote.run(TURN)


def test_a_server_without_isolation_is_refused_unless_it_is_allowed() -> None:
    limits = Limits(wall_s=8.0)
    with serving(bare) as url:
        with pytest.raises(
            SandboxError, match=r"isn't strict: code inside could open a file, .*trace a process.* isolation: unsafe"
        ):
            HttpSandbox(url, limits).__enter__()
        with HttpSandbox(url, limits, isolation=Isolation.UNSAFE) as remote:
            result = remote.run(TURN)
            assert (result.status, result.isolation) == (ExecStatus.OK, Isolation.UNSAFE)
            assert result.images[0].tobytes() == noise(12, 8).rotate(90, expand=True).tobytes()
            left = ExecRequest(code="result = np.zeros(10**10)", images=())
            assert remote.run(left).status is ExecStatus.MEMORY
            gone = ExecRequest(code="import os\nos._exit(3)", images=())
            assert remote.run(gone).status is ExecStatus.CRASHED


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_server_is_asked_again_and_a_refusal_is_ours(
    behind: fusion_server.Behind, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setattr("codevision_ext.sandbox.http.PAUSE_S", 0.01)
    with serving(behind, iter([status, status])) as url, HttpSandbox(url, Limits(wall_s=2.0)) as remote:
        assert remote.run(TURN).status is ExecStatus.OK
    with pytest.raises(SandboxError, match="can't be reached"):
        ask(url)
    with serving(behind, iter([400])) as url, pytest.raises(SandboxError, match=r"can't be used: .*400"):
        ask(url)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"status": "SandboxError", "message": "no space left", "run_result": None}, "no space left"),
        ([], "isn't an object"),
        (fusion_server.ran(0, {}) | {"files": {"result.bin": "?"}}, "aren't base64"),
    ],
)
def test_a_server_that_fails_is_an_exception_and_no_outcome(answer: fusion_server.Answer, said: str) -> None:
    with serving(lambda _: answer) as url, pytest.raises(SandboxError, match=said):
        ask(url)


def test_a_result_that_does_not_add_up_is_a_crash(behind: fusion_server.Behind) -> None:
    answers: list[fusion_server.Answer] = []
    with (
        serving(lambda body: answers.pop() if answers else behind(body)) as url,
        HttpSandbox(url, Limits(wall_s=2.0, max_pixels=10_000)) as remote,
    ):
        for content in (b"", b"CVRESULT", b"\0" * 100_000):
            answers.append(fusion_server.ran(0, {"result.bin": content}))
            assert remote.run(TURN).status is ExecStatus.CRASHED


def test_a_tool_config_chooses_the_back_end() -> None:
    assert isinstance(open_sandbox(read_tool_settings({}, "tool.yaml")), Sandbox)
    settings = read_tool_settings({"backend": "http", "url": "http://h:1", "wall_s": 3, "live": 4}, "tool.yaml")
    remote = open_sandbox(settings)
    assert isinstance(remote, HttpSandbox)
    assert (remote.limits.wall_s, remote.live) == (3, 4)
    for config, said in (
        ({"backend": "http"}, "url: must begin with http:// or https://, it is ''"),
        ({"backend": "cloud"}, "backend: must be 'local', 'http' or 'ray', it is 'cloud'"),
        ({"backend": "http", "url": "h:1"}, "url: must begin with http:// or https://, it is 'h:1'"),
        ({"url": "http://h:1"}, "url: is read with backend: http only"),
        ({"backend": "http", "url": "http://h:1", "actors": 2}, "actors: is read with backend: ray only"),
    ):
        with pytest.raises(InputError, match=said):
            read_tool_settings(config, "tool.yaml")
