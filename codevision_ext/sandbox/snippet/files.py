"""Serves images under names as if they were files, so that code that opens and saves images by path runs unchanged.

No file is touched: a name is looked up in a table of this call, and every other name goes to the function that was
replaced, which the kernel refuses. This module protects nothing; see `child`.

A name is known if it is in the table, or if its last part names a single image of the table. Code can save to names in
the folder of a known name and in the working folder. Saving elsewhere fails, but the image is kept all the same.
"""

import builtins
import contextlib
import errno
import io
import os
import posixpath
from collections.abc import Callable, Mapping
from typing import Any

FOLDER = "/images"
"""Folder of the names that every call has."""
PROCESSED = f"{FOLDER}/processed.png"
"""Value of the variable `processed_path`, the name that code saves its image to."""
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff")
"""Endings of names that bytes can be written to."""
MOST_NAMES = 4
"""Maximum number of names in an error."""


class OutOfReachError(PermissionError):
    """The code saved to a name in a folder that isn't its own; the image was kept."""


def name_of(index: int) -> str:
    """Returns the name of the image `images[index]`."""
    return f"{FOLDER}/image_{index}.png"


class Files:
    """The images of this call by name, and what the code did with them."""

    def __init__(self) -> None:
        self.images: dict[str, Any] = {}
        """Image of each name; an image that was saved replaces the earlier one."""
        self.saved: dict[str, Any] = {}
        """Images that this call saved, by name, in the order in which the names were first saved to."""
        self.sources: list[Any] = []
        """Objects that were saved: images and arrays."""
        self.opened = False
        """True if this call opened an image by a name that it hadn't saved to."""
        self.reopened: set[str] = set()
        """Names that this call opened after it saved to them."""
        self.by_path = False
        """True if the code or the request names a path, so that a note on a path lists those that code can open."""
        self.active = False
        """True during a call; otherwise no function does anything but the original."""
        self._data: dict[str, bytes] = {}

    def begin(self, images: Mapping[str, Any], *, by_path: bool) -> None:
        """Starts a call with these images by name; images that an earlier call saved keep their names."""
        self.by_path = by_path
        self.saved, self.sources, self.opened, self.reopened, self.active = {}, [], False, set(), True
        for name, image in images.items():
            self.add(name, image)

    def add(self, name: str, image: Any) -> None:
        """Gives the image a name."""
        name = posixpath.normpath(name)
        self.images[name] = image
        self._data.pop(name, None)

    def find(self, path: Any) -> str | None:
        """Returns the name in the table that a path means; None if it means none."""
        name = _text(path)
        if name is None or name in self.images:
            return name
        last = posixpath.basename(name)
        same = [known for known in self.images if posixpath.basename(known) == last]
        return same[0] if len({id(self.images[known]) for known in same}) == 1 else None

    def data(self, name: str) -> bytes:
        """Returns the image of a name as a file without a loss: PNG where the name says so, else BMP."""
        if name in self.saved:
            self.reopened.add(name)
        else:
            self.opened = True
        if name not in self._data:
            file, image = io.BytesIO(), self.images[name]
            image = image if image.mode in ("1", "L", "P", "RGB", "RGBA") else image.convert("RGBA")
            if name.lower().endswith(".png"):
                _SAVE(image, file, "PNG", compress_level=0)
            else:
                _SAVE(image, file, "BMP")
            self._data[name] = file.getvalue()
        return self._data[name]

    def save(self, path: Any, image: Any, source: Any = None) -> None:
        """Keeps the image under a name.

        Raises:
            OutOfReachError: the name is in a folder that code can't save to.
        """
        name = _text(path) or ""
        self.add(name, image)
        self.saved[name] = image
        self.reopened.discard(name)
        self.sources.append(source)
        if not self.holds(posixpath.dirname(name)):
            raise OutOfReachError(errno.EPERM, os.strerror(errno.EPERM), name)

    def holds(self, folder: str) -> bool:
        """Returns whether names in this folder can be saved to."""
        folder = posixpath.normpath(folder or ".")
        own = {FOLDER, "/", *(posixpath.dirname(name) for name in self.images if name not in self.saved)}
        return folder in own or not folder.startswith(("/", ".."))

    def left(self, processed: Any) -> list[Any]:
        """Returns the saved images; of those that were opened again only the one at the path `processed`."""
        kept = {_text(processed), *(self.saved.keys() - self.reopened)}
        return [image for name, image in self.saved.items() if name in kept]

    def known(self) -> str:
        """Returns the names that can be opened, for an error."""
        names = list(self.images)
        more = ", .." if len(names) > MOST_NAMES else ""
        return ", ".join(map(repr, names[:MOST_NAMES])) + more


FILES = Files()
"""The table of this child's only call."""
_SAVE: Callable[..., None]
"""PIL's own function that saves an image."""


class _Written(io.BytesIO):
    """A file that code writes; its image is saved when the file is closed."""

    def __init__(self, path: Any) -> None:
        super().__init__()
        self.name = path

    def close(self) -> None:
        """Saves the image that was written; other bytes are dropped."""
        from PIL import Image  # noqa: PLC0415 - loaded in the zygote

        data = b"" if self.closed else self.getvalue()
        super().close()
        if data:
            with contextlib.suppress(Exception):  # damaged data makes a decoder raise anything
                FILES.save(self.name, Image.open(io.BytesIO(data)).copy())


