"""Handles one request in a child: runs the model's code, chooses and converts its images, and writes the result.

All of this runs in the same process as the model's code, which may patch it or forge its result. So nothing here
protects anything: the kernel does (`lockdown`), and the parent trusts no byte of the result (`protocol`).
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
"""Variables that can hold the resulting image; the first that the code assigned counts, else `image`."""
FRACTIONS = 2.0
"""Largest value of a float array with the range 0 to 1; brightening and interpolation reach a bit above 1."""
SIXTEEN_BITS = 1024
"""Smallest maximum of an unsigned 16-bit array with the range 0 to 65535.

Arrays below it have the range 0 to 255: sums of a few 8-bit numbers stay below it.
"""
DENIED_ERRNOS = {errno.EPERM, errno.EACCES, errno.EFBIG, errno.EROFS}
"""Error numbers of calls that the sandbox denies."""
REFUSALS = (
    os.strerror(errno.EPERM),  # from a C library, for example when a library is loaded
    "can't start new thread",
    "cannot open resource",  # a font's file
    "No usable temporary directory",
)
"""Messages of denied calls in exceptions that have no error number."""


@dataclass(frozen=True, slots=True)
class Program:
    """A piece of model-written code and its images."""

    code: str
    image_index: int
    images: int
    """Number of the request's images that the code gets, from the first."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request of the parent; its last program is the call, the programs before are earlier calls."""

    programs: list[Program]
    images: list[Any]
    coordinate_sizes: list[Size]
    """Width and height of each image, in the coordinates that the model writes."""
    stdout_chars: int
    max_pixels: int


class Pages(io.BufferedIOBase):
    """The standard output of the model's code; keeps the first `chars` characters and drops the rest."""

    name = "<stdout>"

    def __init__(self, chars: int) -> None:
        self.chars = chars
        self.kept = bytearray()
        self.stream = io.TextIOWrapper(self, "utf-8", "replace")
        """Text stream to be set as `sys.stdout`."""

    def writable(self) -> bool:
        """Returns True, as `TextIOWrapper` requires."""
        return True

    def write(self, data: Any) -> int:
        """Keeps the part of the data that still fits; pretends to write all of it."""
        with memoryview(data).cast("B") as view:
            self.kept += view[: 4 * self.chars - len(self.kept)]
            return len(view)

    def text(self) -> str:
        """Returns the printed text, as far as it was kept."""
        with contextlib.suppress(ValueError):  # the code closed the stream, so there is nothing to flush
            self.stream.flush()
        return self.kept.decode("utf-8", "replace")[: self.chars]


class NoImage(Exception):
    """No variable of RESULT_NAMES holds a value."""


class NotAImage(Exception):
    """The value can't be converted to an image; the message says why."""


def perform(request: Request, result: int, tools: dict[str, Any]) -> int:
    """Runs the code and writes its images or its error into the descriptor `result`; returns the number of bytes."""
    out = Pages(request.stdout_chars)
    status, detail, images = run(request, out, tools)
    return write_result(result, status, images, out.text(), detail)


def read_request(fd: int) -> Request:
    """Unpacks the request of the parent. The images are views of the mapped memory, which is copied on write."""
    size = os.lseek(fd, 0, os.SEEK_END)  # fstat goes through newfstatat, which isn't allowed: it can name files
    data = mmap.mmap(fd, size, access=mmap.ACCESS_COPY)
    programs, count, stdout_chars, max_pixels = REQUEST.unpack_from(data)
    at = REQUEST.size
    heads = [PROGRAM.unpack_from(data, at + place * PROGRAM.size) for place in range(programs)]
    at += programs * PROGRAM.size
    sizes = [IMAGE.unpack_from(data, at + place * IMAGE.size) for place in range(count)]
    at += count * IMAGE.size
    unpacked = []
    for length, image_index, image_count in heads:
        unpacked.append(Program(data[at : at + length].decode(), image_index, image_count))
        at += length
    images = []
    for width, height, *_ in sizes:
        at = pixels.aligned(at)
        images.append(pixels.view_image(data, at, width, height))
        at += pixels.room(width, height)
    os.close(fd)
    return Request(unpacked, images, [(width, height) for *_, width, height in sizes], stdout_chars, max_pixels)


def run(request: Request, out: Pages, tools: dict[str, Any]) -> tuple[str, str, list[Any]]:
    """Runs the programs in one fresh namespace; returns status, detail and the RGB images of the last program."""
    main = sys.modules["__main__"] = types.ModuleType("__main__")  # pickle and typing look classes up here
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
        return "ok", "", [flatten(image) for image in chosen(names, before, request.max_pixels)]
    except NotAImage as error:
        return "bad_image", str(error), []
    except NoImage:
        return "no_image", "", []
    except BaseException as error:  # noqa: BLE001 - model code may raise anything, and all of it is an outcome
        return explain(error, program.code)


def execute(code: str, names: dict[str, Any]) -> None:
    """Runs the code; registers its lines, so that tracebacks and `inspect` find them."""
    linecache.cache[SOURCE] = (len(code), None, code.splitlines(keepends=True), SOURCE)
    exec(compile(code, SOURCE, "exec"), names)


