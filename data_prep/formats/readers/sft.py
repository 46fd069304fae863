"""Reads multi-turn SFT rows: those that `convert` writes, and the sharegpt items of CodeVision-SFT."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from data_prep.formats import fields
from data_prep.formats.readers.base import Item, Place, Reader
from data_prep.formats.row_errors import Reason, RowError
from data_prep.formats.schema import Demonstration, Message
from data_prep.formats.sharegpt import LICENCE, SOURCE, from_sharegpt, infer_sample_type


def _read(record: Mapping[str, Any], place: Place) -> Iterator[Item | str]:
    turns = fields.parse_json(fields.require(record, "messages"), "messages")
    try:
        messages = tuple(
            Message(role=turn["role"], content=fields.text(turn["content"], "messages.content")) for turn in turns
        )
    except (TypeError, KeyError) as error:
        raise RowError(Reason.BAD_TYPE, "messages", "must be a list of {role, content}") from error
    images, paths = fields.images(record.get("images") or [], place.images)
    metadata = fields.mapping(record.get("metadata"), "metadata")
    yield Demonstration(
        messages=messages,
        images=images,
        sample_type=record.get("sample_type") or metadata.get("sample_type") or infer_sample_type(messages),
        tools=record.get("tools") or "",
        metadata=metadata,
        paths=paths,
        extra=fields.mapping(record.get("extra"), "extra"),
        source=record.get("source") or "",
        licence=record.get("licence") or "",
        changes=tuple(record.get("changes") or ()),
    )


def _read_sharegpt(record: Mapping[str, Any], place: Place) -> Iterator[Item | str]:
    images, paths = fields.images(fields.parse_json(record.get("images"), "images") or [], place.images)
    demonstration = from_sharegpt(record, images, paths)
    yield replace(demonstration, source=demonstration.source or SOURCE)


READER = Reader(name="sft", columns=(("messages",), ("images",)), read=_read, turns=True)
SHAREGPT = Reader(
    name="codevision-sft", columns=(("conversations",),), read=_read_sharegpt, licence=LICENCE, turns=True
)
