"""Explains an exception of a snippet to the model: type, reason, line of code, and advice."""

import errno
import os
import re
import socket
import traceback
from collections.abc import Sequence

from codevision_ext.sandbox.snippet.files import FILES
from codevision_ext.sandbox.snippet.source import SOURCE
from codevision_ext.sandbox.wire import DETAIL_CHARS

DENIED_ERRNOS = {errno.EPERM, errno.EACCES, errno.EFBIG, errno.EROFS}
"""Error numbers of calls that the sandbox denies."""
REFUSALS = (
    os.strerror(errno.EPERM),  # from a C library, for example when a library is loaded
    "can't start new thread",
    "cannot open resource",  # a font's file
    "No usable temporary directory",
)
"""Messages of exceptions that have no error number but come from a denied call."""
ADVICE: Sequence[tuple[str, str]] = (
    ("cannot open resource|cannot open font", "use ImageFont.load_default(size=20)"),
    ("incompatible with cv::Mat|marked as readonly", "give cv2 np.ascontiguousarray(array)"),
    (r"!\w*(?:src|img|ssize|image)\w*\.empty\(\)", "the array is empty, a slice lies outside of the image"),
    ("not a numpy array|Expected Ptr<cv::UMat>", "give cv2 np.array(image)"),
    (
        "numpy.ndarray' object has no attribute '(?:crop|rotate|filter|convert|save|show|size)",
        "use Image.fromarray(array)",
    ),
    ("Image' object has no attribute '(?:shape|ndim|dtype|astype)", "use np.array(image)"),
    ("No module named", "there are PIL, numpy, cv2, matplotlib and the standard library"),
    ("name 'plt' is not defined", "write import matplotlib.pyplot as plt"),
    (r"^box\(\) (?:missing|takes|got)", "write box(x1, y1, x2, y2), four numbers without further brackets"),
    (r"^point\(\) (?:missing|takes|got)", "write point(x, y), two numbers without further brackets"),
    (r"^Image\.crop\(\) takes", "write crop((left, top, right, bottom)), with two pairs of brackets"),
    (
        r"name '\w*(?:image|img|pic)\w*' is not defined",
        "the image is in `image`, all images are in the list `images`",
    ),
    ("name 'python' is not defined", "begin with the code itself"),
    ("Cannot handle this data type", "give Image.fromarray an array of np.uint8"),
    ("Unknown resampling filter", "write resize((width, height))"),
    ("Operation on closed image", "don't close the image"),
    ("'return' outside function", "assign the result to `image`"),
    ("unexpected character after line continuation", r"write a line break as \n, not as \\n"),
    (
        r"\.save\(|savefig\(|imwrite\(|open\([^)]*(?:,|mode=)\s*['\"][wax]b?\+?['\"]",
        "nothing can be saved, assign the image to `image`",
    ),
)
"""Regular expressions with advice; they are searched in message and line, and the first match counts."""
REASON_CHARS = 200
"""Maximum length of a reason that is followed by advice."""

_OPENCV = re.compile(r"OpenCV\([^)]*\)\s*\S*:-?\d+:\s*error:\s*")


def explain(error: BaseException, code: str, notes: Sequence[str] = ()) -> tuple[str, str]:
    """Returns the status and a one-line detail for an exception; the notes are appended to the detail."""
    line = error.lineno if isinstance(error, SyntaxError) else None
    for frame, number in traceback.walk_tb(error.__traceback__):
        if frame.f_code.co_filename == SOURCE:
            line = number
    message = message_of(error)
    lines = code.splitlines()
    where = f" (line {line}: {lines[line - 1].strip()})" if line and line <= len(lines) else ""
    advice = next((advice for pattern, advice in ADVICE if re.search(pattern, message + where)), "")
    if not advice and isinstance(error, OSError) and error.filename and FILES.images:
        advice = f"the code can open {FILES.known()}"
    hints = "".join(f"; {hint}" for hint in (advice, *notes) if hint)
    if hints:
        hints = hints[: DETAIL_CHARS // 2]
        message, where = message[:REASON_CHARS], where[: DETAIL_CHARS - REASON_CHARS]
    detail = f"{type(error).__name__}: {message}{where}" if message else f"{type(error).__name__}{where}"
    detail = detail[: DETAIL_CHARS - len(hints)] + hints
    no_memory = type(error).__module__ == "cv2" and getattr(error, "code", None) == -4  # StsNoMem
    if isinstance(error, MemoryError) or no_memory:
        return "memory", detail
    return "denied" if was_denied(error) else "error", detail


def was_denied(error: BaseException) -> bool:
    """Returns whether a denied call caused the exception, directly or through another exception of a library."""
    refused = isinstance(error, OSError) and error.errno in DENIED_ERRNOS
    if refused or isinstance(error, socket.gaierror) or any(words in message_of(error) for words in REFUSALS):
        return True
    cause = error.__cause__ or (error.__context__ if isinstance(error, OSError) else None)
    return cause is not None and was_denied(cause)


def message_of(error: BaseException) -> str:
    """Returns an exception's message in one line; empty if it has none or its `__str__` fails."""
    try:
        message = str(error.msg) if isinstance(error, SyntaxError) else str(error)
        return one_line(message)
    except Exception:  # noqa: BLE001 - the model's own __str__ may raise anything
        return ""


def one_line(message: str) -> str:
    """Returns a message in one line; from a message of OpenCV, the location in OpenCV's own source is removed."""
    lines = [line.strip().lstrip(">- ").strip() for line in _OPENCV.sub("", message).splitlines()]
    return "; ".join(dict.fromkeys(line.rstrip(":") if at else line for at, line in enumerate(lines) if line))
