"""What every test may use: a real sandbox, an impatient one, and verl with the plugin."""

import importlib
import os
import signal
import warnings
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from PIL import Image
from scenes import Run, noise

from codevision_ext.engines.device import use_cpu_if_no_cuda
from codevision_ext.sandbox import ExecRequest, ExecResult, Limits, Sandbox

use_cpu_if_no_cuda()  # whichever file of tests is the first to import verl or transformers in its process

# A busy machine is no fault, and a failure is of the change that it appears with, not of the draw.
settings.register_profile("steady", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")

for _number, _handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(_number) is signal.SIG_IGN:  # in the background of a shell; commands that tests stop inherit it
        signal.signal(_number, _handler)


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
    """Run code on one noisy image of 40x30, or on the images given."""

    def _run(code: str, *images: Image.Image, index: int = 0) -> ExecResult:
        return sandbox.run(ExecRequest(code=code, images=images or (noise(40, 30),), image_index=index))

    return _run


@pytest.fixture(scope="module")
def verl() -> Iterator[None]:
    """Activates CodeVision in this process, as a run that asks for it does; what verl imports may warn meanwhile."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        importlib.import_module("verl")
        activation = importlib.import_module("codevision_ext.verl_adapter.activation")
        activation.activate()
        os.environ.pop(activation.VARIABLE, None)  # a program that a test starts asks by its own config
        yield
