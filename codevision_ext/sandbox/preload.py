"""Loads the libraries of the zygote before it is locked down; after that nothing can be read from disk.

Many libraries import parts of themselves on first use: PIL imports its codecs, `datetime.strptime` a module, and
`str.encode` the tables of a character set. So this module imports all parts that honest code may use, and uses them
once.
"""

import contextlib
import dataclasses
import importlib
import io
import os
import pkgutil
import random
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

from codevision_ext.sandbox.snippet import guards

STANDARD_LIBRARY = """
__future__ _strptime abc argparse array ast asyncio atexit base64 binascii bisect bz2 cProfile calendar cmath cmd code
codecs codeop collections.abc colorsys concurrent.futures.process concurrent.futures.thread configparser contextlib
contextvars copy copyreg csv ctypes.util dataclasses datetime decimal difflib dis email.message enum errno fcntl
filecmp fileinput fnmatch fractions functools gc getopt getpass glob graphlib gzip hashlib heapq hmac html.parser
http.client imghdr importlib.metadata importlib.resources importlib.util inspect io ipaddress itertools json keyword
linecache locale logging.config logging.handlers lzma marshal mimetypes mmap multiprocessing.dummy multiprocessing.pool
multiprocessing.shared_memory multiprocessing.synchronize ntpath numbers operator optparse os pathlib pickle
pickletools pkgutil platform plistlib posixpath pprint profile pstats pwd pydoc queue quopri random re reprlib resource
runpy sched secrets select selectors shelve shlex shutil signal site socket socketserver ssl stat statistics string
stringprep struct subprocess symtable sysconfig tarfile tempfile termios textwrap threading time timeit token tokenize
tomllib trace traceback tracemalloc tty types typing typing_extensions unicodedata unittest.mock urllib.parse
urllib.request uuid warnings wave weakref webbrowser xml.dom.minidom xml.etree.ElementTree zipfile zipimport zlib
zoneinfo
"""
"""Modules of the standard library. Some, such as socket and subprocess, can be imported and then fail when used."""
LIBRARIES = """
cv2.data numpy.char numpy.ctypeslib numpy.dtypes numpy.exceptions numpy.fft numpy.lib.format
numpy.lib.mixins numpy.lib.recfunctions numpy.lib.scimath numpy.lib.stride_tricks numpy.linalg numpy.ma.mrecords
numpy.matlib numpy.polynomial numpy.random numpy.rec numpy.strings numpy.testing numpy.typing
"""
PLOTTING = """
matplotlib._qhull matplotlib._tri matplotlib.animation matplotlib.backends.backend_pdf matplotlib.backends.backend_svg
matplotlib.category matplotlib.collections matplotlib.dates matplotlib.gridspec matplotlib.image matplotlib.lines
matplotlib.patches matplotlib.patheffects matplotlib.pylab matplotlib.sankey matplotlib.tri matplotlib.widgets
mpl_toolkits.axes_grid1 mpl_toolkits.axes_grid1.anchored_artists mpl_toolkits.axes_grid1.inset_locator
mpl_toolkits.axisartist mpl_toolkits.mplot3d
"""
ENCODINGS = """
encodings.ascii encodings.base64_codec encodings.big5 encodings.cp1250 encodings.cp1252 encodings.cp437
encodings.euc_jp encodings.gb18030 encodings.gb2312 encodings.gbk encodings.hex_codec encodings.idna
encodings.iso8859_15 encodings.iso8859_2 encodings.latin_1 encodings.punycode encodings.raw_unicode_escape
encodings.rot_13 encodings.shift_jis encodings.unicode_escape encodings.utf_16 encodings.utf_16_be encodings.utf_16_le
encodings.utf_32 encodings.utf_8 encodings.utf_8_sig encodings.zlib_codec
"""
NO_PART_OF_PIL = {"ImageQt", "ImageTk", "ImageWin", "__main__", "_tkinter_finder", "report"}
"""Modules of PIL that are left out, because they need a screen or print."""
FORMATS = {"AVIF", "BMP", "GIF", "ICO", "JPEG", "JPEG2000", "PDF", "PNG", "PPM", "TGA", "TIFF", "WEBP"}


