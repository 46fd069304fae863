"""Validates and normalises rows and demonstrations, and lists all their faults."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from codevision_ext import geometry
from codevision_ext.drawing import check_inside
from codevision_ext.errors import InputError
from codevision_ext.sandbox.coordinates import RELATIVE_SIZE, scaled
from codevision_ext.task.coordinate_answers import read_places
from codevision_ext.task.row_checks import check_size, check_tags
from codevision_ext.types import AnswerKind, Box, CoordinateSystem
from data_prep.formats import image_files
from data_prep.formats.image_tags import demonstration_with_plain_tags, task_with_plain_tags
from data_prep.formats.row_errors import Reason, RowError
from data_prep.formats.schema import IMAGE_TAG, Demonstration, Row, applied_orientation, rl_messages
from data_prep.formats.sharegpt import check_calls, check_turns
from data_prep.formats.turns import MEDIA_TAG

Item = TypeVar("Item", Row, Demonstration)

_ROW_TEXTS: Final = ("source", "split", "ability", "licence", "picture_id")
_TURN_TEXTS: Final = ("tools", "sample_type", "source", "licence")
SLACK_PX: Final = 2
"""Pixels by which a box may stand out of its image through rounding; it is cut at the edge."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageLimits:
    """Limits of images."""

    max_pixels: int = image_files.MAX_PIXELS
    decode: bool = False
    """Decode images that needn't change; see `image_files.normalize_image`."""


def validate_row(row: Row, limits: ImageLimits) -> tuple[Row, list[RowError]]:
    """Return the normalised row and all its faults; a row with a fault isn't written."""
    row, tag_faults = _plain(task_with_plain_tags, row)
    images, faults = _read_images(row.images, limits)
    faults += _check_texts(row, _ROW_TEXTS, (row.question, row.prompt or "", row.system, *row.answers, *row.changes))
    if not row.question.strip():
        faults.append(RowError(Reason.NO_QUESTION, "question", "is blank"))
    if not row.images:
        faults.append(RowError(Reason.IMAGE_MISSING, "images", "the row has no image"))
    if not any(answer.strip() for answer in row.answers) and row.drawing is None:
        faults.append(RowError(Reason.NO_ANSWER, "answers", "no answer, or a blank one"))
    faults += tag_faults or _check_tags(row)
    if media := MEDIA_TAG.search(row.prompt or row.question):
        faults.append(
            RowError(Reason.NOT_SUPPORTED, "question", f"{media[0]}: {media[1]} isn't supported, only images")
        )
    changes = [*row.changes, *(change for image in images for change in image.changes)]
    size = images[0].size if images and len(images) == len(row.images) else (0, 0)
    if row.box_frame == CoordinateSystem.RELATIVE and size != (0, 0):
        row = replace(row, box=row.box and Box(*scaled(row.box, RELATIVE_SIZE, size)), box_frame="input")
        changes.append("box_relative")
    if size != (0, 0) and row.drawing is not None:
        try:
            check_inside(row.drawing, size, "drawing")
        except InputError as error:
            faults.append(RowError(Reason.BAD_DRAWING, "drawing", str(error).removeprefix("drawing: ")))
    box = row.box
    if size != (0, 0) and box is not None:
        frame_size = box_frame_size(row.applied, row.box_frame, size)
        clipped = clip_box(box, frame_size)
        if clipped is None:
            width, height = frame_size
            message = f"{list(box)} in pixels of the {row.box_frame} image, which is {width}x{height}"
            faults.append(RowError(Reason.BOX_OUTSIDE, "box", message))
        elif clipped != box:
            box = clipped
            changes.append("box_clipped")
    if row.answer_kind is AnswerKind.COORDINATES and size != (0, 0):
        faults += _check_places(row.answers, size)
    if faults:
        return replace(row, size=size), faults
    plain_prompt = f"{IMAGE_TAG}\n" * len(images) + row.question
    validated = replace(
        row,
        images=tuple(image.data for image in images),
        box=box,
        size=size,
        prompt=None if row.prompt == plain_prompt else row.prompt,
        changes=tuple(dict.fromkeys(changes)),
        picture_id=row.picture_id or hashlib.sha256(b"".join(row.images)).hexdigest()[:32],
    )
    return validated, []


