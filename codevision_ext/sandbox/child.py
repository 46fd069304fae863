"""What a child does with its request: run the model's code, choose and convert its images, lay down the result.

Everything here runs in the child, beside the code that it serves and at its mercy: it may be patched, its result may be
forged. So nothing here defends anything; the kernel does (`lockdown`), and the parent trusts no byte (`protocol`).
"""

import contextlib
import errno
import io
import linecache
import mmap
import os
import socket
import sys
import traceback
import types
from dataclasses import dataclass
from typing import Any

from codevision_ext.sandbox import pixels
from codevision_ext.sandbox.coordinates import Size, box_in_pixels, point_in_pixels
from codevision_ext.sandbox.wire import (
    DETAIL_CHARS,
    IMAGE,
    MAGIC,
    MAX_IMAGES_BACK,
    PROGRAM,
    REQUEST,
    RESULT,
    SIDES,
)

SOURCE = "<code>"
RESULT_NAMES = ("result", "output", "processed_image", "image", "img")
"""Where an image is looked for, in this order: the first that the code bound, else what became of `image`."""
FRACTIONS = 2.0
"""Floats up to here count to 1: brightening and interpolation reach a bit above it."""
SIXTEEN_BITS = 1024
"""Unsigned 16-bit numbers with one from here on count to 65535: sums of a few 8-bit numbers stay below it."""
DENIED_ERRNOS = {errno.EPERM, errno.EACCES, errno.EFBIG, errno.EROFS}
REFUSALS = (
    os.strerror(errno.EPERM),  # told by a C library, as when a library is loaded
    "can't start new thread",
    "cannot open resource",  # a font's file
    "No usable temporary directory",
)
"""What is said by exceptions that carry no number of an error."""


@dataclass(frozen=True, slots=True)
class Program:
    """One piece of model-written code and the images it sees."""

    code: str
    image_index: int
    images: int


@dataclass(frozen=True, slots=True)
class Request:
    """What the parent asked for; the last program is the call, those before it are earlier calls."""

    programs: list[Program]
    images: list[Any]
    coordinate_sizes: list[Size]
    """Of each image, in the coordinates that the code's author writes."""
    stdout_chars: int
    max_pixels: int


class Pages(io.BufferedIOBase):
    """Where the model's code prints to: keeps what makes the first `chars` characters and drops the rest."""

    name = "<stdout>"

    def __init__(self, chars: int) -> None:
        self.chars = chars
        self.kept = bytearray()
        self.stream = io.TextIOWrapper(self, "utf-8", "replace")
        """What stands as `sys.stdout`."""

    def writable(self) -> bool:
        """As `TextIOWrapper` asks."""
        return True

    def write(self, data: Any) -> int:
        """Keep what still fits."""
        with memoryview(data).cast("B") as view:
            self.kept += view[: 4 * self.chars - len(self.kept)]
            return len(view)

    def text(self) -> str:
        """What was printed, as far as it was kept."""
        with contextlib.suppress(ValueError):  # the code closed it, which left nothing to flush
            self.stream.flush()
        return self.kept.decode("utf-8", "replace")[: self.chars]


class NoImage(Exception):
    """No result name is bound to anything."""


class NotAImage(Exception):
    """The value can't be shown as an image; the message says why."""


def perform(request: Request, result: int, tools: dict[str, Any]) -> int:
    """Run the code and write what it made, or how it failed, into the descriptor `result`; returns how many bytes."""
    out = Pages(request.stdout_chars)
    status, detail, made = run(request, out, tools)
    return write_result(result, status, made, out.text(), detail)


def read_request(fd: int) -> Request:
    """Unpack what the parent wrote; the images lie in this child's own view of it, copied where they are changed."""
    size = os.lseek(fd, 0, os.SEEK_END)  # fstat goes through newfstatat, which isn't allowed: it can name files
    data = mmap.mmap(fd, size, access=mmap.ACCESS_COPY)
    programs, count, stdout_chars, max_pixels = REQUEST.unpack_from(data)
    at = REQUEST.size
    heads = [PROGRAM.unpack_from(data, at + place * PROGRAM.size) for place in range(programs)]
    at += programs * PROGRAM.size
    sizes = [IMAGE.unpack_from(data, at + place * IMAGE.size) for place in range(count)]
    at += count * IMAGE.size
    read = []
    for length, index, seen in heads:
        read.append(Program(data[at : at + length].decode(), index, seen))
        at += length
    images = []
    for width, height, *_ in sizes:
        at = pixels.aligned(at)
        images.append(pixels.view_image(data, at, width, height))
        at += pixels.room(width, height)
    os.close(fd)
    return Request(read, images, [(width, height) for *_, width, height in sizes], stdout_chars, max_pixels)


