"""Checks drawings in files: a single drawing, or a batch file with one JSON object per line."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from pydantic import JsonValue

from codevision_ext.drawing.score import DrawingVerdict, verify
from codevision_ext.drawing.targets import check_inside, read_target
from codevision_ext.errors import InputError
from codevision_ext.io.atomic_files import write_whole
from codevision_ext.io.images import opened_image
from codevision_ext.io.json_codec import JsonCodec, json_object


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawingLine:
    """One line of a batch. Paths are relative to the working directory."""

    id: str | int
    input: str
    """Path of the input image."""
    made: str
    """Path of the made image."""
    target: dict[str, JsonValue]
    """DrawingTarget, as in `extra_info.drawing`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawingResult(DrawingVerdict):
    """Result of one line of a batch."""

    id: str | int


@dataclass(frozen=True, slots=True, kw_only=True)
class BadLine:
    """Line of a batch that can't be checked."""

    id: str | int | None
    """Id of the line; None if the id can't be read."""
    error: str
    """One sentence that names file, line and field."""


_LINES: JsonCodec[DrawingLine] = JsonCodec(DrawingLine)
_VERDICTS: JsonCodec[DrawingVerdict] = JsonCodec(DrawingVerdict)
_RESULTS: JsonCodec[DrawingResult] = JsonCodec(DrawingResult)
_BAD: JsonCodec[BadLine] = JsonCodec(BadLine)


def check_one(image: Path, made: Path, target: Path) -> bytes:
    """Returns the verdict on one drawing as JSON.

    Raises:
        InputError: a file can't be read, or the target is wrong; names the file and the field.
    """
    try:
        raw = target.read_bytes()
    except OSError as error:
        raise InputError(f"--target {target}: can't be read: {error.strerror}") from error
    return _VERDICTS.dump(_check(f"--input {image}", image, f"--made {made}", made, raw, f"--target {target}"))


def check_batch(source: Path, out: Path) -> tuple[int, tuple[BadLine, ...]]:
    """Checks every line of `source`, writes one result per line to `out`, and returns the number of good lines.

    The result of a bad line is its `id` and an `error`; bad lines are returned as well.

    Raises:
        InputError: `source` can't be read or is empty, or `out` can't be written or is `source`.
    """
    try:
        lines = source.read_bytes().splitlines()
    except OSError as error:
        raise InputError(f"{source}: can't be read: {error.strerror}") from error
    if not any(line.strip() for line in lines):
        raise InputError(f"{source}: has no lines")
    if out.exists() and out.samefile(source):
        raise InputError(f"-o {out}: is the file that is read; name another one")
    if not out.parent.is_dir() or out.is_dir():
        raise InputError(f"-o {out}: {'is a folder' if out.is_dir() else f'there is no folder {out.parent}'}")
    results, bad = [], []
    for result in _results(source, lines):
        if isinstance(result, BadLine):
            bad.append(result)
        results.append(_BAD.dump(result) if isinstance(result, BadLine) else _RESULTS.dump(result))
    try:
        write_whole(out, b"".join(result + b"\n" for result in results))
    except OSError as error:
        raise InputError(f"-o {out}: can't be written: {error.strerror}") from error
    return len(results) - len(bad), tuple(bad)


def _results(source: Path, lines: list[bytes]) -> Iterator[DrawingResult | BadLine]:
    ids: set[str | int] = set()
    for number, raw in enumerate(lines, start=1):
        where = f"{source}, line {number}"
        try:
            if not raw.strip():
                raise InputError(f"{where}: is empty")
            line = _LINES.load(json.dumps(json_object(raw, where)).encode(), where)
            if line.id in ids:
                raise InputError(f"{where}: field id: {line.id!r} is the id of an earlier line")
            ids.add(line.id)
            for field in ("input", "made"):
                if not getattr(line, field).strip():
                    raise InputError(f"{where}: field {field}: is empty")
            target = json.dumps(line.target).encode()
            verdict = _check(
                f"{where}: field input: {line.input}",
                Path(line.input),
                f"{where}: field made: {line.made}",
                Path(line.made),
                target,
                f"{where}: field target",
            )
        except InputError as error:
            yield BadLine(id=_id(raw), error=str(error))
            continue
        yield DrawingResult(id=line.id, **{name: getattr(verdict, name) for name in DrawingVerdict.__slots__})


def _check(
    where_image: str, image: Path, where_made: str, made: Path, target: bytes, where_target: str
) -> DrawingVerdict:
    parsed = read_target(target, where_target)
    pixels = _open(image, where_image)
    check_inside(parsed, pixels.size, where_target)
    return verify(pixels, _open(made, where_made), parsed)


def _open(path: Path, where: str) -> Image.Image:
    with opened_image(path, where) as image:
        image.load()
        return image


def _id(raw: bytes) -> str | int | None:
    """Returns the id of a bad line; None if the id can't be read."""
    try:
        line: Any = json.loads(raw)
    except ValueError:
        return None
    name = line.get("id") if isinstance(line, dict) else None
    return name if isinstance(name, str | int) and not isinstance(name, bool) else None
