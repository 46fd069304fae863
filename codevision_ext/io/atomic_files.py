"""Writes files and folders atomically: through a temporary neighbour and a rename."""

import fcntl
import glob
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from codevision_ext.errors import InputError

_REPLACED = "replaced"
"""Name, inside a draft, of the folder that the draft replaces."""


def write_whole(path: Path, content: bytes) -> None:
    """Write or replace the file `path`; a reader sees the old file or the new file, never a part.

    A link stays, and its file is written. A device or a pipe, such as /dev/stdout, gets the content.

    Raises:
        OSError: the folder is missing or can't be written; nothing is left behind.
    """
    if path.exists() and not path.is_file():
        path.write_bytes(content)
        return
    path = path.resolve()
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
def draft_folder(out: Path) -> Iterator[Path]:
    """Yields a new hidden folder beside `out`, which is removed when the block ends.

    A killed run leaves its draft without a lock; the next run for `out` removes such drafts.

    Raises:
        InputError: the folder can't be made.
    """
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        for stale in out.parent.glob(f".{glob.escape(out.name)}.*.draft"):
            _remove_stale(stale, out)
        folder, lock = _fresh(out)
    except OSError as error:
        raise InputError(f"--out {out} can't be made: {error.strerror}") from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            os.close(lock)


@contextmanager
def whole_folder(out: Path, *, force: bool) -> Iterator[Path]:
    """Yields a new folder to write into; it becomes `out` when the block ends, and is removed if the block raises.

    Raises:
        InputError: `out` is a file, or a folder that isn't empty without `force`, or can't be made.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file; name a folder")
    if out.is_dir() and any(out.iterdir()) and not force:
        raise InputError(f"--out {out} isn't empty; pass --force to replace what is in it")
    with draft_folder(out) as draft:
        folder = draft / out.name
        folder.mkdir()
        yield folder
        if out.exists():
            out.rename(draft / _REPLACED)
        folder.rename(out)


def _fresh(out: Path) -> tuple[Path, int | None]:
    """Creates a new draft and its lock; the lock is None if the file system has no locks."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".draft", dir=out.parent))
        try:
            return folder, _lock(folder)
        except (BlockingIOError, FileNotFoundError):  # another run took it for one that was left
            continue
        except OSError:  # no locks here: what is left stays
            return folder, None


def _remove_stale(draft: Path, out: Path) -> None:
    with suppress(OSError):  # its run lives, or nothing can be known of it
        lock = _lock(draft)
        if (draft / _REPLACED).exists() and not out.exists():  # killed between the two renames
            (draft / _REPLACED).rename(out)
        shutil.rmtree(draft, ignore_errors=True)
        os.close(lock)


def _lock(folder: Path) -> int:
    """Returns a descriptor that holds the lock; it isn't inherited, and closing it ends the lock.

    Raises:
        OSError: another process has the lock (BlockingIOError), the folder is gone, or the file system has no locks.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        folder.stat()
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
