"""Loads an image from a value: bytes, base64 in any form, or a path below a folder."""

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

from data_prep.formats.record import is_empty
from data_prep.formats.row_errors import Reason, RowError

_KEYS: Final = (
    *("bytes", "data", "base64", "b64_json", "b64", "image", "image_url", "url", "source"),
    *("path", "image_path", "file_name"),
)
"""Fields of an object that can hold an image, in the order in which they are tried."""
_MAX_NAME: Final = 255
_MAX_PATH: Final = 4096
"""Longest file name and path of Linux, in bytes."""
_DATA_URL: Final = re.compile(r"data:[^,]{0,200},", re.IGNORECASE)
_BASE64: Final = re.compile(r"[A-Za-z0-9+/_-]+=*")
_IMAGE: Final = re.compile(rb"\x89PNG|\xff\xd8\xff|GIF8|RIFF....WEBP|BM.{4}\0{4}|II\*\0|MM\0\*", re.DOTALL)
"""First bytes of image files."""
_ADDRESS: Final = re.compile(r"(?!file:)([a-z][a-z0-9+.-]+)://", re.IGNORECASE)
_DRIVE: Final = re.compile(r"[A-Za-z]:[\\/]")
_FETCH: Final = {"s3": "aws s3 cp", "gs": "gcloud storage cp", "hf": "hf download"}
"""Command that downloads a file, by the scheme of its address."""


def load_image(value: Any, folder: Path, field: str) -> tuple[bytes, str | None]:
    """Return an image file and its path, None for an image given as bytes.

    Raises:
        RowError: There is no such file, its path leads out of `folder`, or the value is a remote address.
    """
    if isinstance(value, Mapping):
        content = next((value[key] for key in _KEYS if not is_empty(value.get(key))), None)
        data, path = load_image(content, folder, field)
        own = value.get("path")
        return data, own if isinstance(own, str) else path
    if isinstance(value, bytes | bytearray | memoryview):
        raw = bytes(value)
        text = raw[:64].decode("ascii", errors="ignore").strip()
        if not text.lower().startswith("data:") and not (text and _is_image(_decoded(text[:32]))):
            return raw, None
        value = raw.decode("ascii", errors="ignore")
    if not isinstance(value, str) or not value.strip():
        raise RowError(Reason.IMAGE_MISSING, field, "neither bytes nor a path")
    text = value.strip()
    if text.startswith(("b'", 'b"')) and text.endswith(text[1]):  # bytes as Python prints them
        text = text[2:-1]
    if data_url := _DATA_URL.match(text):
        content = _decoded(unquote(text[data_url.end() :]))
        if content is None:
            raise RowError(Reason.IMAGE_MISSING, field, "a data URL whose base64 can't be decoded")
        return content, None
    content = _decoded(unquote(text) if "%" in text else text)
    if content is not None and (_is_image(content) or len(text) > _MAX_NAME):
        return content, None
    if len(text) > _MAX_PATH:
        raise RowError(Reason.IMAGE_MISSING, field, f"{text[:24]!r}.. is neither a path nor base64")
    return _read_file(text, folder, field), value


def _is_image(data: bytes | None) -> bool:
    return data is not None and _IMAGE.match(data) is not None


def _decoded(text: str) -> bytes | None:
    """Decode base64 in any form (with line breaks, for URLs, without padding); None for other text."""
    text = "".join(text.split())
    if not _BASE64.fullmatch(text):
        return None
    text = text.translate({ord("-"): "+", ord("_"): "/"}).rstrip("=")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        return None


def _read_file(text: str, folder: Path, field: str) -> bytes:
    if address := _ADDRESS.match(text):
        tool = _FETCH.get(address[1].lower(), "wget")
        advice = f"download the images ({tool}), write their paths, and name their folder with --pictures"
        raise RowError(Reason.IMAGE_MISSING, field, f"{text:.100}: addresses aren't fetched; {advice}")
    if _DRIVE.match(text):
        advice = "write paths relative to a folder, and name the folder with --pictures"
        raise RowError(Reason.IMAGE_MISSING, field, f"{text:.100} is a path of Windows; {advice}")
    if "\0" in text:
        raise RowError(Reason.IMAGE_MISSING, field, f"{text!r:.60} isn't a path")
    outside = ""
    for name in _spellings(text):
        try:
            path = (folder / name).resolve()
            if not path.is_relative_to(folder.resolve()):
                outside = outside or name
            elif path.is_file():
                return path.read_bytes()
        except (OSError, RuntimeError) as error:  # RuntimeError: symbolic links in a circle
            raise RowError(Reason.IMAGE_MISSING, field, f"{text:.100}: {getattr(error, 'strerror', error)}") from error
    if outside:
        message = f"{outside:.200} leads out of {folder}; --pictures names another folder"
        raise RowError(Reason.IMAGE_MISSING, field, message)
    if text.isdecimal():
        message = f"{text:.100} is neither a file in {folder} nor the `index` of a row with an image"
    else:
        message = f"{text:.200}: no such file in {folder}; --pictures names another folder"
        message += ", and \\ separates no folders here" if "\\" in text else ""
    raise RowError(Reason.IMAGE_MISSING, field, message)


def _spellings(text: str) -> Iterator[str]:
    """Yield possible paths of a text: unchanged, then with file://, ~, percent codes and backslashes resolved."""
    if re.match(r"file:", text, re.IGNORECASE):
        text = unquote(re.sub(r"file:(//(localhost(?=/))?)?", "", text, count=1, flags=re.IGNORECASE))
    if text.startswith("~/"):
        text = str(Path(text).expanduser())
    plain = unquote(text)
    yield from dict.fromkeys((text, plain, text.replace("\\", "/"), plain.replace("\\", "/")))
