"""Checks the images and image tags of a row.

`data convert`, `data check`, `doctor`, the data sets of training, and evaluation all call these functions. So
conversion refuses the rows that training would refuse, with equal messages.
"""

import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from PIL import Image

from codevision_ext.errors import InputError, first_line
from codevision_ext.geometry import MAX_ASPECT_RATIO

IMAGE_TAG: Final = "<image>"
"""Tag for an image in a text; the tags of a row show its images in order."""
IMAGE_TOKEN: Final = "<|image_pad|>"
"""Token of Qwen-VL models for a part of an image; a text must not contain it."""


def check_size(width: int, height: int) -> None:
    """Checks that the image processors of Qwen-VL models accept an image of this size, in pixels.

    Raises:
        InputError: the image has no pixels, or one side is more than 200 times as long as the other.
    """
    if min(width, height) < 1:
        raise InputError(f"an image of {width}x{height} has no pixels")
    if max(width, height) > MAX_ASPECT_RATIO * min(width, height):
        raise InputError(
            f"an image of {width}x{height} is too narrow: Qwen-VL models accept sides that differ by a factor of at "
            f"most {MAX_ASPECT_RATIO:g}"
        )


def check_tags(messages: Iterable[Mapping[str, Any]], images: int) -> None:
    """Checks that there are as many `<image>` as images, all of them in messages of users and tools.

    Args:
        messages: Roles and contents; a content is a text.
        images: Number of images of the row.

    Raises:
        InputError: the number of tags differs, an assistant's message has a tag, or a message has a `<|image_pad|>`.
    """
    tags = 0
    for turn, message in enumerate(messages):
        if message["role"] == "assistant" and IMAGE_TAG in message["content"]:
            raise InputError(
                f"message {turn} is the assistant's and has an {IMAGE_TAG}; only users and tools show images"
            )
        if IMAGE_TOKEN in message["content"]:
            raise InputError(f"message {turn} has {IMAGE_TOKEN}, which only the chat template may write")
        tags += message["content"].count(IMAGE_TAG)
    if tags != images:
        raise InputError(f"{tags} {IMAGE_TAG} tags, but {images} images")


def is_trained(message: Mapping[str, Any]) -> bool:
    """Returns whether SFT trains on a message: an assistant's message without `train: false`."""
    return message["role"] == "assistant" and message.get("train") is not False


def check_trained(messages: Iterable[Mapping[str, Any]]) -> None:
    """Checks that SFT trains on at least one message of a conversation.

    Raises:
        InputError: there is no assistant's message without `train: false`.
    """
    if not any(map(is_trained, messages)):
        raise InputError("there is nothing to learn: there is no assistant's message, or all have train: false")


def read_images(files: Sequence[Mapping[str, Any]] | None) -> list[Image.Image]:
    """Returns the images of a row at full resolution, in RGB.

    Args:
        files: Column `images` of a row: the file content of each image under `bytes`; None for no images.

    Raises:
        InputError: an image can't be decoded, or has a size that the models don't accept; names the image.
    """
    images = []
    for number, file in enumerate(files or ()):
        try:
            image = Image.open(io.BytesIO(file["bytes"]))
            check_size(*image.size)
            images.append(image.convert("RGB"))
        except InputError as error:
            raise InputError(f"images[{number}]: {error}") from None
        except Exception as error:  # a decoder may raise any exception for damaged data
            raise InputError(f"images[{number}]: not an image that can be read: {first_line(error)}") from error
    return images
