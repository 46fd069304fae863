"""The zygote passes every case that any back end must pass, and the cases can tell a back end that doesn't."""

import dataclasses
from collections.abc import Iterator

import pytest
from PIL import Image

from codevision_ext.sandbox import ExecRequest, ExecResult, Limits, Sandbox, conformance
from codevision_ext.sandbox.conformance import CASES, DOORS, ConformanceCase
from codevision_ext.types import ExecStatus


@pytest.fixture(scope="module")
def quick() -> Iterator[Sandbox]:
    with Sandbox(Limits(wall_s=2.0)) as started:
        yield started


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_sandbox_conforms(quick: Sandbox, case: ConformanceCase) -> None:
    assert case.fault(quick.run) == ""


def test_every_door_is_shut(quick: Sandbox) -> None:
    assert conformance.open_doors(quick.run) == []


def test_every_case_has_a_name_of_its_own() -> None:
    assert len({case.name for case in CASES}) == len(CASES)


def test_every_outcome_that_a_back_end_can_reach_is_in_a_case() -> None:
    assert {case.status for case in CASES} == set(ExecStatus) - {ExecStatus.TOO_LONG}


def test_a_back_end_that_hands_back_what_it_got_fails_where_it_should() -> None:
    def lazy(request: ExecRequest) -> ExecResult:
        return ExecResult(status=ExecStatus.OK, images=request.images[:1])

    faults = conformance.check_backend(lazy)
    passed = {name for name, fault in faults.items() if not fault}
    assert "doing nothing gives the same image" in passed
    assert len(passed) < 15
    assert "while it tried" in faults["every door is shut"]


def test_each_kind_of_fault_is_told() -> None:
    case = ConformanceCase(name="x", code="", image=lambda image: image, stdout="a", detail="b")
    right = ExecResult(status=ExecStatus.OK, images=(conformance.IMAGE,), stdout="a", detail="b")
    assert case.fault(lambda _: right) == ""
    for change, said in (
        ({"status": ExecStatus.ERROR}, "ended as error"),
        ({"images": (Image.new("RGB", (1, 1)),)}, "another image"),
        ({"stdout": "b"}, "it printed 'b', not 'a'"),
        ({"detail": "c"}, "its detail is 'c', without 'b'"),
    ):
        assert said in case.fault(lambda _, change=change: dataclasses.replace(right, **change))


def test_an_open_door_is_named(quick: Sandbox) -> None:
    def leaky(request: ExecRequest) -> ExecResult:
        return quick.run(
            dataclasses.replace(request, code="import socket\nsocket.socket = lambda *a: 1\n" + request.code)
        )

    assert conformance.open_doors(leaky) == ["use the network", "use a unix socket"]
    assert set(conformance.open_doors(leaky)) <= set(DOORS)
