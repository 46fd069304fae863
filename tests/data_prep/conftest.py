"""Provides one sandbox and a few demonstrations to all tests of this folder, as executing calls takes time."""

from collections.abc import Iterator

import pytest

from codevision_ext.rollout.code_tool import CodeTool
from codevision_ext.sandbox import Sandbox
from data_prep.demonstrations.scripted import draw_demonstrations
from data_prep.formats.schema import Demonstration, Row
from data_prep.tasks.reading.glyphs import Mix, draw_rows

MIX = Mix(seed=7, crop_share=0.4)
COUNT = 96


@pytest.fixture(scope="session")
def tool() -> Iterator[CodeTool]:
    with Sandbox() as sandbox:
        yield CodeTool(sandbox)


@pytest.fixture(scope="session")
def rows() -> list[Row]:
    """The rows behind `demonstrations`, in the same order."""
    return list(draw_rows(MIX, COUNT, "train", "sft"))


@pytest.fixture(scope="session")
def demonstrations(tool: CodeTool) -> list[Demonstration]:
    return list(draw_demonstrations(MIX, COUNT, "train", tool, wrong_first=0.5))
