"""What does a piece of code do to an image? `codevision exec`: one snippet or many, down the path of a tool call."""

import io
import os
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from codevision_ext.errors import InputError
from codevision_ext.io.atomic_files import write_whole
from codevision_ext.io.json_codec import JsonCodec
from codevision_ext.rollout.code_tool import CodeTool
from codevision_ext.rollout.image_history import ImageHistory
from codevision_ext.sandbox import ExecRequest, Isolation
from codevision_ext.sandbox.backend import Backend
from codevision_ext.types import ExecStatus, Step, ToolCall

Keep = Callable[[Sequence[Image.Image]], tuple[str, ...]]
"""Stores the images of one answer and gives their paths."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snippet:
    """One line of a batch; paths count from the working directory. Without an image, `images` is empty."""

    id: str | int
    code: str
    image: str | None = None
    images: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.image is not None and self.images is not None:
            raise ValueError("image and images are both there, give one of them")

    @property
    def paths(self) -> tuple[Path, ...]:
        return tuple(map(Path, (self.image,) if self.image is not None else self.images or ()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """How a snippet ended."""

    id: str | int
    status: ExecStatus
    detail: str
    stdout: str
    ms: float
    """Wall time of the run, milliseconds."""
    images: tuple[str, ...]
    """Where the images that it made are kept; empty where they aren't."""
    steps: tuple[Step, ...]
    """One: what the record of a rollout would say of this call."""
    isolation: Isolation | None
    """What the code ran behind; None where it wasn't run."""


_SNIPPETS: JsonCodec[Snippet] = JsonCodec(Snippet)
_ANSWERS: JsonCodec[Answer] = JsonCodec(Answer)


def run_one(code: Path, images: Sequence[Path], sandbox: Backend, out: Path | None = None) -> bytes:
    """Run the snippet in the file `code`; gives its answer as one JSON text.

    What it makes is kept at `out`, in the format of its name; further images get -1, -2, ... behind the name.

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

    def keep(made: Sequence[Image.Image]) -> tuple[str, ...]:
        if out is None:
            return ()
        names = [out.with_stem(f"{out.stem}-{place}" if place else out.stem) for place in range(len(made))]
        for path, image in zip(names, made, strict=True):
            _save(path, image)
        return tuple(map(str, names))

    snippet = Snippet(id=str(code), code=text, images=tuple(map(str, images)))
    return _ANSWERS.dump(_answer(snippet, "--image", CodeTool(sandbox), sandbox, keep))


def run_batch(source: Path, out: Path, sandbox: Backend, images_dir: Path | None = None) -> int:
    """Run every snippet of `source` and write the answers to `out`, in the same order; gives how many.

    Images go to `images_dir`, named by line and place (`000001-0.png`). Nothing is written until all is answered.

    Args:
        source: One `Snippet` a line, as JSON.
        out: One `Answer` a line, as JSON; replaced if it is there.
        sandbox: Where the code runs; as many snippets at a time as it takes.
        images_dir: Made if it isn't there; None: images aren't kept.

    Raises:
        InputError: a file can't be read or written, or a line isn't a snippet; names file, line and field.
        SandboxError: the sandbox can't start, or died.
    """
    try:
        lines = source.read_bytes().splitlines()
    except OSError as error:
        raise InputError(f"{source}: can't be read: {error.strerror}") from error
    wheres = [f"{source}, line {number}" for number in range(1, len(lines) + 1)]
    snippets = [_snippet(line, where) for line, where in zip(lines, wheres, strict=True)]
    if not out.parent.is_dir():
        raise InputError(f"{out}: there is no folder {out.parent}")
    if out.is_dir() or not os.access(out.parent, os.W_OK):
        raise InputError(f"{out}: can't be written: {'it is a folder' if out.is_dir() else 'its folder is read-only'}")
    tool = CodeTool(sandbox)
    try:
        if images_dir is not None:
            images_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=images_dir, prefix=".exec.") as draft:

            def answer(place: int) -> bytes:
                def keep(made: Sequence[Image.Image]) -> tuple[str, ...]:
                    names = [f"{place + 1:06d}-{index}.png" for index in range(len(made) if images_dir else 0)]
                    for name, image in zip(names, made, strict=False):
                        image.save(Path(draft) / name, compress_level=1)
                    return tuple(str(images_dir / name) for name in names if images_dir)

                return _ANSWERS.dump(_answer(snippets[place], wheres[place], tool, sandbox, keep)) + b"\n"

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


def _answer(snippet: Snippet, where: str, tool: CodeTool, sandbox: Backend, keep: Keep) -> Answer:
    images = [_open(path, where) for path in snippet.paths]
    if images:
        seen = tool.call(ImageHistory(images), ToolCall(code=snippet.code))
        result, step = seen.result, seen.step
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
        images=keep(result.images),
        steps=(step,),
        isolation=result.isolation,
    )


def _open(path: Path, where: str, *, whole: bool = True) -> Image.Image:
    """The image as RGB; not `whole`: only as far as to see that it is one."""
    try:
        with Image.open(path) as image:
            return image.convert("RGB") if whole else image
    except UnidentifiedImageError as error:
        raise InputError(f"{where}: {path}: isn't an image") from error
    except Exception as error:  # a damaged image makes a decoder raise anything
        raise InputError(f"{where}: {path}: can't be read: {getattr(error, 'strerror', None) or error}") from error


def _save(path: Path, image: Image.Image) -> None:
    content = io.BytesIO()
    try:
        image.save(content, Image.registered_extensions()[path.suffix.lower()])
        write_whole(path, content.getvalue())
    except OSError as error:
        raise InputError(f"--out {path}: can't be written: {error.strerror or error}") from error
