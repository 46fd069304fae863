"""Reads conversations: SFT rows that `convert` writes, chat messages of other sets, and sharegpt items."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from data_prep.formats import fields
from data_prep.formats.readers.base import ANSWERS, Item, Place, Reader
from data_prep.formats.schema import Demonstration
from data_prep.formats.sharegpt import LICENCE, SOURCE, from_sharegpt, infer_sample_type
from data_prep.formats.turns import read_images, read_turns


def _read(record: Mapping[str, Any], place: Place) -> Iterator[Item | str]:
    messages, own = read_turns(fields.parts(record, "messages"), "messages")
    images, paths = read_images(record, own, place.images)
    metadata = fields.mapping(record.get("metadata"), "metadata")
    yield Demonstration(
        messages=tuple(messages),
        images=images,
        sample_type=record.get("sample_type") or metadata.get("sample_type") or infer_sample_type(messages),
        tools=record.get("tools") or "",
        metadata=_with_answer(metadata, record, place),
        paths=paths,
        extra=fields.mapping(record.get("extra"), "extra"),
        source=record.get("source") or "",
        licence=record.get("licence") or "",
        changes=tuple(record.get("changes") or ()),
    )


def _read_sharegpt(record: Mapping[str, Any], place: Place) -> Iterator[Item | str]:
    messages, own = read_turns(fields.parts(record, "conversations"), "conversations")
    images, paths = read_images(record, own, place.images)
    item = from_sharegpt(record, images, paths, messages)
    extra = {name: value for name, value in item.extra.items() if name != "conversations"} if own else item.extra
    metadata = _with_answer(item.metadata, record, place)
    yield replace(item, source=item.source or SOURCE, extra=extra, metadata=metadata)


def _with_answer(metadata: Mapping[str, Any], record: Mapping[str, Any], place: Place) -> Mapping[str, Any]:
    """Return the metadata of a task with the answer that stands in a column of its own."""
    answer = None if place.turns or metadata.get("answer") else fields.first(record, *ANSWERS)
    return metadata if answer is None else {**metadata, "answer": answer}


READER: Final = Reader(name="sft", columns=(("messages",),), read=_read, turns=True, whole_prompt=True)
SHAREGPT: Final = Reader(
    name="codevision-sft",
    columns=(("conversations",),),
    read=_read_sharegpt,
    licence=LICENCE,
    turns=True,
    whole_prompt=True,
)
