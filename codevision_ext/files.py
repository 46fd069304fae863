"""How does a file appear whole or not at all? Through a temporary neighbour and a rename."""

import os
import tempfile
from pathlib import Path


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
