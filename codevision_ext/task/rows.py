"""Reads the prompt of a CodeVision-RL row as messages with images, for a chat template."""

from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from codevision_ext.errors import InputError
from codevision_ext.task.row_checks import IMAGE_TAG, check_tags, read_images

COLUMNS = ("prompt", "images", "reward_model", "extra_info")
"""Columns that a file of rows must have."""


def split_content(content: str) -> list[dict[str, Any]]:
    """Splits a text such as `"a<image>b"` into text parts and image parts, the input of chat templates."""
    parts: list[dict[str, Any]] = []
    for index, text in enumerate(content.split(IMAGE_TAG)):
        if index:
            parts.append({"type": "image"})
        if text:
            parts.append({"type": "text", "text": text})
    return parts


def check_columns(names: Sequence[str], where: str) -> None:
    """Checks that a file has the columns of rows; `where` names the file in the message.

    Raises:
        InputError: a column is missing.
    """
    missing = [column for column in COLUMNS if column not in names]
    if missing:
        raise InputError(f"{where}: column {missing[0]} is missing")


def read_prompt(row: Mapping[str, Any], where: str) -> list[dict[str, Any]]:
    """Returns the messages of a row; each image part has its image, at full resolution.

    Raises:
        InputError: an image or a tag fails a check of `row_checks`; `where` names the row.
    """
    try:
        images = read_images(row["images"])
        check_tags(row["prompt"], len(images))
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    messages = [{"role": message["role"], "content": split_content(message["content"])} for message in row["prompt"]]
    marks = [part for message in messages for part in message["content"] if part["type"] == "image"]
    for part, image in zip(marks, images, strict=True):
        part["image"] = image
    return messages


def split_prompt(
    raw_prompt: Sequence[Mapping[str, Any]], system: str
) -> tuple[list[dict[str, Any]], list[Image.Image]]:
    """Separates the images of a prompt from its messages, whose image parts become empty.

    The system message `system` comes first, unless it is empty or the row has a system message.
    """
    images: list[Image.Image] = []
    messages: list[dict[str, Any]] = []
    if system and raw_prompt[0]["role"] != "system":
        messages.append({"role": "system", "content": [{"type": "text", "text": system}]})
    for message in raw_prompt:
        content = message["content"]
        parts: list[dict[str, Any]] = [{"type": "text", "text": content}] if isinstance(content, str) else content
        images += [part["image"] for part in parts if part["type"] == "image"]
        bare = [{"type": "image"} if part["type"] == "image" else dict(part) for part in parts]
        messages.append({"role": message["role"], "content": bare})
    return messages, images
