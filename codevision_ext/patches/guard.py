"""Checks that the source which a patch works around is still there."""

import inspect
from collections.abc import Callable
from typing import Any

from codevision_ext.errors import CompatError


def expect(owner: Any, name: str, *fragments: str, of: str = "verl 0.9.1") -> Callable[..., Any]:
    """The function `owner.name`, once its source is seen to contain every fragment."""
    function = getattr(owner, name, None)
    where = f"{getattr(owner, '__name__', owner)}.{name}"
    if function is None:
        raise CompatError(f"{where} is gone: this plugin was written for {of}")
    source = inspect.getsource(inspect.unwrap(function))
    for fragment in fragments:
        if fragment not in source:
            raise CompatError(f"{where} no longer contains {fragment!r}: this plugin was written for {of}")
    return function
