"""What has the judge decided before? One small file a request, so that processes and killed runs share it."""

import json
import logging
from pathlib import Path

from codevision_ext.errors import InputError
from codevision_ext.io.atomic_files import write_whole

logger = logging.getLogger(__name__)


class Cache:
    """Replies by key (64 hexadecimal digits) in DIR/ab/abcdef....json, each with the request that it answers.

    Files appear whole; two processes that ask the same write the same file, and the later one stays. A file that is
    damaged or can't be read is as good as none, one that can't be written is lost; the log names both.

    Raises:
        InputError: the folder can't be made.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"judge cache {folder}: can't be made: {error.strerror}") from error

    def get(self, key: str) -> str | None:
        """The reply kept under the key."""
        path = self._path(key)
        try:
            entry = json.loads(path.read_bytes())
            if entry["key"] != key or not isinstance(entry["reply"], str):
                raise ValueError("another request's, or no reply")
            return str(entry["reply"])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            logger.warning("judge cache: %s can't be used, the judge is asked again: %r", path, error)
            return None

    def put(self, key: str, request: object, reply: str) -> None:
        """Keeps the reply, beside the request for whoever wants to look at it."""
        path = self._path(key)
        try:
            path.parent.mkdir(exist_ok=True)
            write_whole(path, json.dumps({"key": key, "request": request, "reply": reply}, indent=1).encode())
        except OSError as error:
            logger.warning("judge cache: %s can't be written, a reply is lost: %s", path, error.strerror)

    def _path(self, key: str) -> Path:
        return self._folder / key[:2] / f"{key}.json"
