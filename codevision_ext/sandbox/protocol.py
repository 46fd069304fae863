"""How a request and a result look: the values the caller sees, and their bytes in the memfds (the parent's side).

Nothing that comes back is trusted: a result is read after the child is dead, its header is checked against the limits
before a pixel is touched, and nothing is ever unpickled. `worker.py` holds the structs and the child's side.
"""

import fcntl
import mmap
import os
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from codevision_ext.errors import InputError
from codevision_ext.sandbox import worker
from codevision_ext.types import ExecStatus

SEALS = fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
MAX_PICTURES_BACK = 16
FROM_THE_CHILD = {
    ExecStatus.OK,
    ExecStatus.ERROR,
    ExecStatus.MEMORY,
    ExecStatus.DENIED,
    ExecStatus.NO_IMAGE,
    ExecStatus.BAD_IMAGE,
}
"""Statuses a child may claim; the others are found by the parent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one execution may use."""

    wall_s: float = 5.0
    """Seconds from fork to SIGKILL; waiting for a free core isn't counted."""
    memory_mb: int = 512
    """Address space on top of what the warm interpreter already maps, MiB."""
    max_side: int = 8192
    """Longest side of a picture that comes back, pixels."""
    max_pixels: int = 40_000_000
    """Pixels that come back in one call, all pictures together."""
    max_aspect: float = 200.0
    """Longer side over shorter side of a picture that comes back."""
    stdout_chars: int = 10_240
    code_chars: int = 20_000

    def __post_init__(self) -> None:
        for name in ("wall_s", "memory_mb", "max_side", "max_pixels", "max_aspect", "code_chars"):
            if getattr(self, name) <= 0:
                raise InputError(f"the sandbox limit {name} must be greater than 0, it is {getattr(self, name)}")
        if self.stdout_chars < 0:
            raise InputError(f"the sandbox limit stdout_chars must be at least 0, it is {self.stdout_chars}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecRequest:
    """Code and the pictures it gets; `image` is the one at `image_index`."""

    code: str
    images: tuple[Image.Image, ...]
    image_index: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.image_index < len(self.images):
            raise InputError(f"image_index is {self.image_index}, but there are {len(self.images)} pictures")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecResult:
    """How an execution ended; `images` (RGB) is empty unless `status` is ok."""

    status: ExecStatus
    images: tuple[Image.Image, ...] = ()
    stdout: str = ""
    detail: str = ""
    """One line for the model: the exception and its own line of code, or what is wrong with the picture."""
    ms: float = 0.0
    """Wall time of the child, milliseconds."""


def pack_request(request: ExecRequest, limits: Limits) -> int:
    """A sealed memfd with everything the child needs; the caller closes it."""
    code = request.code.encode("utf-8", "replace")
    pictures = [image if image.mode == "RGB" else image.convert("RGB") for image in request.images]
    header = worker.REQUEST.pack(len(code), request.image_index, len(pictures), limits.stdout_chars, limits.max_pixels)
    sides = b"".join(worker.SIDES.pack(*image.size) for image in pictures)
    parts = [header, sides, code, *(image.tobytes() for image in pictures)]
    fd = os.memfd_create("request", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.truncate(fd, sum(map(len, parts)))
    for part in parts:
        _write_all(fd, part)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS | fcntl.F_SEAL_WRITE)
    return fd


def new_result(limits: Limits) -> int:
    """An empty memfd of the greatest size a result may have (sparse: unused pages cost nothing)."""
    texts = 4 * (limits.stdout_chars + worker.DETAIL_CHARS)
    size = worker.RESULT.size + MAX_PICTURES_BACK * worker.SIDES.size + texts + 3 * limits.max_pixels
    fd = os.memfd_create("result", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.truncate(fd, size)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)
    return fd


def read_result(fd: int, limits: Limits, ms: float) -> ExecResult:
    """Check and unpack what a dead child left; anything that doesn't add up is `crashed`."""
    with mmap.mmap(fd, 0, prot=mmap.PROT_READ) as data, memoryview(data) as view:
        magic, name, count, stdout_bytes, detail_bytes = worker.RESULT.unpack_from(view)
        status = next((known for known in FROM_THE_CHILD if known.encode() == name.rstrip(b"\0")), None)
        at = worker.RESULT.size + count * worker.SIDES.size
        if magic != worker.MAGIC or status is None or count > MAX_PICTURES_BACK:
            return ExecResult(status=ExecStatus.CRASHED, ms=ms)
        if at + stdout_bytes + detail_bytes > len(view) or (count > 0) != (status is ExecStatus.OK):
            return ExecResult(status=ExecStatus.CRASHED, ms=ms)
        sizes = [worker.SIDES.unpack_from(view, worker.RESULT.size + i * worker.SIDES.size) for i in range(count)]
        stdout = bytes(view[at : at + stdout_bytes]).decode("utf-8", "replace")[: limits.stdout_chars]
        at += stdout_bytes
        detail = bytes(view[at : at + detail_bytes]).decode("utf-8", "replace")[: worker.DETAIL_CHARS]
        at += detail_bytes
        fault = _size_fault(sizes, limits)
        if fault:
            return ExecResult(status=ExecStatus.BAD_IMAGE, stdout=stdout, detail=fault, ms=ms)
        if at + sum(width * height * 3 for width, height in sizes) > len(view):
            return ExecResult(status=ExecStatus.CRASHED, ms=ms)
        images = []
        for width, height in sizes:
            with view[at : at + width * height * 3] as pixels:
                images.append(Image.frombytes("RGB", (width, height), pixels))
            at += width * height * 3
    return ExecResult(status=status, images=tuple(images), stdout=stdout, detail=detail, ms=ms)


def _size_fault(sizes: Sequence[tuple[int, int]], limits: Limits) -> str:
    """What is wrong with the sizes of the pictures, or nothing."""
    for width, height in sizes:
        if min(width, height) < 1 or max(width, height) > limits.max_side:
            return f"its size is {width}x{height}, sides must be 1 to {limits.max_side}"
        if max(width, height) > limits.max_aspect * min(width, height):
            return f"its size is {width}x{height}, too narrow"
    if sum(width * height for width, height in sizes) > limits.max_pixels:
        return f"it has more than {limits.max_pixels} pixels"
    return ""


def _write_all(fd: int, part: bytes) -> None:
    left = memoryview(part)
    while left:
        left = left[os.write(fd, left) :]
