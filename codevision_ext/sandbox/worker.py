"""What runs inside the sandbox's own processes: a warm interpreter that forks one child for every call.

Started by path (`python -I -S worker.py FD DIR ...`) with an empty environment and no `site`, so that neither the
zygote nor its children hold anything of this package, of the trainer or of the task. The zygote reads one datagram a
call, with three descriptors: the request (code and raw pictures), the result (a memfd of fixed size) and a socket for
the outcome. It forks, the child gives up what it can and runs the code, the zygote kills it at the deadline and
reports how it ended.

What is covered today: wall clock (SIGKILL by the zygote), CPU time, memory, number of processes and threads (none),
size of written files (0 bytes), open files, a session of its own, no new privileges, no core dump, no ptrace by others,
an unprivileged user when started as root, a fresh fork for every call.
What is **not** covered today: reading files that the user may read, creating empty files, the network, signals
to processes of the same user, other system calls. Seccomp and Landlock close those; they are not here yet.
"""

import contextlib
import ctypes
import errno
import gc
import importlib
import io
import mmap
import os
import random
import resource
import select
import signal
import socket
import struct
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

START = struct.Struct("<dQ")
"""Parent to zygote, with the descriptors request, result, reply: wall clock (s), memory budget (bytes)."""
OUTCOME = struct.Struct("<i?d")
"""Zygote to parent: wait status of the child, was it killed at the deadline, wall time (ms)."""
REQUEST = struct.Struct("<IIIIQ")
"""Request: length of the code (bytes), picture to work on, number of pictures, stdout limit (chars), pixel limit."""
SIDES = struct.Struct("<II")
"""Width and height of one picture; its pixels are RGB, 8 bits, row by row."""
RESULT = struct.Struct("<8s12sIII")
"""Result: magic (written last), status, number of pictures, bytes of stdout, bytes of detail."""
MAGIC = b"CVRESULT"
DETAIL_CHARS = 400
READY = b"ready"
EXIT_NO_MEMORY = 2
MAX_FILES = 64
STANDARD_LIBRARY = (
    "base64",
    "bisect",
    "collections",
    "colorsys",
    "copy",
    "dataclasses",
    "datetime",
    "decimal",
    "fractions",
    "functools",
    "heapq",
    "io",
    "itertools",
    "json",
    "math",
    "operator",
    "os",
    "random",
    "re",
    "statistics",
    "string",
    "textwrap",
    "time",
    "typing",
)
"""Loaded before rights are given up: an unprivileged user may not be able to read the interpreter's files."""