def set_stage(
    names: dict[str, Any], images: list[Any], program: Program, request: Request, tools: dict[str, Any]
) -> None:
    """Sets the variables that a call finds: its images, `draw` for `image`, and `box` and `point` for coordinates."""
    names["images"] = images
    if not images:
        return
    image = images[program.image_index]
    sizes = [image.size for image in request.images[: program.images]]

    def place(index: int) -> tuple[Size, Size]:
        if not 0 <= index < len(sizes):
            raise ValueError(f"index must be from 0 to {len(sizes) - 1}, it is {index}")
        return request.coordinate_sizes[index], sizes[index]

    def box(x1: float, y1: float, x2: float, y2: float, index: int = program.image_index) -> tuple[int, int, int, int]:
        return box_in_pixels((x1, y1, x2, y2), *place(index))

    def point(x: float, y: float, index: int = program.image_index) -> tuple[int, int]:
        return point_in_pixels((x, y), *place(index))

    names |= {"image": image, "img": image, "draw": tools["ImageDraw"].Draw(image), "box": box, "point": point}


def chosen(names: dict[str, Any], before: dict[str, Any], max_pixels: int) -> list[Any]:
    """Returns the images of the call: the value that the code assigned to a result name, else `image` itself.

    Raises NoImage where there is no such value, and NotAImage where it isn't an image or is too large.
    """
    bound = [names[name] for name in RESULT_NAMES if name in names and names[name] is not before.get(name, names)]
    if not bound and "image" in names:
        bound = [names["image"]]
    bound = [drawn(value) for value in bound if value is not None]
    if not bound:
        raise NoImage
    value = next((value for value in bound if looks_like_images(value)), None)
    if value is None:
        raise NotAImage(f"the result is of type {type(bound[0]).__name__}")
    images = [drawn(part) for part in value] if isinstance(value, (list, tuple)) else [value]
    pixels = 0
    for image in images:
        width, height = image.size if hasattr(image, "getbands") else (image.shape[1], image.shape[0])
        pixels += width * height
        if not width * height > 0 or pixels > max_pixels:
            raise NotAImage(f"its size is {width}x{height}")
    return images


def drawn(value: Any) -> Any:
    """Returns the pixels of a matplotlib figure; any other value unchanged."""
    if hasattr(value, "savefig") and hasattr(value, "canvas"):
        value.canvas.draw()
        return sys.modules["numpy"].array(value.canvas.buffer_rgba())
    return value


def looks_like_images(value: Any) -> bool:
    """Returns whether the value is a PIL image, an array of two or three axes, a figure, or a short list of these."""
    if isinstance(value, (list, tuple)):
        return 0 < len(value) <= MAX_IMAGES_BACK and all(
            not isinstance(part, (list, tuple)) and looks_like_images(part) for part in value
        )
    if hasattr(value, "savefig") and hasattr(value, "canvas"):
        return True
    return hasattr(value, "getbands") or (hasattr(value, "dtype") and getattr(value, "ndim", 0) in (2, 3))


def flatten(image: Any) -> Any:
    """Converts an image to RGB. Arrays are scaled and clipped; transparent pixels get a white background."""
    import numpy as np  # noqa: PLC0415 - loaded in the zygote
    from PIL import Image  # noqa: PLC0415

    if not isinstance(image, Image.Image) or image.mode in ("I", "F", "I;16", "I;16B", "I;16L"):
        image = Image.fromarray(eight_bits(np.asarray(image)))
    image.load()
    if image.mode == "RGB":
        return image
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(ground, image).convert("RGB")
    try:
        return image.convert("RGB")
    except ValueError as error:
        raise NotAImage(f"mode {image.mode} can't be shown") from error


def eight_bits(array: Any) -> Any:
    """Converts an array to uint8 with 1, 3 or 4 channels: a range to 1 or 65535 is scaled, other values are clipped."""
    import numpy as np  # noqa: PLC0415 - loaded in the zygote

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
    """Returns the status and a one-line detail for an exception: type, message and the line of the model's code."""
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
    """Returns whether a denied call caused the exception, also where a library raised another one for it."""
    refused = isinstance(error, OSError) and error.errno in DENIED_ERRNOS
    if refused or isinstance(error, socket.gaierror) or any(words in message_of(error) for words in REFUSALS):
        return True
    cause = error.__cause__ or (error.__context__ if isinstance(error, OSError) else None)
    return cause is not None and was_denied(cause)


def message_of(error: BaseException) -> str:
    """Returns the first line of an exception's message; empty where there is none or `__str__` fails."""
    try:
        message = error.msg if isinstance(error, SyntaxError) else str(error).strip()
        return message.splitlines()[0] if message else ""
    except Exception:  # noqa: BLE001 - the model's own __str__ may raise anything
        return ""


def write_result(fd: int, status: str, images: list[Any], stdout: str, detail: str) -> int:
    """Writes the result into `fd`, its header last; returns the number of bytes."""
    texts = [stdout.encode("utf-8", "replace"), detail[:DETAIL_CHARS].encode("utf-8", "replace")]
    os.lseek(fd, RESULT.size, os.SEEK_SET)
    sides = [SIDES.pack(*image.size) for image in images]
    end = pixels.write_images(fd, b"".join([*sides, *texts]), images, pixels.AS_IN_MEMORY)
    os.lseek(fd, 0, os.SEEK_SET)
    os.write(fd, RESULT.pack(MAGIC, status.encode(), len(images), *map(len, texts)))
    return end
