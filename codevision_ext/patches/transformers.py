"""Patch of transformers."""

from types import ModuleType
from typing import Any

from codevision_ext.patches.guard import expect


def typed_dicts_once(processing_utils: ModuleType) -> None:
    """Caches the TypedDict of a processor's settings; transformers creates a new TypedDict at every call.

    Each new TypedDict compiles a new validator (transformers/processing_utils.py:1372), which takes most of a
    processor's time for a small image. The patch changes speed only.

    Drop when `ProcessorMixin._merge_kwargs` caches the merged type.
    """
    expect(processing_utils.ProcessorMixin, "_merge_kwargs", "typed_dict_obj = TypedDict(", of="transformers 5.8")
    stock = processing_utils.TypedDict
    types: dict[Any, Any] = {}

    def cached_typed_dict(name: str, fields: dict[str, Any], *, total: bool = True) -> Any:
        key = (name, *fields.items(), total)
        if key not in types:
            types[key] = stock(name, fields, total=total)
        return types[key]

    vars(processing_utils)["TypedDict"] = cached_typed_dict
