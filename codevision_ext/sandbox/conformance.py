"""What must every back end that runs model-written code do? A list of cases, and the doors that must be shut.

The cases need only `run(ExecRequest) -> ExecResult`, so they fit any back end. `PROOF` and `open_doors` are what the
zygote shows of itself at each start; the whole of `CASES` is for a test suite, or for a machine before it is used.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from codevision_ext.sandbox.protocol import ExecRequest, ExecResult
from codevision_ext.types import ExecStatus

Run = Callable[[ExecRequest], ExecResult]
Make = Callable[[Image.Image], Image.Image]


def _picture(width: int, height: int, seed: int = 0) -> Image.Image:
    """Noise: every pixel counts, and nothing is symmetric."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


PICTURE = _picture(24, 16)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One program and how it must end; what is None isn't looked at."""

    name: str
    code: str
    status: ExecStatus = ExecStatus.OK
    picture: Make | None = None
    """From the picture given to the picture that must come back, pixel for pixel."""
    stdout: str | None = None
    detail: str | None = None
    """A part of the detail."""

    @property
    def request(self) -> ExecRequest:
        return ExecRequest(code=self.code, images=(PICTURE,))

    def fault(self, result: ExecResult) -> str:
        """What is wrong with a result of this case, or nothing."""
        if result.status is not self.status:
            return f"it ended as {result.status} ({result.detail}), not {self.status}"
        if self.picture is not None and result.images[0].tobytes() != self.picture(PICTURE).tobytes():
            return "another picture came back"
        if self.stdout is not None and result.stdout != self.stdout:
            return f"it printed {result.stdout!r}, not {self.stdout!r}"
        if self.detail is not None and self.detail not in result.detail:
            return f"its detail is {result.detail!r}, without {self.detail!r}"
        return ""


PROOF: Sequence[Case] = (
    Case(
        name="PIL, numpy and cv2 turn a picture",
        code="image = Image.fromarray(cv2.flip(np.array(image.rotate(90, expand=True)), 0))\nprint('turned')",
        picture=lambda image: image.transpose(Image.Transpose.TRANSPOSE),
        stdout="turned\n",
    ),
    Case(
        name="a picture goes through PNG in memory, and text is drawn",
        code="import io\nfile = io.BytesIO()\nimage.save(file, 'PNG')\nimage = Image.open(file)\n"
        "ImageDraw.Draw(Image.new('L', (40, 20))).text((1, 1), 'abc', font=ImageFont.load_default(), fill=9)",
        picture=lambda image: image,
    ),
)
"""Honest snippets that must pass before a zygote serves."""

DOORS: dict[str, str] = {
    "open a file": "open('/etc/passwd', 'rb')",
    "write a file": "os.open('/tmp/codevision_canary', os.O_WRONLY | os.O_CREAT)",
    "stat a file": "os.stat('/etc/passwd')",
    "list a directory": "os.listdir('/')",
    "read /proc": "os.readlink('/proc/self/exe')",
    "use the network": "socket.socket(socket.AF_INET)",
    "use a unix socket": "socket.socket(socket.AF_UNIX)",
    "fork": "checked(libc.fork())",
    "start a program": "os.execv('/nonexistent', ['x'])",
    "signal a process": "os.kill(os.getppid(), 0)",
    "trace a process": "checked(libc.ptrace(0, 0, 0, 0))",
    "run memory": "mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC)",
    "make memory executable": "checked(libc.mprotect(page, 4096, 5))",
    "raise a limit": "checked(libc.prlimit(0, 7, None, limit))",
    "make a descriptor": "os.memfd_create('x')",
    "make a pipe": "os.pipe()",
    "change its own process": "checked(libc.prctl(15, b'x', 0, 0, 0))",
    "use shared memory": "checked(libc.shmget(0, 4096, 0o1600))",
    "make a namespace": "checked(libc.unshare(0x10000000))",
}
"""What no code may do, each as one expression; anything but "Operation not permitted" is an open door."""

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
    """The doors that code behind `run` finds open; empty is what it must be."""
    result = run(ExecRequest(code=_TRY_THE_DOORS, images=(PICTURE,)))
    found = result.stdout.splitlines()
    if result.status is not ExecStatus.OK or found[-1:] != ["all were tried"]:
        return [f"end as {result.status} while it tried ({result.detail})"]
    return found[:-1]
