"""Defines requests and results, and packs and reads them in the parent.

Requests and results cross in memfds. No result is trusted: it is read after the child is dead, its header is checked
against the limits before a pixel is read, and nothing is ever unpickled. `wire.py` has the layout of the bytes,
`child.py` the side of the child.
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
from codevision_ext.geometry import MAX_ASPECT_RATIO
from codevision_ext.sandbox import pixels, wire
from codevision_ext.types import ExecStatus

SEALS = fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
MAPPED_BYTES = 2**20
"""Size of a result in bytes from which its images stay in the memfd's memory; smaller ones are copied."""
DAY_S = 86_400
MOST = 2**28
"""Maximum of a limit that is a whole number; up to it every length fits its field in `wire`."""
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
"""Statuses that a child can report; the parent finds out the others."""


class Isolation(StrEnum):
    """The isolation between the code and the machine, weakest first.

    A setting names the minimum, a result names the actual isolation.
    """

    UNSAFE = "unsafe"
    """Something that `strict` requires is missing, or code could do something forbidden (`conformance.DOORS`)."""
    STRICT = "strict"
    """Seccomp, no_new_privs and an unprivileged user; everything forbidden was tried and failed."""
    LANDLOCK = "strict+landlock"
    """`strict` and Landlock, so that files, TCP and abstract sockets are denied twice."""

    def at_least(self, other: "Isolation") -> bool:
        """Returns whether this isolation is as strong as the other, or stronger."""
        levels = list(Isolation)
        return levels.index(self) >= levels.index(other)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits of one execution."""

    __pydantic_config__ = {"strict": True}  # noqa: RUF012  read by `settings`

    wall_s: float = 5.0
    """Wall time in seconds until the child is killed; the wait for a free slot isn't counted."""
    memory_mb: int = 512
    """Memory in MiB: address space on top of the loaded interpreter's."""
    max_side: int = 8192
    """Maximum side of a returned image, pixels."""
    max_pixels: int = 40_000_000
    """Maximum pixels of all returned images of one call together."""
    max_aspect: float = MAX_ASPECT_RATIO
    """Maximum ratio of the longer to the shorter side of a returned image."""
    stdout_chars: int = 10_240
    """Maximum characters of printed output that are kept."""
    code_chars: int = 20_000
    """Maximum characters of the code; longer code isn't run."""

    def __post_init__(self) -> None:
        for name, most in (("wall_s", DAY_S), ("max_aspect", math.inf)):
            value = getattr(self, name)
            if not 0 < value <= most:
                raise InputError(f"the sandbox limit {name} must be greater than 0 and at most {most}, it is {value}")
        for name in ("memory_mb", "max_side", "max_pixels", "stdout_chars", "code_chars"):
            check_whole(f"the sandbox limit {name}", getattr(self, name), least=int(name != "stdout_chars"))


