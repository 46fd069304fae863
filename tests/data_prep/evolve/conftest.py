"""Provides an examiner with a store of its own to the tests of this folder."""

from collections.abc import Iterator

import pytest

from codevision_ext.rollout.code_tool import CodeTool
from data_prep.evolve.stages import Examiner
from data_prep.evolve.store import ResultStore


@pytest.fixture(scope="session")
def examiner(tool: CodeTool, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Examiner]:
    with ResultStore(tmp_path_factory.mktemp("store")) as store:
        yield Examiner(store, tool)