def run(request: Request, out: Pages, tools: dict[str, Any]) -> tuple[str, str, list[Any]]:
    """Execute the programs in one fresh namespace; returns status, detail and the RGB images of the last one."""
    main = sys.modules["__main__"] = types.ModuleType("__main__")  # where pickle and typing look a class up
    names = vars(main)
    names |= tools
    nothing = Pages(0)
    *earlier, call = request.programs
    program = call
    try:
        for program in earlier:
            sys.stdout = sys.stderr = nothing.stream
            copies = [image.copy() for image in request.images[: program.images]]
            set_stage(names, copies, program, request, tools)
            execute(program.code, names)
        program = call
        sys.stdout = sys.stderr = out.stream
        set_stage(names, request.images[: call.images], call, request, tools)
        before = {name: names[name] for name in RESULT_NAMES if name in names}
        execute(call.code, names)
        return "ok", "", [flatten(made) for made in chosen(names, before, request.max_pixels)]
    except NotAImage as why:
        return "bad_image", str(why), []
    except NoImage:
        return "no_image", "", []
    except BaseException as error:  # noqa: BLE001 - model code may raise anything, and all of it is an outcome
        return explain(error, program.code)


def execute(code: str, names: dict[str, Any]) -> None:
    """Run the code; a traceback that it prints, and `inspect`, find its lines."""
    linecache.cache[SOURCE] = (len(code), None, code.splitlines(keepends=True), SOURCE)
    exec(compile(code, SOURCE, "exec"), names)


def set_stage(
    names: dict[str, Any], images: list[Any], program: Program, request: Request, tools: dict[str, Any]
) -> None:
    """Bind the images of one call, and where its coordinates lie on them; `draw` draws on `image` itself."""
    names["images"] = images
    if not images:
        return
    given = images[program.image_index]
    sizes = [image.size for image in request.images[: program.images]]

    def place(index: int) -> tuple[Size, Size]:
        if not 0 <= index < len(sizes):
            raise ValueError(f"index must be from 0 to {len(sizes) - 1}, it is {index}")
        return request.coordinate_sizes[index], sizes[index]

    def box(x1: float, y1: float, x2: float, y2: float, index: int = program.image_index) -> tuple[int, int, int, int]:
        return box_in_pixels((x1, y1, x2, y2), *place(index))

    def point(x: float, y: float, index: int = program.image_index) -> tuple[int, int]:
        return point_in_pixels((x, y), *place(index))

    names |= {"image": given, "img": given, "draw": tools["ImageDraw"].Draw(given), "box": box, "point": point}


def chosen(names: dict[str, Any], before: dict[str, Any], max_pixels: int) -> list[Any]:
    """The images that the code handed back: what a result name was bound to, else `image`, perhaps drawn on."""
    bound = [names[name] for name in RESULT_NAMES if name in names and names[name] is not before.get(name, names)]
    if not bound and "image" in names:
        bound = [names["image"]]
    bound = [drawn(value) for value in bound if value is not None]
    if not bound:
        raise NoImage
    found = next((value for value in bound if looks_like_images(value)), None)
    if found is None:
        raise NotAImage(f"the result is of type {type(bound[0]).__name__}")
    many = [drawn(value) for value in found] if isinstance(found, (list, tuple)) else [found]
    pixels = 0
    for made in many:
        width, height = made.size if hasattr(made, "getbands") else (made.shape[1], made.shape[0])
        pixels += width * height
        if not width * height > 0 or pixels > max_pixels:
            raise NotAImage(f"its size is {width}x{height}")
    return many