NOBODY = 65534
SOURCE = "<code>"
LIBC = ctypes.PyDLL(None)
"""The C library, for prctl and fork. Python's own fork runs hooks that make locks anew and reseed
`random`: in a process with one thread they only cost (half of the fork), and without them two runs of the same code
draw the same numbers."""
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS = 1, 4, 38
DENIED_ERRNOS = {errno.EPERM, errno.EACCES, errno.EFBIG, errno.EROFS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """A child that is running."""

    pid: int
    reply: socket.socket
    started: float
    deadline: float


class Pages(io.TextIOBase):
    """A stream that the model's code prints to: keeps the first `limit` characters and drops the rest."""

    def __init__(self, limit: int) -> None:
        self.parts: list[str] = []
        self.left = limit

    def write(self, text: str) -> int:
        """Keep what still fits."""
        kept = text[: self.left]
        if kept:
            self.parts.append(kept)
            self.left -= len(kept)
        return len(text)


class NoPicture(Exception):
    """No result name is bound to anything."""


class NotAPicture(Exception):
    """The value can't be shown as a picture; the message says why."""


# ---------------------------------------------------------------------------------------------------- the zygote


def preload() -> dict[str, Any]:
    """Import and warm what snippets use: after the fork everything is there, nothing is loaded twice."""
    import cv2  # noqa: PLC0415 - the parent imports this module for its structs and must not pay for cv2
    import numpy as np  # noqa: PLC0415
    from PIL import Image, ImageDraw, ImageEnhance, ImageFile, ImageFilter, ImageFont, ImageOps  # noqa: PLC0415

    for name in STANDARD_LIBRARY:
        importlib.import_module(name)
    cv2.setNumThreads(0)
    Image.init()
    random.seed(0)
    np.random.seed(0)
    tools: dict[str, Any] = {
        "Image": Image,
        "ImageDraw": ImageDraw,
        "ImageEnhance": ImageEnhance,
        "ImageFile": ImageFile,
        "ImageFilter": ImageFilter,
        "ImageFont": ImageFont,
        "ImageOps": ImageOps,
        "cv2": cv2,
        "math": importlib.import_module("math"),
        "np": np,
        "numpy": np,
    }
    sample = Image.new("RGB", (16, 12), (10, 200, 90))
    turned = ImageOps.mirror(sample.rotate(90, expand=True)).crop((1, 1, 9, 9)).resize((16, 16))
    ImageDraw.Draw(turned).text((1, 1), "a")
    ImageEnhance.Contrast(turned.filter(ImageFilter.SHARPEN)).enhance(1.5)
    cv2.rotate(np.array(turned), cv2.ROTATE_180)
    Image.fromarray(np.rot90(np.array(turned)))
    flatten(Image.fromarray(np.zeros((2, 2, 4), np.uint8)))
    return tools


def give_up_rights() -> None:
    """Drop root, forbid gaining rights, forbid ptrace and core dumps, volunteer for the out-of-memory killer."""
    with contextlib.suppress(OSError):  # absent in some containers; the memory limit holds without it
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    if os.getuid() == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    for option, value in ((PR_SET_NO_NEW_PRIVS, 1), (PR_SET_DUMPABLE, 0)):
        if LIBC.prctl(option, value, 0, 0, 0) != 0:
            raise OSError(f"prctl({option}) failed")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def serve(control: socket.socket, tools: dict[str, Any]) -> None:
    """Fork a child per datagram, kill the late ones, report the dead ones; returns when the parent is gone."""
    vm_bytes = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    poller = select.poll()
    poller.register(control, select.POLLIN)
    live: dict[int, Live] = {}
    control.send(READY)
    while True:
        now = time.monotonic()
        wait = min((call.deadline for call in live.values()), default=None)
        for fd, _ in poller.poll(None if wait is None else max(0.0, wait - now) * 1000 + 1):
            if fd == control.fileno():
                message, fds, _, _ = socket.recv_fds(control, START.size, 3)
                if not message:
                    for call in live.values():
                        kill(call.pid)
                    return
                pidfd, call = launch(message, fds, vm_bytes, tools)
                live[pidfd] = call
                poller.register(pidfd, select.POLLIN)
            else:
                call = live.pop(fd)
                poller.unregister(fd)
                os.close(fd)
                report(call)
        now = time.monotonic()
        for call in live.values():
            if now >= call.deadline:
                kill(call.pid)


def launch(message: bytes, fds: list[int], vm_bytes: int, tools: dict[str, Any]) -> tuple[int, Live]:
    """Fork the child of one call; its clock starts here."""
    wall_s, memory = START.unpack(message)
    started = time.monotonic()
    pid = LIBC.fork()
    if pid < 0:
        raise OSError("fork failed")
    if pid == 0:
        child(fds[0], fds[1], wall_s, vm_bytes + memory, tools)
    reply = socket.socket(fileno=fds[2])
    os.close(fds[0])
    os.close(fds[1])
    return os.pidfd_open(pid), Live(pid=pid, reply=reply, started=started, deadline=started + wall_s)


def kill(pid: int) -> None:
    """End the child and whatever shares its session; it can't have children, see RLIMIT_NPROC."""
    for send in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError):  # dead already, or not yet the leader of its group
            send(pid, signal.SIGKILL)


def report(call: Live) -> None:
    """Reap a dead child and tell the parent how it ended."""
    ended = time.monotonic()
    _, status = os.waitpid(call.pid, 0)
    late = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL and ended >= call.deadline
    with call.reply, contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the caller gave up waiting
        call.reply.send(OUTCOME.pack(status, late, (ended - call.started) * 1000))


# ---------------------------------------------------------------------------------------------------- the child


def child(request: int, result: int, wall_s: float, vm_bytes: int, tools: dict[str, Any]) -> None:
    """Run one request and never return."""
    code = 1
    try:
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        os.setsid()
        request, result = close_all_but(request, result)
        for kind, limit in (
            (resource.RLIMIT_AS, vm_bytes),
            (resource.RLIMIT_CPU, int(wall_s) + 2),
            (resource.RLIMIT_NPROC, 0),
            (resource.RLIMIT_FSIZE, 0),
            (resource.RLIMIT_NOFILE, MAX_FILES),
        ):
            resource.setrlimit(kind, (limit, limit + 1 if kind == resource.RLIMIT_CPU else limit))
        perform(request, result, tools)
        code = 0
    except MemoryError:  # while the result was written: the run itself reports its own
        code = EXIT_NO_MEMORY
    finally:
        os._exit(code)


