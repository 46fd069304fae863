"""Checks that the files and folders of a command exist, before anything is imported that takes long."""

from collections.abc import Iterable
from pathlib import Path

from codevision_ext.errors import InputError


def require_files(paths: Iterable[Path]) -> None:
    """Checks that every path is a file.

    Raises:
        InputError: a path is none; names the first one.
    """
    for path in paths:
        if not path.is_file():
            raise InputError(f"{path}: {'is a folder, not a file' if path.is_dir() else 'no such file'}")


def require_checkpoint(checkpoint: Path) -> None:
    """Checks that a folder looks like a checkpoint.

    Raises:
        InputError: the folder doesn't exist, or has no config.json.
    """
    if not (checkpoint / "config.json").is_file():
        reason = "it has no config.json" if checkpoint.is_dir() else "no such folder"
        raise InputError(f"{checkpoint}: not a checkpoint: {reason}")
