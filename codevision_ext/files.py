"""How does a file or a folder appear whole or not at all? Through a temporary neighbour and a rename."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from codevision_ext.errors import InputError


def write_whole(path: Path, content: bytes) -> None:
    """Puts `content` at `path`, replacing what was there; a reader sees the old file or the new one, never a part.

    Raises:
        OSError: the folder is missing or can't be written; nothing is left behind.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def whole_folder(out: Path, *, force: bool) -> Iterator[Path]:
    """A fresh folder beside `out` to write into; it becomes `out` when the block ends, and is removed if it raises.

    Raises:
        InputError: `out` is a file, or a folder with something in it and not `force`; or it can't be made.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file; name a folder")
    if out.is_dir() and any(out.iterdir()) and not force:
        raise InputError(f"--out {out} isn't empty; pass --force to replace what is in it")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    except OSError as error:
        raise InputError(f"--out {out} can't be made: {error.strerror}") from error
    try:
        draft.chmod(0o755)
        yield draft
        replaced = draft.with_name(draft.name + ".old")
        if out.exists():
            out.rename(replaced)
        draft.rename(out)
        shutil.rmtree(replaced, ignore_errors=True)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
