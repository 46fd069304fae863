"""Caches replies of language models: one small file per request, shared by processes and by repeated runs."""

import json
import logging
from pathlib import Path

from codevision_ext.errors import InputError
from codevision_ext.io.atomic_files import write_whole

logger = logging.getLogger(__name__)


class ReplyCache:
    """Replies by key (64 hexadecimal digits) in DIR/ab/abcdef....json, each with the request that it answers.

    A file appears whole. When two processes send the same request, they write the same file and the later one stays. A
    file that is damaged or can't be read counts as missing; a reply that can't be written is lost. Both are logged with
    the file's name.

    Raises:
        InputError: the folder can't be made.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"reply cache {folder}: can't be made: {error.strerror}") from error

    def get(self, key: str) -> str | None:
        """Return the reply under the key; None if there is none."""
        path = self._path(key)
        try:
            entry = json.loads(path.read_bytes())
            if entry["key"] != key or not isinstance(entry["reply"], str):
                raise ValueError("it holds another request's reply, or no reply")
            return str(entry["reply"])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            logger.warning("reply cache: %s can't be used, the request is sent again: %r", path, error)
            return None

    def put(self, key: str, request: object, reply: str) -> None:
        """Store the reply under the key, with the request for readers of the file."""
        path = self._path(key)
        try:
            path.parent.mkdir(exist_ok=True)
            write_whole(path, json.dumps({"key": key, "request": request, "reply": reply}, indent=1).encode())
        except OSError as error:
            logger.warning("reply cache: %s can't be written, a reply is lost: %s", path, error.strerror)

    def _path(self, key: str) -> Path:
        return self._folder / key[:2] / f"{key}.json"
