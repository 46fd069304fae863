"""Replaces halves of surrogate pairs (half an emoji) in text from outside, because they can't be encoded."""

from collections.abc import Mapping
from typing import Any


def clean_text(text: str) -> str:
    """Returns the text with U+FFFD in place of each lone surrogate; a pair of surrogates becomes one character.

    Every other character stays, control characters included.
    """
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def clean_texts(value: Any) -> Any:
    """Returns a JSON value with `clean_text` applied to every text in it, keys included."""
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, Mapping):
        return {clean_texts(key): clean_texts(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [clean_texts(part) for part in value]
    return value
