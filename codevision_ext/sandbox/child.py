"""Handles one request in a child: runs the model's code, chooses and converts its images, and writes the result.

This module runs in the same process as the model's code, which may patch it or forge its result. So this module
protects nothing. The kernel restricts the process (`lockdown`), and the parent checks every byte of the result
(`protocol`).
"""

import contextlib
import io
import linecache
import mmap
import os
import sys
import types
from dataclasses import dataclass
from typing import Any

from codevision_ext.sandbox import pixels
from codevision_ext.sandbox.coordinates import Size, box_in_pixels, point_in_pixels
from codevision_ext.sandbox.snippet import guards
from codevision_ext.sandbox.snippet.errors import explain
from codevision_ext.sandbox.snippet.files import FILES, PROCESSED, OutOfReachError, name_of
from codevision_ext.sandbox.snippet.images import Ending, NoImage, NotAImage, flatten, handed_back
from codevision_ext.sandbox.snippet.source import SOURCE, Source, read_source
from codevision_ext.sandbox.wire import (
    DETAIL_CHARS,
    IMAGE,
    MAGIC,
    PROGRAM,
    REQUEST,
    RESULT,
    SIDES,
)


@dataclass(frozen=True, slots=True)
class Program:
    """A piece of model-written code and its images."""

    code: str
    image_index: int
    images: int
    """Number of the request's images that the code gets, from the first."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request of the parent. Its last program is the call; the programs before it are earlier calls, run again."""

    programs: list[Program]
    images: list[Any]
    coordinate_sizes: list[Size]
    """Width and height of each image, in the coordinates that the model writes."""
    paths: list[str]
    """Path by which code may open each image; empty: none besides the usual one."""
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
        """Keeps the part of the data that still fits; returns the length of all data, as if all were written."""
        with memoryview(data).cast("B") as view:
            self.kept += view[: 4 * self.chars - len(self.kept)]
            return len(view)

    def text(self) -> str:
        """Returns the kept part of the printed text."""
        with contextlib.suppress(ValueError):  # the code closed the stream, so there is nothing to flush
            self.stream.flush()
        return self.kept.decode("utf-8", "replace")[: self.chars]


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
    paths = []
    for *_, length in sizes:
        paths.append(data[at : at + length].decode())
        at += length
    images = []
    for width, height, *_ in sizes:
        at = pixels.aligned(at)
        images.append(pixels.view_image(data, at, width, height))
        at += pixels.room(width, height)
    os.close(fd)
    coordinate_sizes = [(width, height) for *_, width, height, _ in sizes]
    return Request(unpacked, images, coordinate_sizes, paths, stdout_chars, max_pixels)


def run(request: Request, out: Pages, tools: dict[str, Any]) -> tuple[str, str, list[Any]]:
    """Runs the programs in one fresh namespace; returns status, detail and the RGB images of the last program."""
    main = sys.modules["__main__"] = types.ModuleType("__main__")  # pickle and typing look classes up here
    names = vars(main)
    names |= tools
    nothing = Pages(0)
    *earlier, call = request.programs
    code = ""
    stage: dict[str, Any] = {}
    try:
        for program in earlier:
            sys.stdout = sys.stderr = nothing.stream
            copies = [image.copy() for image in request.images[: program.images]]
            stage = set_stage(names, copies, program, request, tools, stage)
            source = read_source(program.code)
            code = source.text
            execute(source, names)
        guards.begin()
        code = call.code
        sys.stdout = sys.stderr = out.stream
        images = request.images[: call.images]
        set_stage(names, images[:], call, request, tools, stage)
        before, image = dict(names), images[call.image_index] if images else None
        source = read_source(call.code)
        code = source.text
        last = execute(source, names)
        ending = Ending(names, before, images, image, last, guards.CALL.shown, source)
        chosen, note = handed_back(ending, request.max_pixels)
        notes = [text for text in (source.note, *guards.CALL.notes, note) if text]
        return "ok", "; ".join(notes), [flatten(image) for image in chosen]
    except NotAImage as error:
        return "bad_image", "; ".join([str(error), *guards.CALL.notes]), []
    except NoImage:
        return "no_image", "; ".join(guards.CALL.notes), []
    except BaseException as error:  # noqa: BLE001 - model code may raise anything, and all of it is an outcome
        return *explain(error, code, guards.CALL.notes), []


