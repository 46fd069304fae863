"""Stores the images of the page, in a folder beside the page or in the page itself."""

import base64
import io
import re
import shutil
from pathlib import Path
from urllib.parse import quote

from PIL import Image

from codevision_ext.errors import InputError
from codevision_ext.io.records import image_path

_NAME = re.compile(r"[0-9a-f]{64}")
_MAX_SIDE = 640
"""Maximum side of an inlined image in pixels; larger images are shrunk."""
_MAX_INLINE_BYTES = 150_000_000
"""Maximum size of all inlined images together; more is too much for a browser."""
_MISSING = ("", 0, 0)


class Album:
    """The images of a page, each once.

    With a folder they are linked into it (hard links; copies where the file system has none) under the names of the
    record store, without one they become `data:` URIs, large ones smaller.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.entries: list[tuple[str, int, int]] = []
        """Name or `data:` URI, and width and height of the image itself; empty and 0 if its file is missing."""
        self._index: dict[str, int] = {}
        self._inlined = 0

    @property
    def base(self) -> str:
        """Folder of the images as a relative URL; empty if they are inlined."""
        return quote(self.folder.name) if self.folder else ""

    def add(self, directory: Path, name: str) -> int:
        """Adds the image `name` of the record files in `directory`, and returns its index.

        Raises:
            InputError: the name is none of an image store, the file is no image, it can't be put into the folder,
                or too much would be inlined.
        """
        if not _NAME.fullmatch(name):
            raise InputError(f"{directory}: a record names an image {name[:80]!r}, which no image store does")
        if name not in self._index:
            self._index[name] = len(self.entries)
            self.entries.append(_MISSING)
        at = self._index[name]
        if self.entries[at] is _MISSING:
            self.entries[at] = self._entry(image_path(directory, name), name)
        return at

    def _entry(self, path: Path, name: str) -> tuple[str, int, int]:
        try:
            with Image.open(path) as image:
                shown = name if self.folder else self._inline(image, path)
                width, height = image.size
        except FileNotFoundError:
            return _MISSING
        except (OSError, Image.DecompressionBombError) as error:
            raise InputError(f"{path}: not an image that can be shown: {error}") from error
        if self.folder:
            _link(path, image_path_in(self.folder, name))
        return shown, width, height

    def _inline(self, image: Image.Image, path: Path) -> str:
        raw, kind = b"", "png"
        if max(image.size) > _MAX_SIDE:
            small, out = image.convert("RGB"), io.BytesIO()
            small.thumbnail((_MAX_SIDE, _MAX_SIDE))
            small.save(out, "JPEG", quality=85)
            raw, kind = out.getvalue(), "jpeg"
        else:
            image.verify()
            raw = path.read_bytes()
        uri = f"data:image/{kind};base64,{base64.b64encode(raw).decode()}"
        self._inlined += len(uri)
        if self._inlined > _MAX_INLINE_BYTES:
            raise InputError(
                f"inlined images take more than {_MAX_INLINE_BYTES // 10**6} MB: leave out --inline, or show fewer "
                "rollouts with --limit"
            )
        return uri


def image_path_in(folder: Path, name: str) -> Path:
    """Returns the path of an image in the folder of the page."""
    return folder / name[:2] / f"{name}.png"


def _link(source: Path, target: Path) -> None:
    if target.exists():
        return
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            target.hardlink_to(source)
        except OSError:  # another file system, or one without links
            draft = target.with_suffix(".part")
            shutil.copyfile(source, draft)
            draft.replace(target)
    except OSError as error:
        raise InputError(f"{target}: can't be written: {error.strerror}") from error


def forget_others(folder: Path, names: set[str]) -> None:
    """Removes images of an earlier page that this page doesn't have; files with other names stay."""
    for path in folder.glob("??/*.png"):
        if path.stem not in names and _NAME.fullmatch(path.stem):
            path.unlink()