def preload(*, lazily: bool = False, plotting: bool = False) -> dict[str, Any]:
    """Imports the libraries of snippets, and returns the names that a snippet can use without an import.

    Args:
        lazily: Import only what these names need, because the rest can still be read from disk later.
        plotting: Import matplotlib too. It makes every fork slower, so it has its own zygote.
    """
    import cv2  # noqa: PLC0415 - the parent imports this package and must not pay for cv2
    import numpy as np  # noqa: PLC0415
    import PIL  # noqa: PLC0415
    from PIL import Image  # noqa: PLC0415

    warnings.simplefilter("ignore")  # warnings of libraries aren't output of the model's code
    cv2.setNumThreads(0)
    Image.init()
    parts = {module.name for module in pkgutil.iter_modules(PIL.__path__)} - NO_PART_OF_PIL
    tools = {name: importlib.import_module(f"PIL.{name}") for name in sorted(parts) if name.startswith("Image")}
    tools |= {"PIL": PIL, "cv2": cv2, "math": importlib.import_module("math"), "np": np, "numpy": np}
    if not lazily:
        for name in (*STANDARD_LIBRARY.split(), *(f"PIL.{name}" for name in parts)):
            with contextlib.suppress(ImportError):  # missing in this Python, or an optional need of a PIL reader
                importlib.import_module(name)
        for name in (*ENCODINGS.split(), *LIBRARIES.split()):
            importlib.import_module(name)
        _use_images()
    if plotting:
        _use_matplotlib()
    guards.install()
    random.seed(0)
    np.random.seed(0)
    return tools


def _use_images() -> None:
    """Uses the parts of PIL, numpy and cv2 once that they load or build on first use."""
    import cv2  # noqa: PLC0415
    import numpy as np  # noqa: PLC0415
    from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageFont, ImageOps, ImageShow  # noqa: PLC0415

    if "AVIF" in Image.SAVE:
        sys.modules["PIL.AvifImagePlugin"].__dict__["DEFAULT_MAX_THREADS"] = 1  # a child has one
    ImageShow._viewers.clear()  # there is no screen
    sample = Image.new("RGB", (16, 12), (10, 200, 90))
    turned = ImageOps.mirror(sample.rotate(90, expand=True)).crop((1, 1, 9, 9)).resize((16, 16))
    ImageDraw.Draw(turned).text((1, 1), "a")
    ImageDraw.Draw(turned).text((1, 1), "a", font=ImageFont.load_default(12))
    ImageEnhance.Contrast(turned.filter(ImageFilter.SHARPEN)).enhance(1.5)
    for kind in Image.SAVE.keys() & FORMATS:
        file = io.BytesIO()
        turned.save(file, kind)
        if kind in Image.OPEN:
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


def _use_matplotlib() -> None:
    """Loads matplotlib with its own fonts held in memory, and with the backend that draws into memory."""
    import matplotlib  # noqa: PLC0415 - only in the zygote for plotting
    from matplotlib import font_manager, ft2font  # noqa: PLC0415

    for thread in threading.enumerate()[1:]:  # matplotlib's timer, which ends when the fonts are known
        thread.join()
    own = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    held = {os.path.realpath(path): path.read_bytes() for path in own.glob("*.ttf")}
    font_manager.fontManager.ttflist = [
        dataclasses.replace(font, fname=path)  # the list has the paths of a folder that may be a link
        for font in font_manager.fontManager.ttflist
        if (path := os.path.realpath(font.fname)) in held
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

    for name in PLOTTING.split():
        importlib.import_module(name)
    figure, (left, right) = plt.subplots(1, 2, figsize=(2, 1))
    left.plot([0, 1], label="$x^2$")
    left.legend()
    left.set_title("a", weight="bold", style="italic")
    right.imshow([[0, 1]])
    right.contour([[0, 1], [1, 2]])
    right.text(0, 0, "a", family="monospace")
    for kind in ("png", "svg"):
        figure.savefig(io.BytesIO(), format=kind, bbox_inches="tight")
    plt.close("all")
