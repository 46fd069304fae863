"""Runs snippets of code on images as a tool call runs them: the command `codevision exec`."""

import io
import os
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from codevision_ext.errors import InputError
from codevision_ext.io.atomic_files import write_whole
from codevision_ext.io.images import opened_image
from codevision_ext.io.json_codec import JsonCodec
from codevision_ext.rollout.code_tool import CodeTool
from codevision_ext.rollout.image_history import ImageHistory
from codevision_ext.sandbox import ExecRequest, Isolation
from codevision_ext.sandbox.backend import Backend
from codevision_ext.types import ExecStatus, Step, ToolCall

SaveImages = Callable[[Sequence[Image.Image]], tuple[str, ...]]
"""Function that saves the images of one snippet and returns their paths."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snippet:
    """One line of a batch. Paths are relative to the working directory."""

    id: str | int
    code: str
    image: str | None = None
    """Path of the only image; set this or `images`, or none of them."""
    images: tuple[str, ...] | None = None
    """Paths of the images, in the order of `image_index`."""

    def __post_init__(self) -> None:
        if self.image is not None and self.images is not None:
            raise ValueError("image and images are both there, give one of them")

    @property
    def paths(self) -> tuple[Path, ...]:
        return tuple(map(Path, (self.image,) if self.image is not None else self.images or ()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The result of one snippet."""

    id: str | int
    status: ExecStatus
    detail: str
    stdout: str
    ms: float
    """Wall time of the execution, milliseconds."""
    images: tuple[str, ...]
    """Paths of the images that the snippet made; empty if images aren't saved."""
    steps: tuple[Step, ...]
    """The step that the record of a rollout would have for this call; always one."""
    isolation: Isolation | None
    """Isolation of the execution; None if the code wasn't run."""


_SNIPPETS: JsonCodec[Snippet] = JsonCodec(Snippet)
_ANSWERS: JsonCodec[Answer] = JsonCodec(Answer)


def run_one(code: Path, images: Sequence[Path], sandbox: Backend, out: Path | None = None) -> bytes:
    """Runs the snippet in the file `code`, and returns its answer as one JSON text.

    Args:
        code: File with the snippet.
        images: Files of the images.
        sandbox: Runs the code.
        out: File for the image that the snippet makes, in the format of its ending. Further images get -1, -2, ...
            after the name. None: no image is saved.

    Raises:
        InputError: a file can't be read, isn't an image, or can't be written.
        SandboxError: the sandbox can't start, or died.
    """
    if out is not None and out.suffix.lower() not in Image.registered_extensions():
        raise InputError(f"--out {out}: no image format has that ending; try .png")
    try:
        text = code.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"--code {code}: can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"--code {code}: isn't UTF-8") from error

    def save_images(images: Sequence[Image.Image]) -> tuple[str, ...]:
        if out is None:
            return ()
        names = [out.with_stem(f"{out.stem}-{index}" if index else out.stem) for index in range(len(images))]
        for path, image in zip(names, images, strict=True):
            _save(path, image)
        return tuple(map(str, names))

    snippet = Snippet(id=str(code), code=text, images=tuple(map(str, images)))
    return _ANSWERS.dump(_answer(snippet, "--image", CodeTool(sandbox), sandbox, save_images))


def run_batch(source: Path, out: Path, sandbox: Backend, images_dir: Path | None = None) -> int:
    """Runs every snippet of `source` and writes the answers to `out` in the same order; returns their number.

    Nothing is written until all snippets have run.

    Args:
        source: File with one `Snippet` per line, as JSON.
        out: File for one `Answer` per line, as JSON; replaced where it exists.
        sandbox: Runs the code, and decides how many snippets run at once.
        images_dir: Folder for the images, named by line and index (`000001-0.png`); created where it is missing.
            None: images aren't saved.

    Raises:
        InputError: a file can't be read or written, or a line isn't a snippet; the message names file, line and field.
        SandboxError: the sandbox can't start, or died.
    """
    try:
        lines = source.read_bytes().splitlines()
    except OSError as error:
        raise InputError(f"{source}: can't be read: {error.strerror}") from error
    places = [f"{source}, line {number}" for number in range(1, len(lines) + 1)]
    snippets = [_snippet(line, place) for line, place in zip(lines, places, strict=True)]
    if not out.parent.is_dir():
        raise InputError(f"{out}: there is no folder {out.parent}")
    if out.is_dir() or not os.access(out.parent, os.W_OK):
        raise InputError(f"{out}: can't be written: {'it is a folder' if out.is_dir() else 'its folder is read-only'}")
    tool = CodeTool(sandbox)
    try:
        if images_dir is not None:
            images_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=images_dir, prefix=".exec.") as draft:

            def answer(index: int) -> bytes:
                def save_images(images: Sequence[Image.Image]) -> tuple[str, ...]:
                    names = [f"{index + 1:06d}-{i}.png" for i in range(len(images) if images_dir else 0)]
                    for name, image in zip(names, images, strict=False):
                        image.save(Path(draft) / name, compress_level=1)
                    return tuple(str(images_dir / name) for name in names if images_dir)

                return _ANSWERS.dump(_answer(snippets[index], places[index], tool, sandbox, save_images)) + b"\n"

            with ThreadPoolExecutor(2 * sandbox.live) as threads:
                answers = b"".join(threads.map(answer, range(len(snippets))))
            for path in Path(draft).iterdir():
                path.replace((images_dir or out.parent) / path.name)
        write_whole(out, answers)
    except OSError as error:
        raise InputError(f"{error.filename2 or error.filename or out}: can't be written: {error.strerror}") from error
    return len(snippets)


def _snippet(line: bytes, where: str) -> Snippet:
    if not line.strip():
        raise InputError(f"{where}: is empty")
    snippet = _SNIPPETS.load(line, where)
    for path in snippet.paths:
        _open(path, where, whole=False)
    return snippet


def _answer(snippet: Snippet, where: str, tool: CodeTool, sandbox: Backend, save_images: SaveImages) -> Answer:
    images = [_open(path, where) for path in snippet.paths]
    if images:
        tool_result = tool.call(ImageHistory(images, paths=list(map(str, snippet.paths))), ToolCall(code=snippet.code))
        result, step = tool_result.result, tool_result.step
    else:
        result = sandbox.run(ExecRequest(code=snippet.code, images=()))
        ok = result.status is ExecStatus.OK
        step = Step(ok=ok, node=0 if ok else None, status=result.status, isolation=result.isolation)
    return Answer(
        id=snippet.id,
        status=result.status,
        detail=result.detail,
        stdout=result.stdout,
        ms=round(result.ms, 3),
        images=save_images(result.images),
        steps=(step,),
        isolation=result.isolation,
    )


def _open(path: Path, where: str, *, whole: bool = True) -> Image.Image:
    """Opens an image as RGB. Without `whole` only its header is read, to check that it is an image."""
    with opened_image(path, f"{where}: {path}") as image:
        return image.convert("RGB") if whole else image


def _save(path: Path, image: Image.Image) -> None:
    content = io.BytesIO()
    try:
        image.save(content, Image.registered_extensions()[path.suffix.lower()])
        write_whole(path, content.getvalue())
    except OSError as error:
        raise InputError(f"--out {path}: can't be written: {error.strerror or error}") from error
