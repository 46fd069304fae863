"""How a request and a result look: the values the caller sees, and their bytes in the memfds (the parent's side).

Nothing that comes back is trusted: a result is read after the child is dead, its header is checked against the limits
before a pixel is touched, and nothing is ever unpickled. `wire.py` holds the structs, `child.py` the child's side.
"""

import ctypes
import fcntl
import math
import mmap
import os
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from PIL import Image

from codevision_ext.errors import InputError
from codevision_ext.sandbox import pixels, wire
from codevision_ext.types import ExecStatus

SEALS = fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
MAPPED_BYTES = 2**20
"""From here on the images of a result stay in the memory in which they came; fewer bytes are copied out of it."""
DAY_S = 86_400
MOST = 2**28
"""Of a limit that is a whole number: up to here every length fits its field of `wire`."""
PUNCH_HOLE_KEEP_SIZE = 3
_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.mmap.restype = ctypes.c_void_p
_LIBC.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int64)
_LIBC.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_LIBC.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
FROM_THE_CHILD = {
    ExecStatus.OK,
    ExecStatus.ERROR,
    ExecStatus.MEMORY,
    ExecStatus.DENIED,
    ExecStatus.NO_IMAGE,
    ExecStatus.BAD_IMAGE,
}
"""Statuses a child may claim; the others are found by the parent."""


class Isolation(StrEnum):
    """What stands between code and machine, weakest first: a setting names the least, a result what there was."""

    UNSAFE = "unsafe"
    """A primitive that `strict` requires is missing, or a door was found open."""
    STRICT = "strict"
    """Seccomp, no_new_privs, an unprivileged user; every door was tried and found shut."""
    LANDLOCK = "strict+landlock"
    """And Landlock, so that files, TCP and abstract sockets are shut twice."""

    def at_least(self, other: "Isolation") -> bool:
        levels = list(Isolation)
        return levels.index(self) >= levels.index(other)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one execution may use."""

    __pydantic_config__ = {"strict": True}  # noqa: RUF012  read by `settings`

    wall_s: float = 5.0
    """Seconds from fork to SIGKILL; waiting for a free core isn't counted."""
    memory_mb: int = 512
    """Address space on top of what the warm interpreter already maps, MiB."""
    max_side: int = 8192
    """Longest side of an image that comes back, pixels."""
    max_pixels: int = 40_000_000
    """Pixels that come back in one call, all images together."""
    max_aspect: float = 200.0
    """Longer side over shorter side of an image that comes back."""
    stdout_chars: int = 10_240
    code_chars: int = 20_000

    def __post_init__(self) -> None:
        for name, most in (("wall_s", DAY_S), ("max_aspect", math.inf)):
            value = getattr(self, name)
            if not 0 < value <= most:
                raise InputError(f"the sandbox limit {name} must be greater than 0 and at most {most}, it is {value}")
        for name in ("memory_mb", "max_side", "max_pixels", "stdout_chars", "code_chars"):
            check_whole(f"the sandbox limit {name}", getattr(self, name), least=int(name != "stdout_chars"))


def check_whole(what: str, value: object, *, least: int, most: int = MOST) -> None:
    """Raises InputError unless the value is a whole number from `least` to `most`."""
    if not (isinstance(value, int) and least <= value <= most):
        raise InputError(f"{what} must be a whole number from {least} to {most}, it is {value}")


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlierCall:
    """A call of the same trajectory that succeeded; it is run again first, so that what it bound is there."""

    code: str
    image_index: int
    images: int
    """How many of the images there were then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecRequest:
    """Code and the images it gets; `image` is the one at `image_index`, and unbound where there are none.

    Raises:
        InputError: an index isn't among the images, or `coordinate_sizes` don't belong to them.
    """

    code: str
    images: tuple[Image.Image, ...]
    image_index: int = 0
    earlier: tuple[EarlierCall, ...] = ()
    """Run first in the same child, in this order; their time and memory count. Empty: variables aren't kept."""
    coordinate_sizes: tuple[tuple[int, int], ...] = ()
    """Width and height of each image in the coordinates that the code's author writes, which `box` and `point` turn
    into pixels; empty: they are pixels."""

    def __post_init__(self) -> None:
        sizes = self.coordinate_sizes
        if sizes and (len(sizes) != len(self.images) or min(map(min, sizes)) < 1):
            raise InputError(f"coordinate_sizes is {sizes}; these aren't sizes of {len(self.images)} images")
        if not 0 <= self.image_index < max(1, len(self.images)):
            raise InputError(f"image_index is {self.image_index}, but there are {len(self.images)} images")
        for call in self.earlier:
            if not 0 <= call.image_index < call.images <= len(self.images):
                raise InputError(f"an earlier call used image {call.image_index} of {call.images}, not there now")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecResult:
    """How an execution ended; `images` (RGB) is empty unless `status` is ok."""

    status: ExecStatus
    images: tuple[Image.Image, ...] = ()
    stdout: str = ""
    detail: str = ""
    """One line for the model: the exception and its own line of code, or what is wrong with the image."""
    ms: float = 0.0
    """Wall time of the child, milliseconds."""
    isolation: Isolation | None = None
    """What it ran behind; None where nothing was run."""