def close_all_but(*keep: int) -> tuple[int, ...]:
    """Leave 0, 1, 2 on /dev/null and the kept descriptors at 3, 4, ...; other calls' sockets and memfds go."""
    high = [os.dup2(fd, 900 + place, inheritable=False) for place, fd in enumerate(keep)]
    low = [os.dup2(fd, 3 + place, inheritable=False) for place, fd in enumerate(high)]
    os.dup2(0, 1)
    os.dup2(0, 2)
    os.closerange(3 + len(low), 1024)
    return tuple(low)


def perform(request: int, result: int, tools: dict[str, Any]) -> None:
    """Read the request, run the code, write the result."""
    code, index, pictures, stdout_chars, max_pixels = read_request(request, tools["Image"])
    out = Pages(stdout_chars)
    status, detail, made = run(code, pictures, index, out, tools, max_pixels)
    os.closerange(result + 1, MAX_FILES)  # mmap needs a free descriptor, the code may have left none
    write_result(result, status, made, "".join(out.parts), detail)


def read_request(fd: int, image_module: Any) -> tuple[str, int, list[Any], int, int]:
    """Unpack what the parent wrote; the pictures are copies that belong to this child."""
    with mmap.mmap(fd, 0, prot=mmap.PROT_READ) as data, memoryview(data) as view:
        code_bytes, index, count, stdout_chars, max_pixels = REQUEST.unpack_from(view)
        at = REQUEST.size + count * SIDES.size
        sizes = [SIDES.unpack_from(view, REQUEST.size + place * SIDES.size) for place in range(count)]
        code = bytes(view[at : at + code_bytes]).decode()
        at += code_bytes
        pictures = []
        for width, height in sizes:
            with view[at : at + width * height * 3] as pixels:
                pictures.append(image_module.frombytes("RGB", (width, height), pixels))
            at += width * height * 3
    os.close(fd)
    return code, index, pictures, stdout_chars, max_pixels


def run(
    code: str, pictures: list[Any], index: int, out: Pages, tools: dict[str, Any], max_pixels: int
) -> tuple[str, str, list[Any]]:
    """Execute the code in one fresh namespace; returns status, detail and the RGB pictures it made."""
    given = pictures[index]
    names = tools | {"__name__": "__main__", "image": given, "img": given, "images": pictures}
    sys.stdout, sys.stderr = out, Pages(0)
    try:
        exec(compile(code, SOURCE, "exec"), names)
        return "ok", "", [flatten(made) for made in chosen(names, given, max_pixels)]
    except NotAPicture as why:
        return "bad_image", str(why), []
    except NoPicture:
        return "no_image", "", []
    except BaseException as error:  # noqa: BLE001 - model code may raise anything, and all of it is an outcome
        return explain(error, code)


def chosen(names: dict[str, Any], given: Any, max_pixels: int) -> list[Any]:
    """The pictures that the code handed back: a result name, else a re-bound `image` or `img`, else `image` itself."""
    bound = [names[name] for name in ("result", "output", "processed_image") if name in names]
    bound += [names[name] for name in ("image", "img") if names.get(name, given) is not given]
    if not bound and "image" in names:
        bound = [names["image"]]
    bound = [value for value in bound if value is not None]
    if not bound:
        raise NoPicture
    found = next((value for value in bound if looks_like_pictures(value)), None)
    if found is None:
        raise NotAPicture(f"the result is of type {type(bound[0]).__name__}")
    many = list(found) if isinstance(found, (list, tuple)) else [found]
    pixels = 0
    for made in many:
        width, height = made.size if hasattr(made, "getbands") else (made.shape[1], made.shape[0])
        pixels += width * height
        if not width * height > 0 or pixels > max_pixels:
            raise NotAPicture(f"its size is {width}x{height}")
    return many


def looks_like_pictures(value: Any) -> bool:
    """PIL pictures, arrays of two or three axes, and short lists of them."""
    if isinstance(value, (list, tuple)):
        return 0 < len(value) <= 16 and all(
            not isinstance(part, (list, tuple)) and looks_like_pictures(part) for part in value
        )
    return hasattr(value, "getbands") or (hasattr(value, "dtype") and getattr(value, "ndim", 0) in (2, 3))


