"""Reads the turns of a conversation in any published form: `role` or `from`, texts or content parts, calls."""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from codevision_ext.rollout.dialects.registry import split_message
from data_prep.formats import fields
from data_prep.formats.image_sources import load_image
from data_prep.formats.image_tags import tag_numbers, with_tags
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
TURN_FIELDS: Final = frozenset({"messages", "conversations", "prompt"})
"""Fields that hold a conversation."""
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
_LEARNED: Final = (
    *("train", "training", "train_on_turn", "trainable", "loss", "weight", "loss_weight"),
    *("loss_scale", "loss_mask", "step_loss_mask"),
)
"""Marks of a message that SFT learns, by trainer: this package's, axolotl's, ms-swift's, OpenAI's, and others."""
_MASKED: Final = ("masked",)
"""Marks of a message that SFT doesn't learn: torchtune's."""
_PARTLY: Final = ("train_detail", "training_detail")
"""Marks of parts of a message, which `train` can't express."""
TOKEN_MASKS: Final = frozenset({"assistant_masks", "assistant_mask", "completion_mask", "loss_mask"})
"""Fields of a record with a mark for each token, which `train` can't express."""
MEDIA_TAG: Final = re.compile(r"<(video|audio)>")
"""Tag of a medium that no part of this package takes."""


