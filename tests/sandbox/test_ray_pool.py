"""Sandboxes that Ray places: they conform, an actor that dies is started again, and what fails is an exception."""

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import ray
from PIL import Image

from codevision_ext.errors import SandboxError
from codevision_ext.sandbox import ExecRequest, Limits, conformance
from codevision_ext.sandbox.ray_pool import RaySandbox
from codevision_ext.sandbox.settings import open_sandbox, read_tool_settings
from codevision_ext.types import ExecStatus

IMAGE = Image.new("RGB", (8, 6))


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.mark.usefixtures("cluster")
def test_two_actors_conform_and_results_are_not_mixed_up() -> None:
    with RaySandbox(Limits(wall_s=3.0), actors=2) as sandbox:
        assert {name: fault for name, fault in conformance.check_backend(sandbox.run).items() if fault} == {}
        requests = [ExecRequest(code=f"print({number})", images=(IMAGE,)) for number in range(20)]
        with ThreadPoolExecutor(8) as threads:
            assert [result.stdout for result in threads.map(sandbox.run, requests)] == [f"{n}\n" for n in range(20)]


@pytest.mark.usefixtures("cluster")
def test_an_actor_that_dies_is_started_again() -> None:
    with RaySandbox(actors=1) as sandbox:
        (actor,) = sandbox._hosts
        pid = ray.get(actor.__ray_call__.remote(lambda _: os.getpid()))
        os.kill(pid, signal.SIGKILL)
        assert sandbox.run(ExecRequest(code="pass", images=(IMAGE,))).status is ExecStatus.OK


@pytest.mark.usefixtures("cluster")
def test_a_closed_sandbox_raises_and_a_tool_config_opens_one() -> None:
    sandbox = open_sandbox(read_tool_settings({"backend": "ray", "actors": 1, "wall_s": 2}, "tool.yaml"))
    assert isinstance(sandbox, RaySandbox)
    sandbox.start()
    sandbox.close()
    with pytest.raises(SandboxError, match="is lost"):
        sandbox.run(ExecRequest(code="pass", images=(IMAGE,)))
