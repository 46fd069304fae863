"""What tests of verl's own modules and of the engines' begin with."""

import importlib
import warnings
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module")
def verl() -> Iterator[None]:
    """verl, imported with the plugin; neither it nor what it imports may warn meanwhile."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        importlib.import_module("verl")
        yield
