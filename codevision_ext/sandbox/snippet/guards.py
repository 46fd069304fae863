"""Replaces library functions that fail silently in the sandbox, so that the model reads a note about the failure.

A zygote replaces functions of PIL, cv2 and matplotlib after it has loaded them. Each child serves one call and has the
notes of this call. This module isn't a protection; see `child`.
"""

import builtins
import functools
import glob
import math
import os
import sys
from collections.abc import Callable
from typing import Any

from codevision_ext.sandbox.coordinates import are_fractions
from codevision_ext.sandbox.snippet import files
from codevision_ext.sandbox.snippet.files import FILES
from codevision_ext.sandbox.snippet.images import drawn, open_figures
from codevision_ext.sandbox.snippet.source import SOURCE

NO_FILES = "files are out of reach, the image is in `image`"
NOT_SAVED = "files can't be written, assign the image to `image`"
REFUSALS: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
    ("imread", lambda value: value is None, NO_FILES),
    ("imreadmulti", lambda value: not value[0], NO_FILES),
    ("imreadanimation", lambda value: not value[0], NO_FILES),
    ("imcount", lambda value: not value, NO_FILES),
    ("imwrite", lambda value: not value, NOT_SAVED),
    ("imwritemulti", lambda value: not value, NOT_SAVED),
    ("VideoCapture", lambda value: not value.isOpened(), NO_FILES),
    ("VideoWriter", lambda value: not value.isOpened(), NOT_SAVED),
    ("CascadeClassifier", lambda value: value.empty(), NO_FILES),
    ("FileStorage", lambda value: not value.isOpened(), NO_FILES),
)
"""Functions of cv2 that return a value when they fail: name, test whether the value means failure, note."""
UNSEEN = (
    (os.path, "exists"),
    (os.path, "isfile"),
    (os.path, "isdir"),
    (os.path, "lexists"),
    (os, "access"),
    (glob, "glob"),
)
"""Functions that find no file because the sandbox denies them access."""
WINDOWS = ("waitKey", "waitKeyEx", "pollKey", "namedWindow", "destroyWindow", "destroyAllWindows", "startWindowThread")
"""Functions of cv2 that need a screen; code usually calls them with `imshow`."""
MOST_NOTES = 3
"""Maximum number of notes of one call."""
PADDING = 0.1
"""Maximum share of a crop outside of the image, in [0, 1], that counts as intended padding."""


class Call:
    """Observations of this module's functions during the call of this child."""

    def __init__(self) -> None:
        self.shown: list[Any] = []
        """Images and figures that the code showed on a screen."""
        self.notes: list[str] = []
        """Notes for the model, without repetitions."""
        self.remedy = ""
        """Advice about coordinates that ends an error message; empty if the code's coordinates are pixels."""

    def note(self, text: str) -> None:
        """Adds a note, unless the call has the maximum number of notes."""
        if text not in self.notes and len(self.notes) < MOST_NOTES:
            self.notes.append(text)


CALL = Call()
"""The only call of this child."""


def begin() -> None:
    """Drops earlier observations, and closes open figures."""
    CALL.__init__()  # type: ignore[misc]
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


def note_cut(box: tuple[float, ...], size: tuple[int, int]) -> None:
    """Notes that a box was cut at the edge of an image of this size, unless only a small part of it lay outside."""
    left, top, right, bottom = map(float, box)
    over = (max(-left, right - size[0]) / size[0], max(-top, bottom - size[1]) / size[1])
    if max(over) > PADDING:
        CALL.note(f"the box was cut at the edge of the image, which is {size[0]}x{size[1]}")