def pack_request(request: ExecRequest, limits: Limits) -> int:
    """A sealed memfd with everything the child needs; the caller closes it."""
    programs = [(call.code, call.image_index, call.images) for call in request.earlier]
    programs.append((request.code, request.image_index, len(request.images)))
    texts = [code.encode("utf-8", "replace") for code, _, _ in programs]
    images = [image if image.mode == "RGB" else image.convert("RGB") for image in request.images]
    coordinate_sizes = request.coordinate_sizes or [image.size for image in images]
    head = [
        wire.REQUEST.pack(len(programs), len(images), limits.stdout_chars, limits.max_pixels),
        *(wire.PROGRAM.pack(len(text), *rest) for text, (_, *rest) in zip(texts, programs, strict=True)),
        *(wire.IMAGE.pack(*image.size, *space) for image, space in zip(images, coordinate_sizes, strict=True)),
        *texts,
    ]
    fd = os.memfd_create("request", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.truncate(fd, pixels.lay_down(fd, b"".join(head), images, pixels.PADDED))
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS | fcntl.F_SEAL_WRITE)
    except BaseException:
        os.close(fd)
        raise
    return fd


def new_result(limits: Limits) -> int:
    """An empty memfd of the greatest size a result may have (sparse: unused pages cost nothing)."""
    texts = 4 * (limits.stdout_chars + wire.DETAIL_CHARS)
    head = wire.RESULT.size + texts + wire.MAX_IMAGES_BACK * (wire.SIDES.size + pixels.ALIGNMENT)
    fd = os.memfd_create("result", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.truncate(fd, head + pixels.room(limits.max_pixels, 1))
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)
    return fd


def read_result(fd: int, limits: Limits, ms: float) -> ExecResult:
    """Check and unpack what a dead child left; anything that doesn't add up is `crashed`.

    Counts and lengths within the limits can't lead past the end: `new_result` made the memfd large enough, and sealed.
    """
    with mmap.mmap(fd, 0, prot=mmap.PROT_READ) as data, memoryview(data) as view:
        magic, name, count, stdout_bytes, detail_bytes = wire.RESULT.unpack_from(view)
        status = next((known for known in FROM_THE_CHILD if known.encode() == name.rstrip(b"\0")), None)
        at = wire.RESULT.size + count * wire.SIDES.size
        texts_fit = stdout_bytes <= 4 * limits.stdout_chars and detail_bytes <= 4 * wire.DETAIL_CHARS
        fits = magic == wire.MAGIC and count <= wire.MAX_IMAGES_BACK and texts_fit
        if not fits or status is None or (count > 0) != (status is ExecStatus.OK):
            return ExecResult(status=ExecStatus.CRASHED, ms=ms)
        sizes = [wire.SIDES.unpack_from(view, wire.RESULT.size + i * wire.SIDES.size) for i in range(count)]
        stdout = bytes(view[at : at + stdout_bytes]).decode("utf-8", "replace")[: limits.stdout_chars]
        at += stdout_bytes
        detail = bytes(view[at : at + detail_bytes]).decode("utf-8", "replace")[: wire.DETAIL_CHARS]
        at += detail_bytes
        fault = _size_fault(sizes, limits)
        if fault:
            return ExecResult(status=ExecStatus.BAD_IMAGE, stdout=stdout, detail=fault, ms=ms)
        places = []
        for width, height in sizes:
            at = pixels.aligned(at)
            places.append((at, width, height))
            at += pixels.room(width, height)
        if at < MAPPED_BYTES:
            images = [pixels.view_image(view, *place).copy() for place in places]
        else:
            held = _hold(fd, at)
            images = [pixels.view_image(held, *place) for place in places]
    return ExecResult(status=status, images=tuple(images), stdout=stdout, detail=detail, ms=ms)


def _hold(fd: int, used: int) -> ctypes.Array[ctypes.c_ubyte]:
    """The first `used` bytes of a memfd as memory of this process, that ends with the last image in it.

    What is written there stays here. The rest of the memfd is given back: a child may have filled it to have it kept.
    """
    # The module mmap keeps a descriptor open for each map until Python 3.13, and a rollout may hold many images.
    address = _LIBC.mmap(None, used, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE, fd, 0)
    if address == ctypes.c_void_p(-1).value:
        raise OSError(ctypes.get_errno(), "no memory for the images of a result")
    held = (ctypes.c_ubyte * used).from_address(address)
    weakref.finalize(held, _LIBC.munmap, address, used)
    end = -(-used // mmap.PAGESIZE) * mmap.PAGESIZE
    if _LIBC.fallocate(fd, PUNCH_HOLE_KEEP_SIZE, end, os.fstat(fd).st_size - end) != 0:
        raise OSError(ctypes.get_errno(), "what a result doesn't use can't be given back")
    return held


def _size_fault(sizes: Sequence[tuple[int, int]], limits: Limits) -> str:
    """What is wrong with the sizes of the images, or nothing."""
    for width, height in sizes:
        if min(width, height) < 1 or max(width, height) > limits.max_side:
            return f"its size is {width}x{height}, sides must be 1 to {limits.max_side}"
        if max(width, height) > limits.max_aspect * min(width, height):
            return f"its size is {width}x{height}, too narrow"
    if sum(width * height for width, height in sizes) > limits.max_pixels:
        return f"it has more than {limits.max_pixels} pixels"
    return ""