def drawn(value: Any) -> Any:
    """A matplotlib figure as the pixels that it draws; anything else as it is."""
    if hasattr(value, "savefig") and hasattr(value, "canvas"):
        value.canvas.draw()
        return sys.modules["numpy"].array(value.canvas.buffer_rgba())
    return value


def looks_like_images(value: Any) -> bool:
    """PIL images, arrays of two or three axes, figures, and short lists of them."""
    if isinstance(value, (list, tuple)):
        return 0 < len(value) <= MAX_IMAGES_BACK and all(
            not isinstance(part, (list, tuple)) and looks_like_images(part) for part in value
        )
    if hasattr(value, "savefig") and hasattr(value, "canvas"):
        return True
    return hasattr(value, "getbands") or (hasattr(value, "dtype") and getattr(value, "ndim", 0) in (2, 3))


def flatten(made: Any) -> Any:
    """Any usual image as RGB: arrays are scaled and clipped, transparency is laid on white."""
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
        raise NotAImage(f"mode {made.mode} can't be shown") from error


def eight_bits(array: Any) -> Any:
    """Values as uint8 with 1, 3 or 4 channels: what counts to 1 or to 65535 is brought to 255, the rest is clipped."""
    import numpy as np  # noqa: PLC0415 - warm in the zygote

    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim == 3 and array.shape[2] not in (3, 4):
        raise NotAImage(f"an array of shape {array.shape}")
    if array.dtype.kind == "b":
        return array.astype(np.uint8) * np.uint8(255)
    if array.dtype.kind == "f":
        array = np.nan_to_num(array)
        array = array * 255 if array.max() <= FRACTIONS else array
    elif array.dtype.kind not in "iu":
        raise NotAImage(f"an array of {array.dtype}")
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    if array.dtype == np.uint16 and array.max() >= SIXTEEN_BITS:
        array = array / 257
    return np.clip(np.rint(array), 0, 255).astype(np.uint8)


def explain(error: BaseException, code: str) -> tuple[str, str, list[Any]]:
    """Status and one line for an exception: its type, its message and the model's own line."""
    line = error.lineno if isinstance(error, SyntaxError) else None
    for frame, number in traceback.walk_tb(error.__traceback__):
        if frame.f_code.co_filename == SOURCE:
            line = number
    message = message_of(error)
    lines = code.splitlines()
    where = f" (line {line}: {lines[line - 1].strip()})" if line and line <= len(lines) else ""
    detail = f"{type(error).__name__}: {message}{where}" if message else f"{type(error).__name__}{where}"
    no_memory = type(error).__module__ == "cv2" and getattr(error, "code", None) == -4  # StsNoMem
    if isinstance(error, MemoryError) or no_memory:
        return "memory", detail, []
    return "denied" if was_denied(error) else "error", detail, []


def was_denied(error: BaseException) -> bool:
    """Was it a refusal that ended the code, perhaps told as something else by a library?"""
    refused = isinstance(error, OSError) and error.errno in DENIED_ERRNOS
    if refused or isinstance(error, socket.gaierror) or any(words in message_of(error) for words in REFUSALS):
        return True
    behind = error.__cause__ or (error.__context__ if isinstance(error, OSError) else None)
    return behind is not None and was_denied(behind)


def message_of(error: BaseException) -> str:
    """The first line of what an exception says; nothing where saying it fails."""
    try:
        message = error.msg if isinstance(error, SyntaxError) else str(error).strip()
        return message.splitlines()[0] if message else ""
    except Exception:  # noqa: BLE001 - the model's own __str__ may raise anything
        return ""


def write_result(fd: int, status: str, images: list[Any], stdout: str, detail: str) -> int:
    """Lay the result into `fd`, its head last; returns how many bytes it takes."""
    texts = [stdout.encode("utf-8", "replace"), detail[:DETAIL_CHARS].encode("utf-8", "replace")]
    os.lseek(fd, RESULT.size, os.SEEK_SET)
    sides = [SIDES.pack(*made.size) for made in images]
    end = pixels.lay_down(fd, b"".join([*sides, *texts]), images, pixels.AS_HELD)
    os.lseek(fd, 0, os.SEEK_SET)
    os.write(fd, RESULT.pack(MAGIC, status.encode(), len(images), *map(len, texts)))
    return end
