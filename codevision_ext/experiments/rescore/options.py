"""Reads NAME=VALUE words of the command line as reward settings and grids."""

from collections.abc import Sequence
from math import isfinite

from codevision_ext.config import changed, read_reward_settings
from codevision_ext.errors import InputError
from codevision_ext.rewards.settings import RewardSettings


def read_reward(preset: str, weights: Sequence[str], switches: Sequence[str]) -> RewardSettings:
    """Returns the reward settings that `--preset`, `--weight` and `--set` name.

    Raises:
        InputError: a word isn't NAME=VALUE, or a name or value isn't known.
    """
    section = changed({"preset": preset}, switches, "such as sim=giou")
    if weights:
        place = section.setdefault("weights", {})
        if not isinstance(place, dict):
            raise InputError("--set weights: wants names, as in --set weights.must=1")
        place |= dict(_weight(word) for word in weights)
    return read_reward_settings(section)


def read_axes(words: Sequence[str]) -> dict[str, list[float]]:
    """Returns the weights that `--grid` names, with their values.

    Raises:
        InputError: a word isn't NAME=V,V,..., or a name occurs twice.
    """
    axes: dict[str, list[float]] = {}
    for word in words:
        name, text = _split("--grid", word)
        if name in axes:
            raise InputError(f"--grid {word}: {name} occurs twice")
        axes[name] = [_number("--grid", word, value) for value in text.split(",")]
    return axes


def _weight(word: str) -> tuple[str, float]:
    name, text = _split("--weight", word)
    return name, _number("--weight", word, text)


def _split(option: str, word: str) -> tuple[str, str]:
    name, sign, text = word.partition("=")
    if not name.strip() or not sign or not text.strip():
        raise InputError(f"{option} {word}: must be NAME=VALUE")
    return name.strip(), text.strip()


def _number(option: str, word: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not isfinite(value):
        raise InputError(f"{option} {word}: {text!r} isn't a finite number")
    return value
