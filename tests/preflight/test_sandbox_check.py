"""`codevision doctor` tells what is missing and what is wrong, and its exit code says whether anything is."""

import contextlib
import dataclasses
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from codevision_ext.errors import SandboxError
from codevision_ext.preflight.sandbox import Checkup, examine, show_checkup
from codevision_ext.sandbox import ExecRequest, ExecResult, Isolation, Limits, Sandbox
from codevision_ext.sandbox.lockdown import Primitive, primitives

SOUND = Primitive(name="seccomp", missing="", remedy="use another kernel")


def shown(checkup: Checkup) -> str:
    page = io.StringIO()
    show_checkup(checkup, Console(file=page, width=200))
    return page.getvalue()


def test_a_back_end_that_is_too_narrow_fails_the_cases_that_it_gets_wrong() -> None:
    sandbox = Sandbox(Limits(wall_s=1.5, max_pixels=400))
    checkup = examine(sandbox, primitives())
    wrong = {name for name, fault in checkup.cases.items() if fault}
    assert "several images come back, the first first" in wrong
    assert wrong.isdisjoint({"a re-bound image is the result", "every door is shut"})
    assert not checkup.ok
    assert "it ended as bad_image (its size is 24x16), not ok" in shown(checkup)


@pytest.mark.parametrize("required", [True, False])
def test_a_missing_primitive_is_named_with_its_remedy_and_counts_where_it_is_required(required: bool) -> None:
    lacking = dataclasses.replace(SOUND, missing="not in [this] kernel", required=required)
    checkup = Checkup(primitives=(lacking,), isolation=Isolation.STRICT, cases={"a": "", "b": ""})
    page = shown(checkup)
    assert "no: not in [this] kernel" in page
    assert "use another kernel" in page
    assert "code runs behind: strict; 2 of 2 conformance cases pass" in page
    assert checkup.ok is not required
    assert Checkup(primitives=(SOUND,), cases={"a": ""}).ok
    assert not Checkup(primitives=(SOUND,), cases={"a": "wrong"}).ok


def test_a_back_end_that_does_not_start_is_told() -> None:
    sandbox = Sandbox()
    sandbox.close()
    checkup = examine(sandbox, [SOUND])
    assert (checkup.ok, checkup.isolation, checkup.refused) == (False, None, "the sandbox is closed")
    assert "the sandbox is closed" in shown(checkup)


class Broken(Sandbox):
    def run(self, request: ExecRequest) -> ExecResult:
        raise RuntimeError(f"no run of {request.code}")


@pytest.mark.parametrize("kind", [Sandbox, Broken])
def test_a_back_end_is_closed_whatever_the_suite_finds_or_raises(kind: type[Sandbox]) -> None:
    sandbox = kind(Limits(wall_s=1.0))
    with contextlib.suppress(RuntimeError):
        examine(sandbox, [SOUND])
    with pytest.raises(SandboxError, match="closed"):
        sandbox.start()


def test_the_command_examines_a_tool_config(tmp_path: Path) -> None:
    config = tmp_path / "tool.yaml"
    config.write_text(
        "tools: [{class_name: codevision_ext.verl_adapter.tool.CodeImageTool, config: {type: native, wall_s: 3}}]"
    )
    command = [sys.executable, "-m", "codevision_ext.cli", "doctor", "--tool", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    found = json.loads(done.stdout)
    assert (done.returncode, found["ok"]) == (0, True), done.stderr
    assert {primitive["name"] for primitive in found["primitives"]} >= {"seccomp", "memfd", "landlock"}
    assert found["isolation"] in list(Isolation)
    assert "conformance cases pass" in done.stderr
    config.write_text("tools: []")
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert (done.returncode, done.stdout) == (2, "")
    assert "there is no CodeImageTool" in done.stderr