def _text(path: Any) -> str | None:
    """Returns a path as a plain normal text, whatever its class says it is; None if it isn't a path."""
    try:
        path = os.fspath(path)
    except TypeError:
        return None
    path = os.fsdecode(path) if isinstance(path, bytes) else str.__str__(path)
    return posixpath.normpath(path) if path else None


def install(replace: Callable[[Any, str, Callable[..., Any]], None]) -> None:
    """Replaces the functions that open and save by name.

    Args:
        replace: Sets an attribute of a module or class to a function, which gets the original before its arguments.
    """
    import cv2  # noqa: PLC0415 - loaded in the zygote, as PIL and numpy
    import numpy as np  # noqa: PLC0415
    from PIL import Image  # noqa: PLC0415

    global _SAVE
    _SAVE = Image.Image.save
    replace(builtins, "open", _open)
    io.open = builtins.open
    replace(Image.Image, "save", _save)
    replace(cv2, "imread", _imread)
    replace(cv2, "imwrite", _imwrite)
    replace(np, "fromfile", _fromfile)
    for name in ("exists", "isfile", "lexists"):
        replace(os.path, name, lambda original, path: FILES.find(path) is not None or original(path))
    replace(os.path, "isdir", lambda original, path: _is_folder(path) or original(path))
    replace(os.path, "getsize", _getsize)
    for name in ("mkdir", "makedirs"):
        replace(os, name, _mkdir)


def _open(original: Callable[..., Any], file: Any, mode: str = "r", *rest: Any, **options: Any) -> Any:
    if isinstance(mode, str) and "b" in mode and not isinstance(file, int):
        if "r" in mode and (name := FILES.find(file)) is not None:
            data = io.BytesIO(FILES.data(name))
            data.name = file
            return data
        name = _text(file)
        writes = "w" in mode and name is not None and name.lower().endswith(SUFFIXES)
        if writes and FILES.active and FILES.holds(posixpath.dirname(name or "")):
            return _Written(file)
    return original(file, mode, *rest, **options)


def _save(original: Callable[..., Any], image: Any, fp: Any, *rest: Any, **options: Any) -> None:
    from PIL import Image  # noqa: PLC0415 - as above

    name = _text(fp)
    form = rest[0] if rest else options.get("format")
    unknown = name is not None and not form and posixpath.splitext(name)[1].lower() not in Image.registered_extensions()
    if not FILES.active or name is None or unknown:  # an unknown ending is an error, in which PIL names it
        original(image, fp, *rest, **options)
        return
    FILES.save(fp, image.copy(), image)


def _imread(original: Callable[..., Any], filename: Any, *flags: Any, **options: Any) -> Any:
    import cv2  # noqa: PLC0415 - as above
    import numpy as np  # noqa: PLC0415

    name = FILES.find(filename)
    if name is None:
        return original(filename, *flags, **options)
    flag = flags[0] if flags else options.get("flags", cv2.IMREAD_COLOR)
    return cv2.imdecode(np.frombuffer(FILES.data(name), np.uint8), flag)


def _imwrite(original: Callable[..., Any], filename: Any, img: Any, *rest: Any, **options: Any) -> Any:
    import numpy as np  # noqa: PLC0415 - as above
    from PIL import Image  # noqa: PLC0415

    channels = {2: 1, 3: img.shape[-1]}.get(img.ndim) if isinstance(img, np.ndarray) and img.size else None
    if not FILES.active or _text(filename) is None or channels not in (1, 3, 4) or img.dtype.kind not in "uif":
        return original(filename, img, *rest, **options)
    pixels = np.clip(np.rint(img / 257 if img.dtype == np.uint16 else img), 0, 255).astype(np.uint8)
    order = {1: [0], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[channels]
    pixels = pixels if img.ndim == 2 else pixels[:, :, order[0] if channels == 1 else order]
    with contextlib.suppress(OutOfReachError):  # cv2 raises nothing
        FILES.save(filename, Image.fromarray(np.ascontiguousarray(pixels)), img)
        return True
    return False


def _fromfile(original: Callable[..., Any], file: Any, dtype: Any = float, *rest: Any, **options: Any) -> Any:
    import numpy as np  # noqa: PLC0415 - as above

    name = FILES.find(file)
    if name is None:
        return original(file, dtype, *rest, **options)
    return np.frombuffer(FILES.data(name), dtype).copy()


def _getsize(original: Callable[..., Any], filename: Any) -> Any:
    name = FILES.find(filename)
    return original(filename) if name is None else len(FILES.data(name))


def _is_folder(path: Any) -> bool:
    return _text(path) in {posixpath.dirname(name) for name in FILES.images}


def _mkdir(original: Callable[..., Any], name: Any, *rest: Any, **options: Any) -> None:
    folder = _text(name)
    if not FILES.active or folder is None or not FILES.holds(folder):
        original(name, *rest, **options)