def flatten(made: Any) -> Any:
    """Any usual picture as RGB: arrays are scaled and clipped, transparency is laid on white."""
    import numpy as np  # noqa: PLC0415 - warm in the zygote
    from PIL import Image  # noqa: PLC0415

    if not isinstance(made, Image.Image) or made.mode in ("I", "F", "I;16", "I;16B", "I;16L"):
        made = Image.fromarray(eight_bits(np.asarray(made)))
    made.load()
    if made.mode == "RGB":
        return made
    if made.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in made.info:
        made = made.convert("RGBA")
        ground = Image.new("RGBA", made.size, (255, 255, 255, 255))
        return Image.alpha_composite(ground, made).convert("RGB")
    try:
        return made.convert("RGB")
    except ValueError as error:
        raise NotAPicture(f"mode {made.mode} can't be shown") from error


def eight_bits(array: Any) -> Any:
    """Values as uint8 with 1, 3 or 4 channels: booleans and floats up to 1 are stretched, the rest is clipped."""
    import numpy as np  # noqa: PLC0415 - warm in the zygote

    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim == 3 and array.shape[2] not in (3, 4):
        raise NotAPicture(f"an array of shape {array.shape}")
    if array.dtype.kind == "b":
        return array.astype(np.uint8) * np.uint8(255)
    if array.dtype.kind == "f":
        array = np.nan_to_num(array)
        array = array * 255 if array.max() <= 1.0 else array
    elif array.dtype.kind not in "iu":
        raise NotAPicture(f"an array of {array.dtype}")
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    return np.clip(np.rint(array), 0, 255).astype(np.uint8)


def explain(error: BaseException, code: str) -> tuple[str, str, list[Any]]:
    """Status and one line for an exception: its type, its message and the model's own line."""
    line = error.lineno if isinstance(error, SyntaxError) else None
    for frame, number in traceback.walk_tb(error.__traceback__):
        if frame.f_code.co_filename == SOURCE:
            line = number
    message = error.msg if isinstance(error, SyntaxError) else str(error).strip()
    message = message.splitlines()[0] if message else ""
    lines = code.splitlines()
    where = f" (line {line}: {lines[line - 1].strip()})" if line and line <= len(lines) else ""
    detail = f"{type(error).__name__}: {message}{where}" if message else f"{type(error).__name__}{where}"
    if isinstance(error, MemoryError) or getattr(error, "code", None) == -4:  # cv2's StsNoMem
        return "memory", detail, []
    if isinstance(error, OSError) and error.errno in DENIED_ERRNOS:
        return "denied", detail, []
    return "error", detail, []


def write_result(fd: int, status: str, pictures: list[Any], stdout: str, detail: str) -> None:
    """Lay the result into the memfd through a map (RLIMIT_FSIZE forbids write), the magic last."""
    texts = [stdout.encode("utf-8", "replace"), detail[:DETAIL_CHARS].encode("utf-8", "replace")]
    sides = b"".join(SIDES.pack(*made.size) for made in pictures)
    at = RESULT.size
    total = at + len(sides) + sum(map(len, texts)) + sum(made.width * made.height * 3 for made in pictures)
    with mmap.mmap(fd, total) as view:
        for part in pieces(sides, texts, pictures):
            view[at : at + len(part)] = part
            at += len(part)
        header = RESULT.pack(MAGIC, status.encode(), len(pictures), len(texts[0]), len(texts[1]))
        view[len(MAGIC) : RESULT.size] = header[len(MAGIC) :]
        view[: len(MAGIC)] = MAGIC


def pieces(sides: bytes, texts: list[bytes], pictures: list[Any]) -> Iterator[bytes]:
    """The body of a result in its order, one picture in memory at a time."""
    yield sides
    yield from texts
    for made in pictures:
        yield made.tobytes()


def main() -> None:
    """Warm up, give up rights, serve until the parent closes its end."""
    control = socket.socket(fileno=int(sys.argv[1]))
    sys.path[:0] = sys.argv[2:]
    tools = preload()
    sys.dont_write_bytecode = True
    give_up_rights()
    if threading.active_count() != 1:
        raise RuntimeError("a thread runs in the zygote: forking it would copy its locks")
    gc.collect()
    gc.freeze()
    serve(control, tools)


if __name__ == "__main__":
    main()
