"""Reads rows of V-Interaction-400K: a question, a reply with code that draws on its image, and the edited image.

As a task, a row keeps the edited image and the code. As a demonstration, it is a trajectory whose code is yet to run.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from data_prep.formats import fields, image_files
from data_prep.formats.readers.base import Item, Place, Reader, question_of
from data_prep.formats.readers.code_blocks import Reply, split_reply
from data_prep.formats.record import is_empty
from data_prep.formats.row_errors import Reason, RowError
from data_prep.formats.schema import CodeTrajectory, Row

SOURCE = "V-Interaction-400K"
REPLY = "CoT_with_code"


def _read(record: Mapping[str, Any], place: Place) -> Iterator[Item]:
    question = question_of(record, "question")
    answers = fields.answers(record.get("answer"), "answer", lists=place.lists)
    images, paths = fields.images(fields.require(record, "image"), place.images, "image")
    edited = b""
    try:
        edited = _edited_image(record, place)
    except RowError as error:
        yield error
    reply = Reply(blocks=(), conclusion="")
    try:
        reply = _reply(record)
    except RowError as error:
        if place.turns:
            raise
        yield error
    if place.turns:
        yield CodeTrajectory(
            images=images,
            question=question,
            blocks=reply.blocks,
            conclusion=reply.conclusion,
            answers=answers,
            edited_image=edited,
            column=REPLY,
            metadata={"id": fields.text(fields.first(record, "id") or place.row, "id")},
            paths=paths,
            source=SOURCE,
        )
    else:
        yield Row(
            images=images,
            question=question,
            answers=answers,
            source=SOURCE,
            split="train",
            index=place.row,
            paths=paths,
            edited_image=edited,
            codes=tuple(code for _, code in reply.blocks),
        )


def _edited_image(record: Mapping[str, Any], place: Place) -> bytes:
    """Return the edited image as it is stored. Raises RowError."""
    edited, _ = fields.images(fields.require(record, "edited_image"), place.images, "edited_image")
    if not edited:
        raise RowError(Reason.IMAGE_MISSING, "edited_image", "there is no image")
    return image_files.normalize_image(edited[0], "edited_image").data


def _reply(record: Mapping[str, Any]) -> Reply:
    """Return the blocks of the reply; of a reply without blocks, the code in `tool_code`. Raises RowError."""
    reply = split_reply(fields.text(record.get(REPLY) or "", REPLY), REPLY)
    code = record.get("tool_code")
    if reply.blocks:
        return reply
    if is_empty(code):
        raise RowError(Reason.BAD_CALL, REPLY, "has no block of code, and tool_code is missing or null")
    block = split_reply(f"<code>{fields.text(code, 'tool_code')}</code>", "tool_code").blocks[0]
    return Reply(blocks=((reply.conclusion, block[1]),), conclusion="")


READER = Reader(
    name="v-interaction", columns=(("question",), ("image",), ("tool_code", REPLY), ("edited_image",)), read=_read
)
