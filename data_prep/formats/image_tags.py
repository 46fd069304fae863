"""Replaces image tags by the form of training: `<image>`, once per image, in the order of the images.

Published data sets also write `<image1>`, `<image_1>`, `<image 1>`, `<|image_1|>` or the tokens of the chat template.
The number in a tag names an image, counted from 0 or from 1.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Final

from codevision_ext.task.row_checks import IMAGE_TAG
from data_prep.formats.row_errors import Reason, RowError
from data_prep.formats.schema import Demonstration, Row

_TAG: Final = re.compile(
    r"<\s*\|?image(?:[ _:#-]?(?P<number>\d{1,4}))?\|?\s*/?>|<(?:ImageHere|image_placeholder|IMG_CONTEXT)>"
    r"|<\|vision_start\|><\|image_pad\|><\|vision_end\|>",
    re.IGNORECASE,
)
_INNER: Final = re.compile(rf"(?:{IMAGE_TAG}\s*)*(.*?)(?:\s*{IMAGE_TAG})*", re.DOTALL)
"""Regular expression whose group is a text without tags at its beginning and its end."""
CHANGE: Final = "image_tags"
"""Name of the change of a row whose tags had another form."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainTags:
    """Texts with `<image>` as their only tag."""

    texts: list[str]
    order: list[int]
    """Number of the image that each tag shows, from 0; an image may be shown twice."""


def plain_tags(texts: Sequence[str], images: int, field: str) -> PlainTags:
    """Return the texts with `<image>` in place of each tag, and the images in the order of the tags.

    Tags without numbers stand for the images in order; this function doesn't check their number.

    Args:
        texts: Texts of a row that show its images, in order.
        images: Number of images of the row.
        field: Field that an error names.

    Raises:
        RowError: Some tags have numbers and others have none, a number names no image, or an image has no tag.
    """
    numbers = [match["number"] for text in texts for match in _TAG.finditer(text)]
    plain = [_TAG.sub(IMAGE_TAG, text) for text in texts]
    named = [int(number) for number in numbers if number is not None]
    if not named:
        return PlainTags(texts=plain, order=list(range(images)))
    if len(named) < len(numbers):
        raise RowError(Reason.BAD_TURNS, field, "some image tags have a number and others have none")
    first = 0 if 0 in named else 1
    if set(named) != set(range(first, first + images)):
        shown = ", ".join(map(str, sorted(set(named))))
        raise RowError(Reason.BAD_TURNS, field, f"image tags with the numbers {shown}, but {images} images")
    return PlainTags(texts=plain, order=[number - first for number in named])


def tag_numbers(text: str) -> list[int | None]:
    """Return the number in each image tag of a text, in order; None for a tag without a number."""
    return [None if match["number"] is None else int(match["number"]) for match in _TAG.finditer(text)]


def task_with_plain_tags(row: Row) -> Row:
    """Return a task whose prompt has plain tags, and whose question, which judges read, has no tags.

    A task without a prompt keeps a question without tags; `with_tags` adds the tags later. In the question, the words
    `image 1` replace a tag inside the text.

    Raises:
        RowError: As `plain_tags`; or the row has a box, which lies in its first image, but shows another image first.
    """
    text = row.question if row.prompt is None else row.prompt
    field = "question" if row.prompt is None else "prompt"
    if row.prompt is None and not _TAG.search(text):
        return replace(row, question=text.strip())
    tags = plain_tags([text], len(row.images), field)
    if row.box is not None and tags.order[:1] not in ([], [0]):
        raise RowError(Reason.BAD_BOX, "box", "lies in the first image, but another image is shown first")
    return replace(
        row,
        prompt=tags.texts[0],
        question=in_words(_TAG.sub(IMAGE_TAG, row.question)),
        images=tuple(row.images[number] for number in tags.order),
        paths=tuple(row.paths[number] for number in tags.order) if row.paths else (),
        changes=_changes(row.changes, [text], tags),
    )


def with_tags(text: str, images: int) -> str:
    """Return a user message: the text, with one tag per image before a text without tags."""
    return text if _TAG.search(text) else f"{IMAGE_TAG}\n" * images + text


def demonstration_with_plain_tags(demonstration: Demonstration) -> Demonstration:
    """Return a demonstration whose tags are plain.

    Raises:
        RowError: As `plain_tags`.
    """
    messages = demonstration.messages
    texts = [message.content for message in messages]
    tags = plain_tags(texts, len(demonstration.images), "messages")
    if tags.texts == texts:
        return demonstration
    return replace(
        demonstration,
        messages=tuple(replace(message, content=text) for message, text in zip(messages, tags.texts, strict=True)),
        images=tuple(demonstration.images[number] for number in tags.order),
        paths=tuple(demonstration.paths[number] for number in tags.order) if demonstration.paths else (),
        changes=_changes(demonstration.changes, texts, tags),
    )


def in_words(text: str) -> str:
    """Return a text without plain tags.

    Tags at the beginning and at the end are removed. If other tags remain, all tags become `image 1`, `image 2`, ...
    """
    text = text.strip()
    inner = _INNER.fullmatch(text)
    if inner and IMAGE_TAG not in inner[1]:
        return inner[1]
    numbers = count(1)
    return re.sub(IMAGE_TAG, lambda _: f"image {next(numbers)}", text)


def _changes(changes: tuple[str, ...], texts: Sequence[str], tags: PlainTags) -> tuple[str, ...]:
    return changes if tags.texts == list(texts) else (*changes, CHANGE)
