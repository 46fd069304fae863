"""What the sandbox tests share: one real sandbox, and an impatient one."""

from collections.abc import Iterator

import pytest
from PIL import Image
from scenes import Run, noise

from codevision_ext.sandbox import ExecRequest, ExecResult, Limits, Sandbox


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(Limits(wall_s=5.0)) as started:
        yield started


@pytest.fixture(scope="session")
def impatient() -> Iterator[Sandbox]:
    """Kills after a second, and is small in everything."""
    limits = Limits(wall_s=1.0, memory_mb=128, max_side=500, max_pixels=100_000, stdout_chars=100, code_chars=2000)
    with Sandbox(limits) as started:
        yield started


@pytest.fixture
def run(sandbox: Sandbox) -> Run:
    """Run code on one noisy picture of 40x30, or on the pictures given."""

    def _run(code: str, *pictures: Image.Image, index: int = 0) -> ExecResult:
        images = pictures or (noise(40, 30),)
        return sandbox.run(ExecRequest(code=code, images=images, image_index=index))

    return _run
