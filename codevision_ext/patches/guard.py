"""Checks the source code of a library before it is patched, and replaces functions of a library."""

import inspect
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from codevision_ext.errors import CompatError


def expect(owner: Any, name: str, *fragments: str, of: str = "verl 0.9.1") -> Callable[..., Any]:
    """Returns the function `name` of a module or class after checking that its source contains every fragment.

    `of` is the library and version that the patch was written for.

    Raises:
        CompatError: The function or a fragment is missing: the library has another version.
    """
    function: Callable[..., Any] | None = getattr(owner, name, None)
    where = f"{getattr(owner, '__name__', owner)}.{name}"
    if function is None:
        raise CompatError(f"{where} is gone: this plugin was written for {of}")
    source = inspect.getsource(inspect.unwrap(function))
    for fragment in fragments:
        if fragment not in source:
            raise CompatError(f"{where} no longer contains {fragment!r}: this plugin was written for {of}")
    return function


def replace(module: ModuleType, name: str, function: Callable[..., Any]) -> None:
    """Replaces the function `module.name`, also in modules that imported it by name, as verl's SFT trainer does."""
    stock = getattr(module, name)
    for holder in [module, *sys.modules.values()]:
        if getattr(holder, "__dict__", {}).get(name) is stock:
            setattr(holder, name, function)
