"""Turns the messages of a request into the prompt of a rollout, and checks its images before they are decoded."""

import base64
import binascii
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from PIL import Image

from codevision_ext.errors import InputError
from codevision_ext.rollout.code_tool import break_special_tokens
from codevision_ext.serve.protocol import ApiError, ChatMessage, ImagePart, bad_request
from codevision_ext.task.row_checks import read_images

FORMATS: Final = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
"""Formats of image files that are decoded."""
CHARS_PER_TOKEN: Final = 8
"""Characters of a text that certainly has more tokens than the context, divided by the context's tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptLimits:
    """Limits of the messages of one request."""

    images: int
    """Maximum images."""
    image_bytes: int
    """Maximum bytes of an image file."""
    pixels: int
    """Maximum pixels of all images together."""
    context: int
    """Tokens of the model's context."""


def checked_prompt(messages: Sequence[ChatMessage], limits: PromptLimits) -> list[dict[str, Any]]:
    """Returns messages whose image parts have encoded images (`bytes`); `decode` makes a prompt of them.

    Special tokens in texts are broken up, so that a text stays a text.

    Raises:
        ApiError: the roles don't make a conversation, or an image isn't a data URL, isn't an image or exceeds a limit.
    """
    _check_roles(messages)
    chars = sum(len(part.text) for message in messages for part in message.content if part.type == "text")
    if chars > CHARS_PER_TOKEN * limits.context:
        raise too_long(f"the messages have {chars:,} characters")
    prompt: list[dict[str, Any]] = []
    images = pixels = 0
    for at, message in enumerate(messages):
        parts: list[dict[str, Any]] = []
        for place, part in enumerate(message.content):
            where = f"messages[{at}].content[{place}]"
            if not isinstance(part, ImagePart):
                parts.append({"type": "text", "text": break_special_tokens(part.text)})
                continue
            images += 1
            if images > limits.images:
                raise bad_request(f"{where}: a request has at most {limits.images} images", "messages")
            data = _decoded_url(part.image_url.url, where, limits.image_bytes)
            pixels += _pixels(data, where, limits.pixels - pixels, limits)
            parts.append({"type": "image", "bytes": data})
        prompt.append({"role": "system" if message.role == "developer" else message.role, "content": parts})
    return prompt


def decode(prompt: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns the prompt with its images, as `task.rows.read_prompt` returns that of a row. Takes a while; no I/O.

    Raises:
        ApiError: an image is damaged, or too narrow.
    """
    encoded = [part for message in prompt for part in message["content"] if part["type"] == "image"]
    try:
        images = iter(read_images(encoded))
    except InputError as error:
        raise bad_request(str(error), "messages") from error
    return [
        {
            "role": message["role"],
            "content": [
                {"type": "image", "image": next(images)} if part["type"] == "image" else part
                for part in message["content"]
            ],
        }
        for message in prompt
    ]


def too_long(reason: str) -> ApiError:
    """Returns the error of a conversation that is longer than the model's context."""
    return bad_request(f"the conversation is longer than the context: {reason}", "messages", "context_length_exceeded")


def _check_roles(messages: Sequence[ChatMessage]) -> None:
    for at, message in enumerate(messages):
        if message.role in ("system", "developer") and at:
            raise bad_request(f"messages[{at}]: a system message stands first, or nowhere", "messages")
        if message.role != "user" and any(isinstance(part, ImagePart) for part in message.content):
            raise bad_request(f"messages[{at}]: only messages of the user show images", "messages")
    if messages[-1].role != "user":
        raise bad_request("the last message must be the user's", "messages")


def _decoded_url(url: str, where: str, most: int) -> bytes:
    head, comma, payload = url.partition(",")
    if not (comma and head.startswith("data:image/") and head.endswith(";base64")):
        raise bad_request(
            f"{where}: an image must be a data URL (data:image/png;base64,...); this server fetches nothing", "messages"
        )
    if len(payload) > (most + 2) // 3 * 4:
        raise bad_request(f"{where}: an image file has at most {most:,} bytes", "messages")
    try:
        return base64.b64decode(payload, validate=True)
    except (binascii.Error, ValueError) as error:
        raise bad_request(f"{where}: the image isn't base64: {error}", "messages") from error


def _pixels(data: bytes, where: str, left: int, limits: PromptLimits) -> int:
    """Returns the pixels of an image by its head.

    Raises:
        ApiError: it isn't an image, or has more than `left` pixels.
    """
    too_many = bad_request(f"{where}: the images of a request have at most {limits.pixels:,} pixels", "messages")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            pixels = image.width * image.height
    except Image.DecompressionBombError as error:
        raise too_many from error
    except Exception as error:  # a damaged header makes a decoder raise anything
        raise bad_request(f"{where}: not an image that can be read ({', '.join(FORMATS)})", "messages") from error
    if pixels > left:
        raise too_many
    return pixels
