"""Are a recipe's settings ones that somebody reads? `python -m codevision_ext.verl_adapter.check_recipe FOLDER`.

verl takes any name in a config file and ignores the ones it doesn't know. Here a name that verl's own config lacks is
an error, except below settings that are open by design: what goes on to Ray, to the engine or to the model's config.
"""

import dataclasses
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir, initialize_config_module
from hydra.errors import HydraException
from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from codevision_ext.config import read_settings
from codevision_ext.errors import CodeVisionError, InputError

BASES = {"grpo": "ppo_trainer", "sft": "sft_trainer_engine"}
"""Our configs and the ones of verl that they build on."""
OPEN = ("codevision", "ray_kwargs.ray_init")
"""Sections whose names verl hands on; an empty mapping or a null in verl's own config is open too."""


def load(folder: Path, name: str, settings: Sequence[str] = ()) -> DictConfig:
    """A recipe's config as verl will see it, checked; `settings` as on verl's command line.

    Raises:
        InputError: it can't be composed, or has a setting that nobody reads.
    """
    path = folder / f"{name}.yaml"
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        with initialize_config_dir(str(folder.absolute()), version_base=None):
            config = compose(name, overrides=["hydra.searchpath=[pkg://verl.trainer.config]", *settings])
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        raise InputError(f"{path}: {' '.join(str(error).split())}") from error
    with initialize_config_module("verl.trainer.config", version_base=None):
        stock = compose(BASES[name])
    read_settings(OmegaConf.to_container(config.get("codevision", OmegaConf.create({})), resolve=False))
    for setting in unknown(OmegaConf.to_container(config), OmegaConf.to_container(stock)):
        raise InputError(f"{path}: {setting}: verl's {BASES[name]} has no such setting")
    return config


def unknown(ours: Mapping[str, Any], known: Mapping[str, Any], above: str = "") -> Iterator[str]:
    """Dotted names that are in `ours` and not in `known`, outside of what is open.

    A section with a `_target_` becomes that dataclass, whose fields verl's config needn't list.
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


def main() -> None:
    """Checks every config of the recipe; what is wrong is one sentence on stderr and exit code 2."""
    try:
        for name in BASES:
            load(Path(sys.argv[1]), name)
    except CodeVisionError as error:
        sys.stderr.write(f"codevision: {error}\n")
        sys.exit(2)


if __name__ == "__main__":
    main()
