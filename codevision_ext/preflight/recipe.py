"""Checks that every setting of a recipe is read. `python -m codevision_ext.preflight.recipe FOLDER` checks a folder.

A training checks its config in the same way before Ray starts (`verl_adapter.activation`).
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

from codevision_ext.config import read_settings
from codevision_ext.errors import CodeVisionError, InputError
from codevision_ext.verl_config import BASES, check_names_and_types, composed, plain_dict, read_tool_config


def load_recipe(folder: Path, name: str, settings: Sequence[str] = ()) -> DictConfig:
    """Composes a recipe's config, a key of `BASES`, as verl will see it, and checks its settings.

    Raises:
        InputError: the config can't be composed, or has a setting that nobody reads or whose type isn't verl's.
    """
    config = composed(folder, name, settings)
    read_settings(plain_dict(config).get("codevision"))
    try:
        check_names_and_types(config, BASES[name])
    except InputError as error:
        raise InputError(f"{folder / name}.yaml: {error}") from error
    return config


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