def validate_demonstration(demonstration: Demonstration, limits: ImageLimits) -> tuple[Demonstration, list[RowError]]:
    """Return the normalised demonstration and all its faults."""
    demonstration, tag_faults = _plain(demonstration_with_plain_tags, demonstration)
    images, faults = _read_images(demonstration.images, limits)
    faults += _check_texts(demonstration, _TURN_TEXTS, [message.content for message in demonstration.messages])
    faults += tag_faults
    for check in () if tag_faults else (check_turns, check_calls, _check_tools):
        try:
            check(demonstration)
        except RowError as error:
            faults.append(error)
            break  # the next check relies on this one
    changes = [*demonstration.changes, *(change for image in images for change in image.changes)]
    data = tuple(image.data for image in images)
    return replace(demonstration, images=data, changes=tuple(dict.fromkeys(changes))), faults


def _plain(change: Callable[[Item], Item], item: Item) -> tuple[Item, list[RowError]]:
    """Return the item with plain image tags; the item itself and the fault if its tags can't be read."""
    try:
        return change(item), []
    except RowError as error:
        return item, [error]


def _check_tags(row: Row) -> list[RowError]:
    try:
        check_tags(rl_messages(row), len(row.images))
    except InputError as error:
        return [RowError(Reason.BAD_TURNS, "prompt", str(error))]
    return []


def box_frame_size(applied: tuple[str, ...], frame: str, size: tuple[int, int]) -> tuple[int, int]:
    """Return the size of the image that a box is drawn on: the input image of `size`, or the one before `applied`."""
    return size if frame == "input" else geometry.map_size(geometry.inverse(applied_orientation(applied)), size)


def clip_box(box: Box, size: tuple[int, int]) -> Box | None:
    """Return the box cut to the image; None if it stands out by more than SLACK_PX, or nothing is left."""
    width, height = size
    inside = Box(max(0.0, box.x1), max(0.0, box.y1), min(float(width), box.x2), min(float(height), box.y2))
    if max(abs(a - b) for a, b in zip(box, inside, strict=True)) > SLACK_PX:
        return None
    return inside if inside.x1 < inside.x2 and inside.y1 < inside.y2 else None


def _check_places(answers: Iterable[str], size: tuple[int, int]) -> Iterator[RowError]:
    """Yield a fault for each answer that doesn't name places, or names one outside of its image."""
    slack = geometry.tolerance(size)
    for answer in answers:
        places = read_places(answer)
        if places is None:
            yield RowError(Reason.NO_ANSWER, "answer", f"must name places such as {{'A': (3, 4)}}, not {answer!r:.60}")
        for name, (x, y) in ((name, place) for name, own in (places or {}).items() for place in own):
            if not (-slack <= x <= size[0] + slack and -slack <= y <= size[1] + slack):
                message = f"{name} at ({x:g}, {y:g}) lies outside of the image, which is {size[0]}x{size[1]}"
                yield RowError(Reason.BOX_OUTSIDE, "answer", message)


def _check_texts(item: Row | Demonstration, names: Iterable[str], texts: Iterable[str]) -> list[RowError]:
    """Return a fault for each of these fields that isn't a text, and one if a text can't be written as UTF-8."""
    wrong = [(name, value) for name in names if not isinstance(value := getattr(item, name), str)]
    faults = [RowError(Reason.BAD_TYPE, name, f"must be a text, not {type(value).__name__}") for name, value in wrong]
    try:
        "".join(texts).encode()
    except (TypeError, UnicodeEncodeError) as error:
        faults.append(RowError(Reason.BAD_TYPE, "text", f"can't be written: {error}"))
    return faults


def _read_images(files: tuple[bytes, ...], limits: ImageLimits) -> tuple[list[image_files.ImageFile], list[RowError]]:
    images, faults = [], []
    for number, data in enumerate(files):
        field = f"images[{number}]"
        try:
            image = image_files.normalize_image(data, field, limits.max_pixels, decode=limits.decode)
            check_size(*image.size)
            images.append(image)
        except RowError as error:
            faults.append(error)
        except InputError as error:
            faults.append(RowError(Reason.IMAGE_SIZE, field, str(error)))
    return images, faults


def _check_tools(demonstration: Demonstration) -> None:
    """Check that `tools` is empty or a JSON list.

    Raises:
        RowError: It is neither.
    """
    try:
        tools = json.loads(demonstration.tools or "[]")
    except ValueError as error:
        raise RowError(Reason.BAD_JSON, "tools", str(error)) from error
    if not isinstance(tools, list):
        raise RowError(Reason.BAD_TYPE, "tools", "must be a JSON list of schemas")
