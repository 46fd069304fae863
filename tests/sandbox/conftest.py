"""What the sandbox tests share: one real sandbox, an impatient one, and pictures on which every pixel counts."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from PIL import Image

from codevision_ext.sandbox import ExecRequest, ExecResult, Limits, Sandbox

Run = Callable[..., ExecResult]


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    """A picture without any symmetry."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


def scene(width: int, height: int, seed: int = 0) -> Image.Image:
    """A smooth picture without symmetry: survives resizing and recolouring."""
    return noise(width // 8, height // 8, seed).resize((width, height), Image.Resampling.BICUBIC)


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
