"""Random programs: each ends as one of the outcomes, within the limits, and leaves the next call clean."""

import os
from collections.abc import Iterator

import cv2
import numpy as np
import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageOps
from scenes import noise

from codevision_ext.sandbox import ExecRequest, Limits, Sandbox
from codevision_ext.types import ExecStatus

LIMITS = Limits(wall_s=1.0, memory_mb=256, max_side=300, max_pixels=50_000, stdout_chars=200)
IMAGE = noise(24, 16)
HONEST = ExecRequest(
    code="print(len(images), np.random.rand() < 1)\nresult = cv2.flip(np.array(image), 0)", images=(IMAGE,)
)
MODULES = {"np": np, "cv2": cv2, "Image": Image, "ImageOps": ImageOps, "ImageDraw": ImageDraw, "os": os}
MODULES |= {"image": IMAGE, "np.linalg": np.linalg, "np.random": np.random}
BUILTINS = (
    "exec",
    "eval",
    "open",
    "getattr",
    "setattr",
    "type",
    "list",
    "len",
    "print",
    "iter",
    "map",
    "super",
    "vars",
)

names = st.sampled_from(["image", "images", "img", "draw", "result", "a", "b", "np.array(image)", "globals()"])
values = st.one_of(
    names,
    st.integers().map(repr),
    st.sampled_from([-1, 0, 1, 2, 3, 255, 2**31, 2**63, 10**30]).map(repr),
    st.floats().map(repr).filter(lambda text: text not in ("nan", "inf", "-inf")),
    st.text(max_size=8).map(repr),
    st.binary(max_size=8).map(repr),
    st.sampled_from(
        ["None", "True", "()", "[]", "{}", "'/etc/passwd'", "b'/tmp/x'", "lambda *a, **k: a", "float('nan')"]
    ),
)
functions = st.one_of(
    st.sampled_from(sorted(MODULES)).flatmap(
        lambda module: st.sampled_from([f"{module}.{name}" for name in dir(MODULES[module]) if name.isidentifier()])
    ),
    st.sampled_from(BUILTINS),
)
expressions = st.recursive(
    values,
    lambda inner: st.one_of(
        st.builds("{}({})".format, functions, st.lists(inner, max_size=4).map(", ".join)),
        st.builds("({} {} {})".format, inner, st.sampled_from(["+", "*", "//", "%", "@", "<<", "==", "or"]), inner),
        st.builds("{}[{}]".format, names, inner),
        st.builds("[{} for b in {}]".format, inner, inner),
    ),
    max_leaves=6,
)
statements = st.one_of(
    st.builds("{} = {}".format, st.sampled_from(["image", "img", "result", "output", "a", "b"]), expressions),
    expressions,
    st.builds("{} = {}".format, functions, values),
    st.builds("for a in {}: {}".format, expressions, expressions),
    st.builds("raise {}".format, expressions),
    st.builds("del {}".format, st.sampled_from(["image", "a", "np", "images[0]"])),
)
programs = st.one_of(
    st.lists(statements, min_size=1, max_size=8).map(
        lambda lines: "import os\n" + "".join(f"try:\n    {line}\nexcept Exception as e: print(e)\n" for line in lines)
    ),
    st.lists(statements, min_size=1, max_size=4).map("\n".join),
    st.text(max_size=200),
)


@pytest.fixture(scope="module")
def small() -> Iterator[Sandbox]:
    with Sandbox(LIMITS) as started:
        started.run(HONEST)
        yield started


def zygotes() -> dict[int, int]:
    """Each zygote, and how many children it has: the one that waits for the next call is another each time."""
    return {zygote.pid: len(zygote.children(recursive=True)) for zygote in psutil.Process().children()}


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(code=programs)
def test_a_random_program_ends_as_an_outcome_and_leaves_nothing(small: Sandbox, code: str) -> None:
    before = zygotes()
    result = small.run(ExecRequest(code=code, images=(IMAGE, noise(8, 9, 1))))
    assert result.status in ExecStatus
    assert (result.status is ExecStatus.OK) == bool(result.images)
    assert all(image.mode == "RGB" and max(image.size) <= LIMITS.max_side for image in result.images)
    assert sum(image.width * image.height for image in result.images) <= LIMITS.max_pixels
    assert len(result.stdout) <= LIMITS.stdout_chars
    assert result.ms < 1000 * (LIMITS.wall_s + 2.0)
    honest = next(made for _ in range(4) if (made := small.run(HONEST)).status is not ExecStatus.TIMEOUT)
    assert (honest.status, honest.stdout) == (ExecStatus.OK, "1 True\n")
    assert honest.images[0].tobytes() == ImageOps.flip(IMAGE).tobytes()
    assert zygotes() == before