def read_turns(turns: Iterable[Mapping[str, Any]], field: str) -> tuple[list[Message], list[Any]]:
    """Return the messages of a conversation, and the image of each tag; None if a tag's image is in another field.

    Images may be parts of the content, or stand in a field of the message. If the text of such a message has no tags,
    it gets one for each of its images at its beginning.

    Raises:
        RowError: A turn has no role or content, a role isn't known, a call can't be read, a part of the content is
            neither text nor an image, a message has more or fewer tags than images, or its marks contradict each other.
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
        text, own = _own_images(turn, text, own, field)
        thought = fields.first(turn, *_THOUGHTS) if "<think>" not in text else None
        thought = f"<think>{fields.text(thought, f'{field}.reasoning').strip()}</think>" if thought else ""
        whole = "".join((thought, text, *(() if "<tool_call>" in text else calls)))
        messages += _messages(ROLES[speaker], whole, turn, field)
        images += own
        _pass_over(turn, _CALL_DETAILS if calls or ROLES[speaker] == "tool" else ())
        if media := MEDIA_TAG.search(text) if ROLES[speaker] in ("user", "tool") else None:
            raise RowError(Reason.NOT_SUPPORTED, field, f"{media[0]}: {media[1]} isn't supported, only images are")
    return messages, images


def _messages(role: str, text: str, turn: Mapping[str, Any], field: str) -> list[Message]:
    """Return the messages of a turn: an assistant's turn with observations in it is split at them.

    `train` is one value for the assistant's messages, or a list with a value for each of them.
    """
    if role != "assistant":
        return [Message(role=role, content=text, train=is_learned(turn, field))]
    pieces = split_message(text)
    own, train = sum(name == role for name, _ in pieces), turn.get("train")
    if isinstance(train, list) and len(train) == own:
        marks = iter([is_learned({"train": mark}, field) for mark in train])
    else:
        marks = iter([is_learned(turn, field)] * own)
    return [Message(role=name, content=piece, train=next(marks) if name == role else None) for name, piece in pieces]


def is_learned(turn: Mapping[str, Any], field: str) -> bool | None:
    """Return whether SFT learns a message, in this package's mark or in another trainer's; None if it has no mark.

    Raises:
        RowError: A mark is neither true nor false, two marks differ, or a mark is of a part of the message.
    """
    marks = {name: value for name in (*_LEARNED, *_MASKED) if (value := turn.get(name)) is not None}
    for name, value in marks.items():
        if value not in (0, 1):
            message = f"must be true, false, 1 or 0, not {value!r:.40}; a message is learned or it isn't"
            raise RowError(Reason.BAD_TYPE, f"{field}.{name}", message)
    learned = {name: bool(value) is (name in _LEARNED) for name, value in marks.items()}
    if len(set(learned.values())) > 1:
        marked = ", ".join(f"{name}: {str(bool(value)).lower()}" for name, value in marks.items())
        raise RowError(Reason.BAD_TURNS, f"{field}.{next(iter(marks))}", f"marks that contradict each other: {marked}")
    for name in _PARTLY:
        if not is_empty(turn.get(name)):
            message = "marks parts of a message; only a whole message can be left out of the loss (train: false)"
            raise RowError(Reason.NOT_SUPPORTED, f"{field}.{name}", message)
    return next(iter(learned.values()), None)


def read_images(record: Mapping[str, Any], own: list[Any], folder: Path) -> fields.ImageFields:
    """Return the images of a conversation: those of its messages, those of the record's own field, or both.

    Raises:
        RowError: An image can't be loaded, or messages and record name different images.
    """
    listed, paths = fields.images(fields.first(record, *IMAGE_FIELDS) or [], folder)
    if all(value is None for value in own):
        return listed, paths
    loaded = [None if value is None else load_image(value, folder, "content") for value in own]
    if len(listed) == len(own):
        if any(image and image[0] != data for image, data in zip(loaded, listed, strict=True)):
            raise RowError(Reason.BAD_TURNS, "images", "the images of the messages are not those of the row")
        return listed, paths
    if len(listed) != loaded.count(None):
        message = f"{len(listed)} images in the row, but {loaded.count(None)} image tags of messages without an image"
        raise RowError(Reason.BAD_TURNS, "images", message)
    rest = iter(zip(listed, paths, strict=True))
    pairs = [next(rest) if image is None else image for image in loaded]
    return tuple(data for data, _ in pairs), tuple(path for _, path in pairs)


def _own_images(turn: Mapping[str, Any], text: str, own: list[Any], field: str) -> tuple[str, list[Any]]:
    """Return the text and the images of a message, with those of its own field in place of images without a source.

    Raises:
        RowError: The message has more or fewer tags without an image than images in its field.
    """
    numbers = tag_numbers(text)
    if not own and numbers.count(None) == len(numbers):
        own = [None] * len(numbers)  # a tag with a number can show an image of another message
    value = fields.first(turn, *IMAGE_FIELDS)
    if is_empty(value):
        return text, own
    name = next(name for name in IMAGE_FIELDS if turn.get(name) is value)
    value = fields.parse_list(value, f"{field}.{name}")
    images = [image for image in (value if isinstance(value, list) else [value]) if not is_empty(image)]
    if not numbers:
        return with_tags(text, len(images)), images
    if own and own.count(None) != len(images):
        message = f"{len(images)} images in a message with {own.count(None)} image tags that have no image"
        raise RowError(Reason.BAD_TURNS, f"{field}.{name}", message)
    rest = iter(images)
    return text, [next(rest) if image is None else image for image in own] if own else images


def _content(turn: Mapping[str, Any], content: Any, field: str) -> tuple[str, list[Any]]:
    """Return the text of a turn, with a tag for each image part, and the images of these parts."""
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
                Reason.NOT_SUPPORTED,
                f"{field}.content",
                f"a part of type {kind!r} isn't supported, only text and images",
            )
    return "".join(texts), images


def _calls(turn: Mapping[str, Any], field: str) -> list[str]:
    """Return the calls in fields such as `tool_calls`, in the form of the model."""
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
        values = {key: value for key, value in arguments.items() if value is not None}
        return f"<tool_call>\n{json.dumps({'name': name, 'arguments': values})}\n</tool_call>"
    except RowError as error:
        raise RowError(Reason.BAD_CALL, field, error.message) from error
    except TypeError as error:  # a value that JSON can't hold
        raise RowError(Reason.BAD_CALL, field, str(error)) from error


def _pass_over(record: Mapping[str, Any], names: Iterable[str]) -> None:
    """Count these columns as used."""
    for name in names:
        record.get(name)
