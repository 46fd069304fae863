"""Can this row be trained on? Images that decode, a box inside, turns that alternate; else all that is wrong."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from codevision_ext import geometry
from codevision_ext.sandbox.coordinates import RELATIVE_SIZE, scaled
from codevision_ext.types import Box, CoordinateSystem, Orientation
from data_prep.formats import image_files
from data_prep.formats.row_errors import Reason, RowError
from data_prep.formats.schema import IMAGE_TAG, Demonstration, Row
from data_prep.formats.sharegpt import check_calls, check_turns

_ROW_TEXTS: Final = ("source", "split", "ability", "licence", "picture_id")
_TURN_TEXTS: Final = ("tools", "sample_type", "source", "licence")
SLACK_PX: Final = 2
"""How far a box may stand out of its image by rounding; it is cut at the edge."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageLimits:
    """What is still accepted."""

    max_pixels: int = image_files.MAX_PIXELS
    decode: bool = False
    """Decode images that needn't change; see `image_files.settle`."""


def settle_row(row: Row, limits: ImageLimits) -> tuple[Row, list[RowError]]:
    """The row as it is written, and everything that is wrong with it (then it is written nowhere)."""
    found, faults = _read_images(row.images, limits)
    faults += _no_texts(row, _ROW_TEXTS, (row.question, row.prompt or "", row.system, *row.answers, *row.changes))
    if not row.question.strip():
        faults.append(RowError(Reason.NO_QUESTION, "question", "is blank"))
    if not row.images:
        faults.append(RowError(Reason.IMAGE_MISSING, "images", "the row has no image"))
    if not any(answer.strip() for answer in row.answers):
        faults.append(RowError(Reason.NO_ANSWER, "answers", "no answer, or a blank one"))
    tags = len(row.images) if row.prompt is None else row.prompt.count(IMAGE_TAG)
    if tags != len(row.images):
        faults.append(RowError(Reason.BAD_TURNS, "prompt", f"{tags} {IMAGE_TAG} tags, but {len(row.images)} images"))
    changes = [*row.changes, *(change for image in found for change in image.changes)]
    size = found[0].size if found and len(found) == len(row.images) else (0, 0)
    if row.box_frame == CoordinateSystem.RELATIVE and size != (0, 0):
        row = replace(row, box=row.box and Box(*scaled(row.box, RELATIVE_SIZE, size)), box_frame="input")
        changes.append("box_relative")
    box = row.box
    if size != (0, 0) and box is not None:
        fitted = fit(box, box_frame_size(row.applied, row.box_frame, size))
        if fitted is None:
            said = f"{list(box)} in pixels of the {row.box_frame} image, which is {_by(row, size)}"
            faults.append(RowError(Reason.BOX_OUTSIDE, "box", said))
        elif fitted != box:
            box = fitted
            changes.append("box_clipped")
    if faults:
        return replace(row, size=size), faults
    prompt = row.prompt
    settled = replace(
        row,
        images=tuple(image.data for image in found),
        box=box,
        size=size,
        changes=tuple(dict.fromkeys(changes)),
        picture_id=row.picture_id or hashlib.sha256(b"".join(row.images)).hexdigest()[:32],
    )
    return replace(settled, prompt=None if prompt == f"{IMAGE_TAG}\n" * len(found) + row.question else prompt), []


def settle_trajectory(trajectory: Demonstration, limits: ImageLimits) -> tuple[Demonstration, list[RowError]]:
    """The trajectory as it is written, and everything that is wrong with it."""
    found, faults = _read_images(trajectory.images, limits)
    faults += _no_texts(trajectory, _TURN_TEXTS, [message.content for message in trajectory.messages])
    for check in (check_turns, check_calls, _check_tools):
        try:
            check(trajectory)
        except RowError as error:
            faults.append(error)
            break  # what comes after relies on it
    changes = [*trajectory.changes, *(change for image in found for change in image.changes)]
    images = tuple(image.data for image in found)
    return replace(trajectory, images=images, changes=tuple(dict.fromkeys(changes))), faults


def box_frame_size(applied: tuple[str, ...], frame: str, size: tuple[int, int]) -> tuple[int, int]:
    """Size of the image that a box is drawn on: the input image of `size`, or the one before `applied`."""
    return size if frame == "input" else geometry.map_size(geometry.inverse(required_orientation(applied)), size)


def required_orientation(applied: tuple[str, ...]) -> Orientation:
    """What the ops come to, those that don't turn the image left out."""
    turns = (geometry.ORIENTATION_OPS[op] for op in applied if op in geometry.ORIENTATION_OPS)
    return geometry.compose_all(turns)


def fit(box: Box, size: tuple[int, int]) -> Box | None:
    """The box cut to the image; None where it stands out by more than SLACK_PX, or nothing is left."""
    width, height = size
    inside = Box(max(0.0, box.x1), max(0.0, box.y1), min(float(width), box.x2), min(float(height), box.y2))
    if max(abs(a - b) for a, b in zip(box, inside, strict=True)) > SLACK_PX:
        return None
    return inside if inside.x1 < inside.x2 and inside.y1 < inside.y2 else None


def _no_texts(item: Row | Demonstration, names: Iterable[str], texts: Iterable[str]) -> list[RowError]:
    """A fault for each of these fields that is no text, and one where a text can't be written as UTF-8."""
    wrong = [(name, value) for name in names if not isinstance(value := getattr(item, name), str)]
    faults = [RowError(Reason.BAD_TYPE, name, f"must be a text, not {type(value).__name__}") for name, value in wrong]
    try:
        "".join(texts).encode()
    except (TypeError, UnicodeEncodeError) as error:
        faults.append(RowError(Reason.BAD_TYPE, "text", f"can't be written: {error}"))
    return faults


def _read_images(images: tuple[bytes, ...], limits: ImageLimits) -> tuple[list[image_files.ImageFile], list[RowError]]:
    found, faults = [], []
    for number, data in enumerate(images):
        try:
            found.append(image_files.settle_image(data, f"images[{number}]", limits.max_pixels, decode=limits.decode))
        except RowError as error:
            faults.append(error)
    return found, faults


def _check_tools(trajectory: Demonstration) -> None:
    """Whether `tools` is a JSON list or empty."""
    try:
        tools = json.loads(trajectory.tools or "[]")
    except ValueError as error:
        raise RowError(Reason.BAD_JSON, "tools", str(error)) from error
    if not isinstance(tools, list):
        raise RowError(Reason.BAD_TYPE, "tools", "must be a JSON list of schemas")


def _by(row: Row, size: tuple[int, int]) -> str:
    return "x".join(map(str, box_frame_size(row.applied, row.box_frame, size)))
