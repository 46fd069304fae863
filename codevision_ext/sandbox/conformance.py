"""Checks a back end that runs model-written code: it must pass all cases, and all doors must be shut.

A door is an action that model-written code must not be able to take, such as opening a file. The cases only need
`run(ExecRequest) -> ExecResult`, so they fit any back end. Every zygote runs `PROOF` and `open_doors` when it starts.
`CASES` has all cases, for test suites and for checking a machine before it is used.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from codevision_ext.sandbox.protocol import ExecRequest, ExecResult
from codevision_ext.types import ExecStatus

Run = Callable[[ExecRequest], ExecResult]
Make = Callable[[Image.Image], Image.Image]


def _image(width: int, height: int, seed: int = 0) -> Image.Image:
    """Returns an image of noise, which differs from itself when it is turned or mirrored."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


IMAGE, SECOND = _image(24, 16), _image(10, 30, seed=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConformanceCase:
    """A program and its expected result; an expected value of None isn't checked."""

    name: str
    code: str
    first: str = ""
    """Code of another call that is run before; empty: none."""
    status: ExecStatus = ExecStatus.OK
    image: Make | None = None
    """Function from the input image to the expected image, pixel for pixel."""
    stdout: str | None = None
    detail: str | None = None
    """Text that the detail must contain."""

    def fault(self, run: Run) -> str:
        """Runs the case and returns its fault; empty if it passes."""
        if self.first:
            run(ExecRequest(code=self.first, images=(IMAGE,)))
        result = run(ExecRequest(code=self.code, images=(IMAGE, SECOND)))
        if result.status is not self.status:
            return f"it ended as {result.status} ({result.detail}), not {self.status}"
        if self.image is not None and result.images[0].tobytes() != self.image(IMAGE).tobytes():
            return "another image came back"
        if self.stdout is not None and result.stdout != self.stdout:
            return f"it printed {result.stdout!r}, not {self.stdout!r}"
        if self.detail is not None and self.detail not in result.detail:
            return f"its detail is {result.detail!r}, without {self.detail!r}"
        return ""


PROOF: Sequence[ConformanceCase] = (
    ConformanceCase(
        name="PIL, numpy and cv2 turn an image",
        code="image = Image.fromarray(cv2.flip(np.array(image.rotate(90, expand=True)), 0))\nprint('turned')",
        image=lambda image: image.transpose(Image.Transpose.TRANSPOSE),
        stdout="turned\n",
    ),
    ConformanceCase(
        name="an image goes through PNG in memory, and text is drawn",
        code="import io\nfile = io.BytesIO()\nimage.save(file, 'PNG')\nimage = Image.open(file)\n"
        "ImageDraw.Draw(Image.new('L', (40, 20))).text((1, 1), 'abc', font=ImageFont.load_default(), fill=9)",
        image=lambda image: image,
    ),
)
"""Honest snippets that must pass before a zygote serves."""

DOORS: dict[str, str] = {
    "open a file": "open('/etc/passwd', 'rb')",
    "write a file": "os.open('/dev/null', os.O_WRONLY)",
    "stat a file": "os.stat('/etc/passwd')",
    "list a directory": "os.listdir('/')",
    "read /proc": "os.readlink('/proc/self/exe')",
    "use the network": "socket.socket(socket.AF_INET)",
    "use a unix socket": "socket.socket(socket.AF_UNIX)",
    "fork": "checked(libc.fork())",
    "start a program": "os.execv('/nonexistent', ['x'])",
    "signal a process": "os.kill(os.getppid(), 0)",
    "trace a process": "checked(libc.ptrace(16, 0, 0, 0))",
    "run memory": "mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC)",
    "make memory executable": "checked(libc.mprotect(page, 4096, 5))",
    "raise a limit": "checked(libc.prlimit(0, 7, None, limit))",
    "make a descriptor": "os.memfd_create('x')",
    "make a pipe": "os.pipe()",
    "change its own process": "checked(libc.prctl(15, b'x', 0, 0, 0))",
    "use shared memory": "checked(libc.shmget(0x636F6465, 0, 0))",
    "make a namespace": "checked(libc.unshare(0))",
}
"""Doors by name, each as an expression that leaves nothing behind. A door is open unless the kernel refuses it."""

_TRY_THE_DOORS = f"""
import ctypes, errno, mmap, os, socket
libc = ctypes.CDLL(None, use_errno=True)
memory = ctypes.create_string_buffer(8192)
page = ctypes.c_void_p((ctypes.addressof(memory) + 4095) & ~4095)
limit = (ctypes.c_uint64 * 2)()
def checked(returned):
    if returned == 0 and 'fork' in expression:
        os._exit(0)
    if returned < 0:
        raise OSError(ctypes.get_errno(), '')
for name, expression in {DOORS!r}.items():
    try:
        eval(expression)
    except OSError as error:
        if error.errno in (errno.EPERM, errno.EACCES):
            continue
    print(name)
print('all were tried')
"""


def open_doors(run: Run) -> list[str]:
    """Returns the names of the open doors; there must be none."""
    result = run(ExecRequest(code=_TRY_THE_DOORS, images=(IMAGE,)))
    lines = result.stdout.splitlines()
    if result.status is not ExecStatus.OK or lines[-1:] != ["all were tried"]:
        return [f"end as {result.status} while it tried ({result.detail})"]
    return lines[:-1]


def _turned(image: Image.Image) -> Image.Image:
    return image.transpose(Image.Transpose.ROTATE_90)


def _same(image: Image.Image) -> Image.Image:
    return image


def _plain(colour: tuple[int, int, int]) -> Make:
    return lambda _: Image.new("RGB", (4, 3), colour)


def _honest(name: str, code: str, image: Make | None = _turned, stdout: str | None = None) -> ConformanceCase:
    return ConformanceCase(name=name, code=code, image=image, stdout=stdout)


def _ends(name: str, code: str, status: ExecStatus, detail: str | None = None) -> ConformanceCase:
    return ConformanceCase(name=name, code=code, status=status, detail=detail)


_ROUND_TRIP = (
    "import io\nf = io.BytesIO()\nimage.rotate(90, expand=True).save(f, '{}')\nf.seek(0)\nimage = Image.open(f)"
)
_EVERY_MODE = {
    "L": ("Image.new('L', (4, 3), 7)", (7, 7, 7)),
    "1": ("Image.new('1', (4, 3), 1)", (255, 255, 255)),
    "P": ("Image.new('P', (4, 3), 0)", (0, 0, 0)),
    "RGBA, transparent": ("Image.new('RGBA', (4, 3), (9, 9, 9, 0))", (255, 255, 255)),
    "LA": ("Image.new('LA', (4, 3), (9, 255))", (9, 9, 9)),
    "PA": ("Image.new('RGBA', (4, 3), (0, 0, 0, 0)).convert('PA')", (255, 255, 255)),
    "CMYK": ("Image.new('CMYK', (4, 3), (0, 0, 0, 255))", (0, 0, 0)),
    "HSV": ("Image.new('HSV', (4, 3), (0, 0, 80))", (80, 80, 80)),
    "F": ("Image.new('F', (4, 3), 300.0)", (255, 255, 255)),
    "I": ("Image.new('I', (4, 3), 12)", (12, 12, 12)),
    "an array of uint8": ("np.full((3, 4), 3, np.uint8)", (3, 3, 3)),
    "an array with one channel": ("np.full((3, 4, 1), 3, np.uint8)", (3, 3, 3)),
    "an array with alpha": ("np.zeros((3, 4, 4), np.uint8)", (255, 255, 255)),
    "floats up to 1": ("np.full((3, 4, 3), 0.5)", (128, 128, 128)),
    "floats above 1": ("np.full((3, 4, 3), 90.2, np.float32)", (90, 90, 90)),
    "not a number": ("np.full((3, 4, 3), np.nan)", (0, 0, 0)),
    "booleans": ("np.ones((3, 4), bool)", (255, 255, 255)),
    "negative numbers": ("np.full((3, 4, 3), -5)", (0, 0, 0)),
    "a strided view": ("np.full((6, 4, 6), 8, np.uint8)[::2, ::-1, ::2]", (8, 8, 8)),
    "a tuple of one": ("(Image.new('RGB', (4, 3), (1, 2, 3)),)", (1, 2, 3)),
}

CASES: Sequence[ConformanceCase] = (
    *PROOF,
    _honest("a re-bound image is the result", "image = image.rotate(90, expand=True)"),
    _honest("so is a re-bound img", "img = img.transpose(Image.ROTATE_90)"),
    _honest("a result may be called result", "result = np.rot90(np.array(image))"),
    _honest("or output", "output = images[0].transpose(Image.Transpose.ROTATE_90)"),
    _honest("or processed_image", "processed_image = cv2.rotate(np.array(img), cv2.ROTATE_90_COUNTERCLOCKWISE)"),
    _honest(
        "box and point give pixels",
        "assert (*point(23.4, 99), *point(0, 29, index=1)) == (23, 15, 0, 29)\nimage = image.crop(box(2, -5, 9.4, 7))",
        lambda image: image.crop((2, 0, 9, 7)),
    ),
    _honest(
        "image goes before result, and both come back",
        "image = image.crop((0, 0, 2, 2))\nresult = images[0].rotate(90, expand=True)",
        lambda image: image.crop((0, 0, 2, 2)),
    ),
    _honest("an image that led to the result is none", "image = image.rotate(90, expand=True)\nresult = image.copy()"),
    _honest("measurements are no result", "image = image.rotate(90, expand=True)\nresult = np.zeros((9, 9))"),
    _honest("the last expression is a result", "image.rotate(90, expand=True)"),
    _honest("what is shown is a result", "image.rotate(90, expand=True).show()"),
    _honest("the only unused variable is a result", "turned = image.rotate(90, expand=True)"),
    _honest("code that ends itself keeps its result", "image = image.rotate(90, expand=True)\nexit()\nimage = None"),
    _honest(
        "code opens its image by path and saves another one",
        "Image.open(image_path).rotate(90, expand=True).save(processed_path)\nprint(processed_path)",
        stdout="/images/processed.png\n",
    ),
    _honest(
        "cv2 opens and saves by path, too",
        "cv2.imwrite(processed_path, cv2.rotate(cv2.imread(image_path), cv2.ROTATE_90_COUNTERCLOCKWISE))",
    ),
    _honest(
        "a saved image is opened again",
        "image.save('a.png')\nImage.open('a.png').rotate(90, expand=True).save(processed_path)",
    ),
    _honest(
        "an image that is saved to a forbidden folder is kept",
        "image.rotate(90, expand=True).save('/tmp/codevision_conformance.png')",
    ),
    _honest("a code fence is left out", "```python\nimage = image.rotate(90, expand=True)\n```"),
    _honest(
        "libraries may be imported", "from PIL import Image as I\nimport numpy as n\nresult = n.rot90(n.asarray(image))"
    ),
    _honest(
        "functions may call themselves",
        "def t(p, n):\n    return t(p.rotate(90, expand=1), n - 1) if n else p\nimage = t(image, 1)",
    ),
    _honest(
        "comprehensions see the names around them", "k = 1\nresult = [np.rot90(np.array(image), k) for _ in range(k)]"
    ),
    _honest(
        "classes work", "class T:\n    def __call__(self, p): return p.rotate(90, expand=True)\nimage = T()(image)"
    ),
    _honest(
        "built-in functions are there",
        "print(sorted([2, 1]), any([0]), all([]), sum([1]), max(1, 2))",
        _same,
        "[1, 2] False True 1 2\n",
    ),
    _honest(
        "exceptions can be caught", "try: 1 / 0\nexcept ZeroDivisionError as e: print(e)", _same, "division by zero\n"
    ),
    _honest(
        "a denied file can be worked around",
        "try: Image.open('a.png')\nexcept OSError: image = image.rotate(90, expand=True)",
    ),
    _honest(
        "drawing on the image in place is a result",
        "draw.rectangle((0, 0, 23, 15), fill=(1, 2, 3))",
        lambda image: Image.new("RGB", image.size, (1, 2, 3)),
    ),
    _honest(
        "text is drawn in a size",
        "d = ImageDraw.Draw(image)\nd.text((0, 0), 'ab', font=ImageFont.load_default(9), fill='red')",
        None,
    ),
    _honest(
        "text is drawn by cv2",
        "a = np.array(image)\ncv2.putText(a, 'ab', (1, 9), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 0, 255), 1)\nresult = a",
        None,
    ),
    *(_honest(f"an image goes through {kind}", _ROUND_TRIP.format(kind)) for kind in ("PNG", "BMP", "TIFF", "PPM")),
    *(_honest(f"an image goes through {kind}", _ROUND_TRIP.format(kind), None) for kind in ("JPEG", "GIF")),
    _honest(
        "an image goes through cv2's PNG",
        "b = cv2.imencode('.png', np.array(image))[1]\n"
        "image = Image.fromarray(cv2.imdecode(b, 1)).rotate(90, expand=True)",
    ),
    _honest(
        "an image goes through base64",
        "import base64, io\nf = io.BytesIO()\nimage.save(f, 'PNG')\n"
        "b = base64.b64decode(base64.b64encode(f.getvalue()))\n"
        "image = Image.open(io.BytesIO(b)).rotate(90, expand=True)",
    ),
    _honest("doing nothing gives the same image", "pass", _same),
    _honest(
        "all images are there", "print(len(images), image is images[0], images[1].size)", _same, "2 True (10, 30)\n"
    ),
    _honest("what is printed comes back", "print('a', 1, end='!')", _same, "a 1!"),
    _honest(
        "dates are parsed",
        "import datetime\nprint(datetime.datetime.strptime('2024-02-29', '%Y-%m-%d').strftime('%d.%m.%Y'))",
        _same,
        "29.02.2024\n",
    ),
    _honest(
        "character sets are known",
        "print('ä'.encode('latin-1'), 'ä'.encode('utf-16-le'), 'ä'.encode('cp1252'), b'\\xe4'.decode('iso8859-15'))",
        _same,
        r"b'\xe4' b'\xe4\x00' b'\xe4' ä" + "\n",
    ),
    _honest(
        "the usual modules are imported",
        "import collections, functools, itertools, json, os, random, re, statistics, string, sys, time, typing",
        _same,
    ),
    _honest(
        "numbers are crunched",
        "np.linalg.svd(np.eye(50)); np.fft.fft2(np.ones((32, 32))); np.random.default_rng(0).normal(); "
        "np.histogram([1]); np.polyfit([1, 2], [1, 2], 1)",
        _same,
    ),
    _honest(
        "cv2 filters",
        "a = np.array(image)\ncv2.Canny(a, 10, 20); cv2.GaussianBlur(a, (3, 3), 0); "
        "cv2.equalizeHist(a[:, :, 0].copy()); cv2.warpAffine(a, np.eye(3)[:2], (9, 9)); "
        "cv2.cvtColor(a, cv2.COLOR_BGR2GRAY); None",
        _same,
    ),
    _honest(
        "PIL filters",
        "from PIL import ImageChops, ImageStat, ImageColor, ImageMath, ImageMorph\n"
        "ImageChops.invert(image); ImageStat.Stat(image).mean; ImageColor.getrgb('teal'); "
        "image.quantize(8); image.getexif(); image.filter(ImageFilter.MedianFilter(3)); "
        "image.convert('YCbCr'); None",
        _same,
    ),
    *(
        ConformanceCase(name=f"a result of kind {kind}", code=f"result = {code}", image=_plain(colour))
        for kind, (code, colour) in _EVERY_MODE.items()
    ),
    _honest("several images come back, the first first", "result = [image.rotate(90, expand=True), image]"),
    _ends(
        "a wrong name is an error with its line",
        "x = 1\nimage = foo(image)",
        ExecStatus.ERROR,
        "NameError: name 'foo' is not defined (line 2: image = foo(image))",
    ),
    _ends(
        "a syntax error is named with its line",
        "x = 1\ndef f(:",
        ExecStatus.ERROR,
        "SyntaxError: invalid syntax (line 2: def f(:)",
    ),
    _ends(
        "an error in a library is told by the model's own line",
        "import json\njson.loads('{')",
        ExecStatus.ERROR,
        "(line 2: json.loads('{'))",
    ),
    _ends("leaving with a reason is an error", "import sys\nsys.exit('no')", ExecStatus.ERROR, "SystemExit: no"),
    _ends(
        "a crop outside of the image is an error",
        "image = image.crop((30, 20, 40, 30))",
        ExecStatus.ERROR,
        "outside of",
    ),
    _ends("a box in fractions is an error", "box(0.1, 0.2, 0.6, 0.7)", ExecStatus.ERROR, "not fractions"),
    _ends("a read that fails is named", "cv2.imread('a.png').shape", ExecStatus.ERROR, "cv2.imread failed: files are"),
    _ends(
        "an unknown library is an error", "import torchvision_that_is_not_there", ExecStatus.ERROR, "No module named"
    ),
    _ends("a number is no image", "result = 5", ExecStatus.BAD_IMAGE, "the result is of type int"),
    _ends("an empty crop is no image", "result = image.crop((5, 5, 5, 9))", ExecStatus.BAD_IMAGE, "its size is 0x4"),
    _ends("seven channels are no image", "result = np.zeros((4, 4, 7))", ExecStatus.BAD_IMAGE, "shape (4, 4, 7)"),
    _ends("a thread of pixels is no image", "result = Image.new('RGB', (3000, 1))", ExecStatus.BAD_IMAGE, "too narrow"),
    _ends("None is no image", "result = None", ExecStatus.NO_IMAGE),
    _ends("a deleted image is none", "del image", ExecStatus.NO_IMAGE),
    _ends("too much memory is said", "result = np.zeros(10**11)", ExecStatus.MEMORY),
    _ends(
        "memory taken bit by bit is bounded",
        "x = []\nwhile True: x.append(np.empty(10**8, np.uint8))",
        ExecStatus.MEMORY,
    ),
    _ends("a loop is stopped", "while True: pass", ExecStatus.TIMEOUT),
    _ends("sleep is stopped", "import time\ntime.sleep(10**6)", ExecStatus.TIMEOUT),
    _ends("a loop in C is stopped", "sum(iter(int, 1))", ExecStatus.TIMEOUT),
    _ends(
        "swallowing every exception doesn't help",
        "while True:\n    try:\n        while True: pass\n    except BaseException: pass",
        ExecStatus.TIMEOUT,
    ),
    _ends("leaving without a result is said", "import os\nos._exit(0)", ExecStatus.CRASHED),
    _ends("a wild pointer is said", "import ctypes\nctypes.string_at(0)", ExecStatus.CRASHED),
    _ends("a file is denied", "Image.open('/etc/passwd')", ExecStatus.DENIED, "(line 1: Image.open('/etc/passwd'))"),
    _ends("writing is denied", "open('/tmp/codevision_conformance.txt', 'w')", ExecStatus.DENIED),
    _ends("the network is denied", "import socket\nsocket.create_connection(('127.0.0.1', 9))", ExecStatus.DENIED),
    _ends("a program is denied", "import subprocess\nsubprocess.run(['/bin/true'])", ExecStatus.DENIED),
    _ends("a process is denied", "import os\nos.fork()", ExecStatus.DENIED),
    ConformanceCase(
        name="patched modules reach no later call",
        first="import builtins, sys\nnp.rot90 = Image.open = None\nbuiltins.len = None\n"
        "sys.modules['cv2'] = None\nleft = 1",
        code="import cv2\nprint('left' in globals(), len('ab'))\nresult = np.rot90(np.array(image))",
        image=_turned,
        stdout="False 2\n",
    ),
    ConformanceCase(
        name="the same code draws the same random numbers",
        first="import random\nrandom.seed(7)\nnp.random.seed(7)",
        code="import random\n"
        "print(random.random() == random.Random(0).random(), np.random.rand() == np.random.RandomState(0).rand())",
        stdout="True True\n",
    ),
)
"""Cases of honest code that must work and of hostile code that must fail; the images are `IMAGE` and `SECOND`."""


def check_backend(run: Run) -> dict[str, str]:
    """Runs all cases and tries the doors; returns the fault of each by name, empty if it passes."""
    faults = {case.name: case.fault(run) for case in CASES}
    doors = open_doors(run)
    return faults | {"every door is shut": f"code inside could {', '.join(doors)}" if doors else ""}