def check_whole(what: str, value: object, *, least: int, most: int = MOST) -> None:
    """Raises InputError unless the value is a whole number from `least` to `most`; `what` names it."""
    if not (isinstance(value, int) and least <= value <= most):
        raise InputError(f"{what} must be a whole number from {least} to {most}, it is {value}")


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlierCall:
    """An earlier successful call of the rollout. It is run again first, so that the call finds its variables."""

    code: str
    image_index: int
    images: int
    """Number of images at the time of the call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecRequest:
    """A request to run code on images. The code finds the image `image_index` as `image`.

    Raises:
        InputError: an index is out of range, or `coordinate_sizes` or `paths` has another length than `images`.
    """

    code: str
    images: tuple[Image.Image, ...]
    image_index: int = 0
    earlier: tuple[EarlierCall, ...] = ()
    """Earlier calls that are run first in the same child, in this order; they use the same limits."""
    coordinate_sizes: tuple[tuple[int, int], ...] = ()
    """Width and height of each image in the model's coordinates, which `box` and `point` turn into pixels.

    Empty: the coordinates are pixels."""
    paths: tuple[str, ...] = ()
    """Path by which code may open each image besides the value of `image_path`, such as the one in the prompt.

    Empty, or an empty path: there is no such path. No file is opened."""

    def __post_init__(self) -> None:
        sizes = self.coordinate_sizes
        if sizes and (len(sizes) != len(self.images) or min(map(min, sizes)) < 1):
            raise InputError(f"coordinate_sizes is {sizes}; these aren't sizes of {len(self.images)} images")
        if self.paths and len(self.paths) != len(self.images):
            raise InputError(f"paths has {len(self.paths)} items, but there are {len(self.images)} images")
        if not 0 <= self.image_index < max(1, len(self.images)):
            raise InputError(f"image_index is {self.image_index}, but there are {len(self.images)} images")
        for call in self.earlier:
            if not 0 <= call.image_index < call.images <= len(self.images):
                raise InputError(
                    f"an earlier call used image {call.image_index} of {call.images}, which the request lacks"
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecResult:
    """The result of an execution."""

    status: ExecStatus
    images: tuple[Image.Image, ...] = ()
    """Returned images in RGB; empty unless the status is `ok`."""
    stdout: str = ""
    detail: str = ""
    """Line for the model: the exception with its line of code, or the fault of the image."""
    ms: float = 0.0
    """Wall time of the child, milliseconds."""
    isolation: Isolation | None = None
    """Isolation of the execution; None if no code was run."""


def pack_request(request: ExecRequest, limits: Limits) -> int:
    """Packs a request into a sealed memfd and returns its descriptor, which the caller closes."""
    programs = [(call.code, call.image_index, call.images) for call in request.earlier]
    programs.append((request.code, request.image_index, len(request.images)))
    texts = [code.encode("utf-8", "replace") for code, _, _ in programs]
    images = [image if image.mode == "RGB" else image.convert("RGB") for image in request.images]
    coordinate_sizes = request.coordinate_sizes or [image.size for image in images]
    paths = [path.encode("utf-8", "replace") for path in request.paths or [""] * len(images)]
    heads = zip(images, coordinate_sizes, paths, strict=True)
    head = [
        wire.REQUEST.pack(len(programs), len(images), limits.stdout_chars, limits.max_pixels),
        *(wire.PROGRAM.pack(len(text), *rest) for text, (_, *rest) in zip(texts, programs, strict=True)),
        *(wire.IMAGE.pack(*image.size, *space, len(path)) for image, space, path in heads),
        *texts,
        *paths,
    ]
    fd = os.memfd_create("request", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.truncate(fd, pixels.write_images(fd, b"".join(head), images, pixels.PADDED))
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS | fcntl.F_SEAL_WRITE)
    except BaseException:
        os.close(fd)
        raise
    return fd


def new_result(limits: Limits) -> int:
    """Creates an empty memfd of the maximum size of a result; unused pages take no memory."""
    texts = 4 * (limits.stdout_chars + wire.DETAIL_CHARS)
    head = wire.RESULT.size + texts + wire.MAX_IMAGES_BACK * (wire.SIDES.size + pixels.ALIGNMENT)
    fd = os.memfd_create("result", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.truncate(fd, head + pixels.room(limits.max_pixels, 1))
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)
    return fd


def read_result(fd: int, limits: Limits, ms: float) -> ExecResult:
    """Checks and unpacks the result of a dead child; an inconsistent result is `crashed`.

    Counts and lengths within the limits can't lead past the end: `new_result` made the memfd large enough, and sealed
    its size.
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
            memory = _map_private(fd, at)
            images = [pixels.view_image(memory, *place) for place in places]
    return ExecResult(status=status, images=tuple(images), stdout=stdout, detail=detail, ms=ms)


def _map_private(fd: int, used: int) -> ctypes.Array[ctypes.c_ubyte]:
    """Maps the first `used` bytes of a memfd into this process; they are unmapped when the last image is dropped.

    Writes don't reach the memfd. The rest of the memfd is freed, because a child may have filled it to waste memory.
    """
    # The module mmap keeps a descriptor open for each map until Python 3.13, and a rollout may hold many images.
    address = _LIBC.mmap(None, used, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE, fd, 0)
    if address == ctypes.c_void_p(-1).value:
        raise OSError(ctypes.get_errno(), "no memory for the images of a result")
    memory = (ctypes.c_ubyte * used).from_address(address)
    weakref.finalize(memory, _LIBC.munmap, address, used)
    end = -(-used // mmap.PAGESIZE) * mmap.PAGESIZE
    if _LIBC.fallocate(fd, PUNCH_HOLE_KEEP_SIZE, end, os.fstat(fd).st_size - end) != 0:
        raise OSError(ctypes.get_errno(), "the unused memory of a result can't be freed")
    return memory


def _size_fault(sizes: Sequence[tuple[int, int]], limits: Limits) -> str:
    """Returns the fault of the images' sizes; empty if there is none."""
    for width, height in sizes:
        if min(width, height) < 1 or max(width, height) > limits.max_side:
            return f"its size is {width}x{height}, sides must be 1 to {limits.max_side}"
        if max(width, height) > limits.max_aspect * min(width, height):
            return f"its size is {width}x{height}, too narrow"
    if sum(width * height for width, height in sizes) > limits.max_pixels:
        return f"it has more than {limits.max_pixels} pixels"
    return ""
