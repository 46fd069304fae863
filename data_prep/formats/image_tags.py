"""Brings image tags into the one form that training reads: `<image>`, once for each image, in the order of the images.

Published data sets also write `<image1>`, `<image_1>`, `<image 1>`, `<|image_1|>` or the tokens of the chat template.
A number says which image stands there. Numbers begin at 0 or at 1.
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
    r"<\|?image(?:[ _-]?(?P<number>\d{1,4}))?\|?>|<\|vision_start\|><\|image_pad\|><\|vision_end\|>", re.IGNORECASE
)
_INNER: Final = re.compile(rf"(?:{IMAGE_TAG}\s*)*(.*?)(?:\s*{IMAGE_TAG})*", re.DOTALL)
"""A text, and in its group the text without the tags in front and behind."""
CHANGE: Final = "image_tags"
"""Change of a row whose tags had another form."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainTags:
    """Texts whose tags all are `<image>`."""

    texts: list[str]
    order: list[int]
    """Number of the image that each tag shows, from 0; an image may be shown twice."""


def plain_tags(texts: Sequence[str], images: int, field: str) -> PlainTags:
    """Return the texts with `<image>` in place of each tag, and the images in the order of the tags.

    Tags without numbers take the images in order; their count isn't checked here.

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


def task_with_plain_tags(row: Row) -> Row:
    """Return a task whose prompt has plain tags where its tags stood, and whose question has none.

    A question without tags gets one for each image, in front. In `question`, which judges read, the words `image 1`
    replace a tag inside the text.

    Raises:
        RowError: As `plain_tags`; or the row has a box and its first image changes, so that the box has no image.
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
    """Return a user message: the text, behind a tag for each image unless it has tags of its own."""
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
    """Return a text without plain tags: tags in front and behind are dropped, or all become `image 1`, `image 2`, .."""
    text = text.strip()
    inner = _INNER.fullmatch(text)
    if inner and IMAGE_TAG not in inner[1]:
        return inner[1]
    numbers = count(1)
    return re.sub(IMAGE_TAG, lambda _: f"image {next(numbers)}", text)


def _changes(changes: tuple[str, ...], texts: Sequence[str], tags: PlainTags) -> tuple[str, ...]:
    return changes if tags.texts == list(texts) else (*changes, CHANGE)