def execute(source: Source, names: dict[str, Any]) -> Any:
    """Runs the code and returns the value of its last expression; None if there is none, or if the code calls `exit`.

    Code also ends where it saves to a folder that isn't its own; a note says so. The lines of the code are registered,
    so that tracebacks and `inspect` find them.
    """
    linecache.cache[SOURCE] = (len(source.text), None, source.text.splitlines(keepends=True), SOURCE)
    try:
        exec(source.body, names)
        return eval(source.last, names) if source.last else None
    except OutOfReachError as refusal:
        guards.CALL.note(f"the code ended where it saved to {refusal.filename!r:.80}: save to `processed_path`")
        return None
    except SystemExit as end:
        if end.code in (None, 0):
            return None  # the code ended on purpose
        raise


def set_stage(
    names: dict[str, Any],
    images: list[Any],
    program: Program,
    request: Request,
    tools: dict[str, Any],
    stage: dict[str, Any],
) -> dict[str, Any]:
    """Sets the variables of a call, and the names by which its code can open its images; returns variables of images.

    The variables are its images, their paths, `draw`, which draws on `image`, and the functions `box` and `point`. If
    the call before opened its image by path, `image`, `img` and `draw` keep the values that its code gave them; `stage`
    has the values that they had before that code.
    """
    kept = {name for name in stage if FILES.opened and names.get(name) is not stage[name]}
    paths = [name_of(index) for index in range(len(images))]
    own = {path: image for path, image in zip(request.paths, images, strict=False) if path}
    FILES.begin(dict(zip(paths, images, strict=True)) | own, by_path=bool(own) or "_path" in program.code)
    names |= {"images": images, "image_paths": paths, "processed_path": PROCESSED}
    if not images:
        return {}
    names["image_path"] = paths[program.image_index]
    image = images[program.image_index]
    sizes = [image.size for image in request.images[: program.images]]

    def place(index: int) -> tuple[Size, Size]:
        if not 0 <= index < len(sizes):
            raise ValueError(f"index must be from 0 to {len(sizes) - 1}, it is {index}")
        return request.coordinate_sizes[index], sizes[index]

    def box(x1: float, y1: float, x2: float, y2: float, index: int = program.image_index) -> tuple[int, int, int, int]:
        space, size = place(index)
        inside = box_in_pixels((x1, y1, x2, y2), space, size)
        guards.note_cut((x1, y1, x2, y2), space)
        return inside

    def point(x: float, y: float, index: int = program.image_index) -> tuple[int, int]:
        return point_in_pixels((x, y), *place(index))

    box.__qualname__, point.__qualname__ = "box", "point"  # the names in messages
    space = request.coordinate_sizes[program.image_index]
    if space != image.size:
        guards.CALL.remedy = f"; box() turns x from 0 to {space[0]} and y from 0 to {space[1]} into pixels"
    stage = {"image": image, "img": image, "draw": tools["ImageDraw"].Draw(image)}
    names |= {"box": box, "point": point} | {name: value for name, value in stage.items() if name not in kept}
    return stage


def write_result(fd: int, status: str, images: list[Any], stdout: str, detail: str) -> int:
    """Writes the result into `fd`, its header last; returns the number of bytes."""
    texts = [stdout.encode("utf-8", "replace"), detail[:DETAIL_CHARS].encode("utf-8", "replace")]
    os.lseek(fd, RESULT.size, os.SEEK_SET)
    sides = [SIDES.pack(*image.size) for image in images]
    end = pixels.write_images(fd, b"".join([*sides, *texts]), images, pixels.AS_IN_MEMORY)
    os.lseek(fd, 0, os.SEEK_SET)
    os.write(fd, RESULT.pack(MAGIC, status.encode(), len(images), *map(len, texts)))
    return end
