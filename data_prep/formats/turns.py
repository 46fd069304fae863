"""Reads the turns of a conversation in any published form: `role` or `from`, texts or content parts, calls."""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from data_prep.formats import fields
from data_prep.formats.image_sources import load_image
from data_prep.formats.record import is_empty
from data_prep.formats.row_errors import Reason, RowError
from data_prep.formats.schema import IMAGE_TAG, Message

ROLES: Final = {
    "system": "system", "developer": "system",
    "user": "user", "human": "user",
    "assistant": "assistant", "gpt": "assistant", "model": "assistant", "bot": "assistant",
    "function_call": "assistant",
    "tool": "tool", "observation": "tool", "function": "tool", "ipython": "tool", "tool_response": "tool",
}  # fmt: skip
"""Role of a message, by each of the names that published sets have for it."""
IMAGE_FIELDS: Final = (
    *("images", "image", "image_path", "image_paths", "image_url", "image_urls", "image_file"),
    *("img", "img_path", "file_name", "picture"),
)
"""Fields that can hold the images of a record; only one of them is used."""
OTHER_MEDIA: Final = frozenset(
    f"{medium}{ending}"
    for medium in ("video", "audio")
    for ending in ("", "s", "_path", "_paths", "_url", "_urls", "_file", "_files")
)
"""Fields of media that this package doesn't support."""
_PART_TEXT: Final = ("text", "input_text", "output_text")
_PART_IMAGE: Final = ("image", "image_url", "input_image", "image_path", "img")
_THOUGHTS: Final = ("reasoning_content", "reasoning", "thinking", "thought")
_CALL_DETAILS: Final = ("name", "tool_call_id", "id", "type", "index")
"""Fields that connect a result with its call. They aren't read, because the order of the turns connects the two."""
MEDIA_TAG: Final = re.compile(r"<(video|audio)>")
"""Tag of a medium that no part of this package takes."""


def read_turns(turns: Iterable[Mapping[str, Any]], field: str) -> tuple[list[Message], list[Any]]:
    """Return the messages of a conversation, and the image of each tag; None if a tag's image is in another field.

    Raises:
        RowError: A turn has no role or content, a role isn't known, a call can't be read, or a part of the content is
            neither text nor an image.
    """
    messages: list[Message] = []
    images: list[Any] = []
    for turn in turns:
        speaker = fields.first(turn, "role", "from", "speaker")
        if not isinstance(speaker, str) or speaker not in ROLES:
            message = f"unknown speaker {speaker!r:.40}" if speaker else "a turn has neither `role` nor `from`"
            raise RowError(Reason.BAD_TURNS if speaker else Reason.BAD_TYPE, f"{field}.role", message)
        calls = _calls(turn, field)
        content = fields.first(turn, "content", "value", "text")
        if speaker == "function_call" and "<tool_call>" not in str(content):
            calls, content = [_call_text(content, f"{field}.value")], ""
        if content is None and not calls:
            raise RowError(Reason.BAD_TYPE, f"{field}.content", "a turn has neither `content` nor `value`")
        text, own = _content(turn, content, field)
        thought = fields.first(turn, *_THOUGHTS) if "<think>" not in text else None
        thought = f"<think>{fields.text(thought, f'{field}.reasoning').strip()}</think>" if thought else ""
        messages.append(
            Message(
                role=ROLES[speaker],
                content="".join((thought, text, *(() if "<tool_call>" in text else calls))),
                train=fields.flag(turn.get("train"), f"{field}.train"),
            )
        )
        images += own
        _pass_over(turn, _CALL_DETAILS if calls or ROLES[speaker] == "tool" else ())
        if media := MEDIA_TAG.search(text) if ROLES[speaker] in ("user", "tool") else None:
            raise RowError(Reason.NOT_SUPPORTED, field, f"{media[0]}: {media[1]} isn't supported, only images are")
    return messages, images


def read_images(record: Mapping[str, Any], own: list[Any], folder: Path) -> fields.ImageFields:
    """Return the images of a conversation: those of its content parts, those of the record's own field, or both.

    Raises:
        RowError: An image can't be loaded, or parts and record name different images.
    """
    listed, paths = fields.images(fields.first(record, *IMAGE_FIELDS) or [], folder)
    if all(value is None for value in own):
        return listed, paths
    loaded = [None if value is None else load_image(value, folder, "content") for value in own]
    if len(listed) == len(own):
        if any(image and image[0] != data for image, data in zip(loaded, listed, strict=True)):
            raise RowError(Reason.BAD_TURNS, "images", "the images of the content parts are not those of the row")
        return listed, paths
    if len(listed) != loaded.count(None):
        message = (
            f"{len(listed)} images in the row, {len(own)} in the content parts, {loaded.count(None)} without a source"
        )
        raise RowError(Reason.BAD_TURNS, "images", message)
    rest = iter(zip(listed, paths, strict=True))
    pairs = [next(rest) if image is None else image for image in loaded]
    return tuple(data for data, _ in pairs), tuple(path for _, path in pairs)


def _content(turn: Mapping[str, Any], content: Any, field: str) -> tuple[str, list[Any]]:
    """Return the text of a turn with a tag for each image part, and the images of these tags."""
    if not isinstance(content, list | Mapping):
        return fields.text("" if content is None else content, f"{field}.content"), []
    name = next(name for name in ("content", "value", "text") if not is_empty(turn.get(name)))
    if isinstance(content, list) and any(isinstance(part, str) for part in content):
        content = [{"text": part} if isinstance(part, str) else part for part in content]
        turn = {name: content}
    texts: list[str] = []
    images: list[Any] = []
    for part in fields.parts(turn, name):
        kind = part.get("type")
        image = fields.first(part, *_PART_IMAGE)
        if kind in (*_PART_IMAGE, None) and (image is not None or kind):
            texts.append(IMAGE_TAG)
            images.append(image if image is not None else fields.first(part, "source", "url", "path", "data", "bytes"))
        elif kind in (*_PART_TEXT, None) and isinstance(part.get("text"), str):
            texts.append(part["text"])
        else:
            raise RowError(
                Reason.NOT_SUPPORTED, f"{field}.content", f"a part of type {kind!r}, only text and images are"
            )
    return "".join(texts), images


def _calls(turn: Mapping[str, Any], field: str) -> list[str]:
    """Return the calls in fields such as `tool_calls`, in the form in which the model writes them."""
    texts = []
    for name in ("tool_calls", "function_call"):
        for call in fields.parts(turn, name) if not is_empty(turn.get(name)) else ():
            _pass_over(call, _CALL_DETAILS)
            texts.append(_call_text(call.get("function") or call, f"{field}.{name}"))
    return texts


def _call_text(call: Any, field: str) -> str:
    try:
        call = fields.mapping(call, field)
        arguments = fields.mapping(fields.first(call, "arguments", "parameters", "input"), f"{field}.arguments")
        name = call.get("name")
        if not isinstance(name, str):
            raise RowError(Reason.BAD_CALL, field, "a call has no `name`")
        given = {key: value for key, value in arguments.items() if value is not None}
        return f"<tool_call>\n{json.dumps({'name': name, 'arguments': given})}\n</tool_call>"
    except RowError as error:
        raise RowError(Reason.BAD_CALL, field, error.message) from error
    except TypeError as error:  # a value that JSON can't hold
        raise RowError(Reason.BAD_CALL, field, str(error)) from error


def _pass_over(record: Mapping[str, Any], names: Iterable[str]) -> None:
    """Count these columns as used."""
    for name in names:
        record.get(name)