def install() -> None:
    """Replaces the functions; the libraries must be loaded."""
    import cv2  # noqa: PLC0415 - loaded in the zygote, as PIL
    from PIL import Image, ImageShow  # noqa: PLC0415

    files.install(_replace)
    builtins.exit = builtins.quit = sys.exit  # type: ignore[assignment]  # what `site` adds to an interpreter
    builtins.display = _show  # type: ignore[attr-defined]  # what a notebook adds
    if "IPython.display" in sys.modules:  # PIL loads it
        sys.modules["IPython.display"].display = _show  # type: ignore[attr-defined]
    Image.Image.crop = _checked_crop(Image.Image.crop)  # type: ignore[method-assign]
    Image.Image.show = ImageShow.show = _show  # type: ignore[assignment, method-assign]
    for name, failed, words in REFUSALS:
        if hasattr(cv2, name):
            setattr(cv2, name, _noting(getattr(cv2, name), f"cv2.{name}", failed, words))
    for module, name in UNSEEN:
        own = "os.path" if module is os.path else module.__name__
        setattr(module, name, _noting(getattr(module, name), f"{own}.{name}", lambda value: not value, NO_FILES))
    cv2.imshow = lambda _, image: _show(image)
    for name in WINDOWS:
        setattr(cv2, name, lambda *_, **__: -1)
    if "matplotlib.pyplot" in sys.modules:
        pyplot: Any = sys.modules["matplotlib.pyplot"]
        pyplot.show = lambda *_, **__: CALL.shown.extend(map(drawn, open_figures()))


def _replace(owner: Any, name: str, function: Callable[..., Any]) -> None:
    """Sets an attribute to a function that gets the original as its first argument."""
    original = getattr(owner, name)

    @functools.wraps(original, updated=())
    def replaced(*values: Any, **options: Any) -> Any:
        return function(original, *values, **options)

    setattr(owner, name, replaced)


def _show(*values: Any, **_: Any) -> None:
    CALL.shown.extend(value for value in values if not isinstance(value, str))


def _noting(function: Callable[..., Any], name: str, failed: Callable[[Any], bool], words: str) -> Callable[..., Any]:
    """Wraps a function so that a failed call by the model's code adds a note."""

    @functools.wraps(function, updated=())
    def noting(*values: Any, **options: Any) -> Any:
        value = function(*values, **options)
        if (values or options) and _called_by_code() and failed(value):
            known = f"; it can open {FILES.known()}" if words is NO_FILES and FILES.by_path else ""
            CALL.note(f"{name} failed: {words}{known}")
        return value

    return noting


def _called_by_code() -> bool:
    """Returns whether the model's code, and not a library, called the function that calls this one."""
    return sys._getframe(2).f_code.co_filename == SOURCE


def _checked_crop(crop: Callable[..., Any]) -> Callable[..., Any]:
    """Wraps `Image.crop` so that `check_box` refuses implausible boxes of the model's code."""

    @functools.wraps(crop)
    def checked(image: Any, box: Any = None) -> Any:
        if box is not None and _called_by_code():
            box = tuple(box) if hasattr(box, "__iter__") else (box,)  # an array of four numbers will do
            check_box(box, image.size)
        return crop(image, box)

    return checked


def check_box(box: tuple[float, ...], size: tuple[int, int]) -> None:
    """Checks the box of a crop.

    Raises ValueError if it isn't four finite numbers, is reversed, outside of the image, or in fractions of its size.

    If the box crosses the edge of the image, a note is added. An empty box is refused when the result is checked.
    """
    if len(box) != 4 or not all(hasattr(side, "__float__") and math.isfinite(side) for side in box):
        raise ValueError("a crop is (left, top, right, bottom), four numbers in one pair of brackets")
    left, top, right, bottom = map(float, box)
    width, height = size
    asked = f"the crop ({', '.join(f'{side:g}' for side in (left, top, right, bottom))})"
    extent = f"the image, which is {width}x{height} pixels{CALL.remedy}"
    if are_fractions(box, size):
        raise ValueError(f"{asked} must be in pixels of {extent}")
    for low, high, names in ((left, right, ("left", "right")), (top, bottom, ("top", "bottom"))):
        if low > high:
            raise ValueError(
                f"a crop is (left, top, right, bottom): {names[0]} {low:g} is more than {names[1]} {high:g}"
            )
    if min(right, width) <= max(left, 0) or min(bottom, height) <= max(top, 0):
        if left < right and top < bottom:
            raise ValueError(f"{asked} lies outside of {extent}")
        return
    inside = (min(right, width) - max(left, 0)) * (min(bottom, height) - max(top, 0))
    if inside < (1 - PADDING) * (right - left) * (bottom - top):
        CALL.note(f"{asked} reaches outside of {extent}")
