"""Checks that every setting of a recipe is read. `python -m codevision_ext.preflight.recipe FOLDER` checks a folder.

verl accepts any name in a config file and ignores the names that it doesn't know. Here a name that verl's own config
lacks is an error, except in sections that are open by design: settings that verl passes on to Ray, to the engine or to
the model's config.
"""

import dataclasses
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.utils import get_class
from omegaconf import DictConfig

from codevision_ext.config import read_settings
from codevision_ext.errors import CodeVisionError, InputError
from codevision_ext.verl_config import BASES, composed, plain_dict, read_tool_config, verl_configs

OPEN = ("codevision", "ray_kwargs.ray_init")
"""Sections whose settings verl passes on. An empty mapping or a null in verl's own config is open too."""

ANY_TYPE = ("trainer.save_freq",)
"""Settings whose value may have another type than verl's default."""


def load_recipe(folder: Path, name: str, settings: Sequence[str] = ()) -> DictConfig:
    """Composes a recipe's config as verl will see it, and checks its settings.

    Args:
        folder: Folder of the recipe.
        name: Name of the config without `.yaml`, a key of `BASES`.
        settings: Overrides, as on verl's command line.

    Raises:
        InputError: the config can't be composed, or has a setting that nobody reads or whose type isn't verl's.
    """
    config = composed(folder, name, settings)
    with initialize_config_dir(str(verl_configs()), version_base=None):
        stock = compose(BASES[name])
    ours, known = plain_dict(config), plain_dict(stock)
    read_settings(ours.get("codevision"))
    for setting in unknown(ours, known):
        raise InputError(f"{folder / name}.yaml: {setting}: verl's {BASES[name]} has no such setting")
    for problem in mistyped(ours, known):
        raise InputError(f"{folder / name}.yaml: {problem}, as it is in verl's {BASES[name]}")
    return config


def unknown(ours: Mapping[str, Any], known: Mapping[str, Any], above: str = "") -> Iterator[str]:
    """Yields the dotted names that are in `ours` and not in `known`, outside of open sections.

    A section with a `_target_` becomes an object of that dataclass, and verl's config needn't list all of its fields.
    """
    fields = (
        {field.name for field in dataclasses.fields(get_class(known["_target_"]))} if "_target_" in known else set()
    )
    for name, value in ours.items():
        path = f"{above}{name}"
        if path in OPEN:
            continue
        if name not in known and name not in fields:
            yield path
        elif isinstance(value, Mapping) and isinstance(known.get(name), Mapping) and known[name]:
            yield from unknown(value, known[name], f"{path}.")


def mistyped(ours: Mapping[str, Any], stock: Mapping[str, Any], above: str = "") -> Iterator[str]:
    """Yields settings whose type differs from verl's default; null and interpolated values are skipped."""
    for name, value in ours.items():
        path, known = f"{above}{name}", stock.get(name)
        if isinstance(value, Mapping) and isinstance(known, Mapping):
            yield from mistyped(value, known, f"{path}.")
        elif value is None or str(value).startswith("${") or path in ANY_TYPE:
            continue
        elif (kind := _kind(known)) and kind != _kind(value):
            yield f"{path}: {value!r} isn't {kind}"


def _kind(value: Any) -> str:
    kinds = {bool: "true or false", int: "a number", float: "a number", dict: "a section"}
    return kinds.get(type(value), "")


def main() -> None:
    """Checks every config of a recipe and its tool; an error is one sentence on stderr and exit code 2."""
    folder = Path(sys.argv[1])
    try:
        for name in BASES:
            load_recipe(folder, name)
        read_tool_config(folder / "tool.yaml")
    except CodeVisionError as error:
        sys.stderr.write(f"codevision: {error}\n")
        sys.exit(2)


if __name__ == "__main__":
    main()
