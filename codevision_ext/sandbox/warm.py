"""What is loaded and warm in the zygote when its door shuts: after that nothing can be read from disk.

Libraries import parts of themselves on first use (PIL its codecs, `datetime.strptime` a whole module, `str.encode` the
tables of a character set). So everything that honest code may reach is imported here, and used once.
"""

import importlib
import io
import os
import pkgutil
import random
import threading
import warnings
from pathlib import Path
from typing import Any

STANDARD_LIBRARY = (
    *("abc", "argparse", "array", "ast", "atexit", "base64", "binascii", "bisect", "calendar", "cmath", "codecs"),
    *("collections.abc", "colorsys", "concurrent.futures.thread", "contextlib", "copy", "csv", "ctypes", "dataclasses"),
    *(
        "_strptime",
        "datetime",
        "decimal",
        "difflib",
        "enum",
        "errno",
        "fractions",
        "functools",
        "gc",
        "getpass",
        "glob",
    ),
    *("gzip", "hashlib", "heapq", "html", "inspect", "io", "itertools", "json", "keyword", "linecache", "locale"),
    *("logging", "math", "mimetypes", "mmap", "multiprocessing", "numbers", "operator", "os", "pathlib", "pickle"),
    *("platform", "pprint", "queue", "random", "re", "secrets", "shutil", "signal", "socket", "statistics", "string"),
    *("struct", "subprocess", "sys", "tempfile", "textwrap", "threading", "time", "timeit", "token", "tokenize"),
    *("traceback", "types", "typing", "unicodedata", "urllib.parse", "urllib.request", "uuid", "warnings", "weakref"),
    *("html.parser", "shlex", "tracemalloc", "xml.etree.ElementTree", "zipfile", "zlib", "zoneinfo"),
)
"""Some of it (socket, subprocess) is of no use behind the door, but says so when it is used, not when imported."""
NUMPY = ("char", "ctypeslib", "fft", "lib.stride_tricks", "linalg", "ma", "polynomial", "random", "rec", "typing")
ENCODINGS = (
    *("ascii", "base64_codec", "big5", "cp1252", "cp437", "gbk", "hex_codec", "idna", "iso8859_15", "latin_1"),
    *("punycode", "raw_unicode_escape", "rot_13", "shift_jis", "unicode_escape", "utf_16", "utf_16_be", "utf_16_le"),
    *("utf_32", "utf_8", "utf_8_sig", "zlib_codec", "cp1250", "iso8859_2", "euc_jp", "gb2312", "gb18030"),
)
NO_PART_OF_PIL = {"ImageGrab", "ImageQt", "ImageShow", "ImageTk", "ImageWin"}
"""Talk to a screen."""


def preload(*, plotting: bool) -> dict[str, Any]:
    """Import and warm what snippets use; returns the names that a snippet finds without an import.

    `plotting` adds matplotlib, which makes every fork dearer: it has a zygote of its own.
    """
    for name in STANDARD_LIBRARY:
        importlib.import_module(name)
    for name in ENCODINGS:
        importlib.import_module(f"encodings.{name}")
    tools = _pictures()
    if plotting:
        _matplotlib()
    random.seed(0)
    tools["np"].random.seed(0)
    warnings.simplefilter("ignore")  # what a library warns of is no word of the model's code
    return tools


def _pictures() -> dict[str, Any]:
    """PIL, numpy and cv2, each taken once through what is loaded lazily."""
    import cv2  # noqa: PLC0415 - the parent imports this package and must not pay for cv2
    import numpy as np  # noqa: PLC0415
    import PIL  # noqa: PLC0415
    from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageFont, ImageOps  # noqa: PLC0415

    cv2.setNumThreads(0)
    for name in NUMPY:
        importlib.import_module(f"numpy.{name}")
    Image.init()
    modules = {
        module.name: importlib.import_module(f"PIL.{module.name}")
        for module in pkgutil.iter_modules(PIL.__path__)
        if module.name.startswith("Image") and module.name not in NO_PART_OF_PIL
    }
    sample = Image.new("RGB", (16, 12), (10, 200, 90))
    turned = ImageOps.mirror(sample.rotate(90, expand=True)).crop((1, 1, 9, 9)).resize((16, 16))
    ImageDraw.Draw(turned).text((1, 1), "a")
    ImageDraw.Draw(turned).text((1, 1), "a", font=ImageFont.load_default(12))
    ImageEnhance.Contrast(turned.filter(ImageFilter.SHARPEN)).enhance(1.5)
    for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM"):
        if kind in Image.SAVE:
            file = io.BytesIO()
            turned.save(file, kind)
            Image.open(io.BytesIO(file.getvalue())).load()
    turned.getexif()
    array = np.array(turned)
    cv2.rotate(array, cv2.ROTATE_180)
    for space in (cv2.COLOR_RGB2LAB, cv2.COLOR_RGB2HSV, cv2.COLOR_RGB2LUV):  # tables, a tenth of a second
        cv2.cvtColor(array, space)
    cv2.putText(array, "a", (1, 8), cv2.FONT_HERSHEY_SIMPLEX, 0.3, (255, 0, 0))
    cv2.imdecode(cv2.imencode(".png", array)[1], cv2.IMREAD_COLOR)
    np.linalg.svd(np.eye(3))
    Image.fromarray(np.rot90(array))
    return modules | {"PIL": PIL, "cv2": cv2, "math": importlib.import_module("math"), "np": np, "numpy": np}


def _matplotlib() -> None:
    """Put matplotlib on its own fonts, held in memory, with the backend that draws into memory."""
    import matplotlib  # noqa: PLC0415 - only where it is asked for
    from matplotlib import font_manager, ft2font  # noqa: PLC0415

    for thread in threading.enumerate()[1:]:  # its timer, cancelled when the fonts are known
        thread.join()
    own = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    held = {os.path.realpath(path): path.read_bytes() for path in own.glob("*.ttf")}
    font_manager.fontManager.ttflist = [
        font for font in font_manager.fontManager.ttflist if os.path.realpath(font.fname) in held
    ]
    of_a_file, exists, is_file = ft2font.FT2Font, os.path.exists, os.path.isfile

    def font(filename: Any, *rest: Any, **options: Any) -> Any:
        data = held.get(str(filename))
        return of_a_file(filename if data is None else io.BytesIO(data), *rest, **options)

    ft2font.FT2Font = font  # type: ignore[assignment, misc]
    os.path.exists = lambda path: str(path) in held or exists(path)
    os.path.isfile = lambda path: str(path) in held or is_file(path)
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 - the backend comes first

    importlib.import_module("mpl_toolkits.mplot3d")
    for module in ("animation", "collections", "gridspec", "image", "lines", "patches", "patheffects", "widgets"):
        importlib.import_module(f"matplotlib.{module}")
    figure, (left, right) = plt.subplots(1, 2, figsize=(2, 1))
    left.plot([0, 1], label="$x^2$")
    left.legend()
    left.set_title("a", weight="bold", style="italic")
    right.imshow([[0, 1]])
    right.text(0, 0, "a", family="monospace")
    figure.savefig(io.BytesIO(), format="png", bbox_inches="tight")
    plt.close("all")
